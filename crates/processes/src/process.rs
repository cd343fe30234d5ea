//! Which processes are targets: what a process is, what it was started by, and why it matches.

mod environment;
mod identity;
mod mappings;
mod role;
mod snapshot;
mod verdict;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

pub use environment::environment;
use identity::READ_TIMEOUT;
pub use identity::{Identity, all_pids, arguments, exists, read_parent};
pub use mappings::{MappedFile, Mapping, Mappings, mapped_files};
pub use role::{Role, RoleBy};
use snapshot::{Brief, DEEPEST, Snapshot};
use tracing::debug;
pub use verdict::{Known, MatchedBy, Verdict};
use verdict::{Late, matches};

use crate::clock;

/// Ended processes that are known at a time: programs may be started faster than they are forgotten.
/// One that is forgotten too early is kept in the trace when an event of it comes, as one that could
/// not be examined.
const MAX_EXITED: usize = 1 << 14;

/// What was read of processes above another one.
type Above = HashMap<u32, (Option<Identity>, Option<u32>)>;

/// Every process seen so far, and the rule that decides.
pub struct Processes {
    target: String,
    known: HashMap<u32, Known>,
    /// Those that have ended, in this order; some of these pids may be in use again.
    ended: VecDeque<u32>,
}

impl Processes {
    /// `target` is what TARGET_PROCESS says: a part of a name.
    pub fn new(target: &str) -> Self {
        Self { target: target.to_owned(), known: HashMap::new(), ended: VecDeque::new() }
    }

    /// A process was forked: until it executes something else it is what its parent is.
    ///
    /// Events of different CPUs come in any order, so it may have been examined already.
    pub fn forked(&mut self, pid: u32, parent: u32) {
        let snapshot = self.is_unfinished(parent).then(|| self.snapshot(parent));
        self.forked_from(pid, parent, snapshot);
    }

    fn forked_from(&mut self, pid: u32, parent: u32, snapshot: Option<Snapshot>) {
        if let Some(snapshot) = snapshot
            && self.is_unfinished(parent)
            && !self.take(snapshot)
        {
            self.exited(parent);
        }
        let (identity, verdict) = match self.known.get(&parent) {
            Some(known) => (known.identity.clone(), known.verdict.inherited()),
            None => (Arc::default(), Verdict::Foreign),
        };
        if let Some(known) = self.known.get_mut(&pid).filter(|known| known.exited.is_none()) {
            known.parent = Some(parent);
            if !known.verdict.is_target() {
                known.late = late(known, verdict);
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
        let snapshot = self.snapshot(pid);
        self.executed_as(pid, comm, is_replaced, snapshot);
    }

    fn executed_as(&mut self, pid: u32, comm: &str, is_replaced: bool, snapshot: Snapshot) {
        let above = snapshot.above.clone();
        if let Some(known) = self.known.get_mut(&pid).filter(|_| is_replaced) {
            // The kernel leaves none of its calls out from then on.
            (known.has_launched, known.examined, known.is_left_out) = (false, false, false);
            known.late = None;
        }
        if self.take(snapshot) {
            return;
        }
        if !is_replaced && self.known.get(&pid).is_some_and(|known| known.examined) {
            // What it was is known better than by its last title.
            return;
        }
        // Gone already: its name and its ancestors are all there is to judge by.
        let identity = Identity { comm: Some(comm.to_owned()), ..Identity::default() };
        let parent = self.alive(pid).and_then(|known| known.parent);
        let verdict = self.judge(pid, &identity, parent, &above);
        let identity = Arc::new(identity);
        self.known.insert(pid, Known { parent, identity, verdict, ..Known::default() });
        self.exited(pid);
    }

    /// Reads what `/proc` says of a process; false, and nothing is changed, if it has ended.
    pub fn examine(&mut self, pid: u32) -> bool {
        let snapshot = self.snapshot(pid);
        self.take(snapshot)
    }

    fn snapshot(&self, pid: u32) -> Snapshot {
        Snapshot::of(pid, READ_TIMEOUT, |pid| self.brief(pid))
    }

    fn brief(&self, pid: u32) -> Option<Brief> {
        let known = self.known.get(&pid)?;
        let Known { examined: is_examined, has_launched, .. } = *known;
        // One that has ended had another parent than the one that has its number now.
        let parent = known.parent.filter(|_| is_examined || known.exited.is_none());
        Some(Brief { parent, is_examined, has_launched })
    }

    fn take(&mut self, mut snapshot: Snapshot) -> bool {
        let pid = snapshot.pid;
        let identity = snapshot.identity.take();
        let Some(mut identity) = identity.filter(|identity| !identity.is_of_ended()) else {
            return false;
        };
        let remembered = self.alive(pid).and_then(|known| known.parent);
        let parent = remembered.or(snapshot.parent);
        let verdict = self.judge(pid, &identity, parent, &snapshot.above);
        if verdict.is_target() {
            debug!(pid, ?verdict, ?identity, "found a target");
        }
        let examined = identity.command.is_some() && !verdict.is_open();
        // Judged by all that was read.
        identity.shorten();
        let identity = Arc::new(identity);
        let before = self.alive(pid).cloned().unwrap_or_default();
        let late = late(&before, verdict);
        let Known { has_launched, is_left_out, .. } = before;
        let known = Known {
            parent,
            identity,
            verdict,
            has_launched,
            examined,
            is_left_out,
            late,
            ..Known::default()
        };
        self.known.insert(pid, known);
        self.find_role(pid, &snapshot);
        true
    }

    fn note_launch(&mut self, pid: u32, snapshot: &Snapshot) {
        if let Some(known) = self.known.get_mut(&pid) {
            known.has_launched = true;
            self.find_role(pid, snapshot);
        }
    }

    fn find_role(&mut self, pid: u32, snapshot: &Snapshot) {
        let maps_vllm = |pid: u32| snapshot.vllm.get(&pid).copied().unwrap_or(false);
        let role = self.known.get(&pid).and_then(|known| {
            let above = |known: &Known| self.known.get(&known.parent?);
            let parent = above(known);
            Role::of(pid, known, parent, parent.and_then(above), maps_vllm)
        });
        if let Some(known) = self.known.get_mut(&pid) {
            known.role = role;
        }
    }

    /// Once a target, always a target, whatever it executes.
    fn judge(&self, pid: u32, identity: &Identity, parent: Option<u32>, above: &Above) -> Verdict {
        let before = self.alive(pid).map_or(Verdict::Foreign, |known| known.verdict.inherited());
        match matches(&self.target, identity) {
            Some(matched_by) => Verdict::Target(matched_by),
            None if before.is_target() => Verdict::Target(MatchedBy::Ancestor),
            None => match self.target_ancestor(parent, above) {
                Some(true) => Verdict::Target(MatchedBy::Ancestor),
                Some(false) if !identity.is_command_unread => Verdict::Foreign,
                Some(false) | None => Verdict::Target(MatchedBy::Unread),
            },
        }
    }

    pub fn get(&self, pid: u32) -> Option<&Known> {
        self.known.get(&pid)
    }

    /// Foreign until the opposite is known.
    pub fn is_target(&self, pid: u32) -> bool {
        self.known.get(&pid).is_some_and(|known| known.verdict.is_target())
    }

    /// When a target became one, if calls that it made before may be missing: it was known to be no
    /// target until then.
    pub fn late_ns(&self, pid: u32) -> Option<u64> {
        self.alive(pid)?.late.map(|late| late.since_ns)
    }

    /// Those targets, each once.
    pub fn take_late(&mut self) -> Vec<u32> {
        let mut taken = Vec::new();
        for (&pid, known) in &mut self.known {
            if known.exited.is_none()
                && let Some(late) = known.late.as_mut().filter(|late| !late.is_told)
            {
                late.is_told = true;
                taken.push(pid);
            }
        }
        taken
    }

    /// The answer for a process that calls CUDA: its calls are left out if it is no target.
    ///
    /// One that was foreign is looked at again: the kernel's event of what it has executed since
    /// may still be on its way. If it has ended, and its end has not been heard of either, nobody
    /// knows what it was in between.
    pub fn known(&mut self, pid: u32) -> Known {
        if let Some(known) = self.certain(pid) {
            return known;
        }
        let snapshot = self.snapshot(pid);
        self.known_by(snapshot)
    }

    /// What is known of a process that need not be looked at again.
    fn certain(&self, pid: u32) -> Option<Known> {
        let known = self.known.get(&pid)?;
        let is_certain = known.examined && (known.verdict.is_target() || known.has_exited());
        is_certain.then(|| known.clone())
    }

    fn known_by(&mut self, snapshot: Snapshot) -> Known {
        if let Some(known) = self.certain(snapshot.pid) {
            return known;
        }
        let pid = snapshot.pid;
        let (left, parent, above) =
            (snapshot.identity.clone(), snapshot.parent, snapshot.above.clone());
        let has_exited = self.known.get(&pid).is_some_and(Known::has_exited);
        if has_exited || !self.take(snapshot) {
            self.ended_unexamined(pid, left, parent, &above);
        }
        let known = self.known.get_mut(&pid).expect("examined, or noted as ended");
        known.is_left_out |= !known.verdict.is_target();
        known.clone()
    }

    /// A caller of CUDA that can no longer be looked at.
    fn ended_unexamined(
        &mut self,
        pid: u32,
        left: Option<Identity>,
        parent: Option<u32>,
        above: &Above,
    ) {
        let mut known = self.known.get(&pid).cloned().unwrap_or_default();
        // A zombie still has its name; if that is another one, it has executed another program.
        if known.exited.is_none()
            && let Some(mut left) = left
            && left.comm != known.identity.comm
        {
            known.parent = known.parent.or(parent);
            known.verdict = self.judge(pid, &left, known.parent, above);
            left.shorten();
            known.identity = Arc::new(left);
        }
        if !known.verdict.is_target() {
            known.verdict = Verdict::Target(MatchedBy::Unexamined);
        }
        known.examined = true;
        self.known.insert(pid, known);
        self.exited(pid);
    }

    pub fn exited(&mut self, pid: u32) {
        let Some(known) = self.known.get_mut(&pid).filter(|known| known.exited.is_none()) else {
            return;
        };
        known.exited = Some(Instant::now());
        self.ended.push_back(pid);
        if self.ended.len() > MAX_EXITED
            && let Some(oldest) = self.ended.pop_front()
            && self.known.get(&oldest).is_some_and(Known::has_exited)
            && oldest != pid
        {
            self.known.remove(&oldest);
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
        let Self { ended, known, .. } = self;
        ended.retain(|pid| known.get(pid).is_some_and(Known::has_exited));
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

    fn alive(&self, pid: u32) -> Option<&Known> {
        self.known.get(&pid).filter(|known| known.exited.is_none())
    }

    /// Whether there is a target above; `None` if one of those above cannot be read. Those that the
    /// list does not know were read on the way up.
    fn target_ancestor(&self, mut parent: Option<u32>, read: &Above) -> Option<bool> {
        let none = |is_unread: bool| (!is_unread).then_some(false);
        let mut is_unread = false;
        for _ in 0..DEEPEST {
            let Some(pid) = parent.filter(|&pid| pid > 0) else { return none(is_unread) };
            let (is_target, grandparent) = match self.known.get(&pid) {
                Some(known) if known.examined => {
                    (known.verdict.inherited().is_target(), known.parent)
                }
                _ => match read.get(&pid) {
                    Some((Some(identity), parent)) => {
                        is_unread |= identity.is_command_unread;
                        (matches(&self.target, identity).is_some(), *parent)
                    }
                    Some((None, _)) => return none(is_unread),
                    // It has come between since: a later look will tell.
                    None => return None,
                },
            };
            if is_target {
                return Some(true);
            }
            parent = grandparent;
        }
        none(is_unread)
    }
}

/// For a process that has got a verdict: since when it is a target, if it was something else.
fn late(before: &Known, verdict: Verdict) -> Option<Late> {
    let becomes_late = verdict.is_target() && before.is_foreign();
    before
        .late
        .or_else(|| becomes_late.then(|| Late { since_ns: clock::monotonic_ns(), is_told: false }))
}

#[cfg(test)]
mod tests;
