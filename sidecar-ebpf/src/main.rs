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

mod account;
mod call;
mod filter;

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_attach_cookie, generated::bpf_tail_call},
    macros::{raw_tracepoint, uprobe, uretprobe},
    programs::{ProbeContext, RawTracePointContext, RetProbeContext},
};
use sidecar_common::{CallEvent, EventKind, Plan};

use account::{Account, now};
use filter::{current_ids, forget_foreign, is_foreign, is_recording};

/// A function was entered: one event without a duration.
#[uprobe]
fn call_entry(context: ProbeContext) -> u32 {
    keep_the_threads_stack(context.as_ptr());
    if !is_recording() {
        return 0;
    }
    let Some((tgid, tid)) = current_ids() else { return 0 };
    if is_foreign(tgid) {
        return 0;
    }
    // SAFETY: the helper takes the program's own context.
    let function = Plan(unsafe { bpf_get_attach_cookie(context.as_ptr()) }).function();
    let Some(account) = Account::of(function) else { return 0 };
    if account.hit(function) {
        let kind = EventKind::Entry as u16;
        account.submit_entry(&CallEvent { start_ns: now(), tgid, tid, function, kind, depth: 0 });
    }
    0
}

/// A function was entered: what is known is kept until it returns.
#[uprobe]
fn call_begin(context: ProbeContext) -> u32 {
    keep_the_threads_stack(context.as_ptr());
    if is_recording() {
        call::begin(&context);
    }
    0
}

/// The same function has returned: one event for the whole call.
#[uretprobe]
fn call_end(context: RetProbeContext) -> u32 {
    keep_the_threads_stack(context.as_ptr());
    if is_recording() {
        call::end(&context, false);
    }
    0
}

/// The same for functions that keep the pointer to a name without reading it.
#[uretprobe(sleepable)]
fn call_end_named(context: RetProbeContext) -> u32 {
    keep_the_threads_stack(context.as_ptr());
    if is_recording() {
        call::end(&context, true);
    }
    0
}

/// A process executed another program: what was found out about it holds no longer. The sidecar
/// hears of it too, but later than the new program's first calls.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn process_executed(_context: RawTracePointContext) -> i32 {
    if let Some((tgid, _)) = current_ids() {
        forget_foreign(tgid);
    }
    0
}

/// Nobody sets it.
#[unsafe(no_mangle)]
static NEVER: u64 = 0;

/// Lets the program have its thread's stack.
///
/// From Linux 6.13 on a program of this kind whose stack takes 64 bytes or more gets one that all
/// threads of a CPU share. But another thread can run it before it is done: where it sleeps, and
/// anywhere if the kernel is preemptible. Then events have the parts of two calls. Programs with a
/// tail call are spared; the verifier counts this one before it removes it as dead.
#[inline(always)]
fn keep_the_threads_stack(context: *mut core::ffi::c_void) {
    if load(&NEVER) != 0 {
        // SAFETY: never reached; the verifier would refuse it otherwise.
        unsafe { bpf_tail_call(context, core::ptr::null_mut(), 0) };
    }
}

/// Reads a global that the sidecar sets before loading, so the compiler must not fold it.
#[inline(always)]
pub(crate) fn load(global: &'static u64) -> u64 {
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
