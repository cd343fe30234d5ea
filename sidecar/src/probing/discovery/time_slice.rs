//! How long discovery goes on with one process before others have their turn.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use processes::time_limit;

/// Within this time of a turn another step is begun; the rest of the process waits.
const TO_BEGIN: Duration = Duration::from_millis(500);

/// What asks a process or a file system for something gives up at this time of the turn. What does not
/// wait for others takes little beside it, so that a turn takes less than two seconds.
const TO_WAIT: Duration = Duration::from_millis(1700);

/// Until this time of the turn what cannot be given up in the middle may begin.
const TO_CHANGE: Duration = Duration::from_millis(1000);

/// One turn.
#[derive(Debug)]
pub(super) struct TimeSlice {
    pid: Option<u32>,
    begun: Instant,
}

impl TimeSlice {
    /// Also for the jobs of this thread: see [`time_limit::run_in_turn`].
    pub(super) fn begin(pid: Option<u32>) -> Self {
        let begun = Instant::now();
        time_limit::begin_turn(begun + TO_WAIT);
        Self { pid, begun }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Whether another step may begin.
    pub(super) fn has_time(&self) -> bool {
        self.begun.elapsed() < TO_BEGIN
    }

    /// Whether what was found out slowly may still be acted on.
    pub(super) fn has_time_to_change(&self) -> bool {
        self.begun.elapsed() < TO_CHANGE
    }

    /// Ends it by then, if it would last longer.
    pub(super) fn end_by(&self, end: Instant) {
        time_limit::begin_turn(end.min(self.begun + TO_WAIT));
    }

    /// Whether nobody may be asked for anything any more.
    pub(super) fn is_over(&self) -> bool {
        self.begun.elapsed() >= TO_WAIT
    }
}

/// How much of [`SHARE_INTERVAL`] the events of one process may take while others wait. Beyond it what
/// they tell of is examined in turn with that of all processes.
const SHARE: Duration = Duration::from_millis(100);
const SHARE_INTERVAL: Duration = Duration::from_secs(1);

/// The time that events of each process have taken lately.
#[derive(Debug)]
pub(super) struct Shares {
    since: Instant,
    taken: HashMap<u32, Duration>,
}

impl Default for Shares {
    fn default() -> Self {
        Self { since: Instant::now(), taken: HashMap::new() }
    }
}

impl Shares {
    pub(super) fn has_time(&self, pid: u32) -> bool {
        self.since.elapsed() > SHARE_INTERVAL
            || self.taken.get(&pid).is_none_or(|taken| *taken < SHARE)
    }

    pub(super) fn add(&mut self, pid: u32, time: Duration) {
        if self.since.elapsed() > SHARE_INTERVAL {
            *self = Self::default();
        }
        *self.taken.entry(pid).or_default() += time;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_took_its_share_has_none_left_until_the_next_interval() {
        let mut shares = Shares::default();
        shares.add(1, SHARE / 2);
        assert!(shares.has_time(1));
        shares.add(1, SHARE / 2);
        assert!(!shares.has_time(1) && shares.has_time(2));
        shares.since = shares.since.checked_sub(2 * SHARE_INTERVAL).unwrap();
        assert!(shares.has_time(1), "that was long ago");
        shares.add(2, SHARE);
        assert!(shares.has_time(1) && !shares.has_time(2));
    }
}
