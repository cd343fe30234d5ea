//! `cargo xtask`: every workflow of this repository as a task, after
//! <https://github.com/matklad/cargo-xtask>.

#![expect(clippy::print_stdout, reason = "what a task was asked for goes to stdout")]

mod background;
mod bench;
mod ci;
mod ctx;
mod demo;
mod doctor;
mod ebpf;
mod pins;
mod segments;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::ctx::Ctx;

/// Trace the CUDA calls of vLLM on K3s
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Verify(verify::Verify),
    #[command(subcommand)]
    Bench(bench::Bench),
    Doctor(doctor::Doctor),
    Ci(ci::Ci),
    #[command(subcommand)]
    Ebpf(ebpf::Ebpf),
}

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let ctx = &Ctx::new()?;
    match command {
        Command::Doctor(task) => return doctor::run(ctx, &task),
        Command::Demo(task) => demo::run(ctx, &task)?,
        Command::Bench(task) => bench::run(ctx, &task)?,
        Command::Verify(task) => return verify::run(&task),
        Command::Ci(task) => ci::run(ctx, &task)?,
        Command::Ebpf(task) => ebpf::run(ctx, &task)?,
    }
    Ok(ExitCode::SUCCESS)
}
