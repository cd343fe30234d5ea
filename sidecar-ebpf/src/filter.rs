//! Whose calls are recorded: processes of the sidecar's pid namespace that are not known to be foreign.

use aya_ebpf::{
    bindings::bpf_pidns_info,
    helpers::{bpf_get_current_pid_tgid, bpf_get_ns_current_pid_tgid},
    macros::map,
    maps::Array,
};
use sidecar_common::{control, foreign};

use crate::load;

#[map]
static FOREIGN: Array<u64> = Array::with_max_entries(foreign::WORDS, 0);

#[map]
static CONTROL: Array<u32> = Array::with_max_entries(1, 0);

/// The sidecar's pid namespace as `stat` shows it; inode 0 stands for the host's own, where the
/// ids of `bpf_get_current_pid_tgid` are already right for everyone.
#[unsafe(no_mangle)]
static PID_NAMESPACE_DEVICE: u64 = 0;
#[unsafe(no_mangle)]
static PID_NAMESPACE_INODE: u64 = 0;

#[inline(always)]
pub(crate) fn is_recording() -> bool {
    CONTROL.get(0) == Some(&control::RECORDING)
}

#[inline(always)]
pub(crate) fn is_foreign(tgid: u32) -> bool {
    let (word, bit) = foreign::bit(tgid);
    FOREIGN.get(word).is_some_and(|word| word & bit != 0)
}

/// Lets the calls of a process through again.
///
/// Not atomic: another bit of the word may be lost, or this one come back. The sidecar sets both
/// right when it hears of the same thing, and an event too many is booked as ignored.
#[inline(always)]
pub(crate) fn forget_foreign(tgid: u32) {
    let (word, bit) = foreign::bit(tgid);
    if let Some(word) = FOREIGN.get_ptr_mut(word) {
        // SAFETY: the pointer comes from the map.
        unsafe {
            if *word & bit != 0 {
                *word &= !bit;
            }
        }
    }
}

/// Process and thread id in the sidecar's pid namespace; `None` for a task outside it.
#[inline(always)]
pub(crate) fn current_ids() -> Option<(u32, u32)> {
    let inode = load(&PID_NAMESPACE_INODE);
    if inode == 0 {
        let both = bpf_get_current_pid_tgid();
        return Some(((both >> 32) as u32, both as u32));
    }
    let mut ids = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: the pointer and the length describe `ids`.
    let result = unsafe {
        bpf_get_ns_current_pid_tgid(
            load(&PID_NAMESPACE_DEVICE),
            inode,
            &raw mut ids,
            size_of::<bpf_pidns_info>() as u32,
        )
    };
    (result == 0).then_some((ids.tgid, ids.pid))
}
