//! Several runs that answer one question: how sure a figure is (`--repeat`), and how much a server can take (`--sweep`).

pub mod picture;
pub mod repeat;
pub mod sweep;

use serde::{Deserialize, Serialize};

use crate::record::{RunResult, Settings, Summary};

/// The result of a study, as written to `batch_repeat_result_*.json` and `batch_sweep_result_*.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Study {
    pub tool: String,
    pub label: Option<String>,
    /// `repeat` or `sweep`.
    pub study: String,
    pub started_at: String,
    pub finished_at: String,
    /// Of the first run.
    pub settings: Settings,
    /// Somebody interrupted it, or a run could not take place: what is here is what was done until then.
    pub is_complete: bool,
    /// In the order in which they took place.
    pub runs: Vec<Run>,
    /// Of `--repeat`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intervals: Vec<repeat::Interval>,
    /// Of `--sweep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<sweep::Capacity>,
}

/// One run of a study; all of it is in its own file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub file: String,
    pub seed: u64,
    pub rate: Option<f64>,
    pub summary: Summary,
    pub marks: Vec<String>,
    /// In a sweep: whether it kept the service level.
    #[serde(default)]
    pub is_kept: Option<bool>,
    /// In a sweep: ended as soon as it could not keep it any more.
    #[serde(default)]
    pub was_cut_short: bool,
}

impl Run {
    pub(crate) fn new(file: &std::path::Path, result: &RunResult) -> Self {
        Self {
            file: file.display().to_string(),
            seed: result.settings.seed,
            rate: result.settings.rate,
            summary: result.summary.clone(),
            marks: result.client.as_ref().map(|client| client.marks.clone()).unwrap_or_default(),
            is_kept: None,
            was_cut_short: false,
        }
    }
}
