//! `cargo xtask analyze`: questions to traces, by the program `cuda-trace`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tasks::{
    command::Command,
    ctx::{Ctx, target_directory, workspace_root},
};

/// Answer questions about traces: `cargo xtask analyze summary traces/`
///
/// Passes everything on to `cuda-trace`: `cargo xtask analyze --help` lists its questions.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Analyze {
    /// For `cuda-trace`: questions, directories, files or s3://bucket/prefix, --json
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

/// Answered, nothing could be answered, wrong usage, or of `diff` a difference: the program has said
/// which, and why.
const EXIT_CODES: [u8; 4] = [0, 1, 2, 3];

pub(crate) fn run(ctx: &Ctx, Analyze { arguments }: &Analyze) -> Result<ExitCode> {
    exit_code(ctx, arguments).map(ExitCode::from)
}

fn exit_code(ctx: &Ctx, arguments: &[String]) -> Result<u8> {
    let program = program(arguments).args(arguments.iter().cloned());
    if ctx.dry_run {
        ctx.change(&program).map(|()| 0)
    } else {
        program.run_for_exit_code(&EXIT_CODES)
    }
}

/// All answers of the latest run of these traces, in a file beside them, whose path goes to stdout.
pub(crate) fn report(ctx: &Ctx, traces: &Path) -> Result<()> {
    let page = traces.join("report.html");
    let (traces, page) = (traces.display().to_string(), page.display().to_string());
    let arguments = ["report", &traces, "--last", "--out", &page].map(str::to_owned);
    ensure!(exit_code(ctx, &arguments)? == 0, "the report could not be written");
    Ok(())
}

/// What the README asks of the trace that a demo has left in its usual place, and what its load tests
/// waited for.
pub(crate) fn left_by_demo(ctx: &Ctx) -> Result<()> {
    let demo = workspace_root().join("target/demo");
    let traces = demo.join("downloaded").display().to_string();
    let mut arguments = vec!["summary,launches,memory,tokens".to_owned(), traces];
    arguments.extend(load_arguments(&demo.join("loadtest"))?);
    let code = exit_code(ctx, &arguments)?;
    ensure!(code == 0, "the trace of the demo is not answered");
    Ok(())
}

/// That the results of load tests in a directory are to be joined with the trace.
pub(crate) fn load_arguments(directory: &Path) -> Result<Vec<String>> {
    let cannot = || format!("cannot list the results of load tests in {}", directory.display());
    let mut arguments = Vec::new();
    for result in directory.read_dir().with_context(cannot)? {
        let path = result.with_context(cannot)?.path();
        arguments.extend(["--load".to_owned(), path.display().to_string()]);
    }
    Ok(arguments)
}

/// As a release: a trace has many million lines. Without what reads buckets, which takes minutes to
/// build, unless one is asked for.
fn program(arguments: &[String]) -> Command {
    let reads_bucket = arguments.iter().any(|argument| argument.starts_with("s3://"));
    Command::new(if reads_bucket {
        "cargo run --release --quiet --locked --package analysis --"
    } else {
        "cargo run --release --quiet --locked --no-default-features --package analysis --"
    })
}

/// The same, built once, for who runs it for each of many files of this machine.
pub(crate) fn built() -> Result<PathBuf> {
    Command::new("cargo build --release --quiet --locked --no-default-features --package analysis")
        .run()?;
    Ok(target_directory().join("release/cuda-trace"))
}
