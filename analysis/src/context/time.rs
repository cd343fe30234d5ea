//! From the time of a line to the time of day.

use trace::line::Clock;

#[derive(Debug, Clone, Copy, Default)]
pub struct Time {
    clock: Option<Clock>,
    /// Of call lines, in the window that was asked for: the first begin and the last end.
    pub first_ns: Option<i64>,
    pub last_ns: Option<i64>,
}

impl Time {
    pub(crate) fn set_clock(&mut self, clock: Clock) {
        self.clock = Some(clock);
    }

    pub(crate) fn add(&mut self, begin_ns: i64, end_ns: i64) {
        self.first_ns = Some(self.first_ns.map_or(begin_ns, |first| first.min(begin_ns)));
        self.last_ns = Some(self.last_ns.map_or(end_ns, |last| last.max(end_ns)));
    }

    /// Nanoseconds since 1970; `None` where no line has told the clock.
    pub fn unix_ns(&self, ts_ns: i64) -> Option<i64> {
        let Clock { start_monotonic_ns, monotonic_ns, realtime_ns } = self.clock?;
        let unix = i128::from(realtime_ns) - i128::from(monotonic_ns)
            + i128::from(start_monotonic_ns)
            + i128::from(ts_ns);
        unix.try_into().ok()
    }

    /// The other way round.
    pub fn ts_ns(&self, unix_ns: i64) -> Option<i64> {
        unix_ns.checked_sub(self.unix_ns(0)?)
    }

    /// From the first call to the last, in the window that was asked for.
    pub fn span_ns(&self) -> u64 {
        match (self.first_ns, self.last_ns) {
            (Some(first), Some(last)) => last.saturating_sub(first).try_into().unwrap_or(0),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_documentation() {
        let mut time = Time::default();
        assert_eq!(time.unix_ns(0), None);
        time.set_clock(Clock {
            start_monotonic_ns: 4_058_777_211_455,
            monotonic_ns: 4_058_777_255_761,
            realtime_ns: 1_795_494_480_642_456_752,
        });
        assert_eq!(time.unix_ns(756_362_034), Some(1_795_494_481_398_774_480));
        assert_eq!(time.ts_ns(1_795_494_481_398_774_480), Some(756_362_034));
        let forged = Clock { start_monotonic_ns: u64::MAX, monotonic_ns: 0, realtime_ns: u64::MAX };
        time.set_clock(forged);
        assert_eq!(time.unix_ns(1), None);
    }
}
