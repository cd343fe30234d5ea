//! What programs do to the libraries that they load, and what a tracer must cope with: files without
//! a name, hooks over functions, code that moves.

use std::{
    ffi::CString,
    fs,
    io::{self, Write as _},
    os::fd::{AsRawFd as _, FromRawFd as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use crate::cuda::{Function, Library};

/// How the file of a library comes into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LoadAs {
    /// The file is deleted once it is loaded.
    Deleted,
    /// From a copy in memory that never had a name.
    Memfd,
}

/// What becomes of the code of a loaded library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ChangeCode {
    /// The first bytes of the called function are replaced, as an inline hook does it.
    Hook,
    /// All of it moves to memory that belongs to no file, as programs do it for huge pages.
    Move,
    /// The same for the page of the called function alone: huge pages begin and end somewhere.
    MovePart,
}

/// Loads a library in an unusual way.
pub fn load(path: &Path, way: LoadAs) -> Result<Library> {
    match way {
        LoadAs::Deleted => {
            let library = Library::open(path)?;
            fs::remove_file(path).with_context(|| format!("cannot delete {}", path.display()))?;
            Ok(library)
        }
        LoadAs::Memfd => {
            let content =
                fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            // SAFETY: the name is a C string.
            let descriptor = unsafe { libc::memfd_create(c"unnamed".as_ptr(), 0) };
            ensure!(descriptor >= 0, "memfd_create: {}", io::Error::last_os_error());
            // SAFETY: the kernel has just given the descriptor to this process.
            let mut file = unsafe { fs::File::from_raw_fd(descriptor) };
            file.write_all(&content).context("cannot fill a memfd")?;
            Library::open(PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())))
        }
    }
}

/// Changes the root directory of this process, as a container without a mount namespace has it.
pub fn change_root(root: &Path) -> Result<()> {
    let name = CString::new(root.as_os_str().as_encoded_bytes()).context("a path without NUL")?;
    // SAFETY: the name is a C string.
    let result = unsafe { libc::chroot(name.as_ptr()) };
    ensure!(result == 0, "cannot change the root to {}: {}", root.display(), last_error());
    std::env::set_current_dir("/").context("cannot go to the new root")
}

/// Changes the code of `function`, or of its whole library. It still succeeds when it is called.
pub fn change_code(function: Function, change: ChangeCode) -> Result<()> {
    match change {
        ChangeCode::Hook => hook(function),
        ChangeCode::Move => {
            let (start, length) = mapping_of(function as usize)?;
            move_code(start, length)
        }
        ChangeCode::MovePart => move_code(function as usize & !(PAGE - 1), PAGE),
    }
}

/// `xor %eax, %eax; ret` and bytes that are never reached: as long as a jump to anywhere.
const HOOK: [u8; 14] =
    [0x31, 0xc0, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc];

const PAGE: usize = 4096;

fn hook(function: Function) -> Result<()> {
    let entry = function as usize;
    let page = entry & !(PAGE - 1);
    let protect = |protection| {
        // SAFETY: two whole pages of code, which stay executable throughout.
        let result = unsafe { libc::mprotect(page as *mut _, 2 * PAGE, protection) };
        ensure!(result == 0, "cannot change the protection of code: {}", last_error());
        Ok(())
    };
    protect(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC)?;
    // SAFETY: the pages are writable, the function is longer, and no thread runs it now.
    unsafe { std::ptr::copy_nonoverlapping(HOOK.as_ptr(), entry as *mut u8, HOOK.len()) };
    protect(libc::PROT_READ | libc::PROT_EXEC)
}

/// Copies whole pages of code, and puts the copy in their place.
fn move_code(start: usize, length: usize) -> Result<()> {
    let anywhere = std::ptr::null_mut();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let copy = unsafe { libc::mmap(anywhere, length, protection, flags, -1, 0) };
    ensure!(copy != libc::MAP_FAILED, "cannot map memory: {}", last_error());
    // SAFETY: both are mappings of this length, and do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(start as *const u8, copy.cast(), length) };
    // SAFETY: the copy is a mapping of this length.
    let result = unsafe { libc::mprotect(copy, length, libc::PROT_READ | libc::PROT_EXEC) };
    ensure!(result == 0, "cannot make a copy of code executable: {}", last_error());
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the copy has the same bytes as what it replaces, which no thread runs now.
    let moved = unsafe { libc::mremap(copy, length, length, flags, start) };
    ensure!(moved as usize == start, "cannot move code: {}", last_error());
    Ok(())
}

/// Start and length of the mapping that holds an address.
fn mapping_of(address: usize) -> Result<(usize, usize)> {
    let maps = fs::read_to_string("/proc/self/maps").context("cannot read the mappings")?;
    let range = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some((number(start)?, number(end)?))
    };
    let mut ranges = maps.lines().filter_map(range);
    let (start, end) = ranges
        .find(|&(start, end)| (start..end).contains(&address))
        .context("the function is in no mapping")?;
    Ok((start, end - start))
}

fn last_error() -> io::Error {
    io::Error::last_os_error()
}
