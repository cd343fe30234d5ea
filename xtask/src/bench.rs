//! `cargo xtask bench`: what tracing costs and how fast traces are read, measured side by side in one run.
//!
//! Goals are told, never enforced: a timing fails no task.

mod analyze;
mod bpftrace;
mod goal;
mod gpu;
mod pipeline;
mod place;
mod probe;
mod sidecar;
mod soak;
mod statistics;
mod table;
mod usage;

use anyhow::Result;
use clap::Subcommand;

use crate::ctx::Ctx;

/// Measure what tracing costs, which needs root, and how fast traces are read
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    Probe(probe::Probe),
    Pipeline(pipeline::Pipeline),
    Gpu(gpu::Gpu),
    Soak(soak::Soak),
    Analyze(analyze::Analyze),
}

pub(crate) fn run(ctx: &Ctx, task: &Bench) -> Result<()> {
    anyhow::ensure!(
        !ctx.dry_run || matches!(task, Bench::Gpu(_)),
        "a measurement cannot be shown without running it: --help says what it does"
    );
    match task {
        Bench::Probe(task) => probe::run(ctx, task),
        Bench::Pipeline(task) => pipeline::run(ctx, task),
        Bench::Gpu(task) => gpu::run(ctx, task),
        Bench::Soak(task) => soak::run(ctx, task),
        Bench::Analyze(task) => analyze::run(ctx, task),
    }
}
