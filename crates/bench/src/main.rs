//! What tracing costs, how fast traces are read and how wrong load tests are, measured side by side in one run.
//!
//! Goals are told, never enforced: a timing fails no task.

#![expect(clippy::print_stdout, reason = "results go to stdout")]

mod analyze;
mod bpftrace;
mod goal;
mod gpu;
mod loadtest;
mod pipeline;
mod place;
mod probe;
mod sidecar;
mod soak;
mod statistics;
mod table;
mod usage;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tasks::ctx::Ctx;

/// Measure what tracing costs, which needs root, how fast traces are read, and how wrong load tests are
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    Probe(probe::Probe),
    Pipeline(pipeline::Pipeline),
    Gpu(gpu::Gpu),
    Soak(soak::Soak),
    Analyze(analyze::Analyze),
    Loadtest(loadtest::Loadtest),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(Cli { bench }: Cli) -> Result<()> {
    let ctx = &Ctx::new(false)?;
    match bench {
        Bench::Probe(task) => probe::run(ctx, &task),
        Bench::Pipeline(task) => pipeline::run(ctx, &task),
        Bench::Gpu(task) => gpu::run(ctx, &task),
        Bench::Soak(task) => soak::run(ctx, &task),
        Bench::Analyze(task) => analyze::run(ctx, &task),
        Bench::Loadtest(task) => loadtest::run(ctx, &task),
    }
}
