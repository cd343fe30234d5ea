//! What is known of a process, whether that makes it a target, and by what.

use std::{sync::Arc, time::Instant};

use super::{Identity, Role};

/// What is known of one process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    pub parent: Option<u32>,
    /// Shared by what a process has forked that has not executed anything since.
    pub identity: Arc<Identity>,
    pub verdict: Verdict,
    /// What it is in a vLLM server, as far as anything tells.
    pub role: Option<Role>,
    /// It has launched kernels.
    pub(super) has_launched: bool,
    /// False while all that is known is the parent, while the program is still being started, and
    /// while its command line does not come.
    pub(super) examined: bool,
    /// It called, and its calls are left out.
    pub(super) is_left_out: bool,
    /// When it became a target, where calls of the same program may have been left out before.
    pub(super) late: Option<Late>,
    pub(super) exited: Option<Instant>,
}

/// A target that may have lost its first calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Late {
    /// `CLOCK_MONOTONIC`.
    pub(super) since_ns: u64,
    /// Discovery knows of it.
    pub(super) is_told: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verdict {
    Target(MatchedBy),
    #[default]
    Foreign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchedBy {
    Executable,
    Comm,
    Command,
    /// It was started by a target.
    Ancestor,
    /// It called CUDA and ended before it could be examined, or looked at again: kept, because a line too many can be
    /// removed and one too few cannot be brought back. Not inherited.
    Unexamined,
    /// Its command line, or that of a process above it, did not come in time: kept for the same
    /// reason, until it can be read. Not inherited.
    Unread,
}

impl Known {
    /// Its calls may have been left out.
    pub(super) fn is_foreign(&self) -> bool {
        !self.verdict.is_target() && (self.examined || self.is_left_out)
    }

    pub fn has_exited(&self) -> bool {
        self.exited.is_some()
    }
}

impl MatchedBy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Executable => "executable",
            Self::Comm => "comm",
            Self::Command => "command",
            Self::Ancestor => "ancestor",
            Self::Unexamined => "unexamined",
            Self::Unread => "unread",
        }
    }
}

impl Verdict {
    pub fn is_target(self) -> bool {
        matches!(self, Self::Target(_))
    }

    /// Nobody knows yet whether it is a target.
    pub fn is_open(self) -> bool {
        self == Self::Target(MatchedBy::Unread)
    }

    /// What a process is that was started by one with this verdict, if nothing else is known.
    pub(super) fn inherited(self) -> Self {
        match self {
            Self::Foreign | Self::Target(MatchedBy::Unexamined | MatchedBy::Unread) => {
                Self::Foreign
            }
            Self::Target(_) => Self::Target(MatchedBy::Ancestor),
        }
    }
}

/// Titles come last: they are set late and cut short, but they may be all that is left.
pub(super) fn matches(target: &str, identity: &Identity) -> Option<MatchedBy> {
    let Identity { executable, command, comm, .. } = identity;
    if executable.as_ref().is_some_and(|path| path.to_string_lossy().contains(target)) {
        return Some(MatchedBy::Executable);
    }
    if comm.as_ref().is_some_and(|comm| comm.contains(target)) {
        return Some(MatchedBy::Comm);
    }
    if command.as_ref().is_some_and(|command| command.contains(target)) {
        return Some(MatchedBy::Command);
    }
    None
}
