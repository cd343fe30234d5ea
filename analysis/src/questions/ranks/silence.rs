//! Times in which no thread of a process began or ended a call.

use std::collections::VecDeque;

use crate::context::function::FunctionId;

/// Shorter ones are not looked at: interpreters collect garbage for up to 4 ms.
pub(super) const MIN_SILENCE_NS: i64 = 4_500_000;

/// Silences whose steps are not known yet.
const MAX_OPEN: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Silence {
    pub from: i64,
    pub to: i64,
    /// Whose call began or ended then.
    pub ended_by: FunctionId,
    /// What it cost the engine, as far as is known.
    pub late: Option<Late>,
}

/// How long others had to wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Late {
    pub ns: i64,
    pub at: Place,
    /// When the step began.
    pub step: i64,
    /// It may have been compared with another step than its own.
    pub is_doubtful: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Others had made the launch that came next.
    Launch,
    /// The output was overdue.
    Output,
}

impl Silence {
    pub(super) fn is_late(&mut self, late: Late) {
        let late = Late { ns: late.ns.min(self.to - self.from), ..late };
        if late.ns > 0 && self.late.is_none_or(|known| known.ns < late.ns) {
            self.late = Some(late);
        }
    }

    fn part(self, from: i64, to: i64, ended_by: FunctionId) -> Option<Self> {
        let late = self.late.map(|late| Late { ns: late.ns.min(to - from), ..late });
        (to - from >= MIN_SILENCE_NS).then_some(Self { from, to, ended_by, late })
    }
}

/// Of one process. A call is known when it returns, so a silence may turn out to be two.
#[derive(Debug, Default)]
pub(super) struct Silences {
    latest: Option<i64>,
    pub open: VecDeque<Silence>,
    /// Too many to remember.
    pub forgotten: u64,
}

impl Silences {
    pub(super) fn call(&mut self, entry: i64, ret: i64, function: FunctionId) {
        for moment in [entry, ret] {
            match self.latest {
                Some(latest) if moment <= latest => self.split(moment, function),
                Some(latest) => {
                    if moment - latest >= MIN_SILENCE_NS {
                        let (from, to) = (latest, moment);
                        self.open.push_back(Silence { from, to, ended_by: function, late: None });
                    }
                    self.latest = Some(moment);
                }
                None => self.latest = Some(moment),
            }
        }
        if self.open.len() > MAX_OPEN {
            self.open.pop_front();
            self.forgotten += 1;
        }
    }

    /// Lines are missing: nothing is known of the time before.
    pub(super) fn forget(&mut self) {
        self.latest = None;
    }

    /// Those that have ended before a time, for good.
    pub(super) fn ended_before(&mut self, time: i64) -> Vec<Silence> {
        let count = self.open.iter().take_while(|silence| silence.to < time).count();
        self.open.drain(..count).collect()
    }

    fn split(&mut self, moment: i64, function: FunctionId) {
        if self.open.back().is_none_or(|last| last.to <= moment) {
            return;
        }
        let Some(at) = self.open.iter().position(|it| it.from < moment && moment < it.to) else {
            return;
        };
        let Some(whole) = self.open.remove(at) else { return };
        let parts = [
            whole.part(whole.from, moment, function),
            whole.part(moment, whole.to, whole.ended_by),
        ];
        for part in parts.into_iter().rev().flatten() {
            self.open.insert(at, part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: FunctionId = FunctionId(0);
    const WAIT: FunctionId = FunctionId(1);
    const MS: i64 = 1_000_000;

    fn spans(silences: &Silences) -> Vec<(i64, i64)> {
        silences.open.iter().map(|it| (it.from / MS, it.to / MS)).collect()
    }

    #[test]
    fn no_thread_calls_in_a_silence() {
        let mut silences = Silences::default();
        silences.call(0, MS, CALL);
        silences.call(3 * MS, 4 * MS, CALL);
        silences.call(20 * MS, 21 * MS, CALL);
        assert_eq!(spans(&silences), [(4, 20)]);
        // Another thread has waited: it began in the middle.
        silences.call(13 * MS, 22 * MS, WAIT);
        assert_eq!(spans(&silences), [(4, 13), (13, 20)]);
        assert_eq!(silences.open[0].ended_by, WAIT);
        assert_eq!(silences.open[1].ended_by, CALL);
        // A beginning near the end leaves one part that is long enough.
        silences.call(11 * MS, 23 * MS, WAIT);
        assert_eq!(spans(&silences), [(4, 11), (13, 20)]);
        assert_eq!(silences.ended_before(15 * MS).len(), 1);
        assert_eq!(spans(&silences), [(13, 20)]);
    }

    #[test]
    fn what_was_found_late_is_no_longer_than_its_silence() {
        let mut silences = Silences::default();
        silences.call(0, MS, CALL);
        silences.call(21 * MS, 22 * MS, CALL);
        silences.open[0].is_late(Late {
            ns: 90 * MS,
            at: Place::Launch,
            step: 0,
            is_doubtful: false,
        });
        assert_eq!(silences.open[0].late.unwrap().ns, 20 * MS);
        silences.call(6 * MS, 23 * MS, WAIT);
        let late: Vec<i64> = silences.open.iter().map(|it| it.late.unwrap().ns / MS).collect();
        assert_eq!(late, [5, 15]);
    }

    #[test]
    fn silences_have_a_bound() {
        let mut silences = Silences::default();
        for at in 0..3000 {
            silences.call(at * 10 * MS, at * 10 * MS + 1, CALL);
        }
        assert_eq!(silences.open.len(), MAX_OPEN);
        assert_eq!(silences.forgotten, 2999 - 1024);
    }
}
