//! Proves that a trace is whole: no segment is missing, none is cut, for each function
//! `hits = lines + dropped + ignored + suppressed`, and every CUDA library that a target has mapped
//! has probes.

mod coverage;
mod problem;
mod segment;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufRead},
    mem,
    path::{Path, PathBuf},
};

use serde::Serialize;

pub use coverage::{CoverageReport, Late, Refused, WholeFrom};
pub use problem::{Balance, Problem};

use crate::{
    line::FunctionCounts,
    reader::open_content,
    segment_name::{Run, SegmentName},
};
use segment::{Lines, MAX_FUNCTIONS, MAX_WRONG, Segment};

/// Of a run; the sidecar writes half as many, and the closing line counts those beyond it too.
const MAX_GAPS: usize = 8192;

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
    /// Libraries with functions that got no probe.
    pub refused: Vec<Refused>,
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
    check_opened(files, |file| open_content(File::open(file)?))
}

/// The same, for who can open segments that this crate cannot.
pub fn check_opened(
    files: &[PathBuf],
    open: impl Fn(&Path) -> io::Result<Box<dyn BufRead + Send>>,
) -> Report {
    let mut report = Report { files: files.len(), ..Report::default() };
    let mut runs: BTreeMap<Run, OneRun> = BTreeMap::new();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).and_then(SegmentName::parse);
        let Some(name) = name else {
            report.problems.push(Problem::NotASegment { file: file.clone() });
            continue;
        };
        let segment = segment::read(file, &open, name.sequence, &mut report.problems);
        runs.entry(name.run).or_default().add(segment);
    }
    for (run, mut found) in runs {
        found.segments.sort_by_key(|segment| segment.sequence);
        for (function, lines) in &found.lines.by_function {
            match total_of(&mut report.functions, function) {
                Some(total) => add(&mut total.lines, *lines),
                None => add(&mut report.calls, *lines),
            }
        }
        add(&mut report.calls, found.lines.rest);
        check_run(&run, &found, &mut report);
    }
    for total in report.functions.values() {
        add(&mut report.calls, total.lines);
        add(&mut report.dropped, total.dropped);
        add(&mut report.ignored, total.ignored);
        add(&mut report.suppressed, total.suppressed);
    }
    report
}

/// What is kept of a run while its files are read: of counts by function the latest alone, for a run
/// may have any number of files.
#[derive(Default)]
struct OneRun {
    segments: Vec<Segment>,
    gaps: usize,
    lines: Lines,
    /// Of the last segment whose closing line has them. A crash empties the map of the last closing
    /// line: the counters before it are the best known.
    counts: BTreeMap<String, FunctionCounts>,
    counts_of: u64,
}

impl OneRun {
    fn add(&mut self, mut segment: Segment) {
        let lines = mem::take(&mut segment.lines);
        for (function, lines) in lines.by_function {
            self.lines.add(function, lines);
        }
        self.lines.rest += lines.rest;
        segment.gaps.truncate(MAX_GAPS - self.gaps);
        segment.gaps.shrink_to_fit();
        self.gaps += segment.gaps.len();
        if let Some(close) = &mut segment.close {
            let mut counts = mem::take(&mut close.functions);
            if !counts.is_empty() && segment.sequence >= self.counts_of {
                // Each of them is wrong, and told of.
                while counts.len() > MAX_FUNCTIONS {
                    counts.pop_last();
                }
                (self.counts, self.counts_of) = (counts, segment.sequence);
            }
        }
        self.segments.push(segment);
    }
}

/// `None` if there are too many functions.
fn total_of<'a>(
    functions: &'a mut BTreeMap<String, FunctionTotal>,
    function: &str,
) -> Option<&'a mut FunctionTotal> {
    if functions.len() >= MAX_FUNCTIONS && !functions.contains_key(function) {
        return None;
    }
    Some(functions.entry(function.to_owned()).or_default())
}

/// Segments are sorted by their number.
fn check_run(run: &Run, found: &OneRun, report: &mut Report) {
    let name = run.to_string();
    let segments = &found.segments[..];
    check_sequence(&name, segments, &mut report.problems);
    coverage::add(&name, segments, report);
    coverage::add_refused(segments, report);
    add_run_totals(found, report);
    let is_final = |segment: &&Segment| segment.close.as_ref().is_some_and(|close| close.r#final);
    let last = segments.last().filter(is_final);
    match last {
        Some(last) => check_balance(&name, last.sequence, found, &mut report.problems),
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

fn add_run_totals(found: &OneRun, report: &mut Report) {
    for (function, counts) in &found.counts {
        let Some(total) = total_of(&mut report.functions, function) else {
            add(&mut report.dropped, counts.run_dropped);
            continue;
        };
        add(&mut total.hits, counts.run_hits);
        add(&mut total.dropped, counts.run_dropped);
        add(&mut total.ignored, counts.run_ignored);
        add(&mut total.suppressed, counts.run_suppressed);
    }
}

/// Lines are those found in the files, not those that the writer says it wrote.
fn check_balance(run: &str, last: u64, found: &OneRun, problems: &mut Vec<Problem>) {
    let nothing = BTreeMap::new();
    let counts = if found.counts_of == last { &found.counts } else { &nothing };
    let by_function = &found.lines.by_function;
    let functions: BTreeSet<&String> = counts.keys().chain(by_function.keys()).collect();
    let mut wrong = 0;
    for function in functions {
        let FunctionCounts {
            run_hits: hits,
            run_dropped: dropped,
            run_ignored: ignored,
            run_suppressed: suppressed,
            ..
        } = counts.get(function).copied().unwrap_or_default();
        let lines = by_function.get(function).copied().unwrap_or(0);
        let counts = Balance { hits, lines, dropped, ignored, suppressed };
        if !counts.holds() {
            wrong += 1;
            if wrong <= MAX_WRONG {
                let (run, mut function) = (run.to_owned(), function.clone());
                segment::cut(&mut function);
                problems.push(Problem::Unbalanced { run, function, counts });
            }
        }
    }
    if let more @ 1.. = wrong.saturating_sub(MAX_WRONG) {
        problems.push(Problem::MoreFunctions { of: format!("run {run}"), more: more as u64 });
    }
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

#[cfg(test)]
mod tests;
