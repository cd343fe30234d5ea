//! How many calls there were: by the lines that are here, and by what the kernel counted.

use std::{cmp::Ordering, collections::BTreeMap};

use trace::line::{FunctionCounts, SegmentClose};

use super::function::{FunctionId, Functions, PerFunction};
use crate::{
    gap::{Cause, Gap},
    grade::Grade,
};

/// Counts of the run, as its closing lines have them, against the lines that were read.
#[derive(Default)]
pub struct Accounting {
    read: PerFunction<u64>,
    /// Of the closing line of the segment that is being read.
    pending: Option<SegmentClose>,
    /// Of the latest segment that has any: by name, as a function may have hits but no line.
    counts: BTreeMap<String, FunctionCounts>,
    /// Lines that had been read when those were taken.
    read_then: PerFunction<u64>,
    end: End,
}

/// What stands behind the counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum End {
    /// No closing line has any: the lines are all that is known.
    #[default]
    Uncounted,
    /// They reach to the last line.
    Closed,
    /// Lines follow on them.
    Open,
    /// They are those of the whole run.
    Final,
}

/// Calls of one function in the whole run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// Lines that are here.
    pub read: u64,
    /// Lines that were written, as far as is known.
    pub written: u64,
    pub dropped: u64,
    pub ignored: u64,
    pub suppressed: u64,
}

impl Balance {
    /// Calls without a line here; those that were dropped or suppressed may be of processes that are
    /// no targets.
    pub fn lost(&self) -> u64 {
        let Self { read, written, dropped, suppressed, ignored: _ } = *self;
        written.saturating_sub(read).saturating_add(dropped).saturating_add(suppressed)
    }
}

impl Accounting {
    pub(crate) fn call(&mut self, id: FunctionId) {
        *self.read.of(id) += 1;
    }

    pub(crate) fn close(&mut self, close: &SegmentClose) {
        self.pending = Some(close.clone());
    }

    /// Compares with what the segment's closing line says, wherever in it that stood: since the counts
    /// before these. `None` if it has none.
    pub(crate) fn segment_ended(&mut self, functions: &Functions) -> Option<Vec<(String, Cause)>> {
        let counted = self.pending.take().filter(|close| !close.functions.is_empty());
        let Some(close) = counted else {
            if self.end == End::Closed {
                self.end = End::Open;
            }
            return None;
        };
        let mut found = Vec::new();
        for name in self.names_with(functions, &close.functions) {
            let read = self.read_of(name, functions);
            let new = close.functions.get(name).copied().unwrap_or_default();
            let old = self.counts.get(name).copied().unwrap_or_default();
            if let count @ 1.. = new.run_dropped.saturating_sub(old.run_dropped) {
                found.push((name.to_owned(), Cause::Dropped { count }));
            }
            let then = functions.find(name).and_then(|id| self.read_then.get(id));
            let read_since = read - then.copied().unwrap_or(0);
            let written_since = new.run_lines.saturating_sub(old.run_lines);
            let count = written_since.abs_diff(read_since);
            match written_since.cmp(&read_since) {
                Ordering::Greater => found.push((name.to_owned(), Cause::LinesMissing { count })),
                Ordering::Less => found.push((name.to_owned(), Cause::LinesExtra { count })),
                Ordering::Equal => {}
            }
        }
        self.counts = close.functions;
        self.read_then = self.read.clone();
        if self.end != End::Final {
            self.end = if close.r#final { End::Final } else { End::Closed };
        }
        Some(found)
    }

    /// Whether a closing line has counted the whole run.
    pub fn is_final(&self) -> bool {
        self.end == End::Final
    }

    pub fn balance(&self, name: &str, functions: &Functions) -> Balance {
        let id = functions.find(name);
        let read = self.read_of(name, functions);
        let then = id.and_then(|id| self.read_then.get(id)).copied().unwrap_or(0);
        let counts = self.counts.get(name).copied().unwrap_or_default();
        let written = match self.end {
            End::Uncounted => read,
            // What follows on the last closing line is there twice.
            End::Final => counts.run_lines,
            End::Closed | End::Open => counts.run_lines.saturating_add(read - then),
        };
        Balance {
            read,
            written,
            dropped: counts.run_dropped,
            ignored: counts.run_ignored,
            suppressed: counts.run_suppressed,
        }
    }

    /// Of all functions that have a line or a hit.
    pub fn names<'a>(&'a self, functions: &'a Functions) -> Vec<&'a str> {
        self.names_with(functions, &self.counts)
    }

    fn names_with<'a>(
        &self,
        functions: &'a Functions,
        counts: &'a BTreeMap<String, FunctionCounts>,
    ) -> Vec<&'a str> {
        let read = functions.ids().filter(|&id| self.read.get(id).is_some_and(|&read| read > 0));
        let mut names: Vec<&str> = read.map(|id| &*functions.get(id).name).collect();
        names.extend(counts.keys().map(String::as_str));
        names.sort_unstable();
        names.dedup();
        names
    }

    fn read_of(&self, name: &str, functions: &Functions) -> u64 {
        functions.find(name).and_then(|id| self.read.get(id)).copied().unwrap_or(0)
    }

    /// How many calls of the function targets made in the whole run, and how that is known.
    pub fn calls(&self, balance: &Balance, gaps: &[Gap]) -> (u64, Grade) {
        let Balance { read, written, dropped, ignored, suppressed } = *balance;
        let most = written.saturating_add(dropped).saturating_add(suppressed);
        match self.loss(balance, gaps) {
            // What was dropped or suppressed may be of processes that are no targets, if there are
            // such.
            _ if self.end == End::Final && ignored > 0 && most > written => {
                (written, Grade::between(written as f64, most as f64))
            }
            _ if self.end == End::Final => (most, Grade::Exact),
            Loss::None(grade) => (read, grade),
            Loss::Extra => (read, Grade::unknown("lines may stand twice, and nothing counts them")),
            Loss::AtMost(_) | Loss::Unbounded => (most.max(read), Grade::at_least(written as f64)),
        }
    }

    /// What is not here of a function's calls.
    pub fn loss(&self, balance: &Balance, gaps: &[Gap]) -> Loss {
        let Balance { read, written, .. } = *balance;
        let is_cut = |gap: &Gap| gap.may_cut_lines() && gap.cause != Cause::NotEnded;
        if gaps.iter().any(Gap::may_add_lines) || read > written {
            return Loss::Extra;
        }
        match (self.end, balance.lost()) {
            (End::Final, 0) => Loss::None(Grade::Exact),
            (End::Final, lost) => Loss::AtMost(lost),
            (End::Closed, 0) if !gaps.iter().any(is_cut) => {
                Loss::None(Grade::exact_within("the time up to the last closing line"))
            }
            (End::Uncounted, 0) if !gaps.iter().any(is_cut) => Loss::None(Grade::exact_within(
                "the lines given: no counts of the kernel prove more",
            )),
            _ => Loss::Unbounded,
        }
    }
}

/// What is not here of a function's calls.
#[derive(Debug, Clone, PartialEq)]
pub enum Loss {
    /// All calls are here, as far as the grade says.
    None(Grade),
    AtMost(u64),
    Unbounded,
    /// Some lines may stand twice or in a wrong place.
    Extra,
}
