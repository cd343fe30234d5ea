//! `loadtest`: parse, plan, run, and say by the exit code how it went.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use loadtest::{app, cli::Cli, plan::Plan};

const USAGE: u8 = 2;

fn main() -> ExitCode {
    let plan = match Plan::new(Cli::parse().command) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(USAGE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(app::execute(plan));
    // A name lookup that hangs runs in a thread of its own and must not keep the process.
    runtime.shutdown_background();
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
