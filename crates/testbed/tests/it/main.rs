//! Integration tests: the stand-ins as their users meet them, as files and processes.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

mod caller;
mod http;
mod libraries;
mod s3;
mod signed;
mod vllm;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use testbed::counts::{self, Counts};
use testbed::libraries::{Driver, Installed, install};

/// Installed libraries and a place for their counts, gone with the test.
struct Bench {
    folder: TempDir,
    installed: Installed,
}

impl Bench {
    fn new(driver: Driver) -> Self {
        let folder = TempDir::new().unwrap();
        let installed = install(&folder.path().join("lib"), driver).unwrap();
        std::fs::create_dir(folder.path().join("counts")).unwrap();
        Self { folder, installed }
    }

    fn counts_directory(&self) -> std::path::PathBuf {
        self.folder.path().join("counts")
    }

    /// A program that finds the libraries through the loader and reports its calls.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env("LD_LIBRARY_PATH", &self.installed.directory)
            .env(counts::DIRECTORY_VARIABLE, self.counts_directory())
            .env_remove("RUST_BACKTRACE");
        command
    }

    fn call(&self, arguments: &[&str]) -> Vec<Value> {
        let output =
            self.command(env!("CARGO_BIN_EXE_standin-caller")).args(arguments).output().unwrap();
        lines(&output)
    }

    fn counts(&self) -> Vec<Counts> {
        counts::read(&self.counts_directory()).unwrap()
    }

    /// The only report of a library.
    fn counts_of(&self, library: &str) -> Counts {
        let mut found: Vec<Counts> =
            self.counts().into_iter().filter(|counts| counts.library == library).collect();
        assert_eq!(found.len(), 1, "one report of {library}: {found:?}");
        found.remove(0)
    }
}

/// The JSON lines that a program which must succeed printed.
fn lines(output: &Output) -> Vec<Value> {
    assert!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asks a child to end, as Kubernetes does.
fn terminate(child: &std::process::Child) {
    // SAFETY: the child has not been waited for, so its pid is its own.
    assert_eq!(unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) }, 0);
}
