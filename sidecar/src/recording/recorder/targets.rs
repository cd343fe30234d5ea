//! Who calls: whether it is a target, and its role.

use processes::{
    clock,
    process::{Known, Processes},
};
use tracing::{debug, warn};

use super::Recorder;

use crate::reporting::state::Evidence;

impl Recorder {
    /// A process without a verdict called CUDA.
    pub(super) fn examine(&mut self, pid: u32) -> bool {
        let known = self.known(pid);
        debug!(pid, ?known, "a process calls CUDA");
        self.state.callers().note(pid, &known, Evidence::Call);
        let is_target = known.verdict.is_target();
        self.set_foreign(pid, !is_target);
        self.dictionary.decide(pid, known.verdict, clock::monotonic_ns());
        is_target
    }

    /// It launches for the first time, which may tell its role: said before its next line.
    pub(super) fn launched(&mut self, pid: u32) {
        Processes::launched(&self.processes, pid);
        self.state.callers().changed(pid, &self.known(pid));
        self.dictionary.renew(pid);
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
