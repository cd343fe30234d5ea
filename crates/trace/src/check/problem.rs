//! What can be wrong with a trace, and how each is said.

use std::{fmt, path::PathBuf};

use serde::Serialize;

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
    /// Only the first bad lines of a file are told one by one.
    MoreBadLines {
        file: PathBuf,
        more: u64,
    },
    /// The file name is not a segment's.
    NotASegment {
        file: PathBuf,
    },
    /// The first line is not `segment_open`: the beginning of the file is lost.
    NoOpening {
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
    /// A line says that it belongs to another segment than the file name does.
    WrongSequence {
        file: PathBuf,
        /// By the file name.
        named: u64,
        /// By the line.
        written: u64,
    },
    /// Two files of the same segment.
    Duplicate {
        run: String,
        sequence: u64,
    },
    /// No file for the numbers from `first` to `last`.
    MissingSegments {
        run: String,
        first: u64,
        last: u64,
    },
    /// The last segment of the run is missing, or the sidecar still runs.
    NotEnded {
        run: String,
    },
    /// The closing line counted another number of calls than the file holds.
    CallCount {
        file: PathBuf,
        counted: u64,
        found: u64,
    },
    /// The same for one function.
    LineCount {
        file: PathBuf,
        function: String,
        counted: u64,
        found: u64,
    },
    /// More functions whose counts are wrong than are told one by one, of a file or a run.
    MoreFunctions {
        of: String,
        more: u64,
    },
    /// More functions than are counted each on its own, or names that no function has: so many calls
    /// are of these.
    TooManyFunctions {
        file: PathBuf,
        lines: u64,
    },
    /// Calls of a process into a mapped CUDA library are not in the trace.
    Unseen {
        run: String,
        pid: u32,
        path: String,
        reason: String,
    },
    /// More such processes and libraries than are told one by one.
    MoreUnseen {
        run: String,
        more: u64,
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
    pub suppressed: u64,
}

impl Balance {
    /// Exact for any counters, also those of a forged or damaged line.
    pub(super) fn holds(&self) -> bool {
        let Self { hits, lines, dropped, ignored, suppressed } = *self;
        let parts = [lines, dropped, ignored, suppressed];
        u128::from(hits) == parts.map(u128::from).iter().sum()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, reason } => {
                write!(f, "{}: cannot be read: {reason}", file.display())
            }
            Self::BadLine { reason } => f.write_str(reason),
            Self::MoreBadLines { file, more } => {
                write!(f, "{}: {more} more lines like these", file.display())
            }
            Self::NotASegment { file } => write!(
                f,
                "{}: the name is not trace_<host>_<start>_<sequence>.jsonl, .jsonl.zst or .parquet",
                file.display()
            ),
            Self::NoOpening { file } => write!(
                f,
                "{}: does not begin with its opening line: its beginning is lost",
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
            Self::WrongSequence { file, named, written } => write!(
                f,
                "{}: is segment {named} by its name, and {written} by a line in it: files were \
                 renamed or mixed",
                file.display()
            ),
            Self::Duplicate { run, sequence } => {
                write!(f, "run {run}: more than one file of segment {sequence}: give each once")
            }
            Self::MissingSegments { run, first, last } if first == last => {
                write!(f, "run {run}: segment {first} is missing")
            }
            Self::MissingSegments { run, first, last } => {
                write!(f, "run {run}: segments {first} to {last} are missing")
            }
            Self::NotEnded { run } => write!(
                f,
                "run {run}: its last segment is not here: the sidecar still runs, crashed, or the \
                 segment was not uploaded"
            ),
            Self::CallCount { file, counted, found } => write!(
                f,
                "{}: the closing line counts {counted} calls, the file holds {found}",
                file.display()
            ),
            Self::LineCount { file, function, counted, found } => write!(
                f,
                "{}: {function}: the closing line counts {counted} calls, the file holds {found}",
                file.display()
            ),
            Self::MoreFunctions { of, more } => {
                write!(f, "{of}: {more} more functions with counts like these")
            }
            Self::TooManyFunctions { file, lines } => write!(
                f,
                "{}: {lines} calls of more functions than CUDA has, or of names that no function \
                 has, which are not counted each on its own",
                file.display()
            ),
            Self::Unseen { run, pid, path, reason } => write!(
                f,
                "run {run}: calls of process {pid} into {path:?} were not seen: {}",
                reason.escape_debug()
            ),
            Self::MoreUnseen { run, more } => write!(
                f,
                "run {run}: {more} more processes and libraries whose calls were not seen"
            ),
            Self::Unbalanced { run, function, counts } => {
                let Balance { hits, lines, dropped, ignored, suppressed } = counts;
                write!(
                    f,
                    "run {run}: {function}: {hits} hits, but {lines} lines + {dropped} dropped + \
                     {ignored} ignored + {suppressed} suppressed"
                )
            }
        }
    }
}
