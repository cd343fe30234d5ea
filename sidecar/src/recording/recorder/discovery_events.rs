//! Events from the thread that attaches probes and follows processes.

use cuda::function::Api;
use trace::{
    line::{Coverage, CoverageCounts, Library, Meta},
    writer::push_meta,
};

use super::{Recorder, process_changes::ProcessChange};

#[derive(Debug)]
pub enum DiscoveryEvent {
    /// `number` is what events of this function carry; sent before its first probe.
    Function { number: u32, name: String, api: Api },
    /// Probes are in place.
    Library { attached_ns: u64, library: Library },
    /// How calls are covered, in all; and of one process and library from `at_ns` on.
    Coverage { at_ns: u64, line: Option<(u32, Coverage)>, counts: CoverageCounts },
    /// Discovery does not end: what it knew of and has not told is lost.
    DiscoveryAbandoned,
    /// Something became of a process.
    Changed { pid: u32, change: ProcessChange },
}

impl Recorder {
    pub(super) fn take_discovery_events(&mut self) {
        while let Ok(discovery_event) = self.discovery_events.try_recv() {
            match discovery_event {
                DiscoveryEvent::Function { number, name, api } => {
                    self.kernel_names.add_function(&name);
                    self.first_launch.add_function(&name);
                    self.accounting.add_function(number, name, api);
                }
                DiscoveryEvent::Library { attached_ns, library } => {
                    if library.attached_late {
                        self.kernel_names.attached_late();
                    }
                    let since_start = attached_ns.saturating_sub(self.options.start_ns);
                    self.dictionary.library(self.segment.buffer(), since_start, library);
                }
                DiscoveryEvent::Coverage { at_ns, line, counts } => {
                    self.coverage = counts;
                    if let Some((pid, coverage)) = line {
                        let since_start = at_ns.saturating_sub(self.options.start_ns);
                        let meta = Meta::Coverage(coverage);
                        push_meta(self.segment.buffer(), since_start, pid, &meta);
                    }
                }
                DiscoveryEvent::DiscoveryAbandoned => self.coverage.events_lost += 1,
                DiscoveryEvent::Changed { pid, change } => {
                    // What waits in the ring buffer may be of the child already. Once more when
                    // that is counted: it may also be what the parent still learnt before.
                    if let ProcessChange::Forked { .. } = change {
                        self.apply(pid, change);
                    } else {
                        // What it makes of its calls is seen when they are read; until then none
                        // may be left out uncounted.
                        self.set_foreign(pid, false);
                    }
                    self.changes.note(pid, change);
                }
            }
        }
    }

    pub(super) fn apply(&mut self, pid: u32, change: ProcessChange) {
        match change {
            ProcessChange::Forked { parent, at_ns } => {
                return self.kernel_names.forked(pid, parent, at_ns);
            }
            ProcessChange::Replaced { at_ns } => {
                self.kernel_names.forget(pid, at_ns);
                self.first_launch.forget(pid, at_ns);
            }
            ProcessChange::Described => {}
        }
        self.dictionary.forget(pid);
        self.set_foreign(pid, false);
    }
}
