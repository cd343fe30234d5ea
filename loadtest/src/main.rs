//! `loadtest`: parse, plan, run, and say by the exit code how it went.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use loadtest::{
    app::{self, Outcome},
    cli::Cli,
    plan::Plan,
};

const USAGE: u8 = 2;
const MARKED: u8 = 3;

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
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Ok(Outcome::Marked) => ExitCode::from(MARKED),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
