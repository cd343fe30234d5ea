//! Runs the binary as `cargo xtask` does.

mod doctor;
mod ebpf;
mod help;
mod readme;
mod verify;

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
