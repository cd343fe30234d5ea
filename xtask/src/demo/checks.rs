//! `cargo xtask verify --demo`: is the sidecar running, vLLM discovered, a trace written, and uploaded?

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use trace::{
    check,
    line::{Line, Meta, Process},
    reader::Reader,
    segments::segments,
};

use super::{
    comparison::Comparison,
    files::{Files, State, USUAL, directory, process_runs},
    store,
};
use tasks::{background::Interrupt, command::Command};

use crate::cluster::{
    tracer::Status,
    verify::{Check, print},
};

/// How long uploads may take to show: a few upload intervals of the demo.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Prints the checks of the demo in `out`, and returns whether all have passed.
pub(crate) fn verify(out: Option<&Path>, json: bool) -> Result<bool> {
    let files = Files::open(directory(out, USUAL)?);
    let state = State::read(files.root())?;
    let mut checks = if sidecar_runs(&state) {
        four_checks(&files, &state)
    } else {
        let mut checks = four_checks(&files, &state);
        // A demo that has ended has no sidecar any more; its trace says how it ended.
        checks[0] = ended_in_order(&files)?;
        checks
    };
    if files.comparison().exists() {
        checks.push(counts_agree(&files)?);
    }
    let passed = checks.iter().all(|check| check.passed);
    if json {
        println!("{}", serde_json::json!({ "passed": passed, "checks": checks }));
    } else {
        print(&checks);
    }
    Ok(passed)
}

/// Repeats the checks until they pass: discovery and uploads take a moment.
pub(super) fn wait_until_passed(
    files: &Files,
    look: impl Fn() -> Vec<Check>,
    interrupt: &Interrupt,
) -> Result<Vec<Check>> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let checks = look();
        if checks.iter().all(|check| check.passed) {
            return Ok(checks);
        }
        if Instant::now() > deadline {
            print(&checks);
            bail!(
                "traces are not captured and uploaded; the logs are in {}",
                files.root().join("logs").display()
            );
        }
        interrupt.sleep(Duration::from_millis(500))?;
    }
}

pub(super) fn four_checks(files: &Files, state: &State) -> Vec<Check> {
    // The store is asked first, so that all checks speak of the same moment.
    let uploads = uploads_work(files, state);
    vec![
        sidecar_is_running(files, state),
        vllm_is_discovered(files, state),
        trace_files_exist(files),
        uploads,
    ]
}

fn sidecar_is_running(files: &Files, state: &State) -> Check {
    let name = "sidecar is running";
    let pid = state.sidecar;
    if !sidecar_runs(state) {
        return Check { name, passed: false, detail: format!("pid {pid} is gone") };
    }
    match phase(files, state) {
        Ok(phase) => {
            Check { name, passed: phase == "recording", detail: format!("pid {pid}, {phase}") }
        }
        Err(error) => Check { name, passed: false, detail: format!("pid {pid}: {error:#}") },
    }
}

/// What the sidecar says that it does.
fn phase(files: &Files, state: &State) -> Result<String> {
    let ask = Command::new("").path(&files.tracer()).words("status --json --http-address");
    Ok(Status::read(&ask.arg(&state.sidecar_http))?.phase)
}

fn sidecar_runs(state: &State) -> bool {
    process_runs(state.sidecar, "ebpf-cuda-tracer")
}

/// The engine, a child of the API server, is what calls CUDA.
fn vllm_is_discovered(files: &Files, state: &State) -> Check {
    let name = "vLLM process is discovered";
    let engine =
        processes(files).into_iter().find(|(_, process)| process.parent == Some(state.vllm));
    match engine {
        Some((pid, process)) => {
            let title = process.command.or(process.comm).unwrap_or_default();
            let role = process.role.unwrap_or_else(|| "of unknown role".to_owned());
            let detail = format!("pid {pid}, {title:?}, {role}, matched by {}", process.matched_by);
            Check { name, passed: true, detail }
        }
        None => Check {
            name,
            passed: false,
            detail: format!("no child of pid {} in the trace", state.vllm),
        },
    }
}

/// What the traces say so far; the segment that is being written may end in half a line.
fn processes(files: &Files) -> Vec<(u32, Process)> {
    let open =
        fs::read_dir(files.traces()).into_iter().flatten().flatten().map(|entry| entry.path());
    let downloaded = segments(&files.downloaded()).unwrap_or_default();
    let stored = segments(&files.s3()).unwrap_or_default();
    open.chain(stored)
        .chain(downloaded)
        .filter_map(|path| Reader::open(&path).ok())
        .flatten()
        .filter_map(|line| match line {
            Ok(Line::Meta(line)) => match line.meta {
                Meta::Process(process) => Some((line.pid, process)),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

fn trace_files_exist(files: &Files) -> Check {
    let waiting = fs::read_dir(files.traces()).into_iter().flatten().flatten();
    let waiting = waiting.filter(|entry| entry.file_name().to_string_lossy().starts_with("trace_"));
    let (mut count, mut bytes) = (0, 0);
    for entry in waiting {
        count += 1;
        bytes += entry.metadata().map_or(0, |metadata| metadata.len());
    }
    let uploaded = segments(&files.downloaded()).unwrap_or_default().len();
    let detail = format!("{count} in TRACE_DIR ({bytes} bytes), {uploaded} uploaded");
    Check { name: "trace files are created", passed: count + uploaded > 0, detail }
}

/// Asks the store itself, by its protocol; of a demo that has ended, what was downloaded.
fn uploads_work(files: &Files, state: &State) -> Check {
    let name = "S3 uploads work";
    if sidecar_runs(state)
        // That nothing is there yet is what the check tells.
        && let Err(error) = store::fetch(files, &state.endpoint, "error").read()
    {
        return Check { name, passed: false, detail: format!("{error:#}") };
    }
    let objects = segments(&files.downloaded()).unwrap_or_default();
    let calls = check::check(&objects).calls;
    let detail = format!("{} objects with {calls} calls", objects.len());
    Check { name, passed: calls > 0, detail }
}

fn ended_in_order(files: &Files) -> Result<Check> {
    let report = check::check(&segments(&files.downloaded())?);
    let passed = !report.runs.is_empty() && report.runs.iter().all(|run| run.ended);
    let detail = format!("{} runs, {} problems", report.runs.len(), report.problems.len());
    Ok(Check { name: "sidecar ended in order", passed, detail })
}

fn counts_agree(files: &Files) -> Result<Check> {
    let comparison = Comparison::of(files)?;
    let passed = comparison.verdict().is_ok();
    let detail = format!(
        "{} calls of {} functions, {} dropped",
        comparison.trace.calls,
        comparison.functions.len(),
        comparison.trace.dropped
    );
    Ok(Check { name: "trace and callees agree", passed, detail })
}
