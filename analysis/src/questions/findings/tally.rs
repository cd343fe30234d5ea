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

#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub count: u64,
    /// Steps in which it was.
    pub steps: u64,
    last_row: Option<usize>,
    pub cost_ns: u64,
    pub most_ns: u64,
    pub first_ns: Option<i64>,
    pub examples: Vec<Occurrence>,
    pub functions: BTreeSet<FunctionId>,
}

impl Tally {
    /// `row` is the number of the step.
    pub(super) fn add(&mut self, it: Occurrence, row: usize) {
        self.count += u64::from(it.count);
        self.cost_ns = self.cost_ns.saturating_add(it.cost_ns);
        self.most_ns = self.most_ns.saturating_add(it.most_ns.max(it.cost_ns));
        self.first_ns = Some(self.first_ns.map_or(it.from, |first| first.min(it.from)));
        if self.last_row.is_none_or(|last| last < row) {
            self.last_row = Some(row);
            self.steps += 1;
        }
        if self.functions.len() < MAX_FUNCTIONS {
            self.functions.insert(it.function);
        }
        self.cite(it);
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
        self.count += other.count;
        self.cost_ns = self.cost_ns.saturating_add(other.cost_ns);
        self.most_ns = self.most_ns.saturating_add(other.most_ns);
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
            tally.add(Occurrence { most_ns: it.cost_ns, ..it }, at as usize / 4);
        }
        assert_eq!((tally.count, tally.steps, tally.first_ns), (200, 25, Some(0)));
        let mut cited: Vec<u64> = tally.examples.iter().map(|it| it.cost_ns).collect();
        assert_eq!(cited.remove(0), 0);
        cited.sort_unstable();
        assert_eq!(cited, [97, 98, 99, 100]);
    }
}
