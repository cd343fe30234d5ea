//! Processes: who calls, with role and rank.

use std::collections::{BTreeMap, HashMap};

use trace::line;

use super::function::Hasher;

/// Beyond this many, calls are of one process without a name.
const MAX_PROCESSES: usize = 65_536;

/// From 0 without gaps: an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u32);

impl ProcessId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug, Clone, Default)]
pub struct Process {
    pub pid: u32,
    pub parent: Option<u32>,
    pub executable: Option<String>,
    pub command: Option<String>,
    /// `api_server`, `engine_core`, `worker`.
    pub role: Option<String>,
    pub ranks: BTreeMap<String, u32>,
    /// False for one that only calls, in a trace without `process` lines.
    pub is_described: bool,
}

impl Process {
    /// `engine_core`, `worker tp1`, or the pid alone.
    pub fn label(&self) -> String {
        let ranks: Vec<String> =
            self.ranks.iter().map(|(kind, number)| format!("{kind}{number}")).collect();
        match (&self.role, ranks.is_empty()) {
            (None, _) => self.pid.to_string(),
            (Some(role), true) => format!("{role} {}", self.pid),
            (Some(role), false) => format!("{role} {} {}", ranks.join(" "), self.pid),
        }
    }
}

#[derive(Default)]
pub struct Processes {
    all: Vec<Process>,
    by_pid: HashMap<u32, ProcessId, Hasher>,
    latest: Option<(u32, ProcessId)>,
}

impl Processes {
    pub(crate) fn intern(&mut self, pid: u32) -> ProcessId {
        if let Some((latest, id)) = self.latest
            && latest == pid
        {
            return id;
        }
        let id = if let Some(&id) = self.by_pid.get(&pid) {
            id
        } else {
            let last = self.all.len() >= MAX_PROCESSES;
            let id = ProcessId(
                u32::try_from(self.all.len() - usize::from(last)).expect("MAX_PROCESSES"),
            );
            if !last {
                self.all.push(Process { pid, ..Process::default() });
                self.by_pid.insert(pid, id);
            }
            id
        };
        self.latest = Some((pid, id));
        id
    }

    /// What a later line does not tell any more, an earlier one has told.
    pub(crate) fn describe(&mut self, pid: u32, told: &line::Process) {
        let id = self.intern(pid);
        let process = &mut self.all[id.index()];
        process.is_described = true;
        process.parent = told.parent.or(process.parent);
        let newer = |old: &mut Option<String>, new: &Option<String>| {
            if new.is_some() {
                old.clone_from(new);
            }
        };
        newer(&mut process.executable, &told.executable);
        newer(&mut process.command, &told.command);
        newer(&mut process.role, &told.role);
        if !told.ranks.is_empty() {
            process.ranks.clone_from(&told.ranks);
        }
    }

    pub fn get(&self, id: ProcessId) -> &Process {
        &self.all[id.index()]
    }

    pub fn find(&self, pid: u32) -> Option<ProcessId> {
        self.by_pid.get(&pid).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (ProcessId, &Process)> {
        (0..).map(ProcessId).zip(&self.all)
    }
}
