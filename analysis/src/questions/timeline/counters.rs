//! Counters of a process over time: live memory, and how often it launches.

use super::{
    clock::Clock,
    perfetto::{Kind, MAIN_SEQUENCE, counter, describe, track},
    protobuf::{message, text, uint},
};

/// Launches are counted by intervals of this length.
const INTERVAL_NS: i64 = 10_000_000;
const INTERVALS_PER_SECOND: u64 = 100;

/// The tracks of one process.
#[derive(Default)]
pub(super) struct Counters {
    /// When the latest value was told: lines of several threads may be a little out of order.
    memory_ns: Option<u64>,
    launches: Option<Launches>,
}

struct Launches {
    interval: i64,
    count: u64,
}

impl Counters {
    pub(super) fn live_memory(&mut self, out: &mut Vec<u8>, owner: u32, at: u64, bytes: u64) {
        let uuid = Kind::Memory.uuid(owner, 0);
        if self.memory_ns.is_none() {
            let how = "bytes that allocation calls were asked for and that were not freed, as the \
                       question memory counts them";
            describe_counter(
                out,
                Kind::Memory,
                owner,
                "live device memory",
                how,
                track::UNIT_BYTES,
            );
        }
        let at = self.memory_ns.map_or(at, |latest| latest.max(at));
        self.memory_ns = Some(at);
        counter(out, at, uuid, bytes);
    }

    /// One that returned then, by the clock of the run.
    pub(super) fn launch(&mut self, out: &mut Vec<u8>, owner: u32, ts_ns: i64, clock: Clock) {
        let interval = ts_ns.div_euclid(INTERVAL_NS);
        let Some(launches) = &mut self.launches else {
            let how = "launches of kernels and graphs that returned, by intervals of 10 ms";
            let kind = Kind::LaunchRate;
            describe_counter(out, kind, owner, "launches per second", how, track::UNIT_COUNT);
            self.launches = Some(Launches { interval, count: 1 });
            return;
        };
        if interval > launches.interval {
            launches.tell(out, owner, clock, interval);
            *launches = Launches { interval, count: 0 };
        }
        launches.count += 1;
    }

    /// What is not told yet.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>, owner: u32, clock: Clock) {
        if let Some(launches) = self.launches.take() {
            launches.tell(out, owner, clock, i64::MAX);
        }
    }
}

impl Launches {
    /// `next` is the next interval in which there is one.
    fn tell(&self, out: &mut Vec<u8>, owner: u32, clock: Clock, next: i64) {
        let uuid = Kind::LaunchRate.uuid(owner, 0);
        let rate = self.count.saturating_mul(INTERVALS_PER_SECOND);
        let end = self.interval.saturating_add(1);
        for (interval, rate) in [(self.interval, rate), (end, 0)] {
            if interval < next
                && let Some(at) = clock.at(interval.saturating_mul(INTERVAL_NS))
            {
                counter(out, at, uuid, rate);
            }
        }
    }
}

fn describe_counter(out: &mut Vec<u8>, kind: Kind, owner: u32, name: &str, how: &str, unit: u64) {
    describe(out, MAIN_SEQUENCE, |out| {
        uint(out, track::UUID, kind.uuid(owner, 0));
        uint(out, track::PARENT_UUID, Kind::Process.uuid(owner, 0));
        text(out, track::NAME, name);
        text(out, track::DESCRIPTION, how);
        uint(out, track::SIBLING_ORDER_RANK, kind as u64);
        message(out, track::COUNTER, |out| uint(out, track::COUNTER_UNIT, unit));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_times_are_no_trouble() {
        let (mut out, mut counters) = (Vec::new(), Counters::default());
        for ts_ns in [i64::MIN, i64::MAX, 0, i64::MAX] {
            counters.launch(&mut out, 1, ts_ns, Clock::default());
        }
        counters.finish(&mut out, 1, Clock::default());
        counters.live_memory(&mut out, 1, u64::MAX, u64::MAX);
        assert!(!out.is_empty());
    }
}
