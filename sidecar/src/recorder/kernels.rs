//! Which kernel a handle stands for, learnt from the calls that tie handles to names.

use std::{
    collections::{HashMap, hash_map::Entry},
    mem,
    sync::Arc,
};

use trace::{
    line::{Kernel, Meta},
    writer::push_meta,
};

use crate::demangle::Demangler;

/// What is said of a kernel that no traced call has named.
const NEVER_NAMED: &str = "no traced call has named it";
const NAMED_EARLIER: &str = "a library was attached late: it may have been named before";
const NAME_UNREAD: &str = "its name could not be read";

/// Texts that wait for their call. It comes right behind its text, so that only calls that were
/// lost, or are not recorded, leave theirs.
const MOST_GIVEN: usize = 1024;

/// By process and handle. Kernels have one number in the whole run, whichever process they are of.
#[derive(Default)]
pub(super) struct Kernels {
    known: Vec<Known>,
    by_name: HashMap<Arc<str>, u32>,
    /// A process that was forked shares what its parent knew.
    handles: HashMap<u32, Arc<HashMap<u64, Handle>>>,
    /// By thread: the text that its next call was given, and when that call began.
    given: HashMap<u32, (u64, Arc<str>)>,
    some_attached_late: bool,
    demangler: Demangler,
}

#[derive(Debug, Clone, Copy)]
struct Handle {
    /// The number of its kernel.
    id: u32,
    /// When the call began that told it.
    learnt_ns: u64,
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
        if self.given.len() >= MOST_GIVEN {
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
        let id = match self.by_name.entry(name) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let name = entry.key().clone();
                let id = add(&mut self.known, Name::Read(name));
                *entry.insert(id)
            }
        };
        self.set(pid, learnt_ns, handle, id);
    }

    /// `handle` is a kernel with a name of its own, but which was lost: not the one that it was.
    pub(super) fn named_unread(&mut self, pid: u32, learnt_ns: u64, handle: u64) {
        let before = self.handles.get(&pid).and_then(|handles| handles.get(&handle));
        let is_unread =
            |handle: &Handle| matches!(self.known[handle.id as usize].name, Name::Unread);
        // Asked for again and again, a kernel does not take a number each time.
        if !before.is_some_and(is_unread) {
            let id = add(&mut self.known, Name::Unread);
            self.set(pid, learnt_ns, handle, id);
        }
    }

    /// `handle` is the same kernel as `of`.
    pub(super) fn alias(&mut self, pid: u32, learnt_ns: u64, handle: u64, of: u64) {
        let id = self.id(pid, learnt_ns, of);
        self.set(pid, learnt_ns, handle, id);
    }

    /// The number of the kernel that a handle stands for, which may be unknown by name.
    pub(super) fn id(&mut self, pid: u32, learnt_ns: u64, handle: u64) -> u32 {
        let known = self.handles.get(&pid).and_then(|handles| handles.get(&handle));
        if let Some(Handle { id, .. }) = known {
            return *id;
        }
        let id = add(&mut self.known, Name::Unseen);
        self.set(pid, learnt_ns, handle, id);
        id
    }

    fn set(&mut self, pid: u32, learnt_ns: u64, handle: u64, id: u32) {
        Arc::make_mut(self.handles.entry(pid).or_default())
            .insert(handle, Handle { id, learnt_ns });
    }

    /// Writes the line of a kernel, unless this segment has it.
    pub(super) fn announce(&mut self, out: &mut Vec<u8>, since_start: u64, id: u32) {
        let Some(known) = self.known.get_mut(id as usize) else { return };
        if mem::replace(&mut known.is_announced, true) {
            return;
        }
        let (name, reason) = match &known.name {
            Name::Read(name) => (Some(&**name), None),
            Name::Unread => (None, Some(NAME_UNREAD)),
            Name::Unseen if self.some_attached_late => (None, Some(NAMED_EARLIER)),
            Name::Unseen => (None, Some(NEVER_NAMED)),
        };
        let kernel = Kernel {
            id,
            name: name.map(str::to_owned),
            demangled: name.and_then(|name| self.demangler.demangle(name)),
            reason: reason.map(str::to_owned),
        };
        push_meta(out, since_start, std::process::id(), &Meta::Kernel(kernel));
    }

    pub(super) fn begin_segment(&mut self) {
        for known in &mut self.known {
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
        let Some(own) = self.handles.get(&pid) else {
            let inherited = known_before(inherited, at_ns);
            self.handles.insert(pid, inherited);
            return;
        };
        let mut handles = known_before(inherited, at_ns);
        let all = Arc::make_mut(&mut handles);
        for (handle, own) in own.iter() {
            let is_unseen = matches!(self.known[own.id as usize].name, Name::Unseen);
            if !(is_unseen && all.contains_key(handle)) {
                all.insert(*handle, *own);
            }
        }
        self.handles.insert(pid, handles);
    }

    /// The process ended, or ran another program from then on. What it has learnt since stays.
    pub(super) fn forget(&mut self, pid: u32, at_ns: u64) {
        let Entry::Occupied(mut entry) = self.handles.entry(pid) else { return };
        if entry.get().values().all(|handle| handle.learnt_ns < at_ns) {
            entry.remove();
        } else {
            Arc::make_mut(entry.get_mut()).retain(|_, handle| handle.learnt_ns >= at_ns);
        }
    }
}

/// Shared, as long as it is all.
fn known_before(handles: &Arc<HashMap<u64, Handle>>, at_ns: u64) -> Arc<HashMap<u64, Handle>> {
    let is_before = |handle: &Handle| handle.learnt_ns < at_ns;
    if handles.values().all(is_before) {
        return handles.clone();
    }
    Arc::new(
        handles.iter().filter(|(_, handle)| is_before(handle)).map(|(k, v)| (*k, *v)).collect(),
    )
}

fn add(kernels: &mut Vec<Known>, name: Name) -> u32 {
    let id = u32::try_from(kernels.len()).expect("fewer kernels than memory has room for");
    kernels.push(Known { name, is_announced: false });
    id
}

#[cfg(test)]
mod tests;
