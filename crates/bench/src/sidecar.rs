//! The sidecar as the benchmarks run it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::Serialize;
use trace::check::{Report, check};

use super::place::{Place, program};
use tasks::background::{Background, Interrupt};

/// Its ring buffer, which the memory that it takes is shown beside.
pub(super) const RING_BUFFER_BYTES: u32 = 16 << 20;

/// A minute at full speed leaves more than the default limit of TRACE_DIR.
const DIRECTORY_LIMIT: &str = "48Gi";

/// Until what was traced is in the file: the recorder looks every 50 ms.
pub(super) const WRITTEN: Duration = Duration::from_millis(300);

const TIMEOUT: Duration = Duration::from_secs(60);

/// TRACE_DETAIL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Detail {
    /// Whole calls: duration, result, arguments
    Call,
    /// That a call began
    Entry,
}

impl Detail {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Entry => "entry",
        }
    }
}

/// Starts it on stand-ins; returns when its probes are in place.
pub(super) fn start(place: &Place, detail: Detail, interrupt: &Interrupt) -> Result<Background> {
    let settings = [
        ("TARGET_PROCESS", "standin".to_owned()),
        ("TRACE_DIR_LIMIT", DIRECTORY_LIMIT.to_owned()),
        ("RING_BUFFER_SIZE", RING_BUFFER_BYTES.to_string()),
        ("CUDA_LIBRARY_DIRS", place.libraries.display().to_string()),
    ];
    let start = Start {
        program: program("ebpf-cuda-tracer"),
        traces: &place.traces(),
        log: place.log(),
        detail,
        settings: &settings,
    };
    start.start(interrupt)
}

/// The check of a trace that is whole; an error if it is not.
pub(super) fn whole(segments: &[PathBuf]) -> Result<Report> {
    let report = check(segments);
    let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    ensure!(problems.is_empty(), "the trace is not whole: {}", problems.join("; "));
    Ok(report)
}

/// A sidecar that keeps its traces and listens nowhere.
pub(super) struct Start<'a> {
    pub(super) program: PathBuf,
    pub(super) traces: &'a Path,
    pub(super) log: PathBuf,
    pub(super) detail: Detail,
    /// What else differs from the defaults.
    pub(super) settings: &'a [(&'static str, String)],
}

impl Start<'_> {
    /// Returns when its probes are in place.
    pub(super) fn start(self, interrupt: &Interrupt) -> Result<Background> {
        let Self { program, traces, log, detail, settings } = self;
        let mut variables = vec![
            ("TRACE_DIR", traces.display().to_string()),
            ("TRACE_DETAIL", detail.name().to_owned()),
            ("UPLOAD_ENABLED", "false".to_owned()),
            ("HTTP_ADDRESS", String::new()),
        ];
        variables.extend_from_slice(settings);
        let sidecar = Background::start(program, &[], &variables, log)?;
        sidecar.wait_for_line("ready: tracing", TIMEOUT, interrupt)?;
        Ok(sidecar)
    }
}
