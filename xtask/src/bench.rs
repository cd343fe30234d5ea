//! `cargo xtask bench`: measurements, by the program `bench`.

use anyhow::Result;
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

pub(crate) fn run(ctx: &Ctx, Bench { arguments }: &Bench) -> Result<()> {
    let traces = arguments.first().is_some_and(|first| TRACING.contains(&&first[..]));
    let helps = arguments.iter().any(|argument| ["-h", "--help"].contains(&&argument[..]));
    if traces && !helps && !ctx.dry_run {
        doctor::require_for_tracing(&ctx.sh)?;
    }
    let bench = Command::new("cargo run --quiet --locked --package bench --");
    let dry_run = ctx.dry_run.then(|| "--dry-run".to_owned());
    bench.args(dry_run).args(arguments.iter().cloned()).run_as_it_is()
}
