//! Nothing is lost in silence: hits are counted before they are handed over, and so is what cannot be.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_ktime_get_ns, bpf_ringbuf_output},
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
};
use sidecar_common::{CallEvent, Counters, MAX_FUNCTIONS, Rate};

use crate::load;

/// Resized by the sidecar before loading.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 24, 0);

#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(MAX_FUNCTIONS, 0);

#[map]
static RATES: Array<Rate> = Array::with_max_entries(MAX_FUNCTIONS, 0);

/// The reader polls on a timer; it is woken early only when this many bytes wait, because
/// wake-ups would be the dearest part of an event.
#[unsafe(no_mangle)]
static WAKEUP_BYTES: u64 = 1 << 20;

/// Most calls of a function that are recorded in one second; 0 is no limit.
#[unsafe(no_mangle)]
static RATE_LIMIT: u64 = 0;

const NANOSECONDS: u64 = 1_000_000_000;

/// The counters of a function on this CPU.
#[derive(Clone, Copy)]
pub(crate) struct Account(*mut Counters);

impl Account {
    #[inline(always)]
    pub(crate) fn of(function: u32) -> Option<Self> {
        COUNTERS.get_ptr_mut(function).map(Self)
    }

    /// Books a hit; false if it is beyond the rate limit, and booked as that.
    #[inline(always)]
    pub(crate) fn hit(self, function: u32) -> bool {
        // SAFETY: the pointer comes from the map, whose values outlive the program.
        add_one(unsafe { &raw mut (*self.0).hits });
        let limit = load(&RATE_LIMIT);
        if limit == 0 || is_within(limit, function) {
            return true;
        }
        // SAFETY: as above.
        add_one(unsafe { &raw mut (*self.0).suppressed });
        false
    }

    /// Hands over a record of `length` bytes at `record`, or books it as dropped.
    #[inline(always)]
    pub(crate) fn submit(self, record: *const u8, length: usize) {
        if !self.submit_beside(record, length) {
            // SAFETY: as above.
            add_one(unsafe { &raw mut (*self.0).dropped });
        }
    }

    /// Hands over a record; false if there is no room, and nothing is booked.
    #[inline(always)]
    pub(crate) fn submit_beside(self, record: *const u8, length: usize) -> bool {
        // SAFETY: callers pass a record, and its length or less.
        let result = unsafe {
            bpf_ringbuf_output(
                (&raw const EVENTS).cast_mut().cast(),
                record.cast_mut().cast(),
                length as u64,
                self.wakeup_flags(),
            )
        };
        result == 0
    }

    #[inline(always)]
    pub(crate) fn submit_entry(self, event: &CallEvent) {
        self.submit(core::ptr::from_ref(event).cast(), size_of::<CallEvent>());
    }

    #[inline(always)]
    fn wakeup_flags(self) -> u64 {
        /// The fill level is looked at once in so many hits of a function: each look costs, and
        /// what a few dozen events more take is small beside the threshold.
        const HITS_PER_LOOK: u64 = 64;
        // SAFETY: as above.
        if unsafe { (*self.0).hits }.is_multiple_of(HITS_PER_LOOK)
            && EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= load(&WAKEUP_BYTES)
        {
            return u64::from(BPF_RB_FORCE_WAKEUP);
        }
        u64::from(BPF_RB_NO_WAKEUP)
    }
}

#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper takes no arguments and cannot fail.
    unsafe { bpf_ktime_get_ns() }
}

/// Two CPUs that both begin a second may let a few more pass.
#[inline(always)]
fn is_within(limit: u64, function: u32) -> bool {
    let Some(rate) = RATES.get_ptr_mut(function) else { return true };
    let second = now() / NANOSECONDS;
    // SAFETY: the pointer comes from the map, whose values outlive the program.
    unsafe {
        if (*rate).second != second {
            (*rate).second = second;
            (*rate).hits = 0;
        }
        add_one(&raw mut (*rate).hits);
        (*rate).hits <= limit
    }
}

/// Atomic, although most counters are this CPU's own: a probe may be preempted by another one.
#[inline(always)]
fn add_one(count: *mut u64) {
    // SAFETY: callers pass an aligned word of a map value.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(count, 1) };
}
