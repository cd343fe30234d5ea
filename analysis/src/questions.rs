//! What can be asked.

mod blocked;
pub mod export;
pub mod findings;
pub mod launches;
pub mod memory;
pub mod ranks;
pub mod startup;
pub mod steps;
pub mod summary;
pub mod timeline;
pub mod tokens;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::question::Question;

/// In the order in which a newcomer asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// Processes, calls by function, errors, what the trace lacks
    Summary,
    /// Engine steps: kind, graphs, launches, waits, and when the GPU was done
    Steps,
    /// Load tests: what each token waited for, by request; the slowest (needs --load)
    Tokens,
    /// Ranks of one engine: who comes late, by how much, and where its host is to blame
    Ranks,
    /// Kernels: how often, by kernel and category, graph replays included
    Launches,
    /// Before the first step: load, compile, cache, capture, warm-up
    Startup,
    /// What is allocated, by whom, the peak and what held it, what is never freed
    Memory,
    /// What holds an engine up: rules with evidence, cost and advice
    Findings,
    /// A file for Perfetto: calls by thread, steps, proven ends on the GPU, memory, launch rate
    Timeline,
    /// Parquet tables below --out, for DuckDB, Spark, Athena, pandas
    Export,
}

/// Settings of single questions.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings of single questions")]
pub struct Settings {
    /// memory: set beside what vLLM says in its log
    #[arg(long, value_name = "FILE")]
    pub vllm_log: Option<PathBuf>,

    /// memory: set beside what NVML says, by stage: the output of
    /// `TZ=UTC nvidia-smi --query-gpu=timestamp,index,memory.used --format=csv -lms 500`
    #[arg(long, value_name = "FILE")]
    pub nvml: Option<PathBuf>,

    /// timeline: the file to write; else RUN.perfetto-trace in the current directory.
    /// report: the file to write; else report.html.
    /// export: the directory for its tables
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,

    /// tokens, timeline: the result of a load test: ours, vllm bench serve --save-detailed, GuideLLM,
    /// AIPerf; of a directory all that are in it
    #[arg(long, value_name = "PATH")]
    pub load: Vec<PathBuf>,

    /// timeline: what torch.profiler has written of a part of the same run (.json, .json.gz): adds what
    /// the GPU did
    #[arg(long, value_name = "FILE")]
    pub merge: Option<PathBuf>,
}

/// In the report: what to act on first.
const BY_IMPORTANCE: [Name; 8] = [
    Name::Findings,
    Name::Tokens,
    Name::Steps,
    Name::Launches,
    Name::Memory,
    Name::Ranks,
    Name::Startup,
    Name::Summary,
];

impl Name {
    /// Every question whose answer is for people, not a file, in the order of the report, with what it is
    /// about.
    pub fn by_importance() -> Vec<(Self, String)> {
        let described = BY_IMPORTANCE.into_iter().map(|name| {
            let value = name.to_possible_value();
            (name, value.and_then(|it| it.get_help().map(ToString::to_string)).unwrap_or_default())
        });
        described.collect()
    }

    /// Beside its answer.
    pub fn writes_files(self) -> bool {
        matches!(self, Self::Timeline | Self::Export)
    }

    pub fn question(self, settings: &Settings) -> Result<Box<dyn Question>> {
        let Settings { vllm_log, nvml, out, load, merge } = settings;
        Ok(match self {
            Self::Summary => Box::new(summary::Summary::default()),
            Self::Steps => Box::new(steps::Steps::default()),
            Self::Tokens => Box::new(tokens::Tokens::new(load)?),
            Self::Ranks => Box::new(ranks::Ranks::default()),
            Self::Launches => Box::new(launches::Launches::default()),
            Self::Startup => Box::new(startup::Startup::default()),
            Self::Findings => Box::new(findings::Findings::default()),
            Self::Memory => Box::new(memory::Memory::new(vllm_log.as_deref(), nvml.as_deref())?),
            Self::Timeline => {
                Box::new(timeline::Timeline::new(out.as_deref(), load, merge.as_deref())?)
            }
            Self::Export => {
                let out = out.as_deref().context("export writes files: give --out DIRECTORY")?;
                Box::new(export::Export::new(out))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_every_question_that_writes_no_file() {
        for name in Name::value_variants() {
            assert_eq!(BY_IMPORTANCE.contains(name), !name.writes_files(), "{name:?}");
        }
        assert!(Name::by_importance().iter().all(|(_, about)| !about.is_empty()));
    }
}
