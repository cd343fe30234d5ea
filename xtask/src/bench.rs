//! `cargo xtask bench`: what tracing costs, measured side by side in one run.

mod probe;

use anyhow::Result;
use clap::Subcommand;

use crate::ctx::Ctx;

/// Measure what tracing costs; needs root
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    Probe(probe::Probe),
}

pub(crate) fn run(ctx: &Ctx, task: &Bench) -> Result<()> {
    match task {
        Bench::Probe(task) => probe::run(ctx, task),
    }
}
