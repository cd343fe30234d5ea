//! The test target of `sidecar` that injects faults, and that the soak is a part of.
//!
//! It belongs to `sidecar` because it needs the store and the libraries of the testbed.

use anyhow::{Context as _, Result};
use xshell::cmd;

use crate::ctx::{Ctx, as_from_shell};

/// Builds it and runs it with these arguments.
pub fn run(ctx: &Ctx, arguments: &[String]) -> Result<()> {
    let sh = &ctx.sh;
    // All at once: apart from the suite, the programs would have their dependencies built again,
    // with other features.
    as_from_shell(cmd!(
        sh,
        "cargo build --locked --package sidecar --package testbed --bins --test faults"
    ))
    .run()
    .context("cannot build what is tested")?;
    as_from_shell(cmd!(
        sh,
        "cargo test --quiet --locked --package sidecar --test faults -- {arguments...}"
    ))
    .run()
    .context("the table says what was lost or failed")
}
