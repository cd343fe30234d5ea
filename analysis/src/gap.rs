//! What a trace lacks, or holds twice: each gap lowers the grade of the figures that it touches.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

/// One thing that keeps the trace from being whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    #[serde(flatten)]
    pub cause: Cause,
    /// The only function whose calls are touched; `None` if calls of any may be.
    pub function: Option<String>,
    /// The only process.
    pub pid: Option<u32>,
    /// Since the start of the run; `None` if it reaches to the end of what there is.
    pub from_ns: Option<i64>,
    pub to_ns: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "gap", rename_all = "snake_case")]
pub enum Cause {
    /// No file for the numbers from `first` to `last`.
    MissingSegments { first: u64, last: u64 },
    /// Nothing after the last line: the sidecar still runs or crashed, or segments are missing.
    NotEnded,
    /// A segment that a crash has cut.
    Truncated { file: PathBuf },
    /// No closing line: still being written, or cut.
    NotClosed { file: PathBuf },
    /// No opening line: no clock, and perhaps more is lost.
    NoOpening { file: PathBuf },
    /// The file ends before its content does.
    Unreadable { file: PathBuf, reason: String },
    /// What came is not what was stored.
    Altered { file: PathBuf, reason: String },
    /// A listing broke off: segments may be there that it did not tell.
    NotListed { place: String, reason: String },
    /// Lines that are none, of which the first is told; `count` of them in this file.
    BadLines { file: PathBuf, line: u64, reason: String, count: u64 },
    /// Another file of the same segment was used.
    Duplicate { file: PathBuf, sequence: u64 },
    /// The file belongs to another run than its name says, and was not used.
    OtherRun { file: PathBuf },
    /// The kernel counted calls that have no line.
    Dropped { count: u64 },
    /// Lines that were written are not in the files.
    LinesMissing { count: u64 },
    /// Lines are in the files that the closing line does not count.
    LinesExtra { count: u64 },
    /// The same line follows itself; it was used once.
    Repeated { count: u64 },
    /// Lines of a thread are not in the order in which its calls returned.
    OutOfOrder { count: u64 },
    /// Lines of several threads of a process are further out of order than threads get.
    Late { count: u64 },
    /// The same, of several processes: each process alone is in order.
    Interleaved { count: u64 },
    /// Lines that tell what the next call means, with another behind them.
    Misplaced { count: u64 },
    /// Calls into a library were not seen.
    Unseen { path: String, reason: String },
    /// Calls into a library may be missing up to `to_ns`.
    SeenFrom { path: String, reason: String },
    /// Processes, or mapped libraries, of which no line tells.
    UnseenUntold { count: u64 },
    /// The kernel lost process events.
    EventsLost { count: u64 },
    /// Mapped files that nobody could look into.
    Unexamined { count: u64 },
}

impl Gap {
    /// One that may touch any call at any time.
    pub fn anywhere(cause: Cause) -> Self {
        Self { cause, function: None, pid: None, from_ns: None, to_ns: None }
    }

    /// Whether a call of the function may be missing, or be there twice.
    pub fn touches(&self, function: &str) -> bool {
        self.function.as_deref().is_none_or(|touched| touched == function)
    }

    /// Whether lines may be missing. Calls that were never recorded, as no probe was there, are
    /// another matter.
    pub fn may_cut_lines(&self) -> bool {
        matches!(
            self.cause,
            Cause::MissingSegments { .. }
                | Cause::NotEnded
                | Cause::Truncated { .. }
                | Cause::NotClosed { .. }
                | Cause::NoOpening { .. }
                | Cause::Unreadable { .. }
                | Cause::Altered { .. }
                | Cause::NotListed { .. }
                | Cause::BadLines { .. }
                | Cause::OtherRun { .. }
                | Cause::Dropped { .. }
                | Cause::LinesMissing { .. }
        )
    }

    /// Whether lines may stand twice, or where they do not belong.
    pub fn may_add_lines(&self) -> bool {
        matches!(
            self.cause,
            Cause::LinesExtra { .. } | Cause::OutOfOrder { .. } | Cause::Altered { .. }
        )
    }

    /// Whether calls may have been made where no probe was: nothing has counted them.
    pub fn may_hide_calls(&self) -> bool {
        matches!(
            self.cause,
            Cause::Unseen { .. }
                | Cause::SeenFrom { .. }
                | Cause::UnseenUntold { .. }
                | Cause::EventsLost { .. }
                | Cause::Unexamined { .. }
        )
    }

    /// Whether nothing is known behind it, and nothing is missing before it. Where segments are
    /// missing, the numbers of those that are there tell when.
    pub fn is_end(&self) -> bool {
        matches!(
            self.cause,
            Cause::MissingSegments { .. }
                | Cause::NotListed { .. }
                | Cause::NotEnded
                | Cause::NotClosed { .. }
        )
    }

    /// Whether lines of calls at the time of the gap may be missing, stand twice or in a wrong place.
    /// Lines that only tell what a call means have no part in their order.
    pub fn may_change_calls(&self) -> bool {
        let is_of_meaning = matches!(self.cause, Cause::Misplaced { .. });
        self.may_cut_lines() || self.may_add_lines() || self.may_reorder_lines() && !is_of_meaning
    }

    /// Whether lines of a process may stand in another order than things happened.
    pub fn may_reorder_lines(&self) -> bool {
        matches!(
            self.cause,
            Cause::OutOfOrder { .. }
                | Cause::Late { .. }
                | Cause::Misplaced { .. }
                | Cause::Altered { .. }
        )
    }
}

impl fmt::Display for Gap {
    #[expect(clippy::too_many_lines, reason = "an arm for each cause")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(function) = &self.function {
            write!(f, "{}: ", function.escape_debug())?;
        }
        match &self.cause {
            Cause::MissingSegments { first, last } if first == last => {
                write!(f, "segment {first} is missing")
            }
            Cause::MissingSegments { first, last } => {
                write!(f, "segments {first} to {last} are missing")
            }
            Cause::NotEnded => f.write_str(
                "the last segment is not here: the sidecar still runs, crashed, or the segment was \
                 not uploaded",
            ),
            Cause::Truncated { file } => write!(
                f,
                "{}: the sidecar crashed while writing it; its last calls may be missing",
                file.display()
            ),
            Cause::NotClosed { file } => write!(
                f,
                "{}: no closing line: it is still being written, or was cut",
                file.display()
            ),
            Cause::NoOpening { file } => write!(
                f,
                "{}: no opening line: times have no date, and what stood before is lost",
                file.display()
            ),
            Cause::Unreadable { file, reason } => {
                write!(f, "{}: {reason}; what stands before was used", file.display())
            }
            Cause::Altered { file, reason } => write!(
                f,
                "{}: {reason}; it was used, and figures may be wrong by what was changed",
                file.display()
            ),
            Cause::NotListed { place, reason } => {
                write!(
                    f,
                    "{place}: the listing broke off, so that segments may be missing: {reason}"
                )
            }
            Cause::BadLines { file, line, reason, count: 1 } => {
                write!(f, "{}:{line}: {reason}; the line was not used", file.display())
            }
            Cause::BadLines { file, line, reason, count } => write!(
                f,
                "{}: {count} lines were not used, the first is line {line}: {reason}",
                file.display()
            ),
            Cause::Duplicate { file, sequence } => {
                write!(f, "{}: not used: another file holds segment {sequence} too", file.display())
            }
            Cause::OtherRun { file } => write!(
                f,
                "{}: not used: it belongs to another run than its name says",
                file.display()
            ),
            Cause::Dropped { count } => {
                let calls = number(*count, "call was", "calls were");
                let have = if *count == 1 { "has" } else { "have" };
                write!(f, "{calls} counted in the kernel and {have} no line")
            }
            Cause::LinesMissing { count } => {
                write!(f, "{} missing", number(*count, "line is", "lines are"))
            }
            Cause::LinesExtra { count } => {
                write!(f, "{} more than the closing line counts", number(*count, "line", "lines"))
            }
            Cause::Repeated { count: 1 } => write!(f, "1 line stands twice; it was used once"),
            Cause::Repeated { count } => write!(f, "{count} lines stand twice; each was used once"),
            Cause::OutOfOrder { count } => {
                let lines = number(*count, "line is", "lines are");
                write!(f, "{lines} not in the order in which their calls returned")
            }
            Cause::Late { count } => {
                let lines = if *count == 1 { "line stands" } else { "lines stand" };
                write!(
                    f,
                    "{count} {lines} behind those of other threads that returned later, from {:.3} s on",
                    self.from_ns.unwrap_or(0) as f64 / 1e9
                )
            }
            Cause::Interleaved { count } => {
                let lines = if *count == 1 { "line stands" } else { "lines stand" };
                write!(
                    f,
                    "{count} {lines} behind those of other processes that returned later, from {:.3} s on",
                    self.from_ns.unwrap_or(0) as f64 / 1e9
                )
            }
            Cause::Misplaced { count } => {
                let lines = number(*count, "line that tells", "lines that tell");
                let stand = if *count == 1 { "does" } else { "do" };
                write!(f, "{lines} what a call means {stand} not stand in front of it")
            }
            Cause::Unseen { path, reason } => write!(
                f,
                "calls of process {} into {path:?} were not seen: {}",
                self.pid.unwrap_or(0),
                reason.escape_debug()
            ),
            Cause::SeenFrom { path, reason } => write!(
                f,
                "calls of process {} into {path:?} may be missing before {:.3} s: {}",
                self.pid.unwrap_or(0),
                self.to_ns.unwrap_or(0) as f64 / 1e9,
                reason.escape_debug()
            ),
            Cause::UnseenUntold { count } => {
                write!(
                    f,
                    "calls into {} were not all seen, and no line names them",
                    number(*count, "mapped library", "mapped libraries")
                )
            }
            Cause::EventsLost { count } => write!(
                f,
                "the kernel lost process events {}: processes of that time may be unseen",
                number(*count, "time", "times")
            ),
            Cause::Unexamined { count } => write!(
                f,
                "{} could not be looked into: calls into them, if they are CUDA libraries, were not seen",
                number(*count, "mapped file", "mapped files")
            ),
        }
    }
}
/// Without spaces between digits: these texts are for programs, too.
fn number(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
