//! The two clocks of a trace: monotonic for its timestamps, real time to join it with other logs.

use std::{fs, sync::OnceLock};

use rustix::time::{ClockId, Timespec, clock_gettime};
use trace::line::Clock;
use tracing::info;

/// `CLOCK_MONOTONIC` of the node, the clock of the eBPF programs, in whatever time namespace the
/// sidecar runs.
pub fn monotonic_ns() -> u64 {
    static OFFSET: OnceLock<i64> = OnceLock::new();
    let own = to_ns(clock_gettime(ClockId::Monotonic));
    own.saturating_add_signed(OFFSET.get_or_init(namespace_offset_ns).saturating_neg())
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

/// What this time namespace adds to the node's monotonic clock; it cannot change while a process
/// is in it.
fn namespace_offset_ns() -> i64 {
    // The offsets are those of the namespace for children. Since Linux 6.0 a process that executes
    // a program enters that; before, a process that only made one is still outside.
    let namespace = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).ok();
    if namespace("time") != namespace("time_for_children") {
        return 0;
    }
    // Absent: the kernel has no time namespaces.
    let offsets = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    let offset = monotonic_offset(&offsets).unwrap_or(0);
    if offset != 0 {
        info!(offset_ns = offset, "in a time namespace: timestamps are those of the node's clock");
    }
    offset
}

/// From lines such as `monotonic  1000  0`: seconds, and nanoseconds that are never negative.
fn monotonic_offset(offsets: &str) -> Option<i64> {
    let line = offsets.lines().find_map(|line| line.strip_prefix("monotonic"))?;
    let mut fields = line.split_whitespace().map(str::parse::<i64>);
    let (seconds, nanoseconds) = (fields.next()?.ok()?, fields.next()?.ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

fn to_ns(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanoseconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_of_a_time_namespace_is_in_nanoseconds_and_may_be_negative() {
        let offsets = |line: &str| monotonic_offset(&format!("{line}\nboottime  5  0\n"));
        assert_eq!(offsets("monotonic        1000         0"), Some(1_000_000_000_000));
        assert_eq!(offsets("monotonic          -2 500000000"), Some(-1_500_000_000));
        assert_eq!(offsets("monotonic           0         0"), Some(0));
        assert_eq!(offsets("monotonic"), None);
        assert_eq!(monotonic_offset(""), None);
    }
}
