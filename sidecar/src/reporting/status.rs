//! The answer to "how does it go?": everything that `/status` and `/metrics` tell, of one moment.

pub(crate) mod text;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use processes::process;
use serde::{Deserialize, Serialize};
use trace::line::Library;
use tracing::debug;

use crate::{
    config::Config,
    recording::accounting::{Calls, Tally},
    reporting::state::{Caller, Coverage, LongestTurn, Phase, Recorded, State, Uploads},
    shipping::spool::{Spool, Waiting},
};

/// Gathers what the threads have published, and what only the moment tells.
pub struct Reporter {
    facts: Facts,
    spool: Spool,
    state: Arc<State>,
}

/// What does not change while the sidecar runs.
#[derive(Debug, Clone)]
pub struct Facts {
    pub host: String,
    pub kernel: String,
    pub run: String,
    pub started: Timestamp,
    pub target_process: String,
    pub trace_dir: PathBuf,
    pub trace_dir_limit: u64,
    /// `None`: segments stay where they are.
    pub destination: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub trace_format: u32,
    pub phase: Phase,
    /// The thread that ended by itself.
    pub failed_thread: Option<String>,
    pub pid: u32,
    pub host: String,
    pub kernel: String,
    pub started: Timestamp,
    /// The run, as file names have it.
    pub run: String,
    pub target_process: String,
    /// Processes in the sidecar's pid namespace, besides itself: what it could trace.
    pub visible_processes: usize,
    /// Those that have mapped a CUDA library or called one: targets that run, targets that have
    /// ended, others that run, others that have ended; of each the oldest first.
    pub processes: Vec<Process>,
    /// So many were too many to be kept.
    pub forgotten_processes: u64,
    pub libraries: Vec<Library>,
    /// Whether the calls of targets into libraries are seen.
    #[serde(default)]
    pub coverage: Coverage,
    #[serde(default)]
    pub discovery: LongestTurn,
    pub calls: Calls,
    /// Hits of each function that was called at all.
    pub functions: BTreeMap<String, u64>,
    pub segments: Segments,
    /// `None`: UPLOAD_ENABLED is false.
    pub uploads: Option<Upload>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    #[serde(flatten)]
    pub caller: Caller,
    /// Why it is traced or not, in words.
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segments {
    pub directory: PathBuf,
    /// In this run.
    pub closed: u64,
    pub written_bytes: u64,
    /// Closed ones in the directory, also of earlier runs.
    pub waiting: usize,
    pub waiting_bytes: u64,
    /// TRACE_DIR_LIMIT.
    pub limit_bytes: u64,
    /// How long the oldest has been closed.
    pub oldest_waiting_ms: Option<u64>,
    /// The disk is full, the limit reached, or the open segment deleted: calls are dropped, and
    /// counted.
    pub is_paused: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    pub destination: String,
    #[serde(flatten)]
    pub uploads: Uploads,
}

impl Facts {
    pub fn of(config: &Config, host: &str, kernel: &str, run: &str) -> Self {
        let destination =
            config.settings.s3_bucket.as_ref().filter(|_| config.settings.upload_enabled);
        Self {
            host: host.to_owned(),
            kernel: kernel.to_owned(),
            run: run.to_owned(),
            started: Timestamp::now(),
            target_process: config.settings.target_process.clone(),
            trace_dir: config.settings.trace_dir.clone(),
            trace_dir_limit: config.settings.trace_dir_limit,
            destination: destination
                .map(|bucket| format!("s3://{bucket}/{}", config.settings.s3_prefix)),
        }
    }
}

impl Reporter {
    pub fn new(facts: Facts, spool: Spool, state: Arc<State>) -> Self {
        Self { facts, spool, state }
    }

    pub fn trace_dir(&self) -> &Path {
        &self.facts.trace_dir
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// Reads two directories, so it may take a moment.
    pub fn status(&self) -> Status {
        let Facts {
            host,
            kernel,
            run,
            started,
            target_process,
            trace_dir,
            trace_dir_limit,
            destination,
        } = self.facts.clone();
        let Recorded { tally, written_bytes, closed_segments, is_paused } = self.state.recorded();
        let Tally { calls, functions } = tally;
        let Waiting { segments, bytes, since } = self.spool.waiting().unwrap_or_else(|error| {
            // The recorder looks too, and says so aloud.
            debug!("cannot tell what waits for upload: {error:#}");
            Waiting::default()
        });
        let (processes, forgotten_processes) = self.processes(&target_process);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trace_format: trace::line::FORMAT_VERSION,
            phase: self.state.phase(),
            failed_thread: self.state.failed_thread().map(str::to_owned),
            pid: std::process::id(),
            host,
            kernel,
            started,
            run,
            target_process,
            visible_processes: process::all_pids().len(),
            processes,
            forgotten_processes,
            libraries: self.state.libraries(),
            coverage: self.state.coverage(),
            discovery: self.state.longest_turn(),
            calls,
            functions,
            segments: Segments {
                directory: trace_dir,
                closed: closed_segments,
                written_bytes,
                waiting: segments,
                waiting_bytes: bytes,
                limit_bytes: trace_dir_limit,
                oldest_waiting_ms: since.map(milliseconds_since),
                is_paused,
            },
            uploads: destination
                .map(|destination| Upload { destination, uploads: self.state.uploads().told() }),
        }
    }

    fn processes(&self, target: &str) -> (Vec<Process>, u64) {
        let mut callers = self.state.callers();
        callers.find_exited();
        let mut listed = callers.to_vec();
        listed.sort_by_key(Caller::rank);
        let processes = listed
            .into_iter()
            .map(|caller| Process { reason: reason(caller.matched_by.as_deref(), target), caller })
            .collect();
        (processes, callers.forgotten())
    }
}

impl Status {
    /// Probes in place.
    pub fn probes(&self) -> u64 {
        self.libraries.iter().map(|library| u64::from(library.functions)).sum()
    }

    /// Running processes that are traced, or that are not.
    pub fn running(&self, traced: bool) -> usize {
        let wanted = |caller: &Caller| caller.is_running && caller.matched_by.is_some() == traced;
        self.processes.iter().filter(|process| wanted(&process.caller)).count()
    }
}

fn reason(matched_by: Option<&str>, target: &str) -> String {
    match matched_by {
        None => format!(
            "neither its executable, comm nor command line contains {target:?}, and no target \
             started it"
        ),
        Some("ancestor") => "a target started it".to_owned(),
        Some("unexamined") => "it had ended before it could be examined".to_owned(),
        Some("unread") => {
            "its command line does not come, or that of a process above it".to_owned()
        }
        Some("command") => format!("its command line contains {target:?}"),
        Some(part) => format!("its {part} contains {target:?}"),
    }
}

/// Clocks of file systems may be ahead.
fn milliseconds_since(time: SystemTime) -> u64 {
    let elapsed = time.elapsed().unwrap_or(Duration::ZERO);
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
