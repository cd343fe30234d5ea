//! `cargo xtask test-faults`: faults into the real sidecar, and the proof that nothing is lost.

use anyhow::{Result, ensure};
use clap::Args;
use tasks::{ctx::Ctx, fault_suite};

use crate::develop::doctor;

/// Inject faults of store, disk, processes and sidecar, and prove that nothing is lost
///
/// Each fault meets the real sidecar while programs are traced on stand-ins. Then what was closed
/// must be stored byte for byte, the trace must balance, its hits must be the calls that the
/// libraries counted, and the programs must have ended as they do without a tracer. Prints a table.
#[derive(Debug, Default, Args)]
pub(crate) struct TestFaults {
    /// Each fault fewer times and for less time, as `ci` does it
    #[arg(long)]
    short: bool,

    /// Only faults whose name contains this; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Print the names of all faults and what they do
    #[arg(long)]
    list: bool,

    /// Chooses the random moments; the same number, the same moments
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

impl TestFaults {
    pub(crate) fn short() -> Self {
        Self { short: true, seed: 1, ..Self::default() }
    }
}

pub(crate) fn run(ctx: &Ctx, task: &TestFaults) -> Result<()> {
    let TestFaults { short, only, list, seed } = task;
    let mut arguments = vec!["--seed".to_owned(), seed.to_string()];
    arguments.extend(short.then(|| "--short".to_owned()));
    arguments.extend(list.then(|| "--list".to_owned()));
    arguments.extend(only.iter().flat_map(|name| ["--only".to_owned(), name.clone()]));
    // Only to list needs no rights.
    if !list {
        ensure!(
            !ctx.dry_run,
            "faults cannot be shown without injecting them: --list tells of each"
        );
        doctor::require_for_tracing(&ctx.sh)?;
    }
    fault_suite::run(ctx, &arguments)
}
