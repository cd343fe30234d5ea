//! Which processes are targets: what a process is, what it was started by, and why it matches.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use tracing::debug;

/// Every process seen so far, and the rule that decides.
pub struct Processes {
    target: String,
    known: HashMap<u32, Known>,
}

/// What is known of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub parent: Option<u32>,
    pub identity: Identity,
    pub verdict: Verdict,
    /// False while all that is known is the parent, or while the program is still being started.
    examined: bool,
    exited: bool,
}

/// What a process calls itself. Any part may be unreadable or gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    pub executable: Option<PathBuf>,
    /// Arguments joined by spaces.
    pub command: Option<String>,
    pub comm: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Target(MatchedBy),
    Foreign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchedBy {
    Executable,
    Comm,
    Command,
    /// It was started by a target.
    Ancestor,
    /// It called CUDA and ended before it could be examined: kept, because a line too many can be
    /// removed and one too few cannot be brought back.
    Unexamined,
}

impl MatchedBy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Executable => "executable",
            Self::Comm => "comm",
            Self::Command => "command",
            Self::Ancestor => "ancestor",
            Self::Unexamined => "unexamined",
        }
    }
}

impl Verdict {
    pub fn is_target(self) -> bool {
        matches!(self, Self::Target(_))
    }
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
        let parent_known = self.known.get(&parent).cloned();
        let verdict = match &parent_known {
            Some(known) if known.verdict.is_target() => Verdict::Target(MatchedBy::Ancestor),
            _ => Verdict::Foreign,
        };
        if let Some(known) = self.known.get_mut(&pid).filter(|known| !known.exited) {
            known.parent = Some(parent);
            if !known.verdict.is_target() {
                known.verdict = verdict;
            }
            return;
        }
        let identity = parent_known.map(|known| known.identity).unwrap_or_default();
        let known =
            Known { parent: Some(parent), identity, verdict, examined: false, exited: false };
        self.known.insert(pid, known);
    }

    /// A process executed a program, whose name the kernel gave as `comm`: looks at it afresh.
    ///
    /// The kernel tells of it before arguments and environment are in place; then another look is
    /// due when the loader maps the first library.
    pub fn executed(&mut self, pid: u32, comm: &str) -> &Known {
        if !self.examine(pid) {
            // Gone already: its name and its ancestors are all there is to judge by.
            let identity = Identity { comm: Some(comm.to_owned()), ..Identity::default() };
            let parent = self.known.get(&pid).and_then(|known| known.parent);
            let verdict = match self.judge(pid, &identity, parent) {
                Verdict::Foreign => Verdict::Target(MatchedBy::Unexamined),
                target @ Verdict::Target(_) => target,
            };
            let known = Known { parent, identity, verdict, examined: true, exited: true };
            self.known.insert(pid, known);
        }
        &self.known[&pid]
    }

    /// Reads what `/proc` says of a process; false if it is gone.
    pub fn examine(&mut self, pid: u32) -> bool {
        let Some(identity) = read_identity(pid) else { return false };
        let remembered = self.known.get(&pid).and_then(|known| known.parent);
        let parent = remembered.or_else(|| read_parent(pid));
        let verdict = self.judge(pid, &identity, parent);
        if verdict.is_target() {
            debug!(pid, ?verdict, ?identity, "found a target");
        }
        let examined = identity.command.is_some();
        let known = Known { parent, identity, verdict, examined, exited: false };
        self.known.insert(pid, known);
        true
    }

    /// Once a target, always a target, whatever it executes.
    fn judge(&mut self, pid: u32, identity: &Identity, parent: Option<u32>) -> Verdict {
        let was_target = self.known.get(&pid).is_some_and(|known| known.verdict.is_target());
        match matches(&self.target, identity) {
            Some(matched_by) => Verdict::Target(matched_by),
            None if was_target || self.has_target_ancestor(parent) => {
                Verdict::Target(MatchedBy::Ancestor)
            }
            None => Verdict::Foreign,
        }
    }

    pub fn get(&self, pid: u32) -> Option<&Known> {
        self.known.get(&pid)
    }

    /// The answer for a process that calls CUDA; examines it if that has not been done.
    pub fn known(&mut self, pid: u32) -> Known {
        self.examine_if_unfinished(pid);
        if let Some(known) = self.known.get(&pid)
            && (known.examined || known.verdict.is_target() || !known.exited)
        {
            return known.clone();
        }
        let parent = self.known.get(&pid).and_then(|known| known.parent);
        let verdict = Verdict::Target(MatchedBy::Unexamined);
        let identity = Identity::default();
        let known = Known { parent, identity, verdict, examined: true, exited: true };
        self.known.insert(pid, known.clone());
        known
    }

    pub fn exited(&mut self, pid: u32) {
        if let Some(known) = self.known.get_mut(&pid) {
            known.exited = true;
        }
    }

    /// Targets that have not exited.
    pub fn targets(&self) -> Vec<u32> {
        let alive = |known: &Known| known.verdict.is_target() && !known.exited;
        self.known.iter().filter(|(_, known)| alive(known)).map(|(&pid, _)| pid).collect()
    }

    /// Forgets processes that have exited; call it when their last events have been read.
    pub fn forget_exited(&mut self) {
        self.known
            .retain(|&pid, known| !known.exited || Path::new(&format!("/proc/{pid}")).exists());
    }

    /// A process that is not known, or was looked at while it was still being started.
    pub fn is_unfinished(&self, pid: u32) -> bool {
        self.known.get(&pid).is_none_or(|known| !known.examined)
    }

    fn examine_if_unfinished(&mut self, pid: u32) {
        if self.is_unfinished(pid) && !self.examine(pid) {
            self.exited(pid);
        }
    }

    /// Ancestors that were never seen are examined on the way up.
    fn has_target_ancestor(&mut self, mut parent: Option<u32>) -> bool {
        // Parents of parents end at 1, or at 0 for the first process of a namespace.
        const DEEPEST: usize = 64;
        for _ in 0..DEEPEST {
            let Some(pid) = parent.filter(|&pid| pid > 0) else { return false };
            let (is_target, grandparent) = match self.known.get(&pid) {
                Some(known) if known.examined => (known.verdict.is_target(), known.parent),
                _ => {
                    let Some(identity) = read_identity(pid) else { return false };
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

/// Titles come last: they are set late and cut short, but they may be all that is left.
fn matches(target: &str, identity: &Identity) -> Option<MatchedBy> {
    let Identity { executable, command, comm } = identity;
    if executable.as_ref().is_some_and(|path| path.to_string_lossy().contains(target)) {
        return Some(MatchedBy::Executable);
    }
    if comm.as_ref().is_some_and(|comm| comm.contains(target)) {
        return Some(MatchedBy::Comm);
    }
    if command.as_ref().is_some_and(|command| command.contains(target)) {
        return Some(MatchedBy::Command);
    }
    None
}

/// `None` if the process is gone; single parts may be missing, as for a kernel thread.
fn read_identity(pid: u32) -> Option<Identity> {
    let comm = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|line| !line.is_empty());
    Some(Identity {
        executable: fs::read_link(format!("/proc/{pid}/exe")).ok(),
        command: command.map(|line| join_arguments(&line)),
        comm: Some(String::from_utf8_lossy(&comm).trim_end().to_owned()),
    })
}

/// A title set over the arguments is padded with NULs or spaces.
fn join_arguments(line: &[u8]) -> String {
    String::from_utf8_lossy(line).replace('\0', " ").trim_end().to_owned()
}

/// The fourth field of `stat`, behind a name that may itself hold spaces and parentheses.
fn read_parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

/// All processes of the sidecar's pid namespace except itself.
pub fn all_pids() -> Vec<u32> {
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| pid != own)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(executable: &str, command: &str, comm: &str) -> Identity {
        Identity {
            executable: Some(executable.into()),
            command: Some(command.to_owned()),
            comm: Some(comm.to_owned()),
        }
    }

    #[test]
    fn executable_comm_and_command_match_in_this_order() {
        let engine = identity("/usr/bin/python3.12", "VLLM::EngineCore", "VLLM::EngineCor");
        assert_eq!(matches("python", &engine), Some(MatchedBy::Executable));
        assert_eq!(matches("VLLM", &engine), Some(MatchedBy::Comm));
        assert_eq!(matches("EngineCore", &engine), Some(MatchedBy::Command));
        assert_eq!(matches("vllm serve", &engine), None);
    }

    #[test]
    fn this_test_and_what_it_forks_match_by_their_executable() {
        let own = std::process::id();
        let executable = std::env::current_exe().unwrap();
        let mut processes = Processes::new(executable.file_name().unwrap().to_str().unwrap());
        assert_eq!(processes.known(own).verdict, Verdict::Target(MatchedBy::Executable));
        processes.forked(4_000_001, own);
        assert_eq!(processes.known(4_000_001).verdict, Verdict::Target(MatchedBy::Ancestor));
        processes.forked(4_000_002, 4_000_001);
        assert_eq!(processes.known(4_000_002).verdict, Verdict::Target(MatchedBy::Ancestor));
    }

    #[test]
    fn a_stranger_is_foreign() {
        let mut processes = Processes::new("no process is called like this");
        assert_eq!(processes.known(std::process::id()).verdict, Verdict::Foreign);
    }

    #[test]
    fn a_name_is_enough_for_a_program_that_ended_at_once() {
        let mut processes = Processes::new("python");
        let verdict = processes.executed(4_000_001, "python3").verdict;
        assert_eq!(verdict, Verdict::Target(MatchedBy::Comm));
    }

    #[test]
    fn a_process_that_is_gone_is_kept_rather_than_lost() {
        let mut processes = Processes::new("python");
        let gone = 4_000_003;
        assert_eq!(processes.known(gone).verdict, Verdict::Target(MatchedBy::Unexamined));
        processes.exited(gone);
        processes.forget_exited();
        assert!(!processes.known.contains_key(&gone));
    }

    #[test]
    fn a_padded_title_is_one_word() {
        assert_eq!(join_arguments(b"VLLM::EngineCore\0\0\0   \0"), "VLLM::EngineCore");
        assert_eq!(join_arguments(b"python3\0-m\0vllm\0"), "python3 -m vllm");
    }
}
