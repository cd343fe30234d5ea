//! The stand-in `libcuda.so.1` and `libcudart.so.13`, embedded, to be written where a loader finds them.
//!
//! Both keep a count of calls for each exported function and, if `CUDA_STANDIN_COUNTS` names a directory, write it
//! there when the process ends: see [`crate::counts`]. `CUDA_STANDIN_KERNEL_NS` is the time on the device of each wave
//! of a kernel's blocks (what synchronisation then waits for), `CUDA_STANDIN_LAUNCH_NS` the time on the processor of
//! each launch; both are 0 by default. `CUDA_STANDIN_QUEUE` is how many launches a stream holds before the next one
//! blocks (any number by default). `CUDA_STANDIN_SLOW_NS` of each `CUDA_STANDIN_SLOW_PERIOD_NS` the device takes
//! `CUDA_STANDIN_SLOW_FACTOR` times as long.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Which driver's prologues `libcuda.so.1` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Driver {
    /// Exports begin with `cmpl $imm32, off(%rip)` and `je`, which the kernel cannot emulate at entry.
    R550,
    /// Exports begin with `push %rbp`; the `cmpl` and `je` come when the stack has moved.
    R580,
}

impl Driver {
    fn file_name(self) -> &'static str {
        match self {
            Self::R550 => "libcuda.so.550.163.01",
            Self::R580 => "libcuda.so.580.159.04",
        }
    }

    pub fn image(self) -> &'static [u8] {
        match self {
            Self::R550 => include_bytes!(concat!(env!("OUT_DIR"), "/libcuda.r550.so")),
            Self::R580 => include_bytes!(concat!(env!("OUT_DIR"), "/libcuda.r580.so")),
        }
    }
}

pub const DRIVER: &str = "libcuda.so.1";
pub const RUNTIME: &str = "libcudart.so.13";

/// The bytes of `libcudart.so.13`.
pub const RUNTIME_IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libcudart.so"));

/// Where [`install`] put the libraries.
#[derive(Debug, Clone)]
pub struct Installed {
    /// What `LD_LIBRARY_PATH` must name.
    pub directory: PathBuf,
    /// The name that programs load; as NVIDIA installs it, a link to the file with the driver's version.
    pub driver: PathBuf,
    pub runtime: PathBuf,
}

/// Writes `libcuda.so.1` and `libcudart.so.13` into `directory`, which is made if it is missing.
/// Libraries already there are replaced, not overwritten, so that processes that map them keep what they have.
pub fn install(directory: &Path, driver: Driver) -> Result<Installed> {
    install_images(directory, driver, driver.image(), RUNTIME_IMAGE)
}

pub(crate) fn install_images(
    directory: &Path,
    driver: Driver,
    driver_image: &[u8],
    runtime_image: &[u8],
) -> Result<Installed> {
    let write = || -> io::Result<Installed> {
        fs::create_dir_all(directory)?;
        replace(&directory.join(driver.file_name()), |path| write_executable(path, driver_image))?;
        let installed = Installed {
            directory: directory.to_path_buf(),
            driver: directory.join(DRIVER),
            runtime: directory.join(RUNTIME),
        };
        replace(&installed.driver, |path| symlink(driver.file_name(), path))?;
        replace(&installed.runtime, |path| write_executable(path, runtime_image))?;
        Ok(installed)
    };
    write().with_context(|| {
        format!("cannot install the stand-in CUDA libraries in {}", directory.display())
    })
}

fn replace(path: &Path, make: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let temporary = path.with_added_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    make(&temporary)?;
    fs::rename(temporary, path)
}

pub(crate) fn write_executable(path: &Path, image: &[u8]) -> io::Result<()> {
    fs::write(path, image)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// The functions that `libcuda.so.1` exports.
pub fn driver_functions() -> impl Iterator<Item = &'static str> {
    function_names(include_str!("../native/driver.def"))
}

/// The functions that `libcudart.so.13` exports.
pub fn runtime_functions() -> impl Iterator<Item = &'static str> {
    function_names(include_str!("../native/runtime.def"))
}

fn function_names(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().filter_map(|line| {
        let row = line.strip_prefix("FUNCTION(").or_else(|| line.strip_prefix("EARLY("))?;
        row.split_once(',').map(|(name, _)| name)
    })
}
