//! What can be asked.

pub mod launches;
pub mod memory;
pub mod startup;
pub mod steps;
pub mod summary;
pub mod timeline;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::question::Question;

/// In the order in which a newcomer asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// Processes, calls by function, errors, what the trace lacks
    Summary,
    /// Engine steps: kind, graphs, launches, waits, and when the GPU was done
    Steps,
    /// Kernels: how often, by kernel and category, graph replays included
    Launches,
    /// Before the first step: load, compile, cache, capture, warm-up
    Startup,
    /// What is allocated, by whom, the peak and what held it, what is never freed
    Memory,
    /// A file for Perfetto: calls by thread, steps, proven ends on the GPU, memory, launch rate
    Timeline,
}

/// Settings of single questions.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings of single questions")]
pub struct Settings {
    /// memory: set beside what vLLM says in its log
    #[arg(long, value_name = "FILE")]
    pub vllm_log: Option<PathBuf>,

    /// timeline: the file to write; else RUN.perfetto-trace in the current directory
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
}

impl Name {
    /// Beside its answer.
    pub fn writes_files(self) -> bool {
        self == Self::Timeline
    }

    pub fn question(self, settings: &Settings) -> Result<Box<dyn Question>> {
        let Settings { vllm_log, out } = settings;
        Ok(match self {
            Self::Summary => Box::new(summary::Summary::default()),
            Self::Steps => Box::new(steps::Steps::default()),
            Self::Launches => Box::new(launches::Launches::default()),
            Self::Startup => Box::new(startup::Startup::default()),
            Self::Memory => Box::new(memory::Memory::new(vllm_log.as_deref())?),
            Self::Timeline => Box::new(timeline::Timeline::new(out.as_deref())?),
        })
    }
}
