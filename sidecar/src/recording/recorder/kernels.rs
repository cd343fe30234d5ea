//! Which kernel a handle stands for, learnt from the calls that tie handles to names.
//!
//! What is remembered is bounded: names that no running process uses are forgotten first, and a call
//! whose kernel there is no room for does not say which it launched.

mod budget;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

use budget::{Budget, Handle, Handles, MAX_KERNELS, MAX_NAME_BYTES};
use demangle::demangle;
use trace::{
    line::{Kernel, Meta},
    writer::push_meta,
};

/// What is said of a kernel that no traced call has named.
const NEVER_NAMED: &str = "no traced call has named it";
const NAMED_EARLIER: &str = "a library was attached late: it may have been named before";
const NAME_UNREAD: &str = "its name could not be read";
const FORGOTTEN: &str = "too many kernels to remember: it has been forgotten";

/// Texts that wait for their call. It comes right behind its text, so that only calls that were
/// lost, or are not recorded, leave theirs.
const MAX_GIVEN: usize = 1024;

/// How often names are looked for that nobody uses: it means going through all handles.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// By process and handle. Kernels have one number in the whole run, whichever process they are of;
/// one that was forgotten has another number when it is named again.
#[derive(Default)]
pub(super) struct Kernels {
    known: HashMap<u32, Known>,
    next_id: u32,
    by_name: HashMap<Arc<str>, u32>,
    name_bytes: usize,
    /// A process that was forked shares what its parent knew.
    handles: HashMap<u32, Arc<Handles>>,
    /// By thread: the text that its next call was given, and when that call began.
    given: HashMap<u32, (u64, Arc<str>)>,
    budget: Budget,
    swept: Option<Instant>,
    some_attached_late: bool,
}

struct Known {
    name: Name,
    /// In this segment.
    is_announced: bool,
}

enum Name {
    Read(Arc<str>),
    /// A call gave it, but not its text.
    Unread,
    /// No call gave it.
    Unseen,
}

impl Kernels {
    /// Keeps a text for the call that was given it.
    pub(super) fn give(&mut self, tid: u32, start_ns: u64, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        if self.given.len() >= MAX_GIVEN {
            let oldest = self.given.iter().min_by_key(|(_, (given_ns, _))| *given_ns);
            if let Some(tid) = oldest.map(|(tid, _)| *tid) {
                self.given.remove(&tid);
            }
        }
        self.given.insert(tid, (start_ns, text.into()));
    }

    /// The text that a call was given.
    pub(super) fn take_given(&mut self, tid: u32, start_ns: u64) -> Option<Arc<str>> {
        let (given_ns, text) = self.given.remove(&tid)?;
        (given_ns == start_ns).then_some(text)
    }

    /// `handle` is the kernel called `name`, for one process.
    pub(super) fn named(&mut self, pid: u32, learnt_ns: u64, handle: u64, name: Arc<str>) {
        let id = match self.by_name.get(&name) {
            Some(id) => Some(*id),
            None if self.name_bytes + name.len() > MAX_NAME_BYTES => {
                self.budget.refuse();
                None
            }
            None => {
                let id = self.add(Name::Read(Arc::clone(&name)));
                if let Some(id) = id {
                    self.name_bytes += name.len();
                    self.by_name.insert(name, id);
                }
                id
            }
        };
        self.set(pid, learnt_ns, handle, id);
    }

    /// `handle` is a kernel with a name of its own, but which was lost: not the one that it was.
    pub(super) fn named_unread(&mut self, pid: u32, learnt_ns: u64, handle: u64) {
        let before = self.handle(pid, handle).and_then(|before| self.known.get(&before.id?));
        // Asked for again and again, a kernel does not take a number each time.
        if !before.is_some_and(|known| matches!(known.name, Name::Unread)) {
            let id = self.add(Name::Unread);
            self.set(pid, learnt_ns, handle, id);
        }
    }

    /// `handle` is the same kernel as `of`.
    pub(super) fn alias(&mut self, pid: u32, learnt_ns: u64, handle: u64, of: u64) {
        let id = self.id(pid, learnt_ns, of);
        self.set(pid, learnt_ns, handle, id);
    }

    /// The number of the kernel that a handle stands for, which may be unknown by name. `None`: there
    /// was no room to remember it.
    pub(super) fn id(&mut self, pid: u32, learnt_ns: u64, handle: u64) -> Option<u32> {
        if let Some(Handle { id, .. }) = self.handle(pid, handle) {
            return id;
        }
        if !self.has_room(pid) {
            self.budget.refuse();
            return None;
        }
        let id = self.add(Name::Unseen);
        self.set(pid, learnt_ns, handle, id);
        id
    }

    fn handle(&self, pid: u32, handle: u64) -> Option<Handle> {
        self.handles.get(&pid)?.get(handle)
    }

    /// For another handle of this process.
    fn has_room(&self, pid: u32) -> bool {
        match self.handles.get(&pid) {
            // A table that is shared is copied first.
            Some(handles) if Arc::strong_count(handles) > 1 => {
                self.budget.has_handles(handles.len(), handles.len() + 1)
            }
            Some(handles) => self.budget.has_handles(handles.len(), 1),
            None => self.budget.has_handles(0, 1),
        }
    }

    fn set(&mut self, pid: u32, learnt_ns: u64, handle: u64, id: Option<u32>) {
        let is_known = self.handle(pid, handle).is_some();
        let is_shared =
            self.handles.get(&pid).is_some_and(|handles| Arc::strong_count(handles) > 1);
        if (!is_known || is_shared) && !self.has_room(pid) {
            self.budget.refuse();
            if is_known {
                // It is no longer what it was: rather nothing than something wrong.
                self.handles.remove(&pid);
            }
            return;
        }
        let nothing = || Arc::new(self.budget.no_handles());
        let handles = self.handles.entry(pid).or_insert_with(nothing);
        Arc::make_mut(handles).insert(handle, Handle { id, learnt_ns });
    }

    /// The number of a new kernel, if there is room.
    fn add(&mut self, name: Name) -> Option<u32> {
        if self.known.len() >= MAX_KERNELS || self.next_id == u32::MAX {
            self.budget.refuse();
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.known.insert(id, Known { name, is_announced: false });
        Some(id)
    }

    /// Whether it is time to forget what nobody uses, before there is no room.
    pub(super) fn are_many(&self) -> bool {
        let most = |all: usize| all / 4 * 3;
        (self.known.len() > most(MAX_KERNELS) || self.name_bytes > most(MAX_NAME_BYTES))
            && self.swept.is_none_or(|swept| swept.elapsed() >= SWEEP_INTERVAL)
    }

    /// Forgets kernels that no process that runs has a handle of, and that are not `in_graphs`.
    pub(super) fn forget_unused(&mut self, in_graphs: impl Iterator<Item = u32>) {
        self.swept = Some(Instant::now());
        let mut used: HashSet<u32> = in_graphs.collect();
        let mut seen = HashSet::new();
        for handles in self.handles.values() {
            // A table that is shared is looked through once.
            if seen.insert(Arc::as_ptr(handles)) {
                used.extend(handles.iter().filter_map(|(_, handle)| handle.id));
            }
        }
        self.known.retain(|id, _| used.contains(id));
        self.by_name.retain(|_, id| used.contains(id));
        self.name_bytes = self.by_name.keys().map(|name| name.len()).sum();
    }

    /// Writes the line of a kernel, unless this segment has it.
    pub(super) fn announce(&mut self, out: &mut Vec<u8>, since_start: u64, id: u32) {
        let known = self.known.get_mut(&id);
        if let Some(known) = &known
            && known.is_announced
        {
            return;
        }
        let known = known.map(|known| {
            known.is_announced = true;
            &known.name
        });
        let (name, reason) = match known {
            Some(Name::Read(name)) => (Some(&**name), None),
            Some(Name::Unread) => (None, Some(NAME_UNREAD)),
            Some(Name::Unseen) if self.some_attached_late => (None, Some(NAMED_EARLIER)),
            Some(Name::Unseen) => (None, Some(NEVER_NAMED)),
            None => (None, Some(FORGOTTEN)),
        };
        let kernel = Kernel {
            id,
            name: name.map(str::to_owned),
            demangled: name.and_then(demangle),
            reason: reason.map(str::to_owned),
        };
        push_meta(out, since_start, std::process::id(), &Meta::Kernel(kernel));
    }

    pub(super) fn begin_segment(&mut self) {
        for known in self.known.values_mut() {
            known.is_announced = false;
        }
    }

    pub(super) fn attached_late(&mut self) {
        self.some_attached_late = true;
    }

    /// A child keeps what it has learnt itself.
    pub(super) fn forked(&mut self, pid: u32, parent: u32, at_ns: u64) {
        self.forget(pid, at_ns);
        let Some(inherited) = self.handles.get(&parent) else { return };
        let Some(mut handles) = known_before(inherited, at_ns, &self.budget) else {
            self.budget.refuse();
            return;
        };
        if let Some(own) = self.handles.get(&pid) {
            if !self.budget.has_handles(0, handles.len() + own.len()) {
                self.budget.refuse();
                return;
            }
            let all = Arc::make_mut(&mut handles);
            for (value, own) in own.iter() {
                let known = own.id.and_then(|id| self.known.get(&id));
                let is_unseen = known.is_none_or(|known| matches!(known.name, Name::Unseen));
                if !(is_unseen && all.get(value).is_some()) {
                    all.insert(value, own);
                }
            }
        }
        self.handles.insert(pid, handles);
    }

    /// The process ended, or ran another program from then on. What it has learnt since stays.
    pub(super) fn forget(&mut self, pid: u32, at_ns: u64) {
        let Entry::Occupied(mut entry) = self.handles.entry(pid) else { return };
        if entry.get().iter().all(|(_, handle)| handle.learnt_ns < at_ns) {
            entry.remove();
        } else {
            Arc::make_mut(entry.get_mut()).retain(|learnt_ns| learnt_ns >= at_ns);
        }
    }
}

/// Shared, as long as it is all; `None` if there is no room for a copy.
fn known_before(handles: &Arc<Handles>, at_ns: u64, budget: &Budget) -> Option<Arc<Handles>> {
    if handles.iter().all(|(_, handle)| handle.learnt_ns < at_ns) {
        return Some(Arc::clone(handles));
    }
    if !budget.has_handles(0, handles.len()) {
        return None;
    }
    let mut before = Handles::clone(handles);
    before.retain(|learnt_ns| learnt_ns < at_ns);
    Some(Arc::new(before))
}

#[cfg(test)]
mod tests;
