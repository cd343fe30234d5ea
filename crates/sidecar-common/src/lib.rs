//! The types that cross between the eBPF programs and the sidecar.
//!
//! Two compilers build this file for two targets, so every type is `repr(C)` and made of
//! fixed-width integers without padding: any bytes are a valid value.

#![no_std]

mod call;
mod plan;

pub use call::{
    CallHead, CallRecord, Frame, MAX_DEPTH, MAX_THREADS, MEMORY_WORDS, NAME_BYTES, NO_CALLER,
    NameRecord, Owner, STACK_WORDS, Thread, unread,
};
pub use plan::Plan;

/// One record of the ring buffer: a call into a traced function.
///
/// A record of another [`EventKind`] begins with the same fields and is longer, so that a reader
/// always knows the thread, the function and the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct CallEvent {
    /// When the call began: nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// What user space calls the process id, in the sidecar's pid namespace.
    pub tgid: u32,
    /// The thread id, in the same namespace.
    pub tid: u32,
    /// The number that the sidecar gave the function when it attached.
    pub function: u32,
    /// An [`EventKind`], as a number because an unknown discriminant would be undefined behaviour.
    pub kind: u16,
    /// How many traced calls of the same thread are open around this one.
    pub depth: u16,
}

/// What a record tells. Numbers are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum EventKind {
    /// A call began; nothing is known of its end. The record is a bare [`CallEvent`].
    Entry = 1,
    /// A call returned. The record is as much of a [`CallRecord`] as the function's [`Plan`] says.
    Call = 2,
    /// The text that a call was given: a [`NameRecord`], cut off behind its text. The record of
    /// the call itself comes next of the same thread.
    Name = 3,
}

/// Per function and CPU: what the kernel side counts, so that no loss is silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Probe hits in processes that are not known to be foreign.
    pub hits: u64,
    /// Hits that found the ring buffer full.
    pub dropped: u64,
    /// Hits beyond the rate limit.
    pub suppressed: u64,
}

/// Per function: how many hits there were in the second that runs, for the rate limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Rate {
    /// Seconds of `CLOCK_MONOTONIC`.
    pub second: u64,
    pub hits: u64,
}

/// How many functions can be traced at once; the length of the `COUNTERS` map.
pub const MAX_FUNCTIONS: u32 = 4096;

/// The `FOREIGN` map: one bit per process id, set for a process that is known not to be a target.
/// Its calls are neither recorded nor counted; all others are recorded, and examined.
///
/// An array, because looking up a hash map would cost more than all the rest of the filter.
pub mod foreign {
    /// The kernel's own limit of process ids (`PID_MAX_LIMIT` in `include/linux/threads.h`).
    pub const MAX_PIDS: u32 = 1 << 22;
    /// Length of the map.
    pub const WORDS: u32 = MAX_PIDS / u64::BITS;

    /// Where the bit of a process is: the index of the word, and the bit in it.
    pub const fn bit(tgid: u32) -> (u32, u64) {
        (tgid / u64::BITS, 1 << (tgid % u64::BITS))
    }
}

/// The value at index 0 of the `CONTROL` map.
pub mod control {
    /// Probes return at once and count nothing.
    pub const STOPPED: u32 = 0;
    /// Probes record.
    pub const RECORDING: u32 = 1;
}

// The layout is the protocol: if it moves or gains padding, neither side may build.
const _: () = {
    assert!(size_of::<CallEvent>() == 24);
    assert!(align_of::<CallEvent>() == 8);
    assert!(core::mem::offset_of!(CallEvent, function) == 16);
    assert!(size_of::<Counters>() == 24);
    assert!(size_of::<Rate>() == 16);
};

impl CallEvent {
    /// Reads the fields that every record begins with; `None` if `bytes` is shorter.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (start_ns, rest) = bytes.split_first_chunk()?;
        let (tgid, rest) = rest.split_first_chunk()?;
        let (tid, rest) = rest.split_first_chunk()?;
        let (function, rest) = rest.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let (depth, _) = rest.split_first_chunk()?;
        Some(Self {
            start_ns: u64::from_ne_bytes(*start_ns),
            tgid: u32::from_ne_bytes(*tgid),
            tid: u32::from_ne_bytes(*tid),
            function: u32::from_ne_bytes(*function),
            kind: u16::from_ne_bytes(*kind),
            depth: u16::from_ne_bytes(*depth),
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    fn record() -> Vec<u8> {
        let mut record = Vec::new();
        record.extend(7_u64.to_ne_bytes());
        record.extend(42_u32.to_ne_bytes());
        record.extend(43_u32.to_ne_bytes());
        record.extend(5_u32.to_ne_bytes());
        record.extend(1_u16.to_ne_bytes());
        record.extend(2_u16.to_ne_bytes());
        record
    }

    #[test]
    fn fields_are_where_the_program_wrote_them() {
        let expected = CallEvent { start_ns: 7, tgid: 42, tid: 43, function: 5, kind: 1, depth: 2 };
        assert_eq!(CallEvent::from_bytes(&record()), Some(expected));
    }

    #[test]
    fn a_longer_record_begins_with_the_same_fields() {
        let mut record = record();
        record.extend([9; 16]);
        assert_eq!(CallEvent::from_bytes(&record).unwrap().tgid, 42);
    }

    #[test]
    fn a_shorter_record_is_refused() {
        assert_eq!(CallEvent::from_bytes(&record()[1..]), None);
    }
}
