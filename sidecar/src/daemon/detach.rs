//! Leaves the closing of probes to a process of its own, so that the sidecar's end does not wait.
//!
//! The kernel closes perf-event probes one after the other, each after grace periods of tens of
//! milliseconds, under locks that make threads wait for each other. Whoever drops the last
//! descriptor waits, and be it by ending.

use std::{
    ffi::CStr,
    fs, io, mem,
    os::fd::{AsRawFd as _, RawFd},
    ptr,
};

use anyhow::{Context as _, Result};

use crate::descriptors::close_all_but;

/// What `/proc/self/fd` says of the descriptors of a perf-event probe.
const PROBES: [&str; 2] = ["anon_inode:[perf_event]", "anon_inode:bpf_link"];

/// The name of the process that closes them, as `ps` shows it.
const NAME: &CStr = c"closing-probes";

/// Runs `release`, which closes the probes here, while another process still holds them. That one
/// ends, and closes them, as soon as nothing of this one does.
///
/// If there can be no other process, `release` is not run.
pub(super) fn by_another_process(release: impl FnOnce()) -> Result<()> {
    let teller = hold()?;
    release();
    drop(teller);
    Ok(())
}

/// The same where the probes can be closed by nothing but the end of this process.
pub(super) fn by_another_process_after_the_end() -> Result<()> {
    // Closed with all else that is open.
    mem::forget(hold()?);
    Ok(())
}

/// Another process holds the probes until what is returned is closed.
fn hold() -> Result<io::PipeWriter> {
    let (told, teller) = io::pipe().context("cannot create a pipe")?;
    let mut kept = probe_descriptors().context("cannot list the descriptors of the probes")?;
    kept.push(told.as_raw_fd());
    kept.sort_unstable();
    // SAFETY: the child makes nothing but system calls, and runs no destructor.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()).context("cannot fork"),
        0 => hold_until_told(&kept, told.as_raw_fd()),
        _ => Ok(teller),
    }
}

fn probe_descriptors() -> io::Result<Vec<RawFd>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // That of the listing itself is gone, and those of other threads may be.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        if PROBES.iter().any(|&name| target.as_os_str() == name) {
            found
                .extend(entry.file_name().to_str().and_then(|number| number.parse::<RawFd>().ok()));
        }
    }
    Ok(found)
}

/// The child. The lock of `TRACE_DIR`, the outputs and all sockets are closed first, for others
/// wait for their end.
///
/// Allocates nothing: another thread may have held the allocator's lock at the fork.
fn hold_until_told(kept: &[RawFd], told: RawFd) -> ! {
    // SAFETY: the child reads from one of these, and does nothing else.
    unsafe { close_all_but(kept) };
    // SAFETY: the name ends with NUL and lives on.
    unsafe { libc::prctl(libc::PR_SET_NAME, NAME.as_ptr()) };
    let mut byte = 0_u8;
    loop {
        // SAFETY: one byte is writable there.
        let read = unsafe { libc::read(told, ptr::from_mut(&mut byte).cast(), 1) };
        // The other end is closed when the parent has closed its probes, and when it has died.
        if read >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            break;
        }
    }
    // SAFETY: ends this process; its memory is given back first, then its descriptors are closed.
    unsafe { libc::_exit(0) }
}
