//! When each process began, and when it mapped which file: by the kernel's own times, so that what
//! happened while a library was being attached is told from what came after.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use processes::process::MappedFile;
use tracing::warn;

use crate::probing::process_events::ProcessEvent;

/// Files that are kept of one process; more is a trap.
const MAX_FILES: usize = 4096;

/// Files that are kept of all processes, 32 MiB of them. A server of many engines has some ten
/// thousand.
const MAX_ALL_FILES: usize = 1 << 19;

/// Processes that have ended are kept until their events are handled; so many at most.
const MAX_ENDED: usize = 4096;

/// Every process that events have told of.
#[derive(Debug, Default)]
pub(super) struct History {
    processes: HashMap<u32, Past>,
    /// In the order in which they ended.
    ended: VecDeque<u32>,
    /// Files of all processes; those that several share count once.
    all_files: Arc<AtomicUsize>,
    /// A file was not kept since this was last asked for.
    has_overflowed: bool,
    is_told: bool,
}

/// What is known of one process. Times are `CLOCK_MONOTONIC`.
#[derive(Debug, Default)]
struct Past {
    /// Forked or executed; unknown of one that was there before.
    started_ns: Option<u64>,
    /// What it had when it was forked or when it last forked, shared by both. It has them from its
    /// own start on at the earliest, whatever time they have there.
    shared: Option<Arc<Files>>,
    /// What it has mapped since.
    own: Files,
    has_ended: bool,
}

/// When files were first mapped. Counted as long as they are held.
#[derive(Debug, Default)]
struct Files {
    by_file: HashMap<MappedFile, u64>,
    all: Arc<AtomicUsize>,
}

impl Files {
    fn counted_in(all: &Arc<AtomicUsize>) -> Self {
        Self { by_file: HashMap::new(), all: Arc::clone(all) }
    }

    fn add(&mut self, file: MappedFile, at_ns: u64) {
        let before = self.by_file.len();
        self.by_file.entry(file).or_insert(at_ns);
        self.all.fetch_add(self.by_file.len() - before, Ordering::Relaxed);
    }
}

impl Clone for Files {
    fn clone(&self) -> Self {
        self.all.fetch_add(self.by_file.len(), Ordering::Relaxed);
        Self { by_file: self.by_file.clone(), all: Arc::clone(&self.all) }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.all.fetch_sub(self.by_file.len(), Ordering::Relaxed);
    }
}

impl Past {
    fn mapped_ns(&self, file: MappedFile) -> Option<u64> {
        let shared = self.shared.as_ref();
        let at_ns = shared.and_then(|shared| shared.by_file.get(&file));
        let at_ns = *at_ns.or_else(|| self.own.by_file.get(&file))?;
        Some(at_ns.max(self.started_ns.unwrap_or(0)))
    }

    fn files(&self) -> impl Iterator<Item = MappedFile> {
        let shared = self.shared.iter().flat_map(|shared| shared.by_file.keys());
        shared.chain(self.own.by_file.keys()).copied()
    }

    fn len(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| shared.by_file.len()) + self.own.by_file.len()
    }

    /// What a child of this process has, if there is room for it. A copy is made only where this one
    /// has mapped something since its last fork, and others still share what it had then.
    fn share(&mut self, room: usize) -> Result<Option<Arc<Files>>, Option<Arc<Files>>> {
        if self.own.by_file.is_empty() {
            return Ok(self.shared.clone());
        }
        let Some(shared) = &mut self.shared else {
            let all = Arc::clone(&self.own.all);
            let own = std::mem::replace(&mut self.own, Files::counted_in(&all));
            self.shared = Some(Arc::new(own));
            return Ok(self.shared.clone());
        };
        if Arc::get_mut(shared).is_none() && shared.by_file.len() > room {
            return Err(self.shared.clone());
        }
        let all = Arc::make_mut(shared);
        for (file, at_ns) in &self.own.by_file {
            all.add(*file, *at_ns);
        }
        self.own = Files::counted_in(&all.all);
        Ok(self.shared.clone())
    }
}

impl History {
    /// Notes what an event tells, in the order of the events.
    pub(super) fn note(&mut self, event: &ProcessEvent) {
        match *event {
            ProcessEvent::Forked { pid, parent, at_ns } => {
                // A child has all that its parent had, from its first instruction on.
                let room = self.room();
                let shared = self.processes.get_mut(&parent).map(|past| past.share(room));
                let shared = shared.unwrap_or(Ok(None)).unwrap_or_else(|older| {
                    self.overflow();
                    older
                });
                let past = Past { started_ns: Some(at_ns), shared, ..self.nothing() };
                self.processes.insert(pid, past);
            }
            ProcessEvent::Executed { pid, is_replaced: true, at_ns, .. } => {
                let past = Past { started_ns: Some(at_ns), ..self.nothing() };
                self.processes.insert(pid, past);
            }
            ProcessEvent::Mapped { pid, file, at_ns, .. } => {
                let (nothing, room) = (self.nothing(), self.room());
                let past = self.processes.entry(pid).or_insert(nothing);
                if past.mapped_ns(file).is_none() {
                    if past.len() < MAX_FILES && room > 0 {
                        past.own.add(file, at_ns);
                    } else {
                        self.overflow();
                    }
                }
            }
            ProcessEvent::Exited { pid, .. } => self.ended(pid),
            ProcessEvent::Executed { .. } | ProcessEvent::Lost => {}
        }
    }

    pub(super) fn ended(&mut self, pid: u32) {
        if let Some(past) = self.processes.get_mut(&pid).filter(|past| !past.has_ended) {
            past.has_ended = true;
            self.ended.push_back(pid);
        }
        while self.ended.len() > MAX_ENDED {
            self.forget_oldest_ended();
        }
    }

    /// Whether a file was not kept since this was last asked: who has it mapped may be missed.
    pub(super) fn take_overflow(&mut self) -> bool {
        std::mem::take(&mut self.has_overflowed)
    }

    fn overflow(&mut self) {
        self.has_overflowed = true;
        if !std::mem::replace(&mut self.is_told, true) {
            warn!(
                "processes map more files than are remembered: some that have a library mapped may \
                 not be told of"
            );
        }
    }

    fn nothing(&self) -> Past {
        let own = Files::counted_in(&self.all_files);
        Past { own, ..Past::default() }
    }

    fn room(&self) -> usize {
        MAX_ALL_FILES.saturating_sub(self.all_files.load(Ordering::Relaxed))
    }

    /// What was mapped before events told of it; its time stays unknown.
    pub(super) fn mapped_ns(&self, pid: u32, file: MappedFile) -> Option<u64> {
        self.processes.get(&pid)?.mapped_ns(file)
    }

    pub(super) fn started_ns(&self, pid: u32) -> Option<u64> {
        self.processes.get(&pid)?.started_ns
    }

    /// Processes that mapped a file, ended or not, as far as events told.
    pub(super) fn who_mapped(&self, file: MappedFile) -> Vec<u32> {
        let has = |past: &Past| past.mapped_ns(file).is_some();
        self.processes.iter().filter(|(_, past)| has(past)).map(|(&pid, _)| pid).collect()
    }

    /// Files of a process, as far as events told.
    pub(super) fn files_of(&self, pid: u32) -> Vec<MappedFile> {
        let past = self.processes.get(&pid);
        past.map(|past| past.files().collect()).unwrap_or_default()
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
    use allocations::allocated_bytes;

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

    fn mapped_file(pid: u32, inode: u64) -> ProcessEvent {
        let file = MappedFile { device: 1, inode };
        ProcessEvent::Mapped { pid, file, path: "/x".into(), at_ns: 10 }
    }

    fn forked(pid: u32, parent: u32) -> ProcessEvent {
        ProcessEvent::Forked { pid, parent, at_ns: 20 }
    }

    /// A copy for each would be 200 KiB.
    #[test]
    fn children_share_what_their_parent_has_mapped_also_where_they_map_more() {
        const CHILDREN: u32 = 2500;
        let mut history = History::default();
        for inode in 0..MAX_FILES as u64 - 1 {
            history.note(&mapped_file(1, inode));
        }
        let bytes = allocated_bytes(|| {
            for pid in 2..2 + CHILDREN {
                history.note(&forked(pid, 1));
                history.note(&mapped_file(pid, 1 << 40));
            }
        });
        assert!(bytes / u64::from(CHILDREN) < 1024, "{bytes} bytes");
        assert_eq!(history.files_of(1 + CHILDREN).len(), MAX_FILES);
        assert!(!history.take_overflow());
    }

    #[test]
    fn what_a_parent_maps_later_is_not_its_childs_nor_the_other_way_round() {
        let later = MappedFile { device: 1, inode: 9 };
        let mut history = History::default();
        history.note(&mapped(1, 10));
        history.note(&forked(2, 1));
        history.note(&mapped_file(1, 9));
        assert_eq!(history.mapped_ns(2, later), None);
        history.note(&forked(3, 1));
        assert_eq!(history.mapped_ns(2, later), None);
        assert_eq!(
            (history.mapped_ns(3, later), history.mapped_ns(1, later)),
            (Some(20), Some(10))
        );
        history.note(&mapped_file(3, 11));
        assert_eq!(history.files_of(1).len(), 2);
    }

    /// A parent that maps something between its forks has another table for each.
    #[test]
    fn files_of_all_processes_are_bounded_and_what_is_not_kept_is_said() {
        let mut history = History::default();
        for inode in 0..3000 {
            history.note(&mapped_file(1, inode));
        }
        for child in 0..90 {
            history.note(&mapped_file(1, 10_000 + u64::from(child)));
            history.note(&forked(2 + child, 1));
        }
        assert!(!history.take_overflow());
        for child in 90..400 {
            history.note(&mapped_file(1 + child, 20_000 + u64::from(child)));
            history.note(&forked(2 + child, 1 + child));
        }
        assert!(history.take_overflow(), "{:?}", history.all_files);
        assert!(!history.take_overflow(), "once");
        assert!(history.all_files.load(Ordering::Relaxed) <= MAX_ALL_FILES + MAX_FILES);
        for pid in 1..402 {
            history.note(&ProcessEvent::Exited { pid, at_ns: 30 });
        }
        history.forget_ended();
        assert_eq!(history.all_files.load(Ordering::Relaxed), 0);
        history.note(&mapped_file(1, 1));
        assert!(!history.take_overflow(), "there is room again");
    }

    #[test]
    fn more_files_of_one_process_than_are_kept_are_said() {
        let mut history = History::default();
        for inode in 0..=MAX_FILES as u64 {
            history.note(&mapped_file(1, inode));
        }
        assert_eq!(history.files_of(1).len(), MAX_FILES);
        assert!(history.take_overflow());
    }
}
