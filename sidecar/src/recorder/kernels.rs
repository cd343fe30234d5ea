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
            demangled: name.and_then(demangled),
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

/// As the source has it; `None` for what is not mangled, or was cut.
fn demangled(name: &str) -> Option<String> {
    cpp_demangle::Symbol::new(name).ok()?.demangle().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1000;

    fn announced(kernels: &mut Kernels, id: u32) -> String {
        let mut out = Vec::new();
        kernels.announce(&mut out, 0, id);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn handles_lead_to_names_also_through_other_handles_and_after_a_fork() {
        let mut kernels = Kernels::default();
        kernels.give(8, 100, b"_Z3addPfi");
        let name = kernels.take_given(8, 100).unwrap();
        kernels.named(7, NOW, 0xa, name);
        kernels.alias(7, NOW, 0xb, 0xa);
        assert_eq!(kernels.id(7, NOW, 0xb), kernels.id(7, NOW, 0xa));
        kernels.forked(9, 7, NOW + 1);
        assert_eq!(kernels.id(9, NOW, 0xa), 0);
        kernels.named(9, NOW, 0xc, "other".into());
        assert_ne!(
            kernels.id(7, NOW, 0xc),
            kernels.id(9, NOW, 0xc),
            "what a child learns is its own"
        );
        let line = announced(&mut kernels, 0);
        assert!(line.contains(r#""name":"_Z3addPfi","demangled":"add(float*, int)""#), "{line}");
        assert_eq!(announced(&mut kernels, 0), "", "once in a segment");
        kernels.begin_segment();
        assert_ne!(announced(&mut kernels, 0), "");
    }

    #[test]
    fn an_unknown_kernel_stays_unknown_and_says_why() {
        let mut kernels = Kernels::default();
        let id = kernels.id(7, NOW, 0xa);
        assert_eq!(kernels.id(7, NOW, 0xa), id);
        let line = announced(&mut kernels, id);
        assert!(line.contains(r#""name":null,"demangled":null,"reason":"no traced"#), "{line}");
        kernels.attached_late();
        let late = kernels.id(7, NOW, 0xb);
        assert!(announced(&mut kernels, late).contains("attached late"));
    }

    #[test]
    fn a_handle_whose_new_name_was_lost_does_not_keep_the_old_one() {
        let mut kernels = Kernels::default();
        kernels.named(7, NOW, 0xa, "k".into());
        let old = kernels.id(7, NOW, 0xa);
        kernels.named_unread(7, NOW, 0xa);
        let id = kernels.id(7, NOW, 0xa);
        assert_ne!(id, old);
        let line = announced(&mut kernels, id);
        let expected = r#""name":null,"demangled":null,"reason":"its name could not be read""#;
        assert!(line.contains(expected), "{line}");
        kernels.named_unread(7, NOW, 0xa);
        assert_eq!(kernels.id(7, NOW, 0xa), id, "numbers do not run away");
        kernels.named(7, NOW, 0xa, "k".into());
        assert_eq!(kernels.id(7, NOW, 0xa), old);
    }

    #[test]
    fn a_program_that_was_replaced_has_no_handles_any_more() {
        let mut kernels = Kernels::default();
        kernels.named(7, NOW, 0xa, "k".into());
        kernels.forget(7, NOW + 1);
        let id = kernels.id(7, NOW, 0xa);
        assert!(announced(&mut kernels, id).contains(r#""name":null"#));
    }

    #[test]
    fn what_a_process_learnt_after_its_exec_outlives_the_news_of_it() {
        let mut kernels = Kernels::default();
        kernels.named(7, NOW, 0xa, "old".into());
        kernels.named(7, NOW + 20, 0xb, "new".into());
        let new = kernels.id(7, NOW + 30, 0xb);
        kernels.forget(7, NOW + 10);
        assert_eq!(kernels.id(7, NOW + 40, 0xb), new);
        let old = kernels.id(7, NOW + 40, 0xa);
        assert!(announced(&mut kernels, old).contains(r#""name":null"#));
    }

    #[test]
    fn news_of_a_fork_takes_nothing_from_the_child_and_gives_it_nothing_later() {
        let mut kernels = Kernels::default();
        kernels.named(7, NOW, 0xa, "both".into());
        kernels.named(7, NOW, 0xb, "parent".into());
        let (both, parent) = (kernels.id(7, NOW, 0xa), kernels.id(7, NOW, 0xb));
        kernels.named(7, NOW + 20, 0xc, "later".into());
        let later = kernels.id(7, NOW + 20, 0xc);
        // Booked before the news: a launch of what the parent named, and a name of its own.
        assert_ne!(kernels.id(9, NOW + 20, 0xa), both);
        kernels.named(9, NOW + 20, 0xb, "child".into());
        let child = kernels.id(9, NOW + 20, 0xb);
        for _ in 0..2 {
            kernels.forked(9, 7, NOW + 10);
            assert_eq!(kernels.id(9, NOW + 30, 0xa), both);
            assert_eq!(kernels.id(9, NOW + 30, 0xb), child);
            assert_ne!(kernels.id(9, NOW + 30, 0xc), later);
            assert_eq!(kernels.id(7, NOW + 30, 0xb), parent);
        }
    }

    #[test]
    fn a_text_is_only_for_the_call_that_was_given_it() {
        let mut kernels = Kernels::default();
        kernels.give(8, 100, b"k");
        assert!(kernels.take_given(8, 101).is_none());
    }

    #[test]
    fn texts_whose_calls_never_come_give_way_to_later_ones() {
        let mut kernels = Kernels::default();
        let threads = u32::try_from(MOST_GIVEN).unwrap() + 10;
        for tid in 0..threads {
            kernels.give(tid, u64::from(tid), b"k");
        }
        assert_eq!(kernels.given.len(), MOST_GIVEN);
        assert!(kernels.take_given(9, 9).is_none(), "the oldest have gone");
        for tid in 10..threads {
            assert!(kernels.take_given(tid, u64::from(tid)).is_some(), "{tid}");
        }
    }
}
