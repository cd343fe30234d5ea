//! What the API process and the engine tell each other, one JSON object a line.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The first line to the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Start {
    /// What the process is called until it retitles itself.
    pub(super) name: String,
    pub(super) title: String,
    pub(super) startup_delay: Duration,
    pub(super) enforce_eager: bool,
    pub(super) max_num_seqs: usize,
    pub(super) max_num_batched_tokens: usize,
    pub(super) gpu_memory_utilization: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToEngine {
    /// Generate this many tokens after a prompt.
    Add {
        id: u64,
        prompt_tokens: usize,
        tokens: usize,
    },
    Abort {
        id: u64,
    },
    /// Drop what runs, free the device, end.
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromEngine {
    Ready {
        kv_cache_tokens: usize,
    },
    /// After a step: each sequence listed has one token more.
    Step {
        advanced: Vec<u64>,
        finished: Vec<u64>,
        running: usize,
        waiting: usize,
        kv_tokens: usize,
    },
}
