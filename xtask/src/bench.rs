//! `cargo xtask bench`: what tracing costs, measured side by side in one run.

mod gpu;
mod probe;

use anyhow::Result;
use clap::Subcommand;

use crate::ctx::Ctx;

/// Measure what tracing costs; needs root
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    Probe(probe::Probe),
    Gpu(gpu::Gpu),
}

pub(crate) fn run(ctx: &Ctx, task: &Bench) -> Result<()> {
    match task {
        Bench::Probe(task) => probe::run(ctx, task),
        Bench::Gpu(task) => gpu::run(ctx, task),
    }
}
