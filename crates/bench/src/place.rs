//! Where a measurement takes place: libraries of one kind, room for what tracers write, and the
//! caller.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tasks::ctx::{Ctx, as_from_shell, program_directory, workspace_root};
use xshell::{Shell, cmd};

use testbed::counts;

/// Timings of anything but a release build would mislead.
pub(super) fn build(ctx: &Ctx) -> Result<()> {
    let sh = &ctx.sh;
    as_from_shell(cmd!(
        sh,
        "cargo build --locked --release --package sidecar --package testbed --bins --examples"
    ))
    .run()
    .context("cannot build what is measured")
}

pub(super) fn program(name: &str) -> PathBuf {
    program_directory("release").join(name)
}

/// Beside what is measured; returns the path.
pub(super) fn write_results(name: &str, results: &impl Serialize) -> Result<PathBuf> {
    let path = directory().join(format!("{name}.json"));
    fs::write(&path, serde_json::to_string_pretty(results)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn directory() -> PathBuf {
    workspace_root().join("target/bench")
}

pub(super) struct Place {
    pub(super) libraries: PathBuf,
    pub(super) output: PathBuf,
}

/// What is called, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work<'a> {
    /// Called in turn.
    pub(super) functions: &'a [&'a str],
    /// With arguments that make them succeed, instead of zeros.
    pub(super) valid: bool,
    pub(super) seconds: f64,
    pub(super) threads: u32,
}

/// What the caller says of a measurement.
#[derive(Debug, Deserialize)]
pub(super) struct Calls {
    #[serde(rename = "calls")]
    pub(super) made: u64,
    pub(super) seconds: f64,
    pub(super) ns_per_call: f64,
}

impl Place {
    /// `driver` names the kind of prologue.
    pub(super) fn create(sh: &Shell, bench: &str, driver: &str) -> Result<Self> {
        let root = directory().join(bench);
        let place = Self { libraries: root.join(driver), output: root.join("output") };
        let (installer, libraries) = (program("standin-libraries"), &place.libraries);
        cmd!(sh, "{installer} {libraries} --driver {driver}").quiet().ignore_stdout().run()?;
        place.clear()?;
        Ok(place)
    }

    pub(super) fn clear(&self) -> Result<()> {
        if self.output.exists() {
            fs::remove_dir_all(&self.output).context("cannot remove the last measurement")?;
        }
        for directory in [self.traces(), self.counts()] {
            fs::create_dir_all(directory).context("cannot create a directory")?;
        }
        Ok(())
    }

    /// What the sidecar writes.
    pub(super) fn traces(&self) -> PathBuf {
        self.output.join("traces")
    }

    /// What the called libraries counted.
    pub(super) fn counts(&self) -> PathBuf {
        self.output.join("counts")
    }

    pub(super) fn bpftrace_output(&self) -> PathBuf {
        self.output.join("bpftrace.jsonl")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.output.join("log")
    }

    /// The driver's file, not the link to it.
    pub(super) fn library(&self) -> Result<String> {
        let link = self.libraries.join("libcuda.so.1");
        let path =
            fs::canonicalize(&link).with_context(|| format!("cannot find {}", link.display()))?;
        Ok(path.display().to_string())
    }

    pub(super) fn call(&self, work: Work<'_>) -> Result<Calls> {
        let sh = Shell::new()?;
        let Work { functions, valid, seconds, threads } = work;
        let functions = functions.iter().flat_map(|name| ["--function", name]);
        let arguments = if valid { "valid" } else { "zero" };
        let (seconds, threads) = (seconds.to_string(), threads.to_string());
        let caller = program("standin-caller");
        let command = cmd!(
            sh,
            "{caller} {functions...} --arguments {arguments} --seconds {seconds} --threads {threads}"
        );
        let text = command
            .env("LD_LIBRARY_PATH", &self.libraries)
            .env(counts::DIRECTORY_VARIABLE, self.counts())
            .quiet()
            .read()?;
        serde_json::from_str(&text).context("the caller prints one JSON line")
    }
}

/// Bytes of all files.
pub(super) fn bytes(files: &[PathBuf]) -> u64 {
    let length = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    files.iter().map(|path| length(path)).sum()
}
