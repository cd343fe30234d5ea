//! What can be asked.

pub mod steps;
pub mod summary;

use clap::{Args, ValueEnum};

use crate::question::Question;

/// In the order in which a newcomer asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// Processes, calls by function, errors, what the trace lacks
    Summary,
    /// Engine steps: kind, graphs, launches, waits, and when the GPU was done
    Steps,
}

/// Settings of single questions.
#[derive(Debug, Clone, Default, Args)]
pub struct Settings {}

impl Name {
    pub fn question(self, _settings: &Settings) -> Box<dyn Question> {
        match self {
            Self::Summary => Box::new(summary::Summary::default()),
            Self::Steps => Box::new(steps::Steps::default()),
        }
    }
}
