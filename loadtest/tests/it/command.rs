//! Runs the binary in a directory of its own and reads what it leaves there.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use loadtest::record::{Failure, RequestRecord, RunResult};
use tempfile::TempDir;

use crate::{
    reply::{MODEL, Reply},
    server::{Seen, Server},
};

/// What a finished run left behind.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) directory: TempDir,
}

/// `loadtest ARGUMENTS`, not yet started.
pub(crate) fn command(directory: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(arguments).current_dir(directory.path()).env_remove("VLLM_API_KEY");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn run(arguments: &[&str]) -> Ran {
    let directory = tempfile::tempdir().unwrap();
    let output = command(&directory, arguments).output().unwrap();
    Ran::of(output, directory)
}

/// Against a server on 127.0.0.1.
pub(crate) fn run_at(port: u16, arguments: &[&str]) -> Ran {
    run(&with_port(arguments, &port.to_string()))
}

pub(crate) fn with_port<'a>(arguments: &[&'a str], port: &'a str) -> Vec<&'a str> {
    let mut all = arguments.to_vec();
    all.extend(["--host", "127.0.0.1", "--port", port]);
    all
}

impl Ran {
    pub(crate) fn of(output: Output, directory: TempDir) -> Self {
        Self {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            directory,
        }
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    /// The one result file.
    pub(crate) fn result(&self) -> RunResult {
        let [file] = &self.files()[..] else {
            panic!("not one file: {:?}\n{}", self.files(), self.stderr)
        };
        serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
    }

    /// The record of a run of one request.
    pub(crate) fn request(&self) -> RequestRecord {
        let mut requests = self.result().requests;
        assert_eq!(requests.len(), 1);
        requests.remove(0)
    }

    /// Why the one request failed; the exit code and the report must say so too.
    pub(crate) fn failure(&self) -> Failure {
        let failure = self.request().failure.expect("the request failed");
        assert_eq!(self.code, 1, "{}", self.stderr);
        assert!(
            self.stderr.contains(&format!("request 1 failed: {}", failure.message)),
            "{}",
            self.stderr
        );
        failure
    }
}

/// One request to a server of its own.
pub(crate) fn single(
    script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    arguments: &[&str],
) -> Ran {
    let server = Server::start(script);
    run_at(server.port, &[&["single", "--model", MODEL], arguments].concat())
}

/// Runs one request and compares why it failed.
pub(crate) fn assert_fails(
    script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    arguments: &[&str],
    kind: &str,
    message: &str,
) -> Ran {
    let ran = single(script, arguments);
    let failure = ran.failure();
    assert_eq!((failure.kind.as_str(), failure.message.as_str()), (kind, message));
    ran
}
