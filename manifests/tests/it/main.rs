//! Integration tests: the text that is applied, and the program that prints it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod command_line;
mod documentation;
mod podman;
mod references;
mod snapshots;
mod yaml11;
mod yaml11_reader;

use manifests::cli::Cli;
use settings::deployment::Config;

/// Settings with a bucket and these flags, whatever the environment of the tests holds.
fn config(flags: &[&str]) -> Config {
    let flags = ["--s3-bucket=traces"].iter().chain(flags);
    Cli::from_flags(flags.copied()).unwrap().config
}
