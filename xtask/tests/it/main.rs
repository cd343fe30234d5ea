//! Runs the binary as `cargo xtask` does.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking; helpers are not `#[test]` functions"
)]

mod all;
mod analyze;
mod build;
mod demo;
mod deploy;
mod destroy;
mod doctor;
mod documentation;
mod dry_run;
mod ebpf;
mod help;
mod install;
mod objects;
mod planted;
mod readme;
mod scripted;
mod secrets;
mod status;
mod test;
mod uninstall;
mod verify;
mod verify_cluster;

use std::process::{Command, Output};

/// The binary with its output captured; a test adds arguments.
fn xtask() -> Command {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
