//! Proves that a trace is whole: no segment is missing, none is cut, and for each function
//! `hits = lines + dropped + ignored`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    line::{CloseReason, FunctionCounts, Line, Meta, SegmentClose},
    reader::Reader,
    segment_name::{Run, SegmentName},
};

/// What a set of segments holds, and what is wrong with it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub files: usize,
    /// Call lines, all functions together.
    pub calls: u64,
    /// Calls that the kernel counted and the trace does not hold.
    pub dropped: u64,
    pub ignored: u64,
    /// By function, summed over runs; `lines` are those counted here.
    pub functions: BTreeMap<String, FunctionTotal>,
    pub runs: Vec<RunReport>,
    pub problems: Vec<Problem>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FunctionTotal {
    pub lines: u64,
    pub hits: u64,
    pub dropped: u64,
    pub ignored: u64,
}

#[derive(Debug, Serialize)]
pub struct RunReport {
    pub run: String,
    pub segments: u64,
    /// The run ended in order: its last segment says so and its counters balance.
    pub ended: bool,
}

/// Something that keeps the trace from being whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
pub enum Problem {
    Unreadable {
        file: PathBuf,
        reason: String,
    },
    BadLine {
        reason: String,
    },
    /// The file name is not a segment's.
    NotASegment {
        file: PathBuf,
    },
    /// No closing line: still being written, or cut.
    NotClosed {
        file: PathBuf,
    },
    /// Closed by a later run after a crash: its end may be missing.
    Truncated {
        file: PathBuf,
    },
    MissingSegment {
        run: String,
        sequence: u64,
    },
    /// The last segment of the run is missing, or the sidecar still runs.
    NotEnded {
        run: String,
    },
    /// The closing line counted another number of lines than the file holds.
    LineCount {
        file: PathBuf,
        function: String,
        counted: u64,
        found: u64,
    },
    /// The counters of the run do not balance.
    Unbalanced {
        run: String,
        function: String,
        counts: Balance,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Balance {
    pub hits: u64,
    pub lines: u64,
    pub dropped: u64,
    pub ignored: u64,
}

impl Report {
    /// No problem, and nothing was dropped.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty() && self.dropped == 0
    }
}

/// Reads every file once.
pub fn check(files: &[PathBuf]) -> Report {
    let mut report = Report { files: files.len(), ..Report::default() };
    let mut runs: BTreeMap<Run, Vec<Segment>> = BTreeMap::new();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).and_then(SegmentName::parse);
        let Some(name) = name else {
            report.problems.push(Problem::NotASegment { file: file.clone() });
            continue;
        };
        let segment = read_segment(file, name.sequence, &mut report);
        runs.entry(name.run).or_default().push(segment);
    }
    for (run, mut segments) in runs {
        segments.sort_by_key(|segment| segment.sequence);
        check_run(&run, &segments, &mut report);
    }
    for total in report.functions.values() {
        report.calls += total.lines;
        report.dropped += total.dropped;
        report.ignored += total.ignored;
    }
    report
}

struct Segment {
    sequence: u64,
    close: Option<SegmentClose>,
    lines: BTreeMap<String, u64>,
}

fn read_segment(file: &Path, sequence: u64, report: &mut Report) -> Segment {
    let mut segment = Segment { sequence, close: None, lines: BTreeMap::new() };
    let reader = match Reader::open(file) {
        Ok(reader) => reader,
        Err(error) => {
            let reason = error.to_string();
            report.problems.push(Problem::Unreadable { file: file.to_owned(), reason });
            return segment;
        }
    };
    for line in reader {
        match line {
            Ok(Line::Call(call)) => match segment.lines.get_mut(&call.func) {
                Some(count) => *count += 1,
                None => {
                    segment.lines.insert(call.func, 1);
                }
            },
            Ok(Line::Meta(line)) => {
                if let Meta::SegmentClose(close) = line.meta {
                    segment.close = Some(close);
                }
            }
            Err(bad) => report.problems.push(Problem::BadLine { reason: bad.to_string() }),
        }
    }
    for (function, lines) in &segment.lines {
        report.functions.entry(function.clone()).or_default().lines += lines;
    }
    match &segment.close {
        None => report.problems.push(Problem::NotClosed { file: file.to_owned() }),
        Some(close) if close.reason == CloseReason::Truncated => {
            report.problems.push(Problem::Truncated { file: file.to_owned() });
        }
        Some(close) => compare_lines(file, close, &segment.lines, report),
    }
    segment
}

fn compare_lines(
    file: &Path,
    close: &SegmentClose,
    lines: &BTreeMap<String, u64>,
    report: &mut Report,
) {
    let functions: BTreeSet<&String> = close.functions.keys().chain(lines.keys()).collect();
    for function in functions {
        let counted = close.functions.get(function).map_or(0, |counts| counts.lines);
        let found = lines.get(function).copied().unwrap_or(0);
        if counted != found {
            let (file, function) = (file.to_owned(), function.clone());
            report.problems.push(Problem::LineCount { file, function, counted, found });
        }
    }
}

fn check_run(run: &Run, segments: &[Segment], report: &mut Report) {
    let name = run.to_string();
    let present: BTreeSet<u64> = segments.iter().map(|segment| segment.sequence).collect();
    let last = present.last().copied().unwrap_or(0);
    for sequence in (1..=last).filter(|sequence| !present.contains(sequence)) {
        report.problems.push(Problem::MissingSegment { run: name.clone(), sequence });
    }
    let newest = segments.iter().rev().find_map(|segment| segment.close.as_ref());
    let ended = newest.is_some_and(|close| close.r#final && close.sequence == last);
    if let Some(close) = newest {
        add_run_totals(close, &mut report.functions);
    }
    if !ended {
        report.problems.push(Problem::NotEnded { run: name.clone() });
    } else if let Some(close) = newest {
        check_balance(&name, close, segments, report);
    }
    report.runs.push(RunReport { run: name, segments: present.len() as u64, ended });
}

fn add_run_totals(close: &SegmentClose, functions: &mut BTreeMap<String, FunctionTotal>) {
    for (function, counts) in &close.functions {
        let total = functions.entry(function.clone()).or_default();
        total.hits += counts.run_hits;
        total.dropped += counts.run_dropped;
        total.ignored += counts.run_ignored;
    }
}

/// Lines are those found in the files, not those that the writer says it wrote.
fn check_balance(run: &str, close: &SegmentClose, segments: &[Segment], report: &mut Report) {
    for (function, counts) in &close.functions {
        let FunctionCounts { run_hits: hits, run_dropped, run_ignored, .. } = *counts;
        let lines = segments.iter().filter_map(|segment| segment.lines.get(function)).sum();
        if hits != lines + run_dropped + run_ignored {
            let counts = Balance { hits, lines, dropped: run_dropped, ignored: run_ignored };
            let (run, function) = (run.to_owned(), function.clone());
            report.problems.push(Problem::Unbalanced { run, function, counts });
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, reason } => {
                write!(f, "{}: cannot be read: {reason}", file.display())
            }
            Self::BadLine { reason } => f.write_str(reason),
            Self::NotASegment { file } => write!(
                f,
                "{}: the name is not trace_<host>_<start>_<sequence>.jsonl",
                file.display()
            ),
            Self::NotClosed { file } => write!(
                f,
                "{}: has no closing line: it is still being written, or was cut",
                file.display()
            ),
            Self::Truncated { file } => write!(
                f,
                "{}: the sidecar crashed while writing it; its last calls may be missing",
                file.display()
            ),
            Self::MissingSegment { run, sequence } => {
                write!(f, "run {run}: segment {sequence} is missing")
            }
            Self::NotEnded { run } => write!(
                f,
                "run {run}: its last segment is not here: the sidecar still runs, crashed, or the \
                 segment was not uploaded"
            ),
            Self::LineCount { file, function, counted, found } => write!(
                f,
                "{}: {function}: the closing line counts {counted} calls, the file holds {found}",
                file.display()
            ),
            Self::Unbalanced { run, function, counts } => {
                let Balance { hits, lines, dropped, ignored } = counts;
                write!(
                    f,
                    "run {run}: {function}: {hits} hits, but {lines} lines + {dropped} dropped + \
                     {ignored} ignored"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;
