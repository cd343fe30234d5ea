//! Whose calls are in the trace: what the coverage lines and the closing lines of a run say.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Problem, Report,
    segment::{MAX_REFUSED, Segment},
};
use crate::line::{Coverage, CoverageCounts, CoverageKind};

/// Mappings that are told one by one, of each run and kind.
const MAX_TOLD: usize = 32;

/// Over all runs: mappings of CUDA libraries in targets.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct CoverageReport {
    #[serde(flatten)]
    pub counts: CoverageCounts,
    /// Those that are covered from a moment on: the first of each run.
    pub late: Vec<Late>,
    /// Of each run that has such: when all of them are covered.
    pub whole_from: Vec<WholeFrom>,
}

/// From when on no process of a run is covered late any more.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WholeFrom {
    pub run: String,
    /// Milliseconds since the start of the run; absent where the trace does not hold all moments.
    pub ts: Option<f64>,
}

/// A process whose calls into one library may be missing before a moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Late {
    pub run: String,
    pub pid: u32,
    pub path: String,
    /// Milliseconds since the start of the run.
    pub from_ts: f64,
    /// Functions whose calls are missing after that too.
    pub unprobed: u32,
    pub reason: String,
}

/// Wanted functions of a library that got no probe: their calls are in no count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    pub path: String,
    pub functions: u64,
    /// One of them, and why.
    pub function: String,
    pub reason: String,
}

/// The same library stands in each segment, and maybe in several runs.
pub(super) fn add_refused(segments: &[Segment], report: &mut Report) {
    for refused in segments.iter().flat_map(|segment| segment.refused.values()) {
        if report.refused.len() < MAX_REFUSED && !report.refused.contains(refused) {
            report.refused.push(refused.clone());
        }
    }
}

/// Adds what one run says. What was not seen is a problem.
pub(super) fn add(run: &str, segments: &[Segment], report: &mut Report) {
    let mut latest: BTreeMap<(u32, u64, u64), (f64, &Coverage)> = BTreeMap::new();
    for gap in segments.iter().flat_map(|segment| &segment.gaps) {
        let key = (gap.pid, gap.coverage.device, gap.coverage.inode);
        latest.insert(key, (gap.ts, &gap.coverage));
    }
    let told = segments.iter().rev().find_map(|segment| segment.close.as_ref()?.coverage);
    if told.is_none() && latest.is_empty() {
        return;
    }
    let (mut from, mut unseen, mut in_part) = (0, 0, 0);
    let mut late = Vec::new();
    let mut whole_from = 0.0_f64;
    for (&(pid, ..), &(from_ts, coverage)) in &latest {
        let (run, path) = (run.to_owned(), coverage.path.clone());
        let reason = coverage.reason.clone().unwrap_or_default();
        if coverage.coverage == CoverageKind::Unseen {
            unseen += 1;
            if unseen <= MAX_TOLD as u64 {
                report.problems.push(Problem::Unseen { run, pid, path, reason });
            }
            continue;
        }
        from += 1;
        whole_from = whole_from.max(from_ts);
        let unprobed = coverage.unprobed;
        if unprobed > 0 {
            in_part += 1;
            if in_part <= MAX_TOLD as u64 {
                let (run, path, reason) = (run.clone(), path.clone(), reason.clone());
                report.problems.push(Problem::Unseen { run, pid, path, reason });
            }
        }
        if late.len() < MAX_TOLD {
            late.push(Late { run, pid, path, from_ts, unprobed, reason });
        }
    }
    if let more @ 1.. = in_part.saturating_sub(MAX_TOLD as u64) {
        report.problems.push(Problem::MoreUnseen { run: run.to_owned(), more });
    }
    // The closing line knows of lines that are lost, and counts what has no line of its own.
    let told = told.unwrap_or_default();
    let counts =
        CoverageCounts { unseen: told.unseen.max(unseen), from: told.from.max(from), ..told };
    if let more @ 1.. = counts.unseen.saturating_sub(MAX_TOLD as u64) {
        report.problems.push(Problem::MoreUnseen { run: run.to_owned(), more });
    } else if counts.unseen > unseen {
        let more = counts.unseen - unseen;
        report.problems.push(Problem::MoreUnseen { run: run.to_owned(), more });
    }
    let sum = report.coverage.get_or_insert_default();
    let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
    add(&mut sum.counts.exact, counts.exact);
    add(&mut sum.counts.from, counts.from);
    add(&mut sum.counts.unseen, counts.unseen);
    add(&mut sum.counts.events_lost, counts.events_lost);
    add(&mut sum.counts.unexamined, counts.unexamined);
    sum.late.extend(late);
    if counts.from > 0 {
        // The closing line counts more than have lines of their own.
        let ts = (counts.from == from).then_some(whole_from);
        sum.whole_from.push(WholeFrom { run: run.to_owned(), ts });
    }
}
