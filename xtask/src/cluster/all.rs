//! `cargo xtask all`: from the sources to traces in S3, and proof of it.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tasks::{advice::explained, ctx::Ctx};

use crate::{
    analyze,
    cluster::{
        Cluster,
        deploy::{self, Wait},
        kubectl::Kubectl,
        test::{BATCH, Target, Tester},
        verify,
    },
    manifests::Settings,
    node::build::{self, Build},
};

/// Build, deploy, wait for vLLM, send prompts, verify the traces, write a report of them
///
/// One prompt, then a batch of 15. Stops at the first step that fails, with exit code 1. Every step
/// can be run alone: `build`, `deploy`, `test single`, `test batch`, `verify`.
#[derive(Debug, Args)]
pub(crate) struct All {
    #[command(flatten)]
    build: Build,

    #[command(flatten)]
    wait: Wait,

    #[command(flatten)]
    target: Target,

    /// Longest wait for the first uploads
    #[arg(long, value_name = "SECONDS", default_value_t = verify::TIMEOUT.as_secs())]
    verify_timeout: u64,

    #[command(flatten)]
    cluster: Cluster,

    #[command(flatten)]
    settings: Settings,
}

pub(crate) fn run(ctx: &Ctx, task: &All) -> Result<()> {
    let All { build, wait, target, verify_timeout, cluster, settings } = task;
    let kubectl = Kubectl::find(ctx, cluster)?;
    ctx.step("look at settings and cluster", || deploy::check(ctx, &kubectl, settings))?;
    let image = build::run(ctx, build)?;
    ctx.step("deploy", || deploy::apply(ctx, &kubectl, settings, &image, wait.timeout()))?;
    ctx.step("wait", || deploy::until_ready(ctx, &kubectl, *wait))?;
    let tester = Tester::new(ctx, Some(&kubectl), target);
    tester.run("single", tester.single())?;
    tester.run("batch", tester.batch(BATCH))?;
    ctx.step("verify", || {
        let timeout = Duration::from_secs(*verify_timeout);
        if verify::cluster::verify(ctx, cluster, false, timeout)? {
            return Ok(());
        }
        Err(explained(
            "traces are not captured and uploaded as they should be",
            "what stands beside FAILED above",
            "cargo xtask status; cargo xtask logs tracer",
        ))
    })?;
    ctx.step("what the traces say", || {
        if ctx.dry_run {
            eprintln!("would write a report of what `verify` has downloaded, for a browser");
            return Ok(());
        }
        analyze::report(ctx, &verify::cluster::downloaded(&kubectl)?)
    })?;
    if !ctx.dry_run {
        eprintln!(
            "\nall: everything passed in {}; next: open the report, or cargo xtask fetch",
            ctx.elapsed()
        );
    }
    Ok(())
}
