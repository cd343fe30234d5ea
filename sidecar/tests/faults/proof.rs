//! That nothing is lost: what was closed is stored as it was closed, the trace balances, and its hits
//! are the calls that the libraries counted.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use trace::check::{Problem, Report, check};

use crate::{
    case::{Ended, Outcome},
    harness::{default_set, segments_in},
    stage::Stage,
};

/// In lines that are no calls.
const TYPE_META: &[u8] = b"\"type\":\"meta\"";

/// What a case cannot have whole.
#[expect(clippy::struct_excessive_bools, reason = "each is an allowance of its own")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// The sidecar was killed: its last segments are cut, and its counters are gone.
    pub(crate) crashes: bool,
    /// A target was killed, and so has counted nothing.
    pub(crate) uncounted_calls: bool,
    /// Calls may be dropped, if they are counted.
    pub(crate) drops: bool,
    /// Closed segments may wait on disk instead of in the store.
    pub(crate) waiting: bool,
    /// The case has deleted the open segment: the check must miss exactly what was in it.
    pub(crate) deletions: bool,
}

/// Adds the proof to what a case has found, after the last sidecar has ended.
pub(crate) fn prove(stage: &Stage, allowed: Allowed, mut outcome: Outcome) -> Ended {
    outcome.peak_kib = outcome.peak_kib.max(stage.peak_kib);
    let (mut files, deleted) = compare_segments(stage, allowed, &mut outcome);
    files.sort();
    let report = check(&files);
    let is_allowed = |problem: &Problem| match problem {
        Problem::Truncated { .. } | Problem::NotEnded { .. } => allowed.crashes,
        // The kill came between making the file and its first line.
        Problem::NoOpening { file } => allowed.crashes && has_only_a_closing_line(file),
        Problem::MissingSegments { .. } | Problem::Unbalanced { .. } => deleted > 0,
        _ => false,
    };
    let problems = report.problems.iter().filter(|problem| !is_allowed(problem));
    outcome.problems.extend(problems.map(ToString::to_string));
    if report.dropped > 0 {
        let text = format!(
            "{} of {} calls dropped and counted",
            report.dropped,
            report.calls + report.dropped
        );
        if allowed.drops { outcome.notes.push(text) } else { outcome.problems.push(text) }
    }
    if deleted > 0 {
        let hits: u64 = report.functions.values().map(|total| total.hits).sum();
        let text = format!("{deleted} calls were deleted by the case, and are missed by the check");
        let missed = hits.saturating_sub(report.calls + report.dropped);
        if missed == deleted {
            outcome.notes.push(text);
        } else {
            outcome.lost += missed.abs_diff(deleted);
            outcome.problems.push(format!("{text}, but {missed} are missing"));
        }
    }
    if report.calls == 0 {
        outcome.problems.push("the trace has no call".to_owned());
    }
    if !allowed.uncounted_calls {
        compare_calls(stage, allowed, &report, &mut outcome);
    }
    Ended::Proved(outcome)
}

fn has_only_a_closing_line(file: &Path) -> bool {
    let text = fs::read_to_string(file).unwrap();
    text.lines().count() == 1
        && text.contains("\"reason\":\"truncated\",\"final\":false,\"calls\":0,")
}

/// Returns the files that the trace consists of, and how many calls the case itself has deleted.
fn compare_segments(stage: &Stage, allowed: Allowed, outcome: &mut Outcome) -> (Vec<PathBuf>, u64) {
    let stored = if stage.stored().exists() { segments_in(&stage.stored()) } else { Vec::new() };
    let on_disk = if stage.traces().exists() { segments_in(&stage.traces()) } else { Vec::new() };
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let names: BTreeSet<String> = stored.iter().map(name).collect();
    let waiting: Vec<PathBuf> =
        on_disk.into_iter().filter(|path| !names.contains(&name(path))).collect();
    if !waiting.is_empty() {
        let text = format!("{} closed segments wait on disk", waiting.len());
        if allowed.waiting { outcome.notes.push(text) } else { outcome.problems.push(text) }
    }
    let files: Vec<PathBuf> = stored.into_iter().chain(waiting).collect();
    let mut witnessed = BTreeSet::new();
    let mut deleted = 0;
    for (name, kept) in stage.witness.closed() {
        let found = files.iter().find(|path| path.file_name().unwrap() == name.as_str());
        witnessed.insert(name.clone());
        let Some(found) = found else {
            if allowed.deletions {
                let is_call =
                    |line: &&[u8]| !line.windows(TYPE_META.len()).any(|part| part == TYPE_META);
                let lines = kept.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
                deleted += lines.filter(is_call).count() as u64;
                continue;
            }
            outcome.lost += 1;
            outcome.problems.push(format!("{name} was closed, and is neither stored nor on disk"));
            continue;
        };
        if fs::read(found).unwrap() != kept {
            outcome.lost += 1;
            outcome.problems.push(format!("{name} is not what was closed, byte for byte"));
        }
    }
    let unseen = names.iter().filter(|name| !witnessed.contains(*name)).count();
    if unseen > 0 {
        outcome.notes.push(format!("{unseen} stored segments were too quick to be witnessed"));
    }
    let again: usize =
        names.iter().map(|name| stage.server.put_count(&Stage::key(name)).saturating_sub(1)).sum();
    outcome.notes.push(format!("{} segments stored, {again} of them sent again", names.len()));
    (files, deleted)
}

/// The libraries' own counts owe nothing to the tracer.
fn compare_calls(stage: &Stage, allowed: Allowed, report: &Report, outcome: &mut Outcome) {
    let counts = default_set(stage.scene.counts());
    let names: BTreeSet<&String> = counts.keys().chain(report.functions.keys()).collect();
    for name in names {
        let total = report.functions.get(name).copied().unwrap_or_default();
        let calls = counts.get(name).copied().unwrap_or(0);
        // A killed sidecar's calls after its last line are unseen, but none can be invented.
        let (seen, is_right) = if allowed.crashes {
            (total.lines, total.lines <= calls)
        } else {
            (total.hits, total.hits == calls)
        };
        if !is_right {
            outcome.lost += calls.saturating_sub(seen);
            outcome.problems.push(format!("{name}: {calls} calls, but {seen} in the trace"));
        }
    }
}
