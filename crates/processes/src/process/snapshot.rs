//! What is read of a process before the list of processes is locked: whoever waits for the list must
//! not wait for a process that does not answer.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::{
    Above, Identity, Known, Processes, identity::READ_TIMEOUT, read_parent, role::maps_vllm,
};

/// The recorder waits no longer, for the ring buffer fills up meanwhile.
const CALLER_TIMEOUT: Duration = Duration::from_millis(100);

/// Parents of parents end at 1, or at 0 for the first process of a namespace.
pub(super) const DEEPEST: usize = 64;

/// A process, and what is above it as far as the list does not know that.
pub(super) struct Snapshot {
    pub(super) pid: u32,
    /// `None` if it is gone.
    pub(super) identity: Option<Identity>,
    pub(super) parent: Option<u32>,
    pub(super) above: Above,
    /// Processes that have compiled code of vLLM mapped, or have not.
    pub(super) vllm: HashMap<u32, bool>,
}

/// What the list knows of a process that bears on what has to be read.
pub(super) struct Brief {
    pub(super) parent: Option<u32>,
    pub(super) is_examined: bool,
    pub(super) has_launched: bool,
}

impl Snapshot {
    /// `known` asks the list, which is not locked meanwhile.
    pub(super) fn of(pid: u32, limit: Duration, known: impl Fn(u32) -> Option<Brief>) -> Self {
        let deadline = Instant::now() + limit;
        let left = || deadline.saturating_duration_since(Instant::now());
        let identity = Identity::read(pid, left());
        let before = known(pid);
        let parent = before.as_ref().and_then(|known| known.parent).or_else(|| read_parent(pid));
        let mut above = HashMap::new();
        let mut next = parent;
        for _ in 0..DEEPEST {
            let Some(pid) = next.filter(|&pid| pid > 0) else { break };
            next = match known(pid) {
                Some(known) if known.is_examined => known.parent,
                _ => {
                    let identity = Identity::read(pid, left());
                    let parent = read_parent(pid);
                    above.insert(pid, (identity, parent));
                    parent
                }
            };
        }
        let mut snapshot = Self { pid, identity, parent, above, vllm: HashMap::new() };
        if before.is_some_and(|known| known.has_launched) {
            snapshot.find_vllm();
        }
        snapshot
    }

    /// Of a process that launches its first kernel.
    fn at_launch(pid: u32, parent: Option<u32>) -> Self {
        let mut snapshot =
            Self { pid, identity: None, parent, above: HashMap::new(), vllm: HashMap::new() };
        snapshot.find_vllm();
        snapshot
    }

    fn find_vllm(&mut self) {
        let pids = [Some(self.pid), self.parent].into_iter().flatten();
        self.vllm = pids.map(|pid| (pid, maps_vllm(pid, CALLER_TIMEOUT))).collect();
    }
}

/// The list as two threads share it.
impl Processes {
    pub fn lock(list: &Mutex<Self>) -> MutexGuard<'_, Self> {
        list.lock().expect("no thread panics while it holds the lock")
    }

    /// As [`Self::forked`].
    pub fn note_fork(list: &Mutex<Self>, pid: u32, parent: u32) {
        let is_unfinished = Self::lock(list).is_unfinished(parent);
        let snapshot = is_unfinished.then(|| take_snapshot(list, parent, READ_TIMEOUT));
        Self::lock(list).forked_from(pid, parent, snapshot);
    }

    /// As [`Self::executed`].
    pub fn note_exec(list: &Mutex<Self>, pid: u32, comm: &str, is_replaced: bool) {
        let snapshot = take_snapshot(list, pid, READ_TIMEOUT);
        Self::lock(list).executed_as(pid, comm, is_replaced, snapshot);
    }

    /// As [`Self::examine`].
    pub fn look_at(list: &Mutex<Self>, pid: u32) -> bool {
        let snapshot = take_snapshot(list, pid, READ_TIMEOUT);
        Self::lock(list).take(snapshot)
    }

    /// As [`Self::known`], for the thread that must not wait.
    pub fn caller(list: &Mutex<Self>, pid: u32) -> Known {
        if let Some(known) = Self::lock(list).certain(pid) {
            return known;
        }
        let snapshot = take_snapshot(list, pid, CALLER_TIMEOUT);
        Self::lock(list).known_by(snapshot)
    }

    /// A process launched its first kernel, which says what it is where nothing else does.
    pub fn launched(list: &Mutex<Self>, pid: u32) {
        let parent = Self::lock(list).get(pid).and_then(|known| known.parent);
        let snapshot = Snapshot::at_launch(pid, parent);
        Self::lock(list).note_launch(pid, &snapshot);
    }
}

fn take_snapshot(list: &Mutex<Processes>, pid: u32, limit: Duration) -> Snapshot {
    Snapshot::of(pid, limit, |pid| Processes::lock(list).brief(pid))
}

#[cfg(test)]
mod tests {
    use std::{process::Command, thread};

    use super::*;
    use crate::time_limit;

    /// As the recorder does while discovery looks at a process that takes its time.
    #[test]
    fn the_list_can_be_asked_while_a_process_is_being_read() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let list = Mutex::new(Processes::new("sleep"));
        // Its turn comes when the job before it is done: it is as if it took so long itself.
        let limit = Duration::from_secs(20);
        let longest = thread::scope(|scope| {
            let looks = scope.spawn(|| {
                time_limit::stall_helper(Duration::from_millis(300));
                let snapshot = take_snapshot(&list, pid, limit);
                Processes::lock(&list).take(snapshot)
            });
            let mut longest = Duration::ZERO;
            while !looks.is_finished() {
                let begun = Instant::now();
                drop(Processes::lock(&list));
                longest = longest.max(begun.elapsed());
                thread::sleep(Duration::from_millis(1));
            }
            assert!(looks.join().unwrap());
            longest
        });
        let is_target = Processes::lock(&list).is_target(pid);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_target);
        assert!(longest < Duration::from_millis(200), "{longest:?}");
    }
}
