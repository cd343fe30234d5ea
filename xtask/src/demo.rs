//! `cargo xtask demo`: the main job on stand-ins, with real probes, processes, sockets and S3.

mod callees;
mod checks;
mod comparison;
mod files;
mod one_liners;
mod pod;
mod processes;
mod report;
mod store;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
pub(crate) use checks::verify;
use clap::Args;
pub(crate) use one_liners::one_liners;
pub(crate) use pod::can_run as pod_can_run;
use tasks::{
    background::Interrupt,
    ctx::{Ctx, as_from_shell},
};
use xshell::cmd;

use crate::{analyze, develop::doctor};
use comparison::Comparison;
use files::Files;

/// Trace a stand-in vLLM end to end and prove that no call is missing; needs root
///
/// Starts an S3 server, the sidecar and a vLLM stand-in on this machine, sends prompts, checks that
/// traces are captured and uploaded, and compares them with what the called libraries counted
/// themselves. Leaves nothing behind but the files in DIR.
///
/// With --pod it does so in containers: it builds the image of the sidecar and one of the stand-ins,
/// lets podman play the pod that `cargo xtask deploy` would apply, once with each profile, starts,
/// probes and stops the containers as the kubelet would, and sends the prompts to the node port.
/// Before that it takes one capability after the other away: the sidecar must name it. Podman's
/// storage, network and containers are the demo's own, and gone when it ends.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where everything goes (target/demo of the workspace, or target/demo-pod); an earlier demo
    /// there is replaced
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Prompts of the batch, four at a time
    #[arg(long, value_name = "COUNT", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    prompts: u32,

    /// Prologues of the stand-in driver: r550 or r580
    #[arg(long, value_name = "KIND", default_value = "r550", value_parser = ["r550", "r580"])]
    driver: String,

    /// Form of the trace files: jsonl or jsonl.zst
    #[arg(long, value_name = "FORMAT", default_value = "jsonl", value_parser = ["jsonl", "jsonl.zst"])]
    trace_format: String,

    /// Stop S3 for this long in the middle of the batch: uploads must wait and then resume
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    s3_outage: u64,

    /// Leave everything running after the checks, until Ctrl-C
    #[arg(long)]
    keep_running: bool,

    /// Run the pod of the deployment, with each profile, in podman 4.5 or later
    #[arg(long, conflicts_with_all = ["s3_outage", "keep_running"])]
    pod: bool,

    /// The podman of --pod, or its path; without it the one on PATH
    #[arg(long, value_name = "PROGRAM", env = "CONTAINER_ENGINE")]
    engine: Option<String>,
}

impl Default for Demo {
    fn default() -> Self {
        Self {
            out: None,
            prompts: 15,
            driver: "r550".to_owned(),
            trace_format: "jsonl".to_owned(),
            s3_outage: 0,
            keep_running: false,
            pod: false,
            engine: None,
        }
    }
}

impl Demo {
    /// The other prologues, the other form of trace files, and S3 away for a while.
    pub(crate) fn rough() -> Self {
        Self {
            driver: "r580".to_owned(),
            trace_format: "jsonl.zst".to_owned(),
            s3_outage: 5,
            ..Self::default()
        }
    }

    pub(crate) fn in_pod(engine: Option<String>) -> Self {
        Self { pod: true, engine, ..Self::default() }
    }
}

pub(crate) fn run(ctx: &Ctx, task: &Demo) -> Result<()> {
    ensure!(!ctx.dry_run, "a demo cannot be shown without running it: --help says what it does");
    // Both are said before minutes are spent on building.
    if task.pod {
        pod_can_run(task.engine.as_deref())?;
    }
    doctor::require_for_tracing(&ctx.sh)?;
    let interrupt = Interrupt::watch()?;
    if task.pod { pod::run(ctx, task, &interrupt) } else { processes::run(ctx, task, &interrupt) }
}

/// The programs come from the other crates: this one stays light.
///
/// Every demo builds the same ones: in another company their dependencies have other features, and
/// would be compiled again.
fn build(ctx: &Ctx) -> Result<()> {
    let sh = &ctx.sh;
    let programs =
        cmd!(sh, "cargo build --locked --bins -p sidecar -p testbed -p loadtest -p analysis");
    as_from_shell(programs).run().context("cannot build the programs of the demo")
}

fn send_single(ctx: &Ctx, files: &Files, address: &str) -> Result<()> {
    send(ctx, files, address, &["single"])
}

fn send_batch(ctx: &Ctx, files: &Files, address: &str, prompts: u32) -> Result<()> {
    let count = prompts.to_string();
    send(ctx, files, address, &["batch", "--count", &count, "--parallel", "--workers", "4"])
}

fn send(ctx: &Ctx, files: &Files, address: &str, test: &[&str]) -> Result<()> {
    let sh = &ctx.sh;
    let (loadtest, out) = (files.program("loadtest"), files.results());
    let (host, port) = address.rsplit_once(':').context("an address has a port")?;
    let result = cmd!(sh, "{loadtest} {test...} --host {host} --port {port} --out {out}").read()?;
    // The result's path is left on stdout, which belongs to the demo's own table.
    eprintln!("{result}");
    Ok(())
}

/// What the trace says, as one page for a browser.
fn write_report(ctx: &Ctx, files: &Files) -> Result<()> {
    let (program, traces, page) =
        (files.program("cuda-trace"), files.downloaded(), files.html_report());
    let loads = analyze::load_arguments(&files.results())?;
    let report = cmd!(ctx.sh, "{program} report {traces} --out {page} {loads...}");
    report.ignore_stdout().run().context("cannot write the report")
}

/// The end of every demo: all has ended, and the traces are downloaded.
fn compare(ctx: &Ctx, files: &Files) -> Result<()> {
    let comparison = ctx.step("compare with the callees' own counts", || {
        let comparison = Comparison::of(files)?;
        comparison.write(&files.comparison())?;
        Ok(comparison)
    })?;
    ctx.step("report", || write_report(ctx, files))?;
    report::print(&comparison, files);
    comparison.verdict()
}
