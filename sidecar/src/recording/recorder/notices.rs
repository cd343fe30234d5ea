//! News from the thread that attaches probes and follows processes.

use trace::{
    function::Api,
    line::{Coverage, CoverageCounts, Library, Meta},
    writer::push_meta,
};

use super::{Recorder, changes::Change};

#[derive(Debug)]
pub enum Notice {
    /// `number` is what events of this function carry; sent before its first probe.
    Function { number: u32, name: String, api: Api },
    /// Probes are in place.
    Library { attached_ns: u64, library: Library },
    /// How calls are covered, in all; and of one process and library from `at_ns` on.
    Coverage { at_ns: u64, line: Option<(u32, Coverage)>, counts: CoverageCounts },
    /// Discovery does not end: what it knew of and has not told is lost.
    DiscoveryAbandoned,
    /// Something became of a process.
    Changed { pid: u32, change: Change },
}

impl Recorder {
    pub(super) fn take_notices(&mut self) {
        while let Ok(notice) = self.notices.try_recv() {
            match notice {
                Notice::Function { number, name, api } => {
                    self.meaning.add_function(&name);
                    self.first_launch.add_function(&name);
                    self.books.add_function(number, name, api);
                }
                Notice::Library { attached_ns, library } => {
                    if library.attached_late {
                        self.meaning.attached_late();
                    }
                    let since_start = attached_ns.saturating_sub(self.options.start_ns);
                    self.announcements.library(self.segment.buffer(), since_start, library);
                }
                Notice::Coverage { at_ns, line, counts } => {
                    self.coverage = counts;
                    if let Some((pid, coverage)) = line {
                        let since_start = at_ns.saturating_sub(self.options.start_ns);
                        let meta = Meta::Coverage(coverage);
                        push_meta(self.segment.buffer(), since_start, pid, &meta);
                    }
                }
                Notice::DiscoveryAbandoned => self.coverage.events_lost += 1,
                Notice::Changed { pid, change } => {
                    // What waits in the ring buffer may be of the child already. Once more when
                    // that is booked: it may also be what the parent still learnt before.
                    if let Change::Forked { .. } = change {
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

    pub(super) fn apply(&mut self, pid: u32, change: Change) {
        match change {
            Change::Forked { parent, at_ns } => return self.meaning.forked(pid, parent, at_ns),
            Change::Replaced { at_ns } => {
                self.meaning.forget(pid, at_ns);
                self.first_launch.forget(pid, at_ns);
            }
            Change::Described => {}
        }
        self.announcements.forget(pid);
        self.set_foreign(pid, false);
    }
}
