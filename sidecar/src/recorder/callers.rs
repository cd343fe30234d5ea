//! Who calls: whether it is a target, and what it has come to.

use tracing::{debug, warn};

use super::{Recorder, stages::News};
use crate::{
    clock,
    process::{Known, Processes},
    state::Evidence,
};

impl Recorder {
    /// A process without a verdict called CUDA.
    pub(super) fn examine(&mut self, pid: u32) -> bool {
        let known = self.known(pid);
        debug!(pid, ?known, "a process calls CUDA");
        self.state.callers().note(pid, &known, Evidence::Call);
        let is_target = known.verdict.is_target();
        self.set_foreign(pid, !is_target);
        self.announcements.decide(pid, known.verdict, clock::monotonic_ns());
        is_target
    }

    /// What a process has come to is said before its next line.
    pub(super) fn tell_news(&mut self, pid: u32, News { is_first_launch, stage }: News) {
        if is_first_launch {
            Processes::launched(&self.processes, pid);
            self.state.callers().changed(pid, &self.known(pid));
        }
        if let Some(stage) = stage {
            debug!(pid, stage = stage.name(), "a process enters a stage");
            self.state.callers().entered(pid, stage.name());
        }
        self.announcements.renew(pid);
    }

    /// The filter only spares cost, so its failure loses nothing.
    pub(super) fn set_foreign(&mut self, pid: u32, is_foreign: bool) {
        if let Err(error) = self.kernel.set_foreign(pid, is_foreign) {
            warn!(pid, "{error:#}");
        }
    }

    pub(super) fn known(&self, pid: u32) -> Known {
        Processes::caller(&self.processes, pid)
    }
}
