//! Meta lines that each segment repeats, so that it stands alone: processes and libraries.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
};

use processes::process::{Known, Verdict};
use trace::{
    line::{Library, Meta, Process},
    writer::push_meta,
};

/// Processes of which it is known what a segment says of them. So many have never been in one; beyond
/// it what it says is forgotten, and may be said again.
const MAX_SAID: usize = 1 << 16;

#[derive(Default)]
pub(super) struct Dictionary {
    /// By pid: the verdict, and whether the line of the process is known to be up to date.
    seen: HashMap<u32, Seen>,
    /// By pid: what this segment says of the process, as a hash: lines are long, and processes many.
    processes: HashMap<u32, u64>,
    hasher: RandomState,
    /// With the time of their last probe since the start of the run.
    libraries: Vec<(u64, Library)>,
}

#[derive(Clone, Copy)]
struct Seen {
    is_target: bool,
    is_announced: bool,
    /// `CLOCK_MONOTONIC`: the verdict holds for calls up to then.
    until_ns: u64,
}

/// A process of which nobody knows yet whether it is a target is looked at again so often.
const LOOK_AGAIN_NS: u64 = 1_000_000_000;

impl Dictionary {
    /// The verdict on a process that made a call at `at_ns`, if there is one.
    ///
    /// The kernel leaves out the calls of a process that is no target until it executes another
    /// program, so a call that comes after the verdict is that program's.
    pub(super) fn is_target(&self, pid: u32, at_ns: u64) -> Option<bool> {
        let seen = self.seen.get(&pid)?;
        (at_ns <= seen.until_ns).then_some(seen.is_target)
    }

    /// `now_ns` is the time at which the verdict was found and the kernel was told.
    pub(super) fn decide(&mut self, pid: u32, verdict: Verdict, now_ns: u64) {
        let is_target = verdict.is_target();
        let until_ns = match verdict {
            Verdict::Foreign => now_ns,
            verdict if verdict.is_open() => now_ns + LOOK_AGAIN_NS,
            Verdict::Target(_) => u64::MAX,
        };
        self.seen.insert(pid, Seen { is_target, is_announced: false, until_ns });
    }

    /// The process ended, or is no longer what it was.
    pub(super) fn forget(&mut self, pid: u32) {
        self.seen.remove(&pid);
    }

    /// There may be more to say of the process.
    pub(super) fn renew(&mut self, pid: u32) {
        if let Some(seen) = self.seen.get_mut(&pid) {
            seen.is_announced = false;
        }
    }

    /// Whether the line of a process is due before its next call.
    pub(super) fn is_due(&self, pid: u32) -> bool {
        self.seen.get(&pid).is_none_or(|seen| !seen.is_announced)
    }

    /// Writes the line of a process, unless this segment has the same one.
    pub(super) fn process(&mut self, out: &mut Vec<u8>, since_start: u64, pid: u32, known: Known) {
        let Verdict::Target(matched_by) = known.verdict else { return };
        let role = known.role;
        let executable = known.identity.executable.as_ref();
        let process = Process {
            parent: known.parent,
            executable: executable.map(|path| path.display().to_string()),
            command: known.identity.command.clone(),
            comm: known.identity.comm.clone(),
            matched_by: matched_by.as_str().to_owned(),
            role: role.as_ref().map(|role| role.name().to_owned()),
            role_by: role.as_ref().map(|role| role.by.as_str().to_owned()),
            ranks: role.map(|role| role.ranks).unwrap_or_default(),
        };
        let until_ns = self.seen.get(&pid).map_or(u64::MAX, |seen| seen.until_ns);
        self.seen.insert(pid, Seen { is_target: true, is_announced: true, until_ns });
        // Without its time, which is that of the call that it stands before.
        let mut line = Vec::new();
        let meta = Meta::Process(process);
        push_meta(&mut line, 0, pid, &meta);
        if self.processes.len() > MAX_SAID {
            self.processes.clear();
        }
        let said = self.hasher.hash_one(&line);
        if self.processes.insert(pid, said) != Some(said) {
            push_meta(out, since_start, pid, &meta);
        }
    }

    /// Writes the line of a library, now and in every later segment.
    pub(super) fn library(&mut self, out: &mut Vec<u8>, since_start: u64, library: Library) {
        push_meta(out, since_start, std::process::id(), &Meta::Library(library.clone()));
        self.libraries.push((since_start, library));
    }

    /// A segment begins: it has the lines of all libraries, and of processes when they call.
    pub(super) fn begin_segment(&mut self, out: &mut Vec<u8>) {
        self.processes.clear();
        for seen in self.seen.values_mut() {
            seen.is_announced = false;
        }
        for (since_start, library) in &self.libraries {
            push_meta(out, *since_start, std::process::id(), &Meta::Library(library.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use processes::process::{MatchedBy, Processes};

    const TARGET: Verdict = Verdict::Target(MatchedBy::Comm);

    fn known() -> Known {
        let executable = std::env::current_exe().unwrap();
        let mut processes = Processes::new(executable.file_name().unwrap().to_str().unwrap());
        processes.known(std::process::id())
    }

    #[test]
    fn a_process_is_announced_once_in_each_segment() {
        let mut dictionary = Dictionary::default();
        dictionary.decide(1, TARGET, 0);
        assert!(dictionary.is_due(1));
        let mut out = Vec::new();
        dictionary.process(&mut out, 0, 1, known());
        assert!(!dictionary.is_due(1));
        dictionary.begin_segment(&mut out);
        assert!(dictionary.is_due(1));
        dictionary.process(&mut out, 0, 1, known());
        assert_eq!(String::from_utf8(out).unwrap().matches("\"func\":\"process\"").count(), 2);
    }

    #[test]
    fn a_call_after_the_verdict_of_no_target_is_of_another_program() {
        let mut dictionary = Dictionary::default();
        dictionary.decide(1, Verdict::Foreign, 100);
        dictionary.decide(2, TARGET, 100);
        assert_eq!(dictionary.is_target(1, 99), Some(false));
        assert_eq!(dictionary.is_target(1, 101), None);
        assert_eq!(dictionary.is_target(2, 101), Some(true));
    }

    #[test]
    fn a_process_that_could_not_be_read_is_kept_for_a_while_and_then_looked_at_again() {
        let mut dictionary = Dictionary::default();
        dictionary.decide(1, Verdict::Target(MatchedBy::Unread), 100);
        dictionary.process(&mut Vec::new(), 0, 1, known());
        assert_eq!(dictionary.is_target(1, 100 + LOOK_AGAIN_NS), Some(true));
        assert_eq!(dictionary.is_target(1, 101 + LOOK_AGAIN_NS), None);
    }

    #[test]
    fn a_process_that_changed_nothing_is_not_announced_again() {
        let mut dictionary = Dictionary::default();
        let mut out = Vec::new();
        dictionary.process(&mut out, 0, 1, known());
        let once = out.len();
        dictionary.forget(1);
        dictionary.process(&mut out, 0, 1, known());
        assert_eq!(out.len(), once);
    }

    #[test]
    fn what_is_kept_of_processes_is_bounded_and_repeats_lines_at_worst() {
        let mut dictionary = Dictionary::default();
        let mut out = Vec::new();
        dictionary.process(&mut out, 0, 1, known());
        for pid in 2..u32::try_from(MAX_SAID).unwrap() + 2 {
            dictionary.processes.insert(pid, 0);
        }
        dictionary.process(&mut out, 0, 1, known());
        dictionary.process(&mut out, 0, 1, known());
        assert_eq!(String::from_utf8(out).unwrap().matches("\"func\":\"process\"").count(), 2);
        assert_eq!(dictionary.processes.len(), 1);
    }
}
