//! Discovery's heartbeat: what it is at, and the longest that one process has kept it from others.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Written whenever discovery turns to something else.
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    step: Option<Step>,
    longest: LongestTurn,
}

/// What discovery is at.
#[derive(Debug, Clone, Copy)]
struct Step {
    begun: Instant,
    /// The process that it looks at.
    pid: Option<u32>,
    /// When it turned to this process, if it works.
    turn_begun: Option<Instant>,
}

/// The longest time that discovery has gone on with one process, or with what is of no process,
/// before it turned to others or to new events.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongestTurn {
    #[serde(rename = "longest_turn_ms")]
    pub milliseconds: u64,
    /// `None`: it was not about one process.
    #[serde(rename = "longest_turn_pid")]
    pub pid: Option<u32>,
}

impl Heartbeat {
    /// A step begins; those that follow each other with one process are one turn.
    pub(super) fn step(&mut self, pid: Option<u32>) {
        let now = Instant::now();
        let same = self.step.filter(|step| step.pid == pid).and_then(|step| step.turn_begun);
        if same.is_none() {
            self.longest = self.longest_until(now);
        }
        self.step = Some(Step { begun: now, pid, turn_begun: Some(same.unwrap_or(now)) });
    }

    /// It waits for events, or takes those that have come.
    pub(super) fn wait(&mut self) {
        let now = Instant::now();
        self.longest = self.longest_until(now);
        self.step = Some(Step { begun: now, pid: None, turn_begun: None });
    }

    /// With the turn that goes on now.
    pub(super) fn longest(&self) -> LongestTurn {
        self.longest_until(Instant::now())
    }

    /// How long the present step has taken, and the process that it looks at.
    pub(super) fn present(&self) -> Option<(Duration, Option<u32>)> {
        self.step.map(|step| (step.begun.elapsed(), step.pid))
    }

    fn longest_until(&self, now: Instant) -> LongestTurn {
        let turn = self.step.and_then(|step| Some((step.pid, now - step.turn_begun?)));
        let turn = turn.map(|(pid, taken)| LongestTurn {
            milliseconds: u64::try_from(taken.as_millis()).unwrap_or(u64::MAX),
            pid,
        });
        let is_longer = |turn: &LongestTurn| turn.milliseconds > self.longest.milliseconds;
        turn.filter(is_longer).unwrap_or_else(|| self.longest.clone())
    }

    #[cfg(test)]
    pub(super) fn set_longest(&mut self, pid: u32, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).unwrap();
        self.longest = LongestTurn { milliseconds, pid: Some(pid) };
    }

    #[cfg(test)]
    pub(super) fn age(&mut self, time: Duration) {
        let step = self.step.as_mut().unwrap();
        step.begun = step.begun.checked_sub(time).unwrap();
        step.turn_begun = step.turn_begun.and_then(|begun| begun.checked_sub(time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn seconds(heartbeat: &Heartbeat) -> (u64, Option<u32>) {
        let LongestTurn { milliseconds, pid } = heartbeat.longest();
        // What the test itself takes is far below.
        (milliseconds / 1000, pid)
    }

    #[test]
    fn steps_with_one_process_are_one_turn_until_others_or_new_events_come() {
        let mut heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.longest(), LongestTurn::default());
        for _ in 0..3 {
            heartbeat.step(Some(7));
            heartbeat.age(10 * SECOND);
        }
        assert_eq!(seconds(&heartbeat), (30, Some(7)), "also while it goes on");
        heartbeat.step(Some(8));
        heartbeat.age(20 * SECOND);
        heartbeat.wait();
        heartbeat.step(Some(8));
        heartbeat.age(20 * SECOND);
        assert_eq!(seconds(&heartbeat), (30, Some(7)), "it has looked for events in between");
        heartbeat.step(None);
        heartbeat.age(40 * SECOND);
        assert_eq!(seconds(&heartbeat), (40, None));
    }

    #[test]
    fn waiting_for_events_holds_nobody_up() {
        let mut heartbeat = Heartbeat::default();
        heartbeat.wait();
        heartbeat.age(40 * SECOND);
        assert_eq!(seconds(&heartbeat), (0, None));
        assert_eq!(heartbeat.present().unwrap().0.as_secs(), 40, "but it is a step");
    }
}
