//! The tracers that are compared.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{FUNCTION, Place, program};
use crate::background::{Background, Interrupt};

/// bpftrace compiles its program first.
const PATIENCE: Duration = Duration::from_secs(60);

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
    pub(super) fn start(self, place: &Place, interrupt: &Interrupt) -> Result<Option<Background>> {
        place.clear()?;
        let log = place.output.join("log");
        match self {
            Self::None => Ok(None),
            Self::Empty => {
                let library = place.library()?.display().to_string();
                let probe = Background::start(
                    program("examples/empty_probe"),
                    &[&library, FUNCTION],
                    &[],
                    log,
                )?;
                probe.wait_for_line("attached", PATIENCE, interrupt)?;
                Ok(Some(probe))
            }
            Self::Ours => start_sidecar(place, interrupt).map(Some),
            Self::Bpftrace => {
                let library = place.library()?.display().to_string();
                let script = place.output.join("script.bt");
                fs::write(&script, bpftrace_script(&library)).context("cannot write the script")?;
                let script = script.display().to_string();
                let output = place.output.join("bpftrace.jsonl").display().to_string();
                let bpftrace = Background::start(
                    PathBuf::from("bpftrace"),
                    &["-o", &output, &script],
                    &[],
                    log,
                )?;
                // It says so before it attaches.
                interrupt.sleep(Duration::from_secs(3))?;
                Ok(Some(bpftrace))
            }
        }
    }
}

pub(super) fn start_sidecar(place: &Place, interrupt: &Interrupt) -> Result<Background> {
    let variables = [
        ("TARGET_PROCESS", "standin".to_owned()),
        ("TRACE_DIR", place.output.join("traces").display().to_string()),
        ("UPLOAD_ENABLED", "false".to_owned()),
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
