//! Which processes have to do with CUDA, targets or not: so that one that is not traced can be
//! told, with the reason.

use super::{Discovery, files::mappings_of, has_cuda_name};
use crate::reporting::state::Evidence;

impl Discovery {
    pub(super) fn note_mapping(&self, pid: u32) {
        // Copied, so that the two locks are never held together.
        let known = self.processes().get(pid).cloned();
        if let Some(known) = known {
            self.state.callers().note(pid, &known, Evidence::Mapping);
        }
    }

    /// A process that is listed may be something else now.
    pub(super) fn caller_changed(&self, pid: u32) {
        if !self.state.callers().is_listed(pid) {
            return;
        }
        let known = self.processes().get(pid).cloned();
        if let Some(known) = known {
            self.state.callers().changed(pid, &known);
        }
    }

    /// Those whose mappings no event has told of.
    pub(super) fn note_strangers(&mut self, mut pids: Vec<u32>) {
        pids.retain(|&pid| !self.processes().is_target(pid));
        self.strangers = pids.into();
    }

    pub(super) fn look_at_stranger(&self, pid: u32) {
        let mappings = mappings_of(pid).unwrap_or_default();
        if mappings.executable().any(|mapping| has_cuda_name(&mapping.path)) {
            self.note_mapping(pid);
        }
    }
}
