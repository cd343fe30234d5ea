//! What the API process, the engine and its workers tell each other, one JSON object a line.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::misbehaviour::Misbehaviour;

/// The first line to the engine, and to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Start {
    /// What the process is called until it retitles itself.
    pub(super) name: String,
    /// Of the titles.
    pub(super) prefix: String,
    /// Of a worker.
    pub(super) rank: Option<usize>,
    pub(super) tensor_parallel_size: usize,
    pub(super) startup_delay: Duration,
    pub(super) enforce_eager: bool,
    pub(super) max_num_seqs: usize,
    pub(super) max_num_batched_tokens: usize,
    pub(super) gpu_memory_utilization: f64,
    pub(super) step: Duration,
    pub(super) misbehaviour: Option<Misbehaviour>,
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

/// Each answers one step; the first says that there can be steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromWorker {
    Ready { kv_cache_tokens: usize },
    Done,
}
