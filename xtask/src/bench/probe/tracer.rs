//! The tracers that are compared.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::{FUNCTION, Place, program, recorded::Recorded};
use crate::background::{Background, Interrupt};

/// bpftrace compiles its program first.
const PATIENCE: Duration = Duration::from_secs(60);

/// The sidecar's ring buffer, which the memory that it takes is shown beside.
pub(super) const RING_BUFFER_BYTES: u32 = 16 << 20;

/// Long enough for more lines than bpftrace holds back before it writes.
const TRIAL_SECONDS: f64 = 0.05;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tracer {
    None,
    /// A program of two instructions at the place where ours goes: the floor.
    Empty,
    /// The sidecar, which writes JSON lines.
    Ours,
    /// One entry probe that prints the same JSON line.
    Bpftrace,
}

impl Tracer {
    pub(super) const ALL: [Self; 4] = [Self::None, Self::Empty, Self::Ours, Self::Bpftrace];

    /// Returns when its probe is in place.
    pub(super) fn start(self, place: &Place, interrupt: &Interrupt) -> Result<Running> {
        place.clear()?;
        let log = place.output.join("log");
        let (process, trials) = match self {
            Self::None => (None, 0),
            Self::Empty => {
                let library = place.library()?.display().to_string();
                let probe = Background::start(
                    program("examples/empty_probe"),
                    &[&library, FUNCTION],
                    &[],
                    log,
                )?;
                probe.wait_for_line("attached", PATIENCE, interrupt)?;
                (Some(probe), 0)
            }
            Self::Ours => (Some(start_sidecar(place, interrupt)?), 0),
            Self::Bpftrace => {
                let library = place.library()?.display().to_string();
                let script = place.output.join("script.bt");
                fs::write(&script, bpftrace_script(&library)).context("cannot write the script")?;
                let script = script.display().to_string();
                let output = place.bpftrace_output().display().to_string();
                let bpftrace = Background::start(
                    PathBuf::from("bpftrace"),
                    &["-o", &output, &script],
                    &[],
                    log,
                )?;
                let trials = call_until_traced(place, interrupt)?;
                (Some(bpftrace), trials)
            }
        };
        Ok(Running { tracer: self, process, trials })
    }
}

/// bpftrace says that it attaches before it does, so its first lines are the sign. Returns how many
/// calls that took.
fn call_until_traced(place: &Place, interrupt: &Interrupt) -> Result<u64> {
    let output = place.bpftrace_output();
    let deadline = Instant::now() + PATIENCE;
    let mut trials = 0;
    while !output.exists() || Recorded::by_bpftrace(&output)?.lines == 0 {
        ensure!(
            Instant::now() < deadline,
            "bpftrace recorded none of {trials} calls in {PATIENCE:?}; its log is {}",
            place.output.join("log").display()
        );
        trials += place.call(TRIAL_SECONDS)?.calls;
        interrupt.sleep(Duration::from_millis(200))?;
    }
    Ok(trials)
}

/// A tracer at work.
pub(super) struct Running {
    tracer: Tracer,
    process: Option<Background>,
    /// Calls before the measurement, of which it may have seen a part.
    trials: u64,
}

impl Running {
    /// Stops it, and fails unless it has recorded the `calls` that were measured. Returns how many
    /// of them it says it has lost.
    pub(super) fn stop(self, place: &Place, calls: u64) -> Result<u64> {
        let Self { tracer, process, trials } = self;
        if let Some(process) = process {
            process.stop(Duration::from_secs(60))?;
        }
        let (recorded, output) = match tracer {
            // They record nothing.
            Tracer::None | Tracer::Empty => return Ok(0),
            Tracer::Ours => {
                let traces = place.traces();
                (Recorded::by_sidecar(&traces)?, traces)
            }
            Tracer::Bpftrace => {
                let output = place.bpftrace_output();
                (Recorded::by_bpftrace(&output)?, output)
            }
        };
        recorded.agrees_with(calls, trials, &output)?;
        Ok(recorded.lost)
    }
}

pub(super) fn start_sidecar(place: &Place, interrupt: &Interrupt) -> Result<Background> {
    let variables = [
        ("TARGET_PROCESS", "standin".to_owned()),
        ("TRACE_DIR", place.traces().display().to_string()),
        // What bpftrace and the empty program are compared with has no return probe either.
        ("TRACE_DETAIL", "entry".to_owned()),
        ("RING_BUFFER_SIZE", RING_BUFFER_BYTES.to_string()),
        ("UPLOAD_ENABLED", "false".to_owned()),
        ("HTTP_ADDRESS", String::new()),
        ("CUDA_LIBRARY_DIRS", place.libraries.display().to_string()),
    ];
    let log = place.output.join("log");
    let sidecar = Background::start(program("ebpf-cuda-tracer"), &[], &variables, log)?;
    sidecar.wait_for_line("ready: tracing", PATIENCE, interrupt)?;
    Ok(sidecar)
}

/// The line of the document that this project grew from.
fn bpftrace_script(library: &str) -> String {
    format!(
        "uprobe:{library}:{FUNCTION} {{ printf(\"{{\\\"ts\\\":%llu.%03llu,\\\"pid\\\":%d,\
         \\\"type\\\":\\\"cuda_api\\\",\\\"func\\\":\\\"{FUNCTION}\\\",\\\"phase\\\":\\\"entry\\\"}}\\n\", \
         elapsed/1000000, (elapsed/1000)%1000, pid); }}\n"
    )
}
