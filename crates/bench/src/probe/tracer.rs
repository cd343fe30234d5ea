//! The tracers that are compared.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::{Call, recorded::Recorded};
use tasks::background::{Background, Interrupt};

use crate::{
    bpftrace,
    place::{Place, program},
    sidecar::{self, Detail},
};

/// bpftrace compiles its program first.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Long enough for more lines than bpftrace holds back before it writes.
const TRIAL_SECONDS: f64 = 0.05;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tracer {
    None,
    /// A program of two instructions at the place where ours goes: the floor.
    Empty,
    /// The same at the return too: the floor for whole calls.
    TwoEmpty,
    /// The sidecar, which writes JSON lines, with TRACE_DETAIL=entry.
    Entry,
    /// With TRACE_DETAIL=call.
    Call,
    /// One entry probe that prints the same JSON line.
    BpftraceEntry,
    /// Entry and return probe that print one JSON line with the duration.
    BpftraceCall,
}

impl Tracer {
    pub(super) const ALL: [Self; 7] = [
        Self::None,
        Self::Empty,
        Self::TwoEmpty,
        Self::Entry,
        Self::Call,
        Self::BpftraceEntry,
        Self::BpftraceCall,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::None => "no probe",
            Self::Empty => "empty",
            Self::TwoEmpty => "two empty",
            Self::Entry => "ours, entry",
            Self::Call => "ours, call",
            Self::BpftraceEntry => "bpftrace, entry",
            Self::BpftraceCall => "bpftrace, call",
        }
    }

    pub(super) fn is_bpftrace(self) -> bool {
        matches!(self, Self::BpftraceEntry | Self::BpftraceCall)
    }

    /// Returns when its probes are in place.
    pub(super) fn start(self, place: &Place, call: Call, interrupt: &Interrupt) -> Result<Running> {
        place.clear()?;
        let (process, trials) = match self {
            Self::None => (None, 0),
            Self::Empty => (Some(start_empty(place, call, Detail::Entry, interrupt)?), 0),
            Self::TwoEmpty => (Some(start_empty(place, call, Detail::Call, interrupt)?), 0),
            Self::Entry => (Some(sidecar::start(place, Detail::Entry, interrupt)?), 0),
            Self::Call => (Some(sidecar::start(place, Detail::Call, interrupt)?), 0),
            Self::BpftraceEntry => start_bpftrace(bpftrace::entry_probe, place, call, interrupt)?,
            Self::BpftraceCall => start_bpftrace(bpftrace::call_probes, place, call, interrupt)?,
        };
        Ok(Running { tracer: self, function: call.function(), process, trials })
    }
}

/// bpftrace with the script that `script` makes of a library, a type of lines and a function, and
/// how many calls were made until it traced one.
fn start_bpftrace(
    script: fn(&str, &str, &str) -> String,
    place: &Place,
    call: Call,
    interrupt: &Interrupt,
) -> Result<(Option<Background>, u64)> {
    let bpftrace = bpftrace::start(
        PathBuf::from("bpftrace"),
        &script(&place.library()?, "cuda_api", call.function()),
        &place.output.join("script.bt"),
        &place.bpftrace_output(),
        place.log(),
    )?;
    let trials = call_until_traced(place, call, interrupt)?;
    Ok((Some(bpftrace), trials))
}

fn start_empty(
    place: &Place,
    call: Call,
    detail: Detail,
    interrupt: &Interrupt,
) -> Result<Background> {
    let arguments = [detail.name(), call.function(), &place.library()?];
    let probe = Background::start(program("examples/empty_probe"), &arguments, &[], place.log())?;
    probe.wait_for_line("attached", TIMEOUT, interrupt)?;
    Ok(probe)
}

/// bpftrace says that it attaches before it does, so its first lines are the sign. Returns how many
/// calls that took.
fn call_until_traced(place: &Place, call: Call, interrupt: &Interrupt) -> Result<u64> {
    let output = place.bpftrace_output();
    let deadline = Instant::now() + TIMEOUT;
    let mut trials = 0;
    while !output.exists() || Recorded::by_bpftrace(&output)?.lines == 0 {
        ensure!(
            Instant::now() < deadline,
            "bpftrace recorded none of {trials} calls in {TIMEOUT:?}; its log is {}",
            place.log().display()
        );
        trials += place.call(call.work(TRIAL_SECONDS))?.made;
        interrupt.sleep(Duration::from_millis(200))?;
    }
    Ok(trials)
}

/// A tracer at work.
pub(super) struct Running {
    tracer: Tracer,
    function: &'static str,
    process: Option<Background>,
    /// Calls before the measurement, of which it may have seen a part.
    trials: u64,
}

impl Running {
    /// Stops it, and fails unless it has recorded the `calls` that were measured. Returns how many
    /// of them it says it has lost.
    pub(super) fn stop(self, place: &Place, calls: u64) -> Result<u64> {
        let Self { tracer, function, process, trials } = self;
        if let Some(process) = process {
            process.stop(Duration::from_secs(60))?;
        }
        let (recorded, output) = match tracer {
            // They record nothing.
            Tracer::None | Tracer::Empty | Tracer::TwoEmpty => return Ok(0),
            Tracer::Entry | Tracer::Call => {
                let traces = place.traces();
                (Recorded::by_sidecar(&traces, function)?, traces)
            }
            Tracer::BpftraceEntry | Tracer::BpftraceCall => {
                let output = place.bpftrace_output();
                (Recorded::by_bpftrace(&output)?, output)
            }
        };
        recorded.agrees_with(calls, trials, &output)?;
        Ok(recorded.lost)
    }
}
