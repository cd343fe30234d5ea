//! Whole calls: what is known at entry is kept until the return, by thread.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST, pt_regs},
    helpers::{
        bpf_get_attach_cookie, bpf_get_current_pid_tgid, bpf_probe_read_user,
        generated::{
            bpf_copy_from_user, bpf_get_current_task, bpf_probe_read_user as read_user,
            bpf_probe_read_user_str,
        },
    },
    macros::map,
    maps::{Array, HashMap},
    programs::{ProbeContext, RetProbeContext},
};
use sidecar_common::{
    CallEvent, CallHead, EventKind, Frame, MAX_DEPTH, MAX_THREADS, NAME_BYTES, NO_CALLER, Owner,
    Plan, STACK_WORDS, Thread, unread,
};

use crate::{
    account::{Account, now},
    filter::{current_ids, is_foreign},
};

/// By the thread id of the kernel's own namespace. The sidecar removes those that have ended.
#[map]
static THREADS: HashMap<u32, Thread> = HashMap::with_max_entries(MAX_THREADS, BPF_F_NO_PREALLOC);

/// A value for a new thread: larger than a program's stack.
#[map]
static NEW_THREAD: Array<Thread> = Array::with_max_entries(1, 0);

/// A return address takes so much of the stack.
const RETURN_ADDRESS: u64 = 8;

#[inline(always)]
pub(crate) fn begin(context: &ProbeContext) -> Option<()> {
    let owner = current_owner();
    let known = known_thread(owner);
    let (tgid, tid) = match known {
        // SAFETY: the pointer comes from the map.
        Some(thread) => unsafe { ((*thread).tgid, (*thread).tid) },
        None => current_ids()?,
    };
    if is_foreign(tgid) {
        return None;
    }
    // SAFETY: the helper takes the program's own context.
    let plan = Plan(unsafe { bpf_get_attach_cookie(context.as_ptr()) });
    let function = plan.function();
    let account = Account::of(function)?;
    if !account.hit(function) {
        return None;
    }
    // SAFETY: the context of a uprobe is the registers of the thread.
    let registers = unsafe { &*context.as_ptr().cast::<pt_regs>() };
    let stack_pointer = registers.rsp;
    let kind = EventKind::Entry as u16;
    let mut event = CallEvent { start_ns: now(), tgid, tid, function, kind, depth: 0 };
    let Some(thread) = known.or_else(|| new_thread(owner)) else {
        // The map is full, or there is no memory: what is known of the call is told all the same.
        account.submit_entry(&event);
        return None;
    };
    // SAFETY: a value of the map that only its own thread changes, and this program runs on it.
    let thread = unsafe { &mut *thread };
    if known.is_some() {
        abandon_below(thread, stack_pointer, Some(function));
    } else {
        // The frames of a thread that had this number before and ended inside its calls.
        abandon_below(thread, u64::MAX, None);
        (thread.owner, thread.tgid, thread.tid) = (owner, tgid, tid);
    }
    let depth = thread.depth;
    event.depth = depth as u16;
    if depth >= MAX_DEPTH as u64 {
        account.submit_entry(&event);
        return None;
    }
    let frame = frame_of(thread, depth);
    frame.stack_pointer = stack_pointer;
    frame.plan = plan.0;
    frame.head.event = event;
    frame.head.unread = 0;
    if plan.has_registers() {
        frame.head.registers = [
            registers.rdi,
            registers.rsi,
            registers.rdx,
            registers.rcx,
            registers.r8,
            registers.r9,
        ];
    }
    if plan.has_stack() {
        let arguments = (stack_pointer + RETURN_ADDRESS) as *const [u64; STACK_WORDS];
        // SAFETY: the helper checks the address.
        match unsafe { bpf_probe_read_user(arguments) } {
            Ok(words) => frame.head.stack = words,
            Err(_) => frame.head.unread = unread::STACK,
        }
    }
    thread.depth = depth + 1;
    Some(())
}

/// `may_sleep`: memory that is not there yet may be brought in.
#[inline(always)]
pub(crate) fn end(context: &RetProbeContext, may_sleep: bool) -> Option<()> {
    let owner = current_owner();
    let thread = known_thread(owner)?;
    // SAFETY: as in `begin`.
    let thread = unsafe { &mut *thread };
    // SAFETY: as in `begin`.
    let function = Plan(unsafe { bpf_get_attach_cookie(context.as_ptr()) }).function();
    // SAFETY: as in `begin`.
    let registers = unsafe { &*context.as_ptr().cast::<pt_regs>() };
    let stack_pointer = registers.rsp - RETURN_ADDRESS;
    abandon_below(thread, stack_pointer, None);
    if thread.depth == 0 {
        return None;
    }
    let depth = thread.depth - 1;
    let caller = match depth {
        0 => NO_CALLER,
        _ => frame_of(thread, depth - 1).head.event.function as u16,
    };
    let frame = frame_of(thread, depth);
    // A call that began before the probes, or deeper than is kept, has no frame.
    if frame.stack_pointer != stack_pointer || frame.head.event.function != function {
        return None;
    }
    let account = Account::of(function)?;
    let plan = Plan(frame.plan);
    let head = &mut frame.head;
    head.event.kind = EventKind::Call as u16;
    head.duration_ns = now().saturating_sub(head.event.start_ns);
    head.result = registers.rax;
    head.caller = caller;
    if let Some(register) = plan.name() {
        let pointer = head.registers.get(register).copied().unwrap_or(0);
        let event = head.event;
        if !name(thread, account, pointer, &event, may_sleep) {
            frame_of(thread, depth).head.unread |= unread::NAME;
        }
    }
    thread.depth = depth;
    let head = &mut frame_of(thread, depth).head;
    if let Some(register) = plan.second() {
        let pointer = head.registers.get(register).copied().unwrap_or(0) as *const u64;
        // SAFETY: the helper checks the address.
        match unsafe { bpf_probe_read_user(pointer) } {
            Ok(word) => head.second = word,
            Err(_) => head.unread |= unread::SECOND,
        }
    }
    let Some((register, words)) = plan.window() else {
        let length = if plan.has_stack() || plan.second().is_some() {
            size_of::<CallHead>()
        } else if plan.has_registers() {
            CallHead::WITH_REGISTERS
        } else {
            CallHead::BARE
        };
        account.submit(core::ptr::from_ref(head).cast(), length);
        return Some(());
    };
    let pointer = head.registers.get(register).copied().unwrap_or(0);
    let bytes = words * 8;
    // SAFETY: the window has room for 31 words, which is the most that a plan can say; the helper
    // checks the address.
    let result = unsafe {
        read_user((&raw mut thread.record.window).cast(), bytes as u32, pointer as *const _)
    };
    let mut head = frame_of(thread, depth).head;
    if result != 0 {
        head.unread |= unread::WINDOW;
    }
    thread.record.head = head;
    account.submit((&raw const thread.record).cast(), size_of::<CallHead>() + bytes);
    Some(())
}

#[inline(always)]
fn current_owner() -> Owner {
    // SAFETY: the helper takes no arguments and cannot fail.
    Owner { pid_tgid: bpf_get_current_pid_tgid(), task: unsafe { bpf_get_current_task() } }
}

#[inline(always)]
fn known_thread(owner: Owner) -> Option<*mut Thread> {
    let thread = THREADS.get_ptr_mut(owner.pid_tgid as u32)?;
    // SAFETY: the pointer comes from the map.
    (unsafe { (*thread).owner } == owner).then_some(thread)
}

/// The value for a thread that has none, or that has the number of one that ended.
#[inline(always)]
fn new_thread(owner: Owner) -> Option<*mut Thread> {
    let key = owner.pid_tgid as u32;
    if THREADS.get_ptr(key).is_none() {
        let empty = NEW_THREAD.get(0)?;
        THREADS.insert(key, empty, u64::from(BPF_NOEXIST)).ok()?;
    }
    THREADS.get_ptr_mut(key)
}

/// `depth` is below [`MAX_DEPTH`]. The mask is for the kernel's verifier, which forgets that, and
/// the black box for the compiler, which does not, and would leave the mask out.
#[inline(always)]
fn frame_of(thread: &mut Thread, depth: u64) -> &mut Frame {
    &mut thread.frames[core::hint::black_box(depth) as usize & (MAX_DEPTH - 1)]
}

/// Frames below the stack pointer are of functions that are gone: `longjmp` has left them. A frame
/// at the same place is not gone: its function has jumped to this one; unless it is of the function
/// that is `entered`, which was left and is called again.
#[inline(always)]
fn abandon_below(thread: &mut Thread, stack_pointer: u64, entered: Option<u32>) {
    for _ in 0..MAX_DEPTH {
        if thread.depth == 0 {
            return;
        }
        let depth = thread.depth - 1;
        let frame = frame_of(thread, depth);
        let is_entered_again =
            frame.stack_pointer == stack_pointer && entered == Some(frame.head.event.function);
        if frame.stack_pointer >= stack_pointer && !is_entered_again {
            return;
        }
        if let Some(account) = Account::of(frame.head.event.function) {
            account.submit_entry(&frame.head.event);
        }
        thread.depth = depth;
    }
}

/// Bytes of the smallest page.
const PAGE_BYTES: u64 = 4096;

/// Hands over the text at `pointer`; false if it cannot be read.
#[inline(always)]
fn name(
    thread: &mut Thread,
    account: Account,
    pointer: u64,
    event: &CallEvent,
    may_sleep: bool,
) -> bool {
    let text = &raw mut thread.name.text;
    let mut length = read_text(text, NAME_BYTES as u64, pointer);
    if length < 0 && may_sleep && bring_in(pointer) {
        length = read_text(text, NAME_BYTES as u64, pointer);
        // What the page has of it: all but the last byte, which is made the end of the text.
        let rest = PAGE_BYTES - (pointer & (PAGE_BYTES - 1));
        if length < 0 && rest < NAME_BYTES as u64 {
            // The text goes on where its page ends, so that the next one is its own too. Any other
            // page may be one that never answers.
            let goes_on = read_text(text, rest, pointer) == rest.cast_signed();
            if goes_on && bring_in(pointer + rest) {
                length = read_text(text, NAME_BYTES as u64, pointer);
            }
        }
    }
    let Ok(length) = usize::try_from(length) else { return false };
    if length == 0 || length > NAME_BYTES {
        return false;
    }
    thread.name.event = CallEvent { kind: EventKind::Name as u16, ..*event };
    // Its loss shows in the trace as a kernel without a name; the call itself is counted.
    account.submit_beside((&raw const thread.name).cast(), size_of::<CallEvent>() + length);
    true
}

/// Reads up to the end of the text or `size` bytes, with what is in memory; negative if that is not
/// all. Never waits.
#[inline(always)]
fn read_text(text: *mut [u8; NAME_BYTES], size: u64, pointer: u64) -> i64 {
    // The kernel's verifier must see the bound.
    let size = core::hint::black_box(size);
    if size == 0 || size > NAME_BYTES as u64 {
        return -1;
    }
    // SAFETY: the size is that of the buffer or less; the helper checks the address.
    unsafe { bpf_probe_read_user_str(text.cast(), size as u32, pointer as *const _) }
}

/// Waits until the page at `pointer` is in memory; false if there is none.
#[inline(always)]
fn bring_in(pointer: u64) -> bool {
    let mut byte = 0_u8;
    // SAFETY: one byte, into `byte`; the helper checks the address.
    let result = unsafe { bpf_copy_from_user((&raw mut byte).cast(), 1, pointer as *const _) };
    result == 0
}
