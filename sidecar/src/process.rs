//! Which processes are targets: what a process is, what it was started by, and why it matches.

mod identity;
mod mappings;
mod role;
mod verdict;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use identity::read_parent;
pub use identity::{Identity, all_pids, exists};
pub use mappings::{executable_files, mapped_files};
pub use role::{Role, RoleBy};
use tracing::debug;
use verdict::matches;
pub use verdict::{Known, MatchedBy, Verdict};

/// Every process seen so far, and the rule that decides.
pub struct Processes {
    target: String,
    known: HashMap<u32, Known>,
}

impl Processes {
    /// `target` is what TARGET_PROCESS says: a part of a name.
    pub fn new(target: &str) -> Self {
        Self { target: target.to_owned(), known: HashMap::new() }
    }

    /// A process was forked: until it executes something else it is what its parent is.
    ///
    /// Events of different CPUs come in any order, so it may have been examined already.
    pub fn forked(&mut self, pid: u32, parent: u32) {
        self.examine_if_unfinished(parent);
        let (identity, verdict) = match self.known.get(&parent) {
            Some(known) => (known.identity.clone(), known.verdict.inherited()),
            None => (Identity::default(), Verdict::Foreign),
        };
        if let Some(known) = self.known.get_mut(&pid).filter(|known| known.exited.is_none()) {
            known.parent = Some(parent);
            if !known.verdict.is_target() {
                known.verdict = verdict;
            }
            return;
        }
        let parent = Some(parent);
        self.known.insert(pid, Known { parent, identity, verdict, ..Known::default() });
    }

    /// A process executed a program, or (unless `is_replaced`) took another title: looks at it
    /// afresh. The kernel gave its name as `comm`.
    ///
    /// The kernel tells of it before arguments and environment are in place; then another look is
    /// due when the loader maps the first library.
    pub fn executed(&mut self, pid: u32, comm: &str, is_replaced: bool) {
        if let Some(known) = self.known.get_mut(&pid).filter(|_| is_replaced) {
            known.has_launched = false;
        }
        if self.examine(pid) {
            return;
        }
        if !is_replaced && self.known.get(&pid).is_some_and(|known| known.examined) {
            // What it was is known better than by its last title.
            return;
        }
        // Gone already: its name and its ancestors are all there is to judge by.
        let identity = Identity { comm: Some(comm.to_owned()), ..Identity::default() };
        let parent = self.alive(pid).and_then(|known| known.parent);
        let verdict = self.judge(pid, &identity, parent);
        let exited = Some(Instant::now());
        self.known.insert(pid, Known { parent, identity, verdict, exited, ..Known::default() });
    }

    /// Reads what `/proc` says of a process; false, and nothing is changed, if it has ended.
    pub fn examine(&mut self, pid: u32) -> bool {
        let identity = Identity::read(pid);
        let Some(identity) = identity.filter(|identity| !identity.is_of_ended()) else {
            return false;
        };
        let remembered = self.alive(pid).and_then(|known| known.parent);
        let parent = remembered.or_else(|| read_parent(pid));
        let verdict = self.judge(pid, &identity, parent);
        if verdict.is_target() {
            debug!(pid, ?verdict, ?identity, "found a target");
        }
        let examined = identity.command.is_some();
        let has_launched = self.alive(pid).is_some_and(|known| known.has_launched);
        let known = Known { parent, identity, verdict, has_launched, examined, ..Known::default() };
        self.known.insert(pid, known);
        self.find_role(pid);
        true
    }

    /// A process launched its first kernel, which says what it is where nothing else does.
    pub fn launched(&mut self, pid: u32) {
        if let Some(known) = self.known.get_mut(&pid) {
            known.has_launched = true;
            self.find_role(pid);
        }
    }

    fn find_role(&mut self, pid: u32) {
        let role = self.known.get(&pid).and_then(|known| {
            let above = |known: &Known| self.known.get(&known.parent?);
            let parent = above(known);
            Role::of(pid, known, parent, parent.and_then(above))
        });
        if let Some(known) = self.known.get_mut(&pid) {
            known.role = role;
        }
    }

    /// Once a target, always a target, whatever it executes.
    fn judge(&mut self, pid: u32, identity: &Identity, parent: Option<u32>) -> Verdict {
        let before = self.alive(pid).map_or(Verdict::Foreign, |known| known.verdict.inherited());
        match matches(&self.target, identity) {
            Some(matched_by) => Verdict::Target(matched_by),
            None if before.is_target() || self.has_target_ancestor(parent) => {
                Verdict::Target(MatchedBy::Ancestor)
            }
            None => Verdict::Foreign,
        }
    }

    pub fn get(&self, pid: u32) -> Option<&Known> {
        self.known.get(&pid)
    }

    /// Foreign until the opposite is known.
    pub fn is_target(&self, pid: u32) -> bool {
        self.known.get(&pid).is_some_and(|known| known.verdict.is_target())
    }

    /// The answer for a process that calls CUDA.
    ///
    /// One that was foreign is looked at again: the kernel's news of what it has executed since
    /// may still be on its way. If it has ended, and its end has not been heard of either, nobody
    /// knows what it was in between.
    pub fn known(&mut self, pid: u32) -> Known {
        let known = self.known.get(&pid);
        let has_exited = known.is_some_and(Known::has_exited);
        let is_certain =
            known.is_some_and(|known| known.examined && (known.verdict.is_target() || has_exited));
        if !is_certain && (has_exited || !self.examine(pid)) {
            self.ended_unexamined(pid);
        }
        self.known[&pid].clone()
    }

    /// A caller of CUDA that can no longer be looked at.
    fn ended_unexamined(&mut self, pid: u32) {
        let mut known = self.known.get(&pid).cloned().unwrap_or_default();
        // A zombie still has its name; if that is another one, it has executed another program.
        if known.exited.is_none()
            && let Some(left) = Identity::read(pid)
            && left.comm != known.identity.comm
        {
            known.parent = known.parent.or_else(|| read_parent(pid));
            known.verdict = self.judge(pid, &left, known.parent);
            known.identity = left;
        }
        if !known.verdict.is_target() {
            known.verdict = Verdict::Target(MatchedBy::Unexamined);
        }
        known.examined = true;
        known.exited.get_or_insert_with(Instant::now);
        self.known.insert(pid, known);
    }

    pub fn exited(&mut self, pid: u32) {
        if let Some(known) = self.known.get_mut(&pid) {
            known.exited.get_or_insert_with(Instant::now);
        }
    }

    /// Targets that have not exited.
    pub fn targets(&self) -> Vec<u32> {
        let alive = |known: &Known| known.verdict.is_target() && known.exited.is_none();
        self.known.iter().filter(|(_, known)| alive(known)).map(|(&pid, _)| pid).collect()
    }

    /// Forgets processes that exited longer than `memory` ago: their last events have been read.
    pub fn forget_exited(&mut self, memory: Duration) {
        self.known.retain(|_, known| known.exited.is_none_or(|exited| exited.elapsed() < memory));
    }

    /// After lost events: marks what is gone as exited, and returns it.
    pub fn find_exited(&mut self) -> Vec<u32> {
        let gone: Vec<u32> = self.known.keys().copied().filter(|&pid| !exists(pid)).collect();
        for &pid in &gone {
            self.exited(pid);
        }
        gone
    }

    /// A process that is not known, or was looked at while it was still being started.
    pub fn is_unfinished(&self, pid: u32) -> bool {
        self.known.get(&pid).is_none_or(|known| !known.examined && known.exited.is_none())
    }

    fn examine_if_unfinished(&mut self, pid: u32) {
        if self.is_unfinished(pid) && !self.examine(pid) {
            self.exited(pid);
        }
    }

    fn alive(&self, pid: u32) -> Option<&Known> {
        self.known.get(&pid).filter(|known| known.exited.is_none())
    }

    /// Ancestors that were never seen are read on the way up.
    fn has_target_ancestor(&self, mut parent: Option<u32>) -> bool {
        // Parents of parents end at 1, or at 0 for the first process of a namespace.
        const DEEPEST: usize = 64;
        for _ in 0..DEEPEST {
            let Some(pid) = parent.filter(|&pid| pid > 0) else { return false };
            let (is_target, grandparent) = match self.known.get(&pid) {
                Some(known) if known.examined => {
                    (known.verdict.inherited().is_target(), known.parent)
                }
                _ => {
                    let Some(identity) = Identity::read(pid) else { return false };
                    (matches(&self.target, &identity).is_some(), read_parent(pid))
                }
            };
            if is_target {
                return true;
            }
            parent = grandparent;
        }
        false
    }
}

#[cfg(test)]
mod tests;
