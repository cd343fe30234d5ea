//! `cargo xtask bench`: measurements, by the program `bench`.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use tasks::{command::Command, ctx::Ctx};

use crate::develop::doctor;

/// Measure what tracing costs, which needs root, and how fast traces are read
///
/// Passes everything on to the program `bench`: `cargo xtask bench --help` lists its measurements.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Bench {
    /// For `bench`: a measurement and its options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

/// They trace on this machine.
const TRACING: [&str; 3] = ["probe", "pipeline", "soak"];

/// Measured, failed, or wrong usage: the program has said why.
const EXIT_CODES: [u8; 3] = [0, 1, 2];

pub(crate) fn run(ctx: &Ctx, Bench { arguments }: &Bench) -> Result<ExitCode> {
    let helps = arguments.iter().any(|argument| ["-h", "--help"].contains(&&argument[..]));
    ensure!(
        helps || !ctx.dry_run,
        "a measurement cannot be shown without running it: `cargo xtask bench --help` says what it does"
    );
    let traces = arguments.first().is_some_and(|first| TRACING.contains(&&first[..]));
    if traces && !helps {
        doctor::require_for_tracing(&ctx.sh)?;
    }
    let bench = Command::new("cargo run --quiet --locked --package bench --");
    bench.args(arguments.iter().cloned()).run_for_exit_code(&EXIT_CODES).map(ExitCode::from)
}
