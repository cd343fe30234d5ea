//! The tracers that are compared under a load: what they are started with, and what they took.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde::Serialize;
use trace::segments::segments;

use super::{
    usage::{mapped, processor_seconds},
    written::written,
};
use tasks::background::{Background, Interrupt};

use crate::{
    bpftrace,
    probe::Recorded,
    sidecar::{self, Detail, WRITTEN, whole},
};

/// Attaching takes tenths of a second; bpftrace compiles first.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tracer {
    /// No tracer: what the others are compared with
    None,
    /// The sidecar with its default settings: whole calls
    Call,
    /// The sidecar with TRACE_DETAIL=entry
    Entry,
    /// Programs of two instructions at entry and return of the default set: the floor
    TwoEmpty,
    /// One JSON line for each of 31 functions' entry, by bpftrace
    Bpftrace,
}

/// The functions that the document which this project grew from traces.
const DRIVER_FUNCTIONS: [&str; 18] = [
    "cuInit",
    "cuDeviceGet",
    "cuCtxCreate_v2",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemcpyHtoD_v2",
    "cuMemcpyDtoH_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyAsync",
    "cuLaunchKernel",
    "cuLaunchKernelEx",
    "cuGraphLaunch",
    "cuStreamSynchronize",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuCtxSynchronize",
    "cuMemsetD8Async",
];

const RUNTIME_FUNCTIONS: [&str; 13] = [
    "cudaMalloc",
    "cudaFree",
    "cudaMemcpy",
    "cudaMemcpyAsync",
    "cudaLaunchKernel",
    "cudaLaunchKernelExC",
    "cudaGraphLaunch",
    "cudaStreamSynchronize",
    "cudaEventRecord",
    "cudaEventRecordWithFlags",
    "cudaEventSynchronize",
    "cudaDeviceSynchronize",
    "cudaMemsetAsync",
];

/// Where programs are, and where a tracer writes.
pub(super) struct Place {
    pub(super) sidecar: PathBuf,
    pub(super) empty_probe: PathBuf,
    pub(super) bpftrace: PathBuf,
    pub(super) traces: PathBuf,
    pub(super) logs: PathBuf,
}

pub(super) struct Running {
    process: Background,
    traces: PathBuf,
    /// Whether it writes down what it sees.
    records: bool,
}

/// So far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    pub(super) processor_seconds: f64,
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

impl Tracer {
    /// What it runs.
    pub(super) fn program(self, place: &Place) -> Option<&Path> {
        match self {
            Self::None => None,
            Self::Call | Self::Entry => Some(&place.sidecar),
            Self::TwoEmpty => Some(&place.empty_probe),
            Self::Bpftrace => Some(&place.bpftrace),
        }
    }

    /// Starts it into an empty directory; `engine` is a process that has mapped the libraries.
    pub(super) fn start(
        self,
        place: &Place,
        engine: u32,
        interrupt: &Interrupt,
    ) -> Result<Option<Running>> {
        let detail = match self {
            Self::None => return Ok(None),
            Self::Bpftrace => return start_bpftrace(place, engine).map(Some),
            Self::TwoEmpty => return start_empty(place, engine, interrupt).map(Some),
            Self::Call => Detail::Call,
            Self::Entry => Detail::Entry,
        };
        start_sidecar(place, detail, 60.0, interrupt).map(Some)
    }

    /// Events that it says it has lost, once it was stopped.
    pub(super) fn lost(self, place: &Place) -> Result<u64> {
        match self {
            Self::None | Self::TwoEmpty => Ok(0),
            Self::Call | Self::Entry => Ok(whole(&segments(&place.traces)?)?.dropped),
            Self::Bpftrace => Ok(Recorded::by_bpftrace(&place.traces.join("bpftrace.jsonl"))?.lost),
        }
    }
}

/// `interval` is that between rotations.
pub(super) fn start_sidecar(
    place: &Place,
    detail: Detail,
    interval: f64,
    interrupt: &Interrupt,
) -> Result<Running> {
    empty(&place.traces)?;
    let settings =
        [("TARGET_PROCESS", "python".to_owned()), ("TRACE_INTERVAL", interval.to_string())];
    let start = sidecar::Start {
        program: place.sidecar.clone(),
        traces: &place.traces,
        log: place.logs.join("sidecar.log"),
        detail,
        settings: &settings,
    };
    Ok(Running { process: start.start(interrupt)?, traces: place.traces.clone(), records: true })
}

/// Its probes are in place when [`Running::until_at_work`] returns.
fn start_bpftrace(place: &Place, engine: u32) -> Result<Running> {
    empty(&place.traces)?;
    let process = bpftrace::start(
        place.bpftrace.clone(),
        &script(&mapped(engine, "libcuda.so")?, &mapped(engine, "libcudart.so")?),
        &place.logs.join("script.bt"),
        &place.traces.join("bpftrace.jsonl"),
        place.logs.join("bpftrace.log"),
    )?;
    Ok(Running { process, traces: place.traces.clone(), records: true })
}

/// In the driver and the runtime that the engine calls; returns when the probes are in place.
fn start_empty(place: &Place, engine: u32, interrupt: &Interrupt) -> Result<Running> {
    empty(&place.traces)?;
    let [driver, runtime] = [mapped(engine, "libcuda.so")?, mapped(engine, "libcudart.so")?];
    let process = Background::start(
        place.empty_probe.clone(),
        &["call", "default", &driver.to_string_lossy(), &runtime.to_string_lossy()],
        &[],
        place.logs.join("empty.log"),
    )?;
    process.wait_for_line("attached", TIMEOUT, interrupt)?;
    Ok(Running { process, traces: place.traces.clone(), records: false })
}

impl Running {
    /// Loads, and goes on until the first lines are there if there will be any: the sign that all
    /// probes are.
    pub(super) fn until_at_work(
        &self,
        mut load: impl FnMut() -> Result<()>,
        interrupt: &Interrupt,
    ) -> Result<Took> {
        let deadline = Instant::now() + TIMEOUT;
        let mut loads = 0;
        loop {
            load()?;
            loads += 1;
            self.process.check()?;
            let took = self.took(interrupt)?;
            if took.lines > 0 || !self.records {
                return Ok(took);
            }
            ensure!(
                Instant::now() < deadline,
                "nothing of {loads} loads in {TIMEOUT:?} was recorded in {}: the log of the \
                 tracer, beside that directory, may say why",
                self.traces.display()
            );
        }
    }

    pub(super) fn took(&self, interrupt: &Interrupt) -> Result<Took> {
        interrupt.sleep(WRITTEN)?;
        let (lines, bytes) = written(&self.traces)?;
        Ok(Took { processor_seconds: processor_seconds(&[self.process.pid()])?, lines, bytes })
    }

    pub(super) fn stop(self) -> Result<()> {
        self.process.stop(TIMEOUT)
    }
}

fn empty(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))
}

fn script(driver: &Path, runtime: &Path) -> String {
    let of = |library: &Path, kind: &'static str, functions: &'static [&str]| {
        let library = library.display().to_string();
        functions.iter().map(move |name| bpftrace::entry_probe(&library, kind, name))
    };
    of(driver, "cuda_api", &DRIVER_FUNCTIONS)
        .chain(of(runtime, "cuda_runtime", &RUNTIME_FUNCTIONS))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bpftrace_probes_the_functions_of_both_libraries() {
        let script = script(Path::new("/lib/libcuda.so.1"), Path::new("/lib/libcudart.so.13"));
        assert_eq!(script.lines().count(), 31);
        assert!(script.starts_with("uprobe:/lib/libcuda.so.1:cuInit {"));
        assert!(script.contains("uprobe:/lib/libcudart.so.13:cudaMemsetAsync {"));
    }

    #[test]
    fn it_is_loaded_until_it_records_and_told_of_when_it_ends_instead() {
        let directory = tempfile::tempdir().unwrap();
        let traces = directory.path().join("traces");
        fs::create_dir(&traces).unwrap();
        let interrupt = Interrupt::watch().unwrap();
        let tracer = |program: &str, arguments: &[&str]| Running {
            process: Background::start(
                program.into(),
                arguments,
                &[],
                directory.path().join("log"),
            )
            .unwrap(),
            traces: traces.clone(),
            records: true,
        };
        let mut loads = 0;
        let mut load = || {
            loads += 1;
            fs::write(traces.join("a"), if loads < 3 { "Attaching\n" } else { "{}\n" })?;
            Ok(())
        };
        let took = tracer("sleep", &["60"]).until_at_work(&mut load, &interrupt).unwrap();
        assert_eq!((took.lines, loads), (1, 3));
        fs::remove_file(traces.join("a")).unwrap();
        let error = tracer("false", &[]).until_at_work(|| Ok(()), &interrupt).unwrap_err();
        assert!(error.to_string().contains("false ended with"), "{error:#}");
    }
}
