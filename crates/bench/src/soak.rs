//! `cargo xtask bench soak`: hours of use in less, in which the sidecar must not grow.

use anyhow::Result;
use clap::Args;
use tasks::{ctx::Ctx, fault_suite};

/// Use for half an hour, with outages and processes that come and go: nothing may grow
///
/// Resident memory, descriptors and threads of the sidecar are looked at every five seconds. They
/// must be as flat at the end as after the first quarter, and the trace must be whole: if not, the
/// task fails.
#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// How long
    #[arg(long, value_name = "MINUTES", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
}

pub(crate) fn run(ctx: &Ctx, Soak { minutes }: &Soak) -> Result<()> {
    fault_suite::run(ctx, &["--soak".to_owned(), minutes.to_string()])
}
