//! `cargo xtask`: every workflow of this repository as a task, after
//! <https://github.com/matklad/cargo-xtask>.

#![expect(clippy::print_stdout, reason = "what a task was asked for goes to stdout")]

mod analyze;
mod bench;
mod cluster;
mod demo;
mod develop;
mod manifests;
mod node;
mod pins;
mod segment_reader;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};
use tasks::ctx::Ctx;

use crate::{
    cluster::{all, deploy, destroy, fetch, logs, secrets, status, test, verify},
    develop::{ci, doctor, ebpf, test_diagnosis, test_faults, test_kernels},
    node::{build, install, uninstall},
};

/// Trace the CUDA calls of vLLM on K3s
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, after_help = WORKFLOW)]
struct Cli {
    /// Show what would be run, and change nothing
    #[arg(short = 'n', long, global = true, display_order = 900)]
    dry_run: bool,

    #[command(subcommand)]
    command: Command,
}

/// In the order in which they are met: on any machine, on a node, on its deployment, on the sources.
#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Doctor(doctor::Doctor),
    Install(install::Install),
    Secrets(secrets::Secrets),
    All(all::All),
    Build(build::Build),
    Deploy(deploy::Deploy),
    Test(test::Test),
    Verify(verify::Verify),
    Status(status::Status),
    Logs(logs::Logs),
    Fetch(fetch::Fetch),
    Analyze(analyze::Analyze),
    Destroy(destroy::Destroy),
    Uninstall(uninstall::Uninstall),
    Manifests(manifests::Manifests),
    Ci(ci::Ci),
    TestDiagnosis(test_diagnosis::TestDiagnosis),
    TestFaults(test_faults::TestFaults),
    TestKernels(test_kernels::TestKernels),
    Bench(bench::Bench),
    #[command(subcommand)]
    Ebpf(ebpf::Ebpf),
}

const WORKFLOW: &str = "\
Without a GPU:   cargo xtask demo
On a GPU node:   cargo xtask install, then secrets, then S3_BUCKET=... S3_PREFIX=... cargo xtask all
When it runs:    status, logs, test, verify, fetch, analyze
In the end:      destroy, and uninstall
Each TASK --help says more.";

fn main() -> ExitCode {
    let arguments = manifests::own_flags_first(&Cli::command(), std::env::args_os().collect());
    let cli = Cli::parse_from(arguments);
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(Cli { dry_run, command }: Cli) -> Result<ExitCode> {
    let ctx = &Ctx::new(dry_run)?;
    match command {
        Command::Doctor(task) => return doctor::run(ctx, &task),
        Command::Verify(task) => return verify::run(ctx, &task),
        Command::Status(task) => return status::run(ctx, &task),
        Command::Bench(task) => return bench::run(ctx, &task),
        Command::Analyze(task) => return analyze::run(ctx, &task),
        Command::Install(task) => install::run(ctx, &task)?,
        Command::Uninstall(task) => uninstall::run(ctx, &task)?,
        Command::All(task) => all::run(ctx, &task)?,
        Command::Build(task) => build::run(ctx, &task).map(drop)?,
        Command::Deploy(task) => deploy::run(ctx, &task)?,
        Command::Test(task) => test::run(ctx, &task)?,
        Command::Logs(task) => logs::run(ctx, &task)?,
        Command::Fetch(task) => fetch::run(ctx, &task)?,
        Command::Destroy(task) => destroy::run(ctx, &task)?,
        Command::Secrets(task) => secrets::run(ctx, &task)?,
        Command::Manifests(task) => manifests::run(&task)?,
        Command::Demo(task) => demo::run(ctx, &task)?,
        Command::Ci(task) => ci::run(ctx, &task)?,
        Command::TestDiagnosis(task) => test_diagnosis::run(ctx, &task)?,
        Command::TestFaults(task) => test_faults::run(ctx, &task)?,
        Command::TestKernels(task) => test_kernels::run(ctx, &task)?,
        Command::Ebpf(task) => ebpf::run(ctx, &task)?,
    }
    Ok(ExitCode::SUCCESS)
}
