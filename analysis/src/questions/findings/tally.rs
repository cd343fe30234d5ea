//! Occurrences of one rule, summed up in bounded memory.

use std::collections::BTreeSet;

use super::rule::Rule;
use crate::context::{Place, function::FunctionId};

/// Lines that are cited: the costliest, and the first.
const MAX_EXAMPLES: usize = 5;

/// Functions that take part in the grade.
const MAX_FUNCTIONS: usize = 64;

/// Something that a rule looks for, at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Occurrence {
    pub rule: Rule,
    pub from: i64,
    pub to: i64,
    /// How many of what the rule counts.
    pub count: u32,
    pub cost_ns: u64,
    /// What it may have cost at most.
    pub most_ns: u64,
    pub function: FunctionId,
    /// Of the line that ends it.
    pub place: Place,
    pub detail: Detail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    None,
    Bytes(u64),
    /// A result, of the runtime or else of the driver.
    Error {
        code: u32,
        is_runtime: bool,
    },
    /// Launches since the thread last waited.
    Queued(u64),
    Pause(u64),
}

/// Whether an occurrence may be none, as lines are missing around it, stand twice or in a wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    Sure,
    /// Of the segment that is being read: its end tells.
    Open,
    Doubtful,
}

/// What occurrences add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub count: u64,
    /// Steps in which they were.
    pub steps: u64,
    pub cost_ns: u64,
    pub most_ns: u64,
    /// Numbers of the first and the last of these steps.
    rows: Option<(usize, usize)>,
}

impl Sums {
    fn add(&mut self, it: &Occurrence, row: usize) {
        self.count += u64::from(it.count);
        self.cost_ns = self.cost_ns.saturating_add(it.cost_ns);
        self.most_ns = self.most_ns.saturating_add(it.most_ns.max(it.cost_ns));
        let (first, last) = self.rows.unwrap_or((row, row));
        self.steps += u64::from(self.rows.is_none() || last < row);
        self.rows = Some((first.min(row), last.max(row)));
    }

    /// Of others in what may be the same steps: the number of steps stays.
    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.cost_ns = self.cost_ns.saturating_add(other.cost_ns);
        self.most_ns = self.most_ns.saturating_add(other.most_ns);
    }

    /// Of later occurrences.
    fn append(&mut self, later: Self) {
        self.merge(later);
        self.steps += later.steps;
        if let (Some((_, last)), Some((first, _))) = (self.rows, later.rows)
            && first <= last
        {
            // One step has some of both.
            self.steps -= 1;
        }
        self.rows = later.rows.or(self.rows);
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub all: Sums,
    /// Of the ones that are sure.
    pub sure: Sums,
    /// Of the segment that is being read, unless they are known to be doubtful.
    open: Sums,
    pub first_ns: Option<i64>,
    pub examples: Vec<Occurrence>,
    pub functions: BTreeSet<FunctionId>,
}

impl Tally {
    /// `row` is the number of the step.
    pub(super) fn add(&mut self, it: Occurrence, row: usize, certainty: Certainty) {
        self.all.add(&it, row);
        match certainty {
            Certainty::Sure => self.sure.add(&it, row),
            Certainty::Open => self.open.add(&it, row),
            Certainty::Doubtful => {}
        }
        self.first_ns = Some(self.first_ns.map_or(it.from, |first| first.min(it.from)));
        if self.functions.len() < MAX_FUNCTIONS {
            self.functions.insert(it.function);
        }
        self.cite(it);
    }

    /// A segment has ended, without a gap if it is whole.
    pub(super) fn settle(&mut self, is_whole: bool) {
        let open = std::mem::take(&mut self.open);
        if is_whole {
            self.sure.append(open);
        }
    }

    /// The first one stays, the others give way to those that cost more.
    fn cite(&mut self, it: Occurrence) {
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(it);
            return;
        }
        let least = self.examples[1..].iter_mut().min_by_key(|other| other.most_ns);
        if let Some(least) = least.filter(|least| least.most_ns < it.most_ns) {
            *least = it;
        }
    }

    /// Of the same rule in the same process. Not the number of steps: both may have the same ones.
    pub(super) fn merge(&mut self, other: &Self) {
        self.all.merge(other.all);
        self.sure.merge(other.sure);
        self.first_ns = match (self.first_ns, other.first_ns) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        self.functions.extend(&other.functions);
        for &it in &other.examples {
            self.cite(it);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_costliest_are_cited() {
        let mut tally = Tally::default();
        for at in 0..100_u32 {
            let it = Occurrence {
                rule: Rule::SyncCopy,
                from: i64::from(at),
                to: i64::from(at) + 1,
                count: 2,
                cost_ns: u64::from(at * 37 % 101),
                most_ns: 0,
                function: FunctionId(0),
                place: Place::default(),
                detail: Detail::None,
            };
            let certainty = if at < 40 { Certainty::Open } else { Certainty::Doubtful };
            tally.add(Occurrence { most_ns: it.cost_ns, ..it }, at as usize / 4, certainty);
            if at == 19 || at == 29 {
                tally.settle(at == 19);
            }
        }
        assert_eq!((tally.all.count, tally.all.steps, tally.first_ns), (200, 25, Some(0)));
        tally.settle(true);
        // Up to 20, and from 30 to 40.
        assert_eq!((tally.sure.count, tally.sure.steps), (60, 8));
        let mut cited: Vec<u64> = tally.examples.iter().map(|it| it.cost_ns).collect();
        assert_eq!(cited.remove(0), 0);
        cited.sort_unstable();
        assert_eq!(cited, [97, 98, 99, 100]);
    }
}
