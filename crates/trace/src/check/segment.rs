//! One file: what it holds, against what its name and its closing line say.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead},
    mem,
    path::Path,
};

use super::{Problem, Refused};
use crate::{
    line::{CloseReason, Coverage, CoverageKind, Line, Meta, MetaLine, SegmentClose},
    reader::{BadLine, Reader, Reason},
};

/// Of a file, told one by one: one that is no trace at all has no other.
const MAX_BAD_LINES: u64 = 10;

/// Of a file; the closing line counts those beyond it too.
const MAX_GAPS: usize = 1024;

/// Functions that are counted each on its own, of a file and of a run. The libraries of CUDA export
/// fewer than 4096.
pub(super) const MAX_FUNCTIONS: usize = 1 << 14;

/// Bytes of such a function's name.
const MAX_NAME_BYTES: usize = 512;

/// Libraries with functions that have no probe, of a file and over all.
pub(super) const MAX_REFUSED: usize = 64;

/// Functions of a file or a run whose counts are wrong, told one by one.
pub(super) const MAX_WRONG: usize = 64;

/// Bytes that are kept of a text that a line holds.
const MAX_TEXT_BYTES: usize = 4096;

pub(super) struct Segment {
    /// By the file name.
    pub(super) sequence: u64,
    pub(super) close: Option<SegmentClose>,
    pub(super) lines: Lines,
    /// Whose calls are not all there.
    pub(super) gaps: Vec<Gap>,
    /// Libraries that have functions without a probe, by path.
    pub(super) refused: BTreeMap<String, Refused>,
}

/// Call lines by function.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) by_function: BTreeMap<String, u64>,
    /// Of functions beyond [`MAX_FUNCTIONS`], and with names that no function has.
    pub(super) rest: u64,
}

impl Lines {
    fn add_one(&mut self, function: String) {
        match self.by_function.get_mut(&function) {
            Some(count) => *count += 1,
            None => self.add(function, 1),
        }
    }

    pub(super) fn add(&mut self, function: String, lines: u64) {
        if let Some(count) = self.by_function.get_mut(&function) {
            *count += lines;
        } else if self.by_function.len() < MAX_FUNCTIONS && function.len() <= MAX_NAME_BYTES {
            self.by_function.insert(function, lines);
        } else {
            self.rest += lines;
        }
    }

    fn all(&self) -> u64 {
        self.by_function.values().sum::<u64>() + self.rest
    }
}

/// What one file says of a process whose calls are not all there.
pub(super) struct Gap {
    pub(super) ts: f64,
    pub(super) pid: u32,
    pub(super) coverage: Coverage,
}

pub(super) fn read(
    file: &Path,
    open: impl Fn(&Path) -> io::Result<Box<dyn BufRead + Send>>,
    sequence: u64,
    problems: &mut Vec<Problem>,
) -> Segment {
    let mut segment = Segment {
        sequence,
        close: None,
        lines: Lines::default(),
        gaps: Vec::new(),
        refused: BTreeMap::new(),
    };
    let reader = match open(file) {
        Ok(content) => Reader::new(content, file),
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
            Ok(Line::Call(call)) => segment.lines.add_one(call.func),
            Ok(Line::Meta(line)) => match line.meta {
                Meta::SegmentOpen(open) => {
                    compare_sequence(file, sequence, open.sequence, problems);
                }
                Meta::SegmentClose(close) => segment.close = Some(close),
                Meta::Coverage(mut coverage)
                    if coverage.coverage != CoverageKind::Exact
                        && segment.gaps.len() < MAX_GAPS =>
                {
                    cut(&mut coverage.path);
                    coverage.reason.iter_mut().for_each(cut);
                    segment.gaps.push(Gap { ts: line.ts, pid: line.pid, coverage });
                }
                Meta::Library(mut library) if segment.refused.len() < MAX_REFUSED => {
                    cut(&mut library.path);
                    let functions = library.refused();
                    if let Some((function, reason)) = library.first_refused() {
                        let (mut function, mut reason) = (function.to_owned(), reason.to_owned());
                        cut(&mut function);
                        cut(&mut reason);
                        let path = library.path.clone();
                        let refused = Refused { path, functions, function, reason };
                        segment.refused.insert(library.path, refused);
                    }
                }
                _ => {}
            },
            Err(bad) => {
                bad_lines += 1;
                if bad_lines <= MAX_BAD_LINES {
                    let mut reason = bad.to_string();
                    cut(&mut reason);
                    problems.push(Problem::BadLine { reason });
                }
            }
        }
    }
    if let more @ 1.. = bad_lines.saturating_sub(MAX_BAD_LINES) {
        problems.push(Problem::MoreBadLines { file: file.to_owned(), more });
    }
    if let lines @ 1.. = segment.lines.rest {
        problems.push(Problem::TooManyFunctions { file: file.to_owned(), lines });
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
    let (counted, found) = (close.calls, segment.lines.all());
    if counted != found {
        problems.push(Problem::CallCount { file: file.to_owned(), counted, found });
    }
    if close.reason == CloseReason::Truncated {
        // The counts by function died with the run that was writing the file.
        problems.push(Problem::Truncated { file: file.to_owned() });
    } else {
        compare_lines(file, close, &segment.lines.by_function, problems);
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
    let mut wrong = 0;
    for function in functions {
        let counted = close.functions.get(function).map_or(0, |counts| counts.lines);
        let found = lines.get(function).copied().unwrap_or(0);
        if counted != found {
            wrong += 1;
            if wrong <= MAX_WRONG {
                let (file, mut function) = (file.to_owned(), function.clone());
                cut(&mut function);
                problems.push(Problem::LineCount { file, function, counted, found });
            }
        }
    }
    if let more @ 1.. = wrong.saturating_sub(MAX_WRONG) {
        let of = file.display().to_string();
        problems.push(Problem::MoreFunctions { of, more: more as u64 });
    }
}

/// A line may hold any text.
pub(super) fn cut(text: &mut String) {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push_str("...");
        text.shrink_to_fit();
    }
}
