//! Which call of a profile is which of the trace, by the order of the calls on a thread.
//!
//! Both have seen the same calls: ours from the function's first instruction to its return, CUPTI a
//! little less, inside. Of a runtime that is linked into a library only its call of the driver is
//! traced, which lies inside of what CUPTI saw. So once the clocks are known, one of both lies in the
//! other, and in no other. The clocks are found by a run of calls that are alike in what they queue,
//! in shape and rhythm, and proved by all the others.

use crate::questions::steps::operation::Operation;

/// Calls that are compared at once, and how often.
const WINDOWS: [(usize, usize); 2] = [(32, 16), (6, 24)];

/// Of each run the places that fit best.
const PLACES: usize = 4;

/// A pause between two calls that differs by more counts as so much.
const MAX_DIFFERENCE_NS: u64 = 200_000;

/// What a call of another kind counts.
const OTHER_KIND_NS: u64 = 50_000;

/// Two offsets that differ by less are one: launches follow each other by more.
pub(super) const SAME_NS: u64 = 3000;

/// Calls whose bounds are further apart than this tell nothing of the clocks.
const MAX_BOUNDS_NS: u64 = 20_000;

/// Rounding, and instructions before our probe.
const SLACK_NS: i64 = 1500;

/// Of a hundred calls the two that bound the clocks' difference most are not believed.
const UNBELIEVED: usize = 100;

/// A call that queues work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Queued {
    pub(super) begin: i64,
    pub(super) end: i64,
    pub(super) operation: Operation,
    /// Else it is the driver's.
    pub(super) is_runtime: bool,
    /// Of a kernel's grid and block, or of a copy; `None` where it is not known.
    pub(super) shape: Option<u64>,
}

impl Queued {
    fn is_like(&self, other: &Self) -> bool {
        let differs = self.shape.zip(other.shape).is_some_and(|(one, other)| one != other);
        self.operation == other.operation && !differs
    }
}

/// How two sequences of calls fit where one clock is so much ahead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fit {
    /// Ours less theirs, at a guess.
    pub(super) offset: i64,
    /// Places in theirs and in ours.
    pub(super) pairs: Vec<(u32, u32)>,
    /// Calls that lie in one of another kind.
    pub(super) contradicted: usize,
}

impl Fit {
    pub(super) fn score(&self) -> i64 {
        i64::try_from(self.pairs.len()).unwrap_or(i64::MAX)
            - i64::try_from(self.contradicted).unwrap_or(i64::MAX)
    }

    /// How far the calls that match are apart: tells two fits of the same score apart.
    pub(super) fn distance(&self, theirs: &[Queued], ours: &[Queued]) -> u64 {
        let apart = |&(one, other): &(u32, u32)| {
            let moved = middle(&theirs[one as usize]).saturating_add(self.offset);
            moved.abs_diff(middle(&ours[other as usize]))
        };
        self.pairs.iter().map(apart).fold(0, u64::saturating_add)
    }

    /// Between what the difference of the clocks lies, by all but a hundredth of the calls; the first
    /// is larger than the second where the clocks drift, or the calls are not the same.
    pub(super) fn bounds(&self, theirs: &[Queued], ours: &[Queued]) -> (i64, i64) {
        let (mut lows, mut highs) = (Vec::new(), Vec::new());
        for &(one, other) in &self.pairs {
            let (theirs, ours) = (&theirs[one as usize], &ours[other as usize]);
            let begins = ours.begin.saturating_sub(theirs.begin);
            let ends = ours.end.saturating_sub(theirs.end);
            let is_inside = theirs.is_runtime && !ours.is_runtime;
            let (low, high) = if is_inside { (ends, begins) } else { (begins, ends) };
            lows.push(low);
            highs.push(high);
        }
        lows.sort_unstable();
        highs.sort_unstable();
        let left_out = lows.len() / UNBELIEVED;
        match (lows.iter().rev().nth(left_out), highs.get(left_out)) {
            (Some(&low), Some(&high)) => (low, high),
            _ => (i64::MIN, i64::MAX),
        }
    }
}

/// The best fit of two threads, and its rival: the best one with another offset. Others are not kept, as
/// each may have a million pairs.
pub(super) fn fits(theirs: &[Queued], ours: &[Queued]) -> Vec<Fit> {
    let mut offsets: Vec<i64> = Vec::new();
    for (length, count) in WINDOWS {
        let length = length.min(theirs.len());
        if length < 3 || ours.len() < length {
            continue;
        }
        let last = theirs.len() - length;
        let mut starts: Vec<usize> = (0..count).map(|at| last * at / count.max(2)).collect();
        starts.push(last);
        starts.dedup();
        for start in starts {
            for offset in places(&theirs[start..start + length], ours) {
                if offsets.iter().all(|other| other.abs_diff(offset) > SAME_NS / 2) {
                    offsets.push(offset);
                }
            }
        }
    }
    let mut distinct: Vec<Fit> = Vec::new();
    for offset in offsets {
        let fit = refined(theirs, ours, offset);
        let is_same = |other: &&mut Fit| other.offset.abs_diff(fit.offset) <= SAME_NS;
        match distinct.iter_mut().find(is_same) {
            Some(other) if fit.score() > other.score() => *other = fit,
            Some(_) => {}
            None => distinct.push(fit),
        }
        distinct.sort_by_key(|fit| (-fit.score(), fit.offset));
        distinct.truncate(2);
    }
    distinct
}

/// Offsets at which a few calls are most like some of ours.
fn places(run: &[Queued], ours: &[Queued]) -> Vec<i64> {
    let mut best: Vec<(u64, usize)> = Vec::new();
    for (at, window) in ours.windows(run.len()).enumerate() {
        let worst = best.last().filter(|_| best.len() == PLACES).map_or(u64::MAX, |it| it.0);
        let mut cost = 0;
        for (number, (one, other)) in run.iter().zip(window).enumerate() {
            if !one.is_like(other) {
                cost += OTHER_KIND_NS;
            }
            if number > 0 {
                let pause =
                    |all: &[Queued]| all[number].begin.saturating_sub(all[number - 1].begin);
                cost += pause(run).abs_diff(pause(window)).min(MAX_DIFFERENCE_NS);
            }
            if cost >= worst {
                break;
            }
        }
        if cost < worst {
            best.push((cost, at));
            best.sort_unstable();
            best.truncate(PLACES);
        }
    }
    let offset = |&(_, at): &(u64, usize)| {
        let window = &ours[at..at + run.len()];
        let differences =
            run.iter().zip(window).map(|(one, other)| middle(other).saturating_sub(middle(one)));
        let mut differences: Vec<i64> = differences.collect();
        differences.sort_unstable();
        differences[differences.len() / 2]
    };
    best.iter().map(offset).collect()
}

/// The fit near an offset, once the calls that match have corrected it.
fn refined(theirs: &[Queued], ours: &[Queued], offset: i64) -> Fit {
    let first = at(theirs, ours, offset);
    let (low, high) = first.bounds(theirs, ours);
    if first.pairs.is_empty() || low.abs_diff(high) > MAX_BOUNDS_NS {
        return first;
    }
    let second = at(theirs, ours, i64::midpoint(low, high));
    if second.score() >= first.score() { second } else { first }
}

/// Which calls match if the clocks differ by this.
pub(super) fn at(theirs: &[Queued], ours: &[Queued], offset: i64) -> Fit {
    let mut fit = Fit { offset, ..Fit::default() };
    let (Some(first), Some(last)) = (ours.first(), ours.last()) else { return fit };
    let moved = |ns: i64| ns.saturating_add(offset);
    let from = theirs.partition_point(|it| moved(it.end) < first.begin.saturating_sub(SLACK_NS));
    let mut next = 0;
    for (number, call) in theirs.iter().enumerate().skip(from) {
        let (begin, when, end) = (moved(call.begin), moved(middle(call)), moved(call.end));
        if begin > last.end.saturating_add(SLACK_NS) {
            break;
        }
        let is_over = |it: &Queued| middle(it) < begin && it.end.saturating_add(SLACK_NS) < when;
        while ours.get(next).is_some_and(is_over) {
            next += 1;
        }
        let is_same = |it: &&Queued| {
            let is_around = it.begin.saturating_sub(SLACK_NS) <= when
                && when <= it.end.saturating_add(SLACK_NS);
            is_around || (begin..=end).contains(&middle(it))
        };
        // Each of ours is one of theirs at most.
        let Some(same) = ours.get(next).filter(is_same) else { continue };
        if same.is_like(call) {
            let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            fit.pairs.push((place(number), place(next)));
            next += 1;
        } else {
            fit.contradicted += 1;
        }
    }
    fit
}

fn middle(call: &Queued) -> i64 {
    i64::midpoint(call.begin, call.end)
}

/// The calls fit as well at another time, by the scores there.
pub(super) fn is_ambiguous(best: i64, rival: Option<i64>) -> bool {
    rival.is_some_and(|rival| rival.saturating_mul(10) >= best.saturating_mul(9))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn have_rivals(fits: &[Fit]) -> bool {
        is_ambiguous(fits[0].score(), fits.get(1).map(Fit::score))
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) % limit
        }
    }

    const OFFSET: i64 = 123_456_789;

    fn queued(begin: i64, end: i64) -> Queued {
        Queued { begin, end, operation: Operation::Launch, is_runtime: false, shape: None }
    }

    /// Steps of an engine that launches the same in each, and what CUPTI sees of the calls.
    fn steps(seed: u64, count: u64) -> (Vec<Queued>, Vec<Queued>) {
        let mut random = Random(seed);
        let (mut ours, mut theirs, mut now) = (Vec::new(), Vec::new(), 1_000_000_i64);
        let mut within = |limit| random.below(limit).cast_signed();
        for _ in 0..count {
            for launch in 0..40_usize {
                let begin = now + 3000 + within(4000);
                let end = begin + 2000 + within(3000);
                now = end;
                let operation = [Operation::Launch, Operation::Copy, Operation::Set][launch % 3];
                let shape = Some(launch as u64);
                let queued = Queued { begin, end, operation, is_runtime: true, shape };
                ours.push(queued);
                let (begin, end) = (begin + 200 + within(600), end - 100 - within(500));
                let shape = queued.shape.filter(|_| within(10) > 0);
                theirs.push(Queued { begin: begin - OFFSET, end: end - OFFSET, shape, ..queued });
            }
            now += 4_000_000 + within(100_000);
        }
        (theirs, ours)
    }

    #[test]
    fn the_clocks_are_found_and_bounded() {
        for seed in 0..20 {
            let (theirs, ours) = steps(seed, 50);
            let theirs = &theirs[400..1200];
            let fits = fits(theirs, &ours);
            assert!(!have_rivals(&fits), "seed {seed}");
            let best = &fits[0];
            let expected: Vec<(u32, u32)> = (0..800).map(|at| (at, at + 400)).collect();
            assert_eq!((&best.pairs, best.contradicted), (&expected, 0), "seed {seed}");
            let (low, high) = best.bounds(theirs, &ours);
            assert!(low <= OFFSET && OFFSET <= high && high - low < 1000, "{low} {high}");
        }
    }

    /// The truth is told by the place of each call.
    #[test]
    fn what_one_of_both_lacks_matches_nothing() {
        for seed in 0..20 {
            let (mut theirs, mut ours) = steps(seed, 50);
            let mut random = Random(seed + 1000);
            let mut number = 0;
            theirs.retain(|_| random.below(10) > 0);
            ours.retain(|_| random.below(10) > 0);
            let truth: std::collections::HashMap<i64, i64> = {
                let (theirs, ours) = steps(seed, 50);
                theirs.iter().zip(&ours).map(|(one, other)| (one.begin, other.begin)).collect()
            };
            let fits = fits(&theirs, &ours);
            assert!(!have_rivals(&fits), "seed {seed}");
            for &(one, other) in &fits[0].pairs {
                let (one, other) = (&theirs[one as usize], &ours[other as usize]);
                assert_eq!(truth[&one.begin], other.begin, "seed {seed}");
                number += 1;
            }
            assert!(number > 1500, "seed {seed}: {number}");
        }
    }

    #[test]
    fn another_process_fits_nowhere() {
        for seed in 0..20 {
            let (theirs, _) = steps(seed, 30);
            let (_, ours) = steps(seed + 500, 60);
            let fits = fits(&theirs, &ours);
            let best = fits.first().map_or(0, |fit| fit.pairs.len());
            assert!(best * 2 < theirs.len(), "seed {seed}: {best} of {}", theirs.len());
        }
    }

    #[test]
    fn a_loop_that_never_changes_fits_at_several_times() {
        let call = |at: i64| queued(at * 5000, at * 5000 + 2500);
        let ours: Vec<Queued> = (0..5000).map(call).collect();
        let theirs: Vec<Queued> = (0..2000).map(call).collect();
        assert!(have_rivals(&fits(&theirs, &ours)));
        let slower: Vec<Queued> = (0..200).map(|at| call(at * 100)).collect();
        let ours: Vec<Queued> = (0..500).map(|at| call(at * 100)).collect();
        assert!(have_rivals(&fits(&slower, &ours)));
    }

    #[test]
    fn forged_times_are_no_trouble() {
        let forged = [i64::MIN, i64::MAX, 0, i64::MAX - 1, i64::MIN + 1];
        let forged = forged.map(|at| queued(at, at));
        assert!(fits(&forged, &forged).len() < 100);
        assert!(fits(&[], &forged).is_empty());
    }
}
