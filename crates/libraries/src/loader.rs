//! Which CUDA libraries a process will load, found before it loads them.
//!
//! The search is the dynamic loader's own (`ld.so(8)`: run paths, `LD_LIBRARY_PATH`, the cache, the
//! default directories), made in the file system that the process sees, and goes on to where Python
//! wheels keep their copies, because those are loaded by path. It errs on the side of too many: an
//! attached file that is never loaded costs nothing.

mod budget;
mod cache;
mod python;
mod root;
mod run_path;

use std::{
    collections::HashSet,
    ffi::OsStr,
    fmt, fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use budget::Budget;
use processes::{
    process::{arguments, environment},
    time_limit,
};
pub use root::{in_root, resolve_in};
use tracing::warn;

/// Longer than the search allows itself: what is over then waits for a file system that does not
/// answer.
const SEARCH_TIMEOUT: Duration = Duration::from_millis(1500);

/// Executables whose searches were cut short, and said to be: a process may begin as many as it
/// likes.
const MAX_TOLD: usize = 64;

/// What decides which libraries a process loads. Paths are as the process sees them, save `root`.
#[derive(Debug, Clone, Copy)]
pub struct Process<'a> {
    /// The directory where its file system is found: `/proc/PID/root`.
    pub root: &'a Path,
    /// The target of `/proc/PID/exe`.
    pub executable: &'a Path,
    /// The target of `/proc/PID/cwd`.
    pub working_directory: &'a Path,
    /// The content of `/proc/PID/cmdline`.
    pub arguments: &'a [u8],
    /// The content of `/proc/PID/environ`.
    pub environment: &'a [u8],
}

/// A library, and why it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where the process sees it; no component is a symbolic link.
    pub path: PathBuf,
    pub reason: Reason,
}

/// The first rule that leads to a library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// `DT_RPATH` or `DT_RUNPATH` of the executable.
    RunPath,
    LdLibraryPath,
    /// `/etc/ld.so.cache`.
    Cache,
    DefaultDirectory,
    /// The directories of Python wheels.
    Wheel,
}

impl Reason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RunPath => "run path",
            Self::LdLibraryPath => "LD_LIBRARY_PATH",
            Self::Cache => "ld.so.cache",
            Self::DefaultDirectory => "default directory",
            Self::Wheel => "wheel",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Where the loader looks of itself, and where the installers of drivers and toolkits put libraries
/// without telling it: the GPU operator and GKE (`/usr/local/nvidia`), the toolkit, its forward
/// compatibility package, and WSL.
const DEFAULT_DIRECTORIES: [&str; 12] = [
    "/lib64",
    "/usr/lib64",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib",
    "/usr/lib",
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/compat",
    "/usr/local/lib",
    "/usr/lib/wsl/lib",
];

/// Variables that name the directory of a toolkit.
const TOOLKIT_VARIABLES: [&str; 2] = ["CUDA_HOME", "CUDA_PATH"];

/// The variables of a process that the search asks for; nothing else of its environment is read.
const VARIABLES: [&str; 10] = [
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "CUDA_PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYTHONHOME",
    "PYTHONUSERBASE",
    "HOME",
    "PATH",
];

/// What the loader of a running process would find, in the file system that the process sees;
/// nothing, with a warning, if that does not answer in time.
pub fn search(pid: u32) -> Vec<Found> {
    let search = move || {
        let link = |file: &str| fs::read_link(format!("/proc/{pid}/{file}")).unwrap_or_default();
        find(&Process {
            root: &PathBuf::from(format!("/proc/{pid}/root")),
            executable: &link("exe"),
            working_directory: &link("cwd"),
            arguments: &arguments(pid),
            environment: &environment(pid, &VARIABLES),
        })
    };
    time_limit::run(pid, "search for libraries", SEARCH_TIMEOUT, search).unwrap_or_default()
}

/// The libraries that the process would find now, each file once, in the order of the search.
///
/// What cannot be read, is missing or is broken leads to nothing, as it does for the loader.
pub fn find(process: &Process<'_>) -> Vec<Found> {
    let mut findings = Findings {
        root: process.root,
        budget: Budget::new(process.root),
        seen: HashSet::new(),
        found: Vec::new(),
    };
    let run_paths = run_path::read(process.root, process.executable).unwrap_or_default();
    let origin = process.executable.parent();

    // The older kind of run path comes before the environment, and is void beside the newer.
    if run_paths.runpath.is_none() {
        let list = run_paths.rpath.unwrap_or_default();
        findings.directories(directories(&list, origin, process), Reason::RunPath);
    }
    if let Some(list) = variable(process.environment, "LD_LIBRARY_PATH") {
        findings.directories(directories(list, origin, process), Reason::LdLibraryPath);
    }
    if let Some(list) = run_paths.runpath {
        findings.directories(directories(&list, origin, process), Reason::RunPath);
    }
    for path in cache::read(process.root, is_cuda_library) {
        findings.add(&path, Reason::Cache);
    }
    findings
        .directories(default_directories(process, run_paths.interpreter), Reason::DefaultDirectory);
    let wheels = python::library_directories(process, &mut findings.budget);
    findings.directories(wheels, Reason::Wheel);
    if let Some(cause) = findings.budget.cut() {
        tell_cut(process.executable, cause);
    }
    findings.found
}

/// Once per executable.
fn tell_cut(executable: &Path, cause: &str) {
    static TOLD: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let told = told.get_or_insert_with(HashSet::new);
    if told.len() < MAX_TOLD && told.insert(executable.to_owned()) {
        warn!(
            executable = %executable.display(),
            "the search for libraries of a process is cut short, because {cause}: a library that \
             it would have led to is attached when its mapping is seen"
        );
    }
}

/// The CUDA libraries that the content of an `ld.so.cache` names.
pub fn libraries_in_cache(content: &[u8]) -> Vec<PathBuf> {
    cache::parse(content, is_cuda_library)
}

/// Whether a file of this name is a CUDA driver or runtime library: `libcuda.so.1`,
/// `libcuda.so.580.65.06`, `libcudart.so.13`, and the copies with a hash in their names that wheels
/// carry, `libcudart-9335f6a2.so.12` and `libcudart.faf08d9a.so.13`.
pub fn is_cuda_library(file_name: &str) -> bool {
    let Some(rest) =
        file_name.strip_prefix("libcudart").or_else(|| file_name.strip_prefix("libcuda"))
    else {
        return false;
    };
    let Some((hash, version)) = rest.split_once(".so") else { return false };
    let is_hash = |hash: &str| {
        hash.strip_prefix(['-', '.']).is_some_and(|hash| {
            !hash.is_empty() && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    let is_version = |version: &str| {
        version.strip_prefix('.').is_some_and(|version| {
            version
                .split('.')
                .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
        })
    };
    (hash.is_empty() || is_hash(hash)) && (version.is_empty() || is_version(version))
}

/// The value of a variable in the form of `/proc/PID/environ`.
pub fn variable<'a>(environment: &'a [u8], name: &str) -> Option<&'a OsStr> {
    environment
        .split(|&byte| byte == 0)
        .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .map(OsStr::from_bytes)
}

struct Findings<'a> {
    root: &'a Path,
    budget: Budget<'a>,
    seen: HashSet<(u64, u64)>,
    found: Vec<Found>,
}

impl Findings<'_> {
    fn directories(&mut self, directories: impl IntoIterator<Item = PathBuf>, reason: Reason) {
        for directory in directories {
            for name in self.budget.list_once(&directory) {
                if name.to_str().is_some_and(is_cuda_library) {
                    self.add(&directory.join(name), reason);
                }
            }
        }
    }

    fn add(&mut self, path: &Path, reason: Reason) {
        if !self.budget.is_left() {
            return;
        }
        let Ok(path) = resolve_in(self.root, path) else { return };
        // A link was resolved, so what is no plain file here is none for the loader either.
        let Ok(metadata) = fs::symlink_metadata(in_root(self.root, &path)) else { return };
        let is_new = metadata.is_file() && self.seen.insert((metadata.dev(), metadata.ino()));
        if is_new && self.budget.take_found() {
            self.found.push(Found { path, reason });
        }
    }
}

/// The directories of a list as in `LD_LIBRARY_PATH`, with the loader's tokens expanded.
fn directories(list: &OsStr, origin: Option<&Path>, process: &Process<'_>) -> Vec<PathBuf> {
    if list.is_empty() {
        return Vec::new();
    }
    let list = list.as_bytes();
    list.split(|byte| matches!(byte, b':' | b';'))
        .flat_map(|entry| expand(entry, origin))
        // An empty entry is the working directory, and so is the beginning of a relative one.
        .map(|entry| process.working_directory.join(OsStr::from_bytes(&entry)))
        .collect()
}

/// `$LIB` is one of two things, depending on how the loader was built: both are tried.
fn expand(entry: &[u8], origin: Option<&Path>) -> Vec<Vec<u8>> {
    let mut entry = entry.to_vec();
    if let Some(origin) = origin {
        entry = replace_token(&entry, "ORIGIN", origin.as_os_str().as_bytes());
    }
    entry = replace_token(&entry, "PLATFORM", b"x86_64");
    let mut expanded = vec![replace_token(&entry, "LIB", b"lib64")];
    let other = replace_token(&entry, "LIB", b"lib/x86_64-linux-gnu");
    if other != expanded[0] {
        expanded.push(other);
    }
    expanded
}

/// Puts `value` in the place of `$NAME` and `${NAME}`.
fn replace_token(entry: &[u8], name: &str, value: &[u8]) -> Vec<u8> {
    let forms = [format!("${{{name}}}").into_bytes(), format!("${name}").into_bytes()];
    let mut replaced = Vec::with_capacity(entry.len());
    let mut rest = entry;
    while let Some((&first, behind)) = rest.split_first() {
        if let Some(after) = forms.iter().find_map(|form| rest.strip_prefix(form.as_slice())) {
            replaced.extend_from_slice(value);
            rest = after;
        } else {
            replaced.push(first);
            rest = behind;
        }
    }
    replaced
}

fn default_directories(process: &Process<'_>, interpreter: Option<PathBuf>) -> Vec<PathBuf> {
    let beside_loader = interpreter
        .and_then(|interpreter| resolve_in(process.root, &interpreter).ok())
        .and_then(|interpreter| interpreter.parent().map(Path::to_owned));
    let toolkits = TOOLKIT_VARIABLES
        .iter()
        .filter_map(|name| variable(process.environment, name))
        .map(|toolkit| process.working_directory.join(toolkit).join("lib64"));
    beside_loader
        .into_iter()
        .chain(DEFAULT_DIRECTORIES.map(PathBuf::from))
        .chain(toolkits)
        .collect()
}

#[cfg(test)]
mod tests;
