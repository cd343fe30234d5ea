//! Ways in which an engine can waste its time, each put in on purpose: the truth against which `cuda-trace findings`
//! is held.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// What is wrong, by the name that the finding has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    Errors,
    SyncInStep,
    PageableCopy,
    SyncCopy,
    AllocationInStep,
    CaptureWhileServing,
    GraphReinstantiation,
    EagerDespiteGraph,
    QueueFull,
    HostHeldUp,
    ModuleLoad,
    StreamCreation,
    EventCreation,
    StepOutliers,
}

impl Cause {
    pub const ALL: [(&'static str, Self); 14] = [
        ("errors", Self::Errors),
        ("sync_in_step", Self::SyncInStep),
        ("pageable_copy", Self::PageableCopy),
        ("sync_copy", Self::SyncCopy),
        ("allocation_in_step", Self::AllocationInStep),
        ("capture_while_serving", Self::CaptureWhileServing),
        ("graph_reinstantiation", Self::GraphReinstantiation),
        ("eager_despite_graph", Self::EagerDespiteGraph),
        ("queue_full", Self::QueueFull),
        ("host_held_up", Self::HostHeldUp),
        ("module_load", Self::ModuleLoad),
        ("stream_creation", Self::StreamCreation),
        ("event_creation", Self::EventCreation),
        ("step_outliers", Self::StepOutliers),
    ];
}

impl FromStr for Cause {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((_, cause)) = Self::ALL.iter().find(|(name, _)| *name == text) else {
            let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
            bail!("--misbehave is {text:?}: it must be one of {}", names.join(", "))
        };
        Ok(*cause)
    }
}

/// A cause, and the number from which all that varies follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misbehaviour {
    pub cause: Cause,
    pub seed: u64,
}

impl Misbehaviour {
    /// Settings of the stand-in device, which must be known before it is loaded.
    pub(super) fn device_settings(self, step: Duration) -> Vec<(&'static str, String)> {
        let mut random = Random(self.seed);
        let step_ns = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX);
        match self.cause {
            Cause::QueueFull => vec![("CUDA_STANDIN_QUEUE", "1024".to_owned())],
            Cause::StepOutliers => {
                // Of a step in so many, what is queued is slow.
                let steps = 14 + random.below(8);
                vec![
                    ("CUDA_STANDIN_SLOW_PERIOD_NS", (step_ns * steps).to_string()),
                    ("CUDA_STANDIN_SLOW_NS", (step_ns * 5 / 4).to_string()),
                    ("CUDA_STANDIN_SLOW_FACTOR", (5 + random.below(4)).to_string()),
                ]
            }
            _ => Vec::new(),
        }
    }
}

/// The misbehaviour of a running engine.
#[derive(Debug)]
pub(super) struct Mischief {
    pub cause: Cause,
    random: Random,
    /// Of eight steps, in how many it happens.
    often: u64,
    steps: u64,
}

impl Mischief {
    pub(super) fn new(Misbehaviour { cause, seed }: Misbehaviour) -> Self {
        let mut random = Random(seed);
        let often = 2 + random.below(7);
        Self { cause, random, often, steps: 0 }
    }

    /// Whether the step that begins now is to be spoilt. The first few are not, so that there is something to compare.
    pub(super) fn strikes(&mut self) -> bool {
        self.steps += 1;
        self.steps > 4 && self.random.below(8) < self.often
    }

    /// From 0, below.
    pub(super) fn below(&mut self, limit: u64) -> usize {
        usize::try_from(self.random.below(limit)).expect("a small number")
    }

    /// How many times something is done.
    pub(super) fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below((most - least + 1) as u64)
    }
}

/// `SplitMix64`.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }
}
