//! When each process began, and when it mapped which file: by the kernel's own times, so that what
//! happened while a library was being attached is told from what came after.

use std::collections::HashMap;

use crate::{process::MappedFile, sideband::ProcessEvent};

/// Files that are kept of one process; more is a trap. Later ones count as mapped at an unknown time.
const MAX_FILES: usize = 4096;

/// Processes that have ended are kept until their events are handled; so many at most.
const MAX_ENDED: usize = 4096;

/// Every process that events have told of.
#[derive(Debug, Default)]
pub(super) struct History {
    processes: HashMap<u32, Past>,
    /// In the order in which they ended.
    ended: std::collections::VecDeque<u32>,
}

/// What is known of one process. Times are `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    /// Forked or executed; unknown of one that was there before.
    pub(super) started_ns: Option<u64>,
    /// When it first mapped a file, since it last executed a program.
    mapped_ns: HashMap<MappedFile, u64>,
    has_ended: bool,
}

impl History {
    /// Notes what an event tells, in the order of the events.
    pub(super) fn note(&mut self, event: &ProcessEvent) {
        match *event {
            ProcessEvent::Forked { pid, parent, at_ns } => {
                // A child has all that its parent had, from its first instruction on.
                let inherited = self.processes.get(&parent).map(|past| &past.mapped_ns);
                let mapped_ns = inherited
                    .map(|files| files.keys().map(|&file| (file, at_ns)).collect())
                    .unwrap_or_default();
                let past = Past { started_ns: Some(at_ns), mapped_ns, has_ended: false };
                self.processes.insert(pid, past);
            }
            ProcessEvent::Executed { pid, is_replaced: true, at_ns, .. } => {
                let past = Past { started_ns: Some(at_ns), ..Past::default() };
                self.processes.insert(pid, past);
            }
            ProcessEvent::Mapped { pid, file, at_ns, .. } => {
                let files = &mut self.processes.entry(pid).or_default().mapped_ns;
                if files.len() < MAX_FILES {
                    files.entry(file).or_insert(at_ns);
                }
            }
            ProcessEvent::Exited { pid, .. } => {
                if let Some(past) = self.processes.get_mut(&pid) {
                    past.has_ended = true;
                    self.ended.push_back(pid);
                }
                while self.ended.len() > MAX_ENDED {
                    self.forget_oldest_ended();
                }
            }
            ProcessEvent::Executed { .. } | ProcessEvent::Lost => {}
        }
    }

    /// What was mapped before events told of it; its time stays unknown.
    pub(super) fn mapped_ns(&self, pid: u32, file: MappedFile) -> Option<u64> {
        self.processes.get(&pid)?.mapped_ns.get(&file).copied()
    }

    pub(super) fn started_ns(&self, pid: u32) -> Option<u64> {
        self.processes.get(&pid)?.started_ns
    }

    /// Processes that mapped a file, ended or not, as far as events told.
    pub(super) fn who_mapped(&self, file: MappedFile) -> Vec<u32> {
        let has = |past: &Past| past.mapped_ns.contains_key(&file);
        self.processes.iter().filter(|(_, past)| has(past)).map(|(&pid, _)| pid).collect()
    }

    /// Files of a process, as far as events told.
    pub(super) fn files_of(&self, pid: u32) -> Vec<MappedFile> {
        let past = self.processes.get(&pid);
        past.map(|past| past.mapped_ns.keys().copied().collect()).unwrap_or_default()
    }

    /// The events of all that ended have been handled.
    pub(super) fn forget_ended(&mut self) {
        while !self.ended.is_empty() {
            self.forget_oldest_ended();
        }
    }

    fn forget_oldest_ended(&mut self) {
        let Some(pid) = self.ended.pop_front() else { return };
        // Another process may have its number by now.
        if self.processes.get(&pid).is_some_and(|past| past.has_ended) {
            self.processes.remove(&pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: MappedFile = MappedFile { device: 1, inode: 2 };

    fn mapped(pid: u32, at_ns: u64) -> ProcessEvent {
        ProcessEvent::Mapped { pid, file: FILE, path: "/x".into(), at_ns }
    }

    #[test]
    fn a_child_has_its_parents_files_from_its_fork_on_also_when_it_has_ended() {
        let mut history = History::default();
        history.note(&mapped(1, 10));
        history.note(&mapped(1, 15));
        history.note(&ProcessEvent::Forked { pid: 2, parent: 1, at_ns: 20 });
        history.note(&ProcessEvent::Exited { pid: 2, at_ns: 30 });
        assert_eq!(history.mapped_ns(1, FILE), Some(10));
        assert_eq!((history.mapped_ns(2, FILE), history.started_ns(2)), (Some(20), Some(20)));
        let mut who = history.who_mapped(FILE);
        who.sort_unstable();
        assert_eq!(who, [1, 2]);
        history.forget_ended();
        assert_eq!(history.who_mapped(FILE), [1]);
    }

    #[test]
    fn a_program_that_is_executed_has_no_files_yet_and_a_new_title_changes_nothing() {
        let executed = |is_replaced| ProcessEvent::Executed {
            pid: 1,
            comm: String::new(),
            is_replaced,
            at_ns: 20,
        };
        let mut history = History::default();
        history.note(&mapped(1, 10));
        history.note(&executed(false));
        assert_eq!(history.mapped_ns(1, FILE), Some(10));
        history.note(&executed(true));
        assert_eq!((history.mapped_ns(1, FILE), history.started_ns(1)), (None, Some(20)));
    }

    #[test]
    fn a_number_that_is_used_again_keeps_its_new_process() {
        let mut history = History::default();
        history.note(&mapped(1, 10));
        history.note(&ProcessEvent::Exited { pid: 1, at_ns: 20 });
        history.note(&ProcessEvent::Forked { pid: 1, parent: 9, at_ns: 30 });
        history.forget_ended();
        assert_eq!(history.started_ns(1), Some(30));
    }
}
