//! Proves that a trace is whole: no segment is missing, none is cut, for each function
//! `hits = lines + dropped + ignored + suppressed`, and every CUDA library that a target has mapped
//! has probes.

mod coverage;
mod problem;
mod segment;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::Serialize;

pub use coverage::{CoverageReport, Late};
pub use problem::{Balance, Problem};

use crate::{
    line::{FunctionCounts, SegmentClose},
    segment_name::{Run, SegmentName},
};
use segment::Segment;

/// What a set of segments holds, and what is wrong with it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub files: usize,
    /// Call lines, all functions together.
    pub calls: u64,
    /// Calls that the kernel counted and the trace does not hold; of a run that crashed, those up
    /// to its last closing line with counters.
    pub dropped: u64,
    pub ignored: u64,
    /// Calls beyond the rate limit.
    pub suppressed: u64,
    /// By function, summed over runs; `lines` are those counted here.
    pub functions: BTreeMap<String, FunctionTotal>,
    pub runs: Vec<RunReport>,
    /// Absent where no run says anything of it: before format 3, or after a crash.
    pub coverage: Option<CoverageReport>,
    pub problems: Vec<Problem>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FunctionTotal {
    pub lines: u64,
    pub hits: u64,
    pub dropped: u64,
    pub ignored: u64,
    pub suppressed: u64,
}

#[derive(Debug, Serialize)]
pub struct RunReport {
    pub run: String,
    pub segments: u64,
    /// The run ended in order: its last segment says so.
    pub ended: bool,
}

impl Report {
    /// No problem, and nothing was dropped.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty() && self.dropped == 0
    }
}

/// Reads every file once.
///
/// Sums of counters saturate: what a damaged or forged line says must not end the check.
pub fn check(files: &[PathBuf]) -> Report {
    let mut report = Report { files: files.len(), ..Report::default() };
    let mut runs: BTreeMap<Run, Vec<Segment>> = BTreeMap::new();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).and_then(SegmentName::parse);
        let Some(name) = name else {
            report.problems.push(Problem::NotASegment { file: file.clone() });
            continue;
        };
        let segment = segment::read(file, name.sequence, &mut report.problems);
        for (function, lines) in &segment.lines {
            add(&mut report.functions.entry(function.clone()).or_default().lines, *lines);
        }
        runs.entry(name.run).or_default().push(segment);
    }
    for (run, mut segments) in runs {
        segments.sort_by_key(|segment| segment.sequence);
        check_run(&run, &segments, &mut report);
    }
    for total in report.functions.values() {
        add(&mut report.calls, total.lines);
        add(&mut report.dropped, total.dropped);
        add(&mut report.ignored, total.ignored);
        add(&mut report.suppressed, total.suppressed);
    }
    report
}

/// `segments` are sorted by their number.
fn check_run(run: &Run, segments: &[Segment], report: &mut Report) {
    let name = run.to_string();
    check_sequence(&name, segments, &mut report.problems);
    coverage::add(&name, segments, report);
    // A crash empties the map of the last closing line: the counters before it are the best known.
    let closes = segments.iter().rev().filter_map(|segment| segment.close.as_ref());
    if let Some(close) = closes.clone().find(|close| !close.functions.is_empty()) {
        add_run_totals(close, &mut report.functions);
    }
    let last = segments.last().and_then(|segment| segment.close.as_ref());
    let last = last.filter(|close| close.r#final);
    match last {
        Some(close) => check_balance(&name, close, segments, &mut report.problems),
        None => report.problems.push(Problem::NotEnded { run: name.clone() }),
    }
    report.runs.push(RunReport {
        run: name,
        segments: segments.len() as u64,
        ended: last.is_some(),
    });
}

/// A gap is one problem however wide it is: a number in a file name may be anything.
fn check_sequence(run: &str, segments: &[Segment], problems: &mut Vec<Problem>) {
    let mut previous = 0;
    for &Segment { sequence, .. } in segments {
        let run = run.to_owned();
        if sequence == previous {
            problems.push(Problem::Duplicate { run, sequence });
        } else if sequence - previous > 1 {
            let (first, last) = (previous + 1, sequence - 1);
            problems.push(Problem::MissingSegments { run, first, last });
        }
        previous = sequence;
    }
}

fn add_run_totals(close: &SegmentClose, functions: &mut BTreeMap<String, FunctionTotal>) {
    for (function, counts) in &close.functions {
        let total = functions.entry(function.clone()).or_default();
        add(&mut total.hits, counts.run_hits);
        add(&mut total.dropped, counts.run_dropped);
        add(&mut total.ignored, counts.run_ignored);
        add(&mut total.suppressed, counts.run_suppressed);
    }
}

/// Lines are those found in the files, not those that the writer says it wrote.
fn check_balance(
    run: &str,
    close: &SegmentClose,
    segments: &[Segment],
    problems: &mut Vec<Problem>,
) {
    let found = segments.iter().flat_map(|segment| segment.lines.keys());
    let functions: BTreeSet<&String> = close.functions.keys().chain(found).collect();
    for function in functions {
        let FunctionCounts {
            run_hits: hits,
            run_dropped: dropped,
            run_ignored: ignored,
            run_suppressed: suppressed,
            ..
        } = close.functions.get(function).copied().unwrap_or_default();
        let lines = segments.iter().filter_map(|segment| segment.lines.get(function)).sum();
        let counts = Balance { hits, lines, dropped, ignored, suppressed };
        if !counts.holds() {
            let (run, function) = (run.to_owned(), function.clone());
            problems.push(Problem::Unbalanced { run, function, counts });
        }
    }
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

#[cfg(test)]
mod tests;
