//! The two clocks of a trace: monotonic for its timestamps, real time to join it with other logs.

use rustix::time::{ClockId, Timespec, clock_gettime};
use trace::line::Clock;

/// `CLOCK_MONOTONIC`, the clock of the eBPF programs.
pub fn monotonic_ns() -> u64 {
    to_ns(clock_gettime(ClockId::Monotonic))
}

/// Reads both clocks, with as little as possible between the two.
pub fn read(start_monotonic_ns: u64) -> Clock {
    let monotonic_ns = monotonic_ns();
    let realtime_ns = to_ns(clock_gettime(ClockId::Realtime));
    Clock { start_monotonic_ns, monotonic_ns, realtime_ns }
}

/// Nanoseconds of a line's `ts`.
pub fn nanoseconds(milliseconds: f64) -> u64 {
    std::time::Duration::try_from_secs_f64(milliseconds / 1e3)
        .map_or(0, |duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

fn to_ns(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanoseconds
}
