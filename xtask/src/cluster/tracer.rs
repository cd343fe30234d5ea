//! What the tracer in the pod says of itself, by its own `status --json`: its image has no shell.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::kubectl::Kubectl;
use settings::names::{TRACER_CONTAINER, TRACER_PROGRAM};
use tasks::command::Command;

/// The fields that are used here; `sidecar::status::Status` has all.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub(crate) struct Status {
    pub(crate) phase: String,
    pub(crate) run: String,
    pub(crate) target_process: String,
    pub(crate) visible_processes: usize,
    pub(crate) processes: Vec<Process>,
    pub(crate) calls: Calls,
    pub(crate) segments: Segments,
    /// None where uploads are switched off.
    pub(crate) uploads: Option<Uploads>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) command: Option<String>,
    pub(crate) comm: Option<String>,
    pub(crate) matched_by: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) has_called: bool,
    pub(crate) is_running: bool,
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub(crate) struct Calls {
    pub(crate) recorded: u64,
    pub(crate) dropped_at_ring: u64,
    pub(crate) dropped_at_disk: u64,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Segments {
    pub(crate) closed: u64,
    pub(crate) written_bytes: u64,
    pub(crate) waiting: u64,
    pub(crate) waiting_bytes: u64,
    pub(crate) limit_bytes: u64,
    /// The disk is full, or the limit reached: calls are dropped now.
    pub(crate) is_paused: bool,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub(crate) struct Uploads {
    pub(crate) destination: String,
    pub(crate) stored: u64,
    pub(crate) failing: Option<Failing>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub(crate) struct Failing {
    pub(crate) since: String,
    pub(crate) error: String,
}

impl Status {
    pub(crate) fn ask(kubectl: &Kubectl, pod: &str) -> Result<Self> {
        Self::read(&Self::command(kubectl, pod))
    }

    /// By the command that asks for it.
    pub(crate) fn read(ask: &Command) -> Result<Self> {
        serde_json::from_str(&ask.read()?).context("cannot read what the tracer says of itself")
    }

    /// In a pod, or in one of a deployment.
    pub(crate) fn command(kubectl: &Kubectl, place: &str) -> Command {
        let exec =
            kubectl.namespaced("exec").arg(place).words("-c").arg(TRACER_CONTAINER).words("--");
        exec.arg(TRACER_PROGRAM).words("status --json")
    }

    pub(crate) fn traced(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.matched_by.is_some() && process.is_running)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.calls.dropped_at_ring + self.calls.dropped_at_disk
    }
}

impl Process {
    pub(crate) fn title(&self) -> &str {
        self.command.as_deref().or(self.comm.as_deref()).unwrap_or("?")
    }

    /// Its role in brackets; nothing where it is not known.
    pub(crate) fn part(&self) -> String {
        self.role.as_ref().map(|role| format!(" ({role})")).unwrap_or_default()
    }
}
