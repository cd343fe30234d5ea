//! When lines are missing, stand twice or in a wrong place, as far as has been read.

use std::mem;

use super::tally::Certainty;
use crate::{
    gap::{Cause, Gap},
    time_ranges::TimeRanges,
};

/// Times that are told apart; beyond, the last one grows.
const MAX_TIMES: usize = 4096;

#[derive(Debug)]
pub(super) struct Gaps {
    times: TimeRanges,
    /// When the segment began that is being read, or the first of those before it that nothing has
    /// counted yet.
    since: i64,
    /// No gap since then has been found so far.
    is_whole: bool,
    /// The segment has lost its closing line, and with it the counts of its lines.
    is_uncounted: bool,
}

impl Default for Gaps {
    fn default() -> Self {
        Self { times: TimeRanges::default(), since: i64::MIN, is_whole: true, is_uncounted: false }
    }
}

impl Gaps {
    pub(super) fn add(&mut self, gap: &Gap) {
        self.is_uncounted |= matches!(gap.cause, Cause::NotClosed { .. });
        if gap.is_end() || !gap.may_change_calls() {
            return;
        }
        self.is_whole = false;
        self.hole(gap.from_ns.unwrap_or(i64::MIN), gap.to_ns.unwrap_or(i64::MAX));
    }

    /// Segments are missing between these times.
    pub(super) fn hole(&mut self, mut from: i64, mut to: i64) {
        if let Some((begin, end)) = self.times.last().filter(|_| self.times.len() >= MAX_TIMES) {
            (from, to) = (from.min(begin), to.max(end));
        }
        self.times.add(from, to);
    }

    /// Whether what was read until now had no gap. `None` if nothing has counted the last segment: the
    /// next closing line counts its lines too.
    pub(super) fn segment_begins(&mut self, since: i64) -> Option<bool> {
        if mem::take(&mut self.is_uncounted) {
            return None;
        }
        self.since = since;
        Some(mem::replace(&mut self.is_whole, true))
    }

    /// Of something that hangs on the lines between these times.
    pub(super) fn certainty(&self, from: i64, to: i64) -> Certainty {
        if self.times.overlap(from, to) {
            Certainty::Doubtful
        } else if to >= self.since {
            Certainty::Open
        } else {
            Certainty::Sure
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_into_a_gap_is_doubtful() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.certainty(0, 10), Certainty::Open);
        assert_eq!(gaps.segment_begins(100), Some(true));
        assert_eq!(gaps.certainty(0, 10), Certainty::Sure);
        let cause = Cause::LinesMissing { count: 1 };
        gaps.add(&Gap { from_ns: Some(100), to_ns: Some(200), ..Gap::anywhere(cause) });
        assert_eq!(gaps.segment_begins(200), Some(false));
        assert_eq!(gaps.certainty(0, 99), Certainty::Sure);
        assert_eq!(gaps.certainty(0, 150), Certainty::Doubtful);
        assert_eq!(gaps.certainty(190, 300), Certainty::Doubtful);
        assert_eq!(gaps.certainty(201, 300), Certainty::Open);
        assert_eq!(gaps.segment_begins(400), Some(true));
        assert_eq!(gaps.certainty(201, 300), Certainty::Sure);
    }

    #[test]
    fn lines_of_a_segment_that_lost_its_closing_line_are_sure_once_the_next_one_counts_them() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.segment_begins(100), Some(true));
        gaps.add(&Gap::anywhere(Cause::NotClosed { file: "two".into() }));
        assert_eq!(gaps.segment_begins(200), None);
        assert_eq!(gaps.certainty(120, 150), Certainty::Open);
        let cause = Cause::LinesMissing { count: 1 };
        gaps.add(&Gap { from_ns: Some(100), to_ns: Some(300), ..Gap::anywhere(cause) });
        assert_eq!(gaps.segment_begins(300), Some(false));
        assert_eq!(gaps.certainty(120, 150), Certainty::Doubtful);
    }

    #[test]
    fn gaps_without_end_take_no_memory() {
        let mut gaps = Gaps::default();
        for at in 0..100_000 {
            gaps.hole(2 * at, 2 * at);
        }
        assert_eq!(gaps.times.len(), MAX_TIMES);
        assert_eq!(gaps.certainty(150_001, 150_001), Certainty::Doubtful);
    }
}
