//! `cargo xtask verify`: does a demo capture and upload, or is a trace whole?

mod traces;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;

use crate::{ctx::workspace_root, demo};

/// Check that traces are captured and uploaded, or that a trace is whole; exit code 1 if not
#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    subject: Subject,

    /// The directory of the demo (target/demo of the workspace)
    #[arg(long, value_name = "DIR", requires = "demo")]
    out: Option<PathBuf>,

    /// Print what was found as JSON on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Subject {
    /// Check a demo: one that runs (`cargo xtask demo --keep-running`), or what one has left
    #[arg(long)]
    demo: bool,

    /// Check that the trace in DIR, in all its *.jsonl, is whole: nothing missing, nothing dropped
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
}

pub(crate) fn run(task: &Verify) -> Result<ExitCode> {
    let Verify { subject: Subject { demo: _, traces }, out, json } = task;
    let passed = match traces {
        Some(directory) => traces::verify(directory, *json)?,
        None => demo::verify(out.as_deref(), *json)?,
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Both, on what a demo has left in its usual place.
pub(crate) fn left_by_demo() -> Result<()> {
    let traces = workspace_root().join("target/demo/downloaded");
    anyhow::ensure!(demo::verify(None, false)?, "the demo's checks fail");
    anyhow::ensure!(traces::verify(&traces, false)?, "the demo's trace is not whole");
    Ok(())
}
