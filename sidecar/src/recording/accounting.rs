//! What became of every call, by function: the proof that a trace is whole starts here.

use std::collections::BTreeMap;

use cuda::function::{
    Api,
    arguments::{Capture, capture},
};
use serde::{Deserialize, Serialize};
use sidecar_common::Counters;
use trace::{line::FunctionCounts, writer::CallText};

/// One account per function, at the index that its events carry.
#[derive(Default)]
pub struct Accounting {
    functions: Vec<FunctionAccount>,
}

/// How it goes, for whoever asks.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub calls: Calls,
    /// Hits of each function that was called at all.
    pub functions: BTreeMap<String, u64>,
}

/// The sums over all functions.
///
/// `hits = recorded + ignored + dropped + suppressed` once nothing is in flight.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// Counted in the kernel.
    pub hits: u64,
    /// Lines in files.
    pub recorded: u64,
    /// Calls of processes that turned out not to be targets.
    pub ignored: u64,
    /// Lost because the ring buffer was full.
    pub dropped_at_ring: u64,
    /// Lost because the disk was full, TRACE_DIR_LIMIT reached, or the open segment deleted.
    pub dropped_at_disk: u64,
    /// Beyond TRACE_RATE_LIMIT.
    #[serde(default)]
    pub suppressed: u64,
}

struct FunctionAccount {
    name: String,
    text: CallText,
    capture: Capture,
    /// Lines in memory, not yet in the file.
    buffered: u64,
    segment_lines: u64,
    run_lines: u64,
    ignored: u64,
    /// Lines that could not be written.
    unwritten: u64,
}

impl Accounting {
    /// Numbers come in order, each once.
    pub fn add_function(&mut self, number: u32, name: String, api: Api) {
        debug_assert_eq!(number as usize, self.functions.len());
        let (text, capture) = (CallText::new(&name, api), capture(&name));
        self.functions.push(FunctionAccount {
            name,
            text,
            capture,
            buffered: 0,
            segment_lines: 0,
            run_lines: 0,
            ignored: 0,
            unwritten: 0,
        });
    }

    /// How many numbers have been given.
    pub fn functions(&self) -> u32 {
        u32::try_from(self.functions.len()).expect("bounded by MAX_FUNCTIONS")
    }

    /// Counts a line and gives its text; `None` for a number that was never given.
    pub fn line(&mut self, number: u32) -> Option<&CallText> {
        let account = self.functions.get_mut(number as usize)?;
        account.buffered += 1;
        Some(&account.text)
    }

    /// The text of a function's lines, and what is copied of its calls.
    pub fn function(&self, number: u32) -> Option<(&CallText, &Capture)> {
        self.functions.get(number as usize).map(|account| (&account.text, &account.capture))
    }

    /// Counts a call of a process that is not a target.
    pub fn ignored(&mut self, number: u32) {
        if let Some(account) = self.functions.get_mut(number as usize) {
            account.ignored += 1;
        }
    }

    /// Counts a line that may not be written.
    pub fn unwritten(&mut self, number: u32) {
        if let Some(account) = self.functions.get_mut(number as usize) {
            account.unwritten += 1;
        }
    }

    /// What was buffered is in the file.
    pub fn buffer_written(&mut self) {
        for account in &mut self.functions {
            account.segment_lines += account.buffered;
            account.run_lines += account.buffered;
            account.buffered = 0;
        }
    }

    /// What was buffered is lost.
    pub fn buffer_lost(&mut self) {
        for account in &mut self.functions {
            account.unwritten += account.buffered;
            account.buffered = 0;
        }
    }

    pub fn segment_closed(&mut self) {
        for account in &mut self.functions {
            account.segment_lines = 0;
        }
    }

    pub fn segment_lines(&self) -> u64 {
        self.functions.iter().map(|account| account.segment_lines).sum()
    }

    /// For the closing line: functions that were called at all, with what the kernel counted.
    pub fn counts(&self, kernel: &[Counters]) -> BTreeMap<String, FunctionCounts> {
        self.functions
            .iter()
            .zip(kernel)
            .filter(|(_, counters)| counters.hits > 0)
            .map(|(account, counters)| {
                let counts = FunctionCounts {
                    lines: account.segment_lines,
                    run_hits: counters.hits,
                    run_lines: account.run_lines,
                    run_dropped: counters.dropped + account.unwritten,
                    run_ignored: account.ignored,
                    run_suppressed: counters.suppressed,
                };
                (account.name.clone(), counts)
            })
            .collect()
    }

    pub fn tally(&self, kernel: &[Counters]) -> Tally {
        let called = self.functions.iter().zip(kernel).filter(|(_, counters)| counters.hits > 0);
        let calls = Calls {
            hits: kernel.iter().map(|counters| counters.hits).sum(),
            recorded: self.functions.iter().map(|account| account.run_lines).sum(),
            ignored: self.functions.iter().map(|account| account.ignored).sum(),
            dropped_at_ring: kernel.iter().map(|counters| counters.dropped).sum(),
            dropped_at_disk: self.functions.iter().map(|account| account.unwritten).sum(),
            suppressed: kernel.iter().map(|counters| counters.suppressed).sum(),
        };
        let called = called.map(|(account, counters)| (account.name.clone(), counters.hits));
        Tally { calls, functions: called.collect() }
    }

    /// Calls that the kernel counted and that have not arrived here yet.
    pub fn in_flight(&self, kernel: &[Counters]) -> u64 {
        let hits: u64 = kernel
            .iter()
            .map(|counters| counters.hits - counters.dropped - counters.suppressed)
            .sum();
        let arrived: u64 = self
            .functions
            .iter()
            .map(|account| {
                account.buffered + account.run_lines + account.ignored + account.unwritten
            })
            .sum();
        hits.saturating_sub(arrived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounting() -> Accounting {
        let mut accounting = Accounting::default();
        accounting.add_function(0, "cuInit".to_owned(), Api::Driver);
        accounting.add_function(1, "cudaMalloc".to_owned(), Api::Runtime);
        accounting
    }

    #[test]
    fn a_line_counts_for_the_segment_and_the_run_once_it_is_written() {
        let mut accounting = accounting();
        let kernel = [Counters { hits: 2, dropped: 0, suppressed: 0 }, Counters::default()];
        assert_eq!(accounting.in_flight(&kernel), 2);
        accounting.line(0).unwrap();
        accounting.buffer_written();
        accounting.segment_closed();
        accounting.line(0).unwrap();
        assert_eq!(accounting.in_flight(&kernel), 0);
        accounting.buffer_written();
        let counts = accounting.counts(&kernel);
        assert_eq!(counts.len(), 1, "a function that was never called has no entry");
        let FunctionCounts { lines, run_hits, run_lines, .. } = counts["cuInit"];
        assert_eq!((lines, run_hits, run_lines), (1, 2, 2));
    }

    #[test]
    fn lost_and_ignored_calls_keep_the_books_balanced() {
        let mut accounting = accounting();
        accounting.line(1).unwrap();
        accounting.buffer_lost();
        accounting.unwritten(1);
        accounting.ignored(1);
        let kernel = [Counters::default(), Counters { hits: 5, dropped: 2, suppressed: 0 }];
        assert_eq!(accounting.in_flight(&kernel), 0);
        let FunctionCounts { run_dropped, run_ignored, .. } =
            accounting.counts(&kernel)["cudaMalloc"];
        assert_eq!((run_dropped, run_ignored), (4, 1));
    }

    #[test]
    fn the_tally_tells_the_two_kinds_of_loss_apart() {
        let mut accounting = accounting();
        accounting.line(0).unwrap();
        accounting.buffer_written();
        accounting.unwritten(1);
        accounting.ignored(1);
        let Tally { calls, functions } = accounting.tally(&[
            Counters { hits: 1, dropped: 0, suppressed: 0 },
            Counters { hits: 5, dropped: 3, suppressed: 0 },
        ]);
        assert_eq!((calls.hits, calls.recorded, calls.ignored), (6, 1, 1));
        assert_eq!((calls.dropped_at_ring, calls.dropped_at_disk), (3, 1));
        assert_eq!(functions, [("cuInit".to_owned(), 1), ("cudaMalloc".to_owned(), 5)].into());
    }

    #[test]
    fn an_unknown_number_has_no_text() {
        assert!(accounting().line(2).is_none());
    }
}
