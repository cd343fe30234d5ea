//! One file: what it holds, against what its name and its closing line say.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    path::Path,
};

use super::Problem;
use crate::{
    line::{CloseReason, Coverage, CoverageKind, Line, Meta, MetaLine, SegmentClose},
    reader::{BadLine, Reader, Reason},
};

/// Of a file, told one by one: one that is no trace at all has no other.
const MOST_BAD_LINES: u64 = 10;

/// Of a file; the closing line counts those beyond it too.
const MAX_GAPS: usize = 1024;

pub(super) struct Segment {
    /// By the file name.
    pub(super) sequence: u64,
    pub(super) close: Option<SegmentClose>,
    /// Call lines by function.
    pub(super) lines: BTreeMap<String, u64>,
    /// Whose calls are not all there.
    pub(super) gaps: Vec<Gap>,
}

/// What one file says of a process whose calls are not all there.
pub(super) struct Gap {
    pub(super) ts: f64,
    pub(super) pid: u32,
    pub(super) coverage: Coverage,
}

pub(super) fn read(file: &Path, sequence: u64, problems: &mut Vec<Problem>) -> Segment {
    let mut segment = Segment { sequence, close: None, lines: BTreeMap::new(), gaps: Vec::new() };
    let reader = match Reader::open(file) {
        Ok(reader) => reader,
        Err(error) => {
            let reason = error.to_string();
            problems.push(Problem::Unreadable { file: file.to_owned(), reason });
            return segment;
        }
    };
    let mut is_first = true;
    let mut bad_lines = 0;
    for line in reader {
        if mem::take(&mut is_first) && !is_opening(&line) {
            problems.push(Problem::NoOpening { file: file.to_owned() });
        }
        match line {
            Ok(Line::Call(call)) => match segment.lines.get_mut(&call.func) {
                Some(count) => *count += 1,
                None => {
                    segment.lines.insert(call.func, 1);
                }
            },
            Ok(Line::Meta(line)) => match line.meta {
                Meta::SegmentOpen(open) => {
                    compare_sequence(file, sequence, open.sequence, problems);
                }
                Meta::SegmentClose(close) => segment.close = Some(close),
                Meta::Coverage(coverage)
                    if coverage.coverage != CoverageKind::Exact
                        && segment.gaps.len() < MAX_GAPS =>
                {
                    segment.gaps.push(Gap { ts: line.ts, pid: line.pid, coverage });
                }
                _ => {}
            },
            Err(bad) => {
                bad_lines += 1;
                if bad_lines <= MOST_BAD_LINES {
                    problems.push(Problem::BadLine { reason: bad.to_string() });
                }
            }
        }
    }
    if let more @ 1.. = bad_lines.saturating_sub(MOST_BAD_LINES) {
        problems.push(Problem::MoreBadLines { file: file.to_owned(), more });
    }
    match &segment.close {
        None => problems.push(Problem::NotClosed { file: file.to_owned() }),
        Some(close) => check_close(file, close, &segment, problems),
    }
    segment
}

/// A line that is too new to be read is complained of for that alone.
fn is_opening(line: &Result<Line, BadLine>) -> bool {
    match line {
        Ok(Line::Meta(MetaLine { meta, .. })) => matches!(meta, Meta::SegmentOpen(_)),
        Ok(Line::Call(_)) => false,
        Err(bad) => matches!(bad.reason, Reason::FormatVersion(_)),
    }
}

fn check_close(file: &Path, close: &SegmentClose, segment: &Segment, problems: &mut Vec<Problem>) {
    compare_sequence(file, segment.sequence, close.sequence, problems);
    let (counted, found) = (close.calls, segment.lines.values().sum());
    if counted != found {
        problems.push(Problem::CallCount { file: file.to_owned(), counted, found });
    }
    if close.reason == CloseReason::Truncated {
        // The counts by function died with the run that was writing the file.
        problems.push(Problem::Truncated { file: file.to_owned() });
    } else {
        compare_lines(file, close, &segment.lines, problems);
    }
}

fn compare_sequence(file: &Path, named: u64, written: u64, problems: &mut Vec<Problem>) {
    if named != written {
        problems.push(Problem::WrongSequence { file: file.to_owned(), named, written });
    }
}

fn compare_lines(
    file: &Path,
    close: &SegmentClose,
    lines: &BTreeMap<String, u64>,
    problems: &mut Vec<Problem>,
) {
    let functions: BTreeSet<&String> = close.functions.keys().chain(lines.keys()).collect();
    for function in functions {
        let counted = close.functions.get(function).map_or(0, |counts| counts.lines);
        let found = lines.get(function).copied().unwrap_or(0);
        if counted != found {
            let (file, function) = (file.to_owned(), function.clone());
            problems.push(Problem::LineCount { file, function, counted, found });
        }
    }
}
