//! The eBPF programs: filter, capture, hand over. What cannot be handed over is counted.

#![no_std]
#![no_main]
#![feature(core_intrinsics)]
// The target has an atomic add but, lacking compare-and-swap, no `AtomicU64::fetch_add`.
#![expect(internal_features, reason = "the atomic add is only there as an intrinsic")]
#![expect(clippy::cast_possible_truncation, reason = "the kernel packs two words into one")]
#![expect(
    clippy::inline_always,
    reason = "calls between eBPF functions cost, and take fewer arguments"
)]

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, bpf_pidns_info},
    helpers::{
        bpf_get_attach_cookie, bpf_get_current_pid_tgid, bpf_get_ns_current_pid_tgid,
        bpf_ktime_get_ns,
    },
    macros::{map, uprobe},
    maps::{Array, PerCpuArray, RingBuf},
    programs::ProbeContext,
};
use sidecar_common::{CallEvent, Counters, EventKind, MAX_FUNCTIONS, control, foreign};

/// Resized by the sidecar before loading.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 24, 0);

#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(MAX_FUNCTIONS, 0);

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

/// The reader polls on a timer; it is woken early only when this many bytes wait, because
/// wake-ups would be the dearest part of an event.
#[unsafe(no_mangle)]
static WAKEUP_BYTES: u64 = 1 << 20;

/// A function was entered: one event without a duration.
#[uprobe]
fn call_entry(context: ProbeContext) -> u32 {
    if CONTROL.get(0) != Some(&control::RECORDING) {
        return 0;
    }
    let Some((tgid, tid)) = current_ids() else { return 0 };
    let (word, bit) = foreign::bit(tgid);
    if FOREIGN.get(word).is_some_and(|word| word & bit != 0) {
        return 0;
    }
    // SAFETY: the helper takes the program's own context.
    let function = unsafe { bpf_get_attach_cookie(context.as_ptr()) } as u32;
    let Some(counters) = COUNTERS.get_ptr_mut(function) else { return 0 };
    // SAFETY: the pointer comes from the map, whose values outlive the program.
    add_one(unsafe { &raw mut (*counters).hits });
    let Some(mut slot) = EVENTS.reserve::<CallEvent>(0) else {
        // SAFETY: as above.
        add_one(unsafe { &raw mut (*counters).dropped });
        return 0;
    };
    slot.write(CallEvent {
        // SAFETY: the helper takes no arguments and cannot fail.
        start_ns: unsafe { bpf_ktime_get_ns() },
        tgid,
        tid,
        function,
        kind: EventKind::Entry as u16,
        depth: 0,
    });
    // SAFETY: as above.
    slot.submit(wakeup_flags(unsafe { (*counters).hits }));
    0
}

/// Process and thread id in the sidecar's pid namespace; `None` for a task outside it.
#[inline(always)]
fn current_ids() -> Option<(u32, u32)> {
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

/// The fill level is looked at once in so many hits of a function: each look costs, and what a few
/// dozen events more take is small beside the threshold.
const HITS_PER_LOOK: u64 = 64;

#[inline(always)]
fn wakeup_flags(hits: u64) -> u64 {
    if hits.is_multiple_of(HITS_PER_LOOK)
        && EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= load(&WAKEUP_BYTES)
    {
        return u64::from(BPF_RB_FORCE_WAKEUP);
    }
    u64::from(BPF_RB_NO_WAKEUP)
}

/// Atomic, although the slot is this CPU's own: a probe may be preempted by another one.
#[inline(always)]
fn add_one(count: *mut u64) {
    // SAFETY: callers pass an aligned word of a map value, which only such additions change.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(count, 1) };
}

/// Reads a global that the sidecar sets before loading, so the compiler must not fold it.
#[inline(always)]
fn load(global: &'static u64) -> u64 {
    // SAFETY: a reference is valid to read.
    unsafe { core::ptr::read_volatile(global) }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lends its helpers to programs under a GPL-compatible licence only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
