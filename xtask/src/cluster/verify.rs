//! `cargo xtask verify`: does the deployment, or a demo, capture and upload, or is a trace whole?

pub(crate) mod cluster;
mod traces;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tasks::ctx::{Ctx, workspace_root};

use crate::{cluster::Cluster, demo};

/// How long the first upload may take: the default rotation and upload interval, and some.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(300);

/// Check that traces are captured, uploaded and whole
///
/// Without --demo or --traces it checks the deployment on the cluster: the sidecar runs, has
/// discovered vLLM, writes traces and uploads them, and what its run has put into S3 is whole.
/// Exit code 1 if one of these is not so.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    subject: Subject,

    /// Longest wait for the deployment to pass: the first upload takes its time
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT.as_secs())]
    timeout: u64,

    /// The directory of the demo (target/demo of the workspace)
    #[arg(long, value_name = "DIR", requires = "demo")]
    out: Option<PathBuf>,

    /// Print what was found as JSON on stdout
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Subject {
    /// Check a demo: one that runs (`cargo xtask demo --keep-running`), or what one has left
    #[arg(long)]
    demo: bool,

    /// Check that the trace in DIR, in all its *.jsonl, *.jsonl.zst and *.parquet, is whole: nothing missing, nothing dropped
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
}

pub(crate) fn run(ctx: &Ctx, task: &Verify) -> Result<ExitCode> {
    let Verify { subject: Subject { demo, traces }, cluster, timeout, out, json } = task;
    let passed = match traces {
        Some(directory) => traces::verify(directory, *json)?,
        None if *demo => demo::verify(out.as_deref(), *json)?,
        None => cluster::verify(ctx, cluster, *json, Duration::from_secs(*timeout))?,
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One thing that is looked at.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) passed: bool,
    pub(crate) detail: String,
}

impl Check {
    /// What was found, or what is wrong.
    pub(crate) fn new(name: &'static str, judged: Result<String, String>) -> Self {
        let passed = judged.is_ok();
        let (Ok(detail) | Err(detail)) = judged;
        Self { name, passed, detail }
    }
}

pub(crate) fn print(checks: &[Check]) {
    for Check { name, passed, detail } in checks {
        eprintln!("{}  {name}: {detail}", if *passed { "ok    " } else { "FAILED" });
    }
}

/// Both, on what a demo has left in its usual place.
pub(crate) fn left_by_demo() -> Result<()> {
    let traces = workspace_root().join("target/demo/downloaded");
    anyhow::ensure!(demo::verify(None, false)?, "the demo's checks fail");
    anyhow::ensure!(traces::verify(&traces, false)?, "the demo's trace is not whole");
    Ok(())
}
