//! When what is live has changed: a time in which lines are out of order matters only if it did.

use std::collections::VecDeque;

/// Calls whose times are kept, the latest ones.
const MAX_CHANGES: usize = 1 << 16;

#[derive(Default)]
pub(super) struct Changes {
    /// When each call began and returned.
    latest: VecDeque<(i64, i64)>,
    /// When the last of those returned that are no longer kept.
    forgotten_ns: Option<i64>,
}

impl Changes {
    pub(super) fn add(&mut self, begin_ns: i64, end_ns: i64) {
        if self.latest.len() >= MAX_CHANGES
            && let Some((_, end_ns)) = self.latest.pop_front()
        {
            self.forgotten_ns = self.forgotten_ns.max(Some(end_ns));
        }
        self.latest.push_back((begin_ns, end_ns));
    }

    /// Whether some call was within these times, or may have been. `None` is without end.
    pub(super) fn any_within(&self, from_ns: Option<i64>, to_ns: Option<i64>) -> bool {
        let (from_ns, to_ns) = (from_ns.unwrap_or(i64::MIN), to_ns.unwrap_or(i64::MAX));
        self.forgotten_ns.is_some_and(|forgotten_ns| forgotten_ns >= from_ns)
            || self.latest.iter().any(|&(begin_ns, end_ns)| begin_ns <= to_ns && end_ns >= from_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_found_by_its_time_and_one_that_is_forgotten_is_taken_for_one() {
        let mut changes = Changes::default();
        assert!(!changes.any_within(None, None));
        changes.add(10, 20);
        for (from, to, is_within) in [(0, 9, false), (0, 10, true), (20, 30, true), (21, 30, false)]
        {
            assert_eq!(changes.any_within(Some(from), Some(to)), is_within, "{from} to {to}");
        }
        for number in (0..).take(MAX_CHANGES) {
            changes.add(100 + number, 100 + number);
        }
        assert!(changes.any_within(Some(15), Some(16)));
        assert!(!changes.any_within(Some(21), Some(30)));
    }
}
