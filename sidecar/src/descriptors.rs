//! What a forked process must not keep: descriptors of the sidecar whose end others wait for.

use std::os::fd::RawFd;

/// Closes every descriptor of this process but `kept`, which is in order. Allocates nothing.
///
/// # Safety
///
/// Only in a forked child that uses no descriptor but these: whoever owns another one does not know.
pub(crate) unsafe fn close_all_but(kept: &[RawFd]) {
    let mut next: libc::c_uint = 0;
    let close = |first: libc::c_uint, last: libc::c_uint| {
        if first <= last {
            // By number, because not every C library has it.
            // SAFETY: by the contract of this function nobody uses them any more.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    };
    for &descriptor in kept {
        let descriptor = descriptor.cast_unsigned();
        if let Some(last) = descriptor.checked_sub(1) {
            close(next, last);
        }
        next = descriptor + 1;
    }
    close(next, libc::c_uint::MAX);
}
