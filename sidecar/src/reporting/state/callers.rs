//! Processes that have to do with CUDA, targets or not: bounded, so that the latest are known.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use processes::process::{Known, Verdict, exists};
use serde::{Deserialize, Serialize};

/// More than a node runs at once; beyond it those of the last [rank](Caller::rank) are forgotten
/// first.
const MAX: usize = 256;

/// Characters of a command line that are kept.
const MAX_COMMAND: usize = 512;

/// In the order in which they were first seen.
#[derive(Debug, Default)]
pub struct Callers {
    list: VecDeque<Caller>,
    forgotten: u64,
}

/// A process that has mapped a CUDA library, or called a function that carries a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    pub pid: u32,
    pub parent: Option<u32>,
    pub executable: Option<String>,
    /// As it was when the process was last examined; long ones are cut.
    pub command: Option<String>,
    pub comm: Option<String>,
    /// Why it is traced; `None`: it is not.
    pub matched_by: Option<String>,
    /// As in the process lines of the trace.
    pub role: Option<String>,
    pub role_by: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ranks: BTreeMap<String, u32>,
    /// It was seen to map a file with the name of a CUDA library.
    pub has_mapped: bool,
    /// It has called a traced function.
    pub has_called: bool,
    pub is_running: bool,
    pub first_seen: Timestamp,
}

/// What a process has to do with CUDA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    Mapping,
    Call,
}

impl Callers {
    pub fn note(&mut self, pid: u32, known: &Known, evidence: Evidence) {
        // The last of this pid is meant, if it is known to have ended.
        let is_same =
            |caller: &Caller| caller.pid == pid && (caller.is_running || known.has_exited());
        let caller = match self.list.iter().rposition(is_same) {
            Some(index) => &mut self.list[index],
            None => self.add(pid),
        };
        match evidence {
            Evidence::Mapping => caller.has_mapped = true,
            Evidence::Call => caller.has_called = true,
        }
        caller.describe(known);
    }

    pub fn is_listed(&self, pid: u32) -> bool {
        self.list.iter().any(|caller| caller.is(pid))
    }

    /// It took another title, executed something, or became a target.
    pub fn changed(&mut self, pid: u32, known: &Known) {
        if let Some(caller) = self.list.iter_mut().find(|caller| caller.is(pid)) {
            caller.describe(known);
        }
    }

    pub fn exited(&mut self, pid: u32) {
        if let Some(caller) = self.list.iter_mut().find(|caller| caller.is(pid)) {
            caller.is_running = false;
        }
    }

    /// What ended while it was being noted is found here.
    pub fn find_exited(&mut self) {
        for caller in self.list.iter_mut().filter(|caller| caller.is_running) {
            caller.is_running = exists(caller.pid);
        }
    }

    pub fn to_vec(&self) -> Vec<Caller> {
        self.list.iter().cloned().collect()
    }

    /// How many were too many to be kept.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn add(&mut self, pid: u32) -> &mut Caller {
        if self.list.len() >= MAX {
            // Of equals the last wins, so from the newest to the oldest.
            let last = self.list.iter().enumerate().rev().max_by_key(|(_, caller)| caller.rank());
            self.list.remove(last.map_or(0, |(index, _)| index));
            self.forgotten += 1;
        }
        self.list.push_back(Caller {
            pid,
            parent: None,
            executable: None,
            command: None,
            comm: None,
            matched_by: None,
            role: None,
            role_by: None,
            ranks: BTreeMap::new(),
            has_mapped: false,
            has_called: false,
            is_running: true,
            first_seen: Timestamp::now(),
        });
        self.list.back_mut().expect("just added")
    }
}

impl Caller {
    /// How little it matters: targets before others, and of each those that run before those that
    /// have ended.
    pub fn rank(&self) -> (bool, bool) {
        (self.matched_by.is_none(), !self.is_running)
    }

    /// A pid may have belonged to others before.
    fn is(&self, pid: u32) -> bool {
        self.pid == pid && self.is_running
    }

    fn describe(&mut self, known: &Known) {
        let identity = &known.identity;
        self.parent = known.parent;
        self.executable = identity.executable.as_ref().map(|path| path.display().to_string());
        self.command = identity.command.as_deref().map(cut);
        self.comm.clone_from(&identity.comm);
        self.matched_by = match known.verdict {
            Verdict::Target(matched_by) => Some(matched_by.as_str().to_owned()),
            Verdict::Foreign => None,
        };
        let role = known.role.as_ref();
        self.role = role.map(|role| role.name().to_owned());
        self.role_by = role.map(|role| role.by.as_str().to_owned());
        self.ranks = role.map(|role| role.ranks.clone()).unwrap_or_default();
        self.is_running = !known.has_exited();
    }
}

fn cut(command: &str) -> String {
    match command.char_indices().nth(MAX_COMMAND) {
        Some((end, _)) => format!("{}...", &command[..end]),
        None => command.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use processes::process::Processes;

    fn known(target: &str) -> Known {
        Processes::new(target).known(std::process::id())
    }

    fn foreign() -> Known {
        known("no process is called like this")
    }

    fn target() -> Known {
        let executable = std::env::current_exe().unwrap();
        known(executable.file_name().unwrap().to_str().unwrap())
    }

    #[test]
    fn what_is_seen_twice_is_listed_once_with_all_that_is_known() {
        let mut callers = Callers::default();
        callers.note(7, &foreign(), Evidence::Mapping);
        callers.note(7, &target(), Evidence::Call);
        let [caller] = &callers.to_vec()[..] else { panic!("{callers:?}") };
        assert!(caller.has_mapped && caller.has_called && caller.is_running);
        assert_eq!(caller.matched_by.as_deref(), Some("executable"));
    }

    #[test]
    fn a_pid_that_is_used_again_is_another_process() {
        let mut callers = Callers::default();
        callers.note(7, &foreign(), Evidence::Call);
        callers.exited(7);
        callers.changed(7, &target());
        callers.note(7, &target(), Evidence::Mapping);
        let [first, second] = &callers.to_vec()[..] else { panic!("{callers:?}") };
        assert_eq!((first.is_running, &first.matched_by), (false, &None));
        assert!(second.is_running && second.matched_by.is_some() && !second.has_called);
    }

    #[test]
    fn what_is_gone_is_found_and_what_is_known_to_be_gone_is_listed_once() {
        const GONE: u32 = 4_000_001;
        let mut callers = Callers::default();
        callers.note(std::process::id(), &target(), Evidence::Call);
        callers.note(GONE, &target(), Evidence::Call);
        callers.find_exited();
        let running: Vec<bool> = callers.to_vec().iter().map(|caller| caller.is_running).collect();
        assert_eq!(running, [true, false]);
        // Its last events arrive late, and it is examined again.
        let mut processes = Processes::new("python");
        processes.executed(GONE, "python3", true);
        callers.note(GONE, &processes.known(GONE), Evidence::Call);
        assert_eq!(callers.to_vec().len(), 2);
    }

    #[test]
    fn the_list_is_bounded_and_forgets_what_matters_least() {
        let mut callers = Callers::default();
        callers.note(1, &target(), Evidence::Call);
        callers.note(2, &foreign(), Evidence::Call);
        callers.note(3, &target(), Evidence::Call);
        callers.exited(3);
        for pid in 10..10 + u32::try_from(MAX).unwrap() {
            callers.note(pid, &target(), Evidence::Call);
        }
        assert_eq!((callers.to_vec().len(), callers.forgotten()), (MAX, 3));
        let pids: Vec<u32> = callers.to_vec().iter().map(|caller| caller.pid).take(2).collect();
        assert_eq!(pids, [10, 11], "the foreign, then the ended, then the oldest");
    }

    #[test]
    fn strangers_that_come_and_go_push_no_target_out_of_the_list() {
        let mut callers = Callers::default();
        callers.note(1, &target(), Evidence::Call);
        callers.exited(1);
        callers.note(2, &foreign(), Evidence::Call);
        for pid in 10..10 + 2 * u32::try_from(MAX).unwrap() {
            callers.note(pid, &foreign(), Evidence::Call);
            callers.exited(pid);
        }
        let pids: Vec<u32> = callers.to_vec().iter().map(|caller| caller.pid).take(2).collect();
        assert_eq!((callers.to_vec().len(), pids), (MAX, vec![1, 2]));
    }

    #[test]
    fn a_long_command_line_is_cut_between_characters() {
        assert_eq!(cut("python3 -m vllm"), "python3 -m vllm");
        assert_eq!(cut(&"ä".repeat(600)), format!("{}...", "ä".repeat(512)));
    }
}
