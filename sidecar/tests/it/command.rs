//! Runs the sidecar's binary with an environment of its own.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

pub(crate) const BUCKET: &str = "traces";

pub(crate) fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_ebpf-cuda-tracer").into()
}

/// Without the variables of whoever runs the tests, and without looking for the role of an
/// instance.
pub(crate) fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_MAX_ATTEMPTS", "1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command
}

pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn run(mut command: Command) -> Ran {
    let Output { status, stdout, stderr } = command.output().unwrap();
    Ran {
        code: status.code().unwrap(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// The sidecar with these arguments and variables.
pub(crate) fn sidecar(arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = clean(&binary());
    command.args(arguments).envs(variables.iter().copied());
    run(command)
}

/// `fetch` from a store whose credentials are those of the stand-in.
pub(crate) fn fetch(endpoint: &str, out: &Path, variables: &[(&str, &str)]) -> Ran {
    let mut command = clean(&binary());
    command
        .args(["fetch", "--out"])
        .arg(out)
        .env("S3_BUCKET", BUCKET)
        .env("S3_ENDPOINT", endpoint)
        .env("AWS_ACCESS_KEY_ID", testbed::s3::ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", testbed::s3::SECRET_KEY)
        .envs(variables.iter().copied());
    run(command)
}
