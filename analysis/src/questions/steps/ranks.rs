//! Which outputs are steps, and of which rank.
//!
//! An output is a step once somebody has waited for one: what was computed before that was a trial
//! (profile runs, warm-up). Of several ranks often only one waits for its outputs. The others have
//! the same steps at the same time, and are told by that.

use std::collections::HashMap;

use super::{
    completion::KEPT_BEHIND,
    doubt::Doubt,
    kind::{Kind, kinds},
    ledger::{LONG_PAUSE_NS, Row},
};
use crate::context::{Context, process::ProcessId};

/// By how much the times of two steps in a row differ that launch the same: 7 us (median) where the
/// waiting thread spins, and 23 to 161 us where it sleeps and is woken.
const MAX_SCATTER_NS: i64 = 12_000;
const MIN_ALIKE: usize = 8;

/// One rank begins a step no longer than half of this before another.
const MAX_LEAD_NS: i64 = 1_000_000_000;

/// The outputs of one process.
pub(super) struct Member {
    pub process: ProcessId,
    pub rows: Vec<Row>,
    pub entries: u64,
}

/// Times around a step.
#[derive(Debug, Clone, Copy)]
pub(in crate::questions) struct Between {
    /// What was called since then may be part of it: when the output before it was queued, or a
    /// long pause ended.
    pub since: i64,
    /// When the work behind it begins.
    pub until: i64,
    /// What is queued up to then may help to tell what the step was.
    pub settled: i64,
}

/// When the GPU was done with a step.
#[derive(Debug, Clone, Copy)]
pub(in crate::questions) struct Ended {
    pub low: i64,
    pub high: Option<i64>,
    pub estimate: Option<i64>,
}

/// One step of one process.
pub(in crate::questions) struct Step {
    pub process: ProcessId,
    pub rank: u32,
    pub kind: Option<Kind>,
    pub row: Row,
    /// The step before it, also one in front of the window that was asked for; the first has none.
    pub before: Option<Ended>,
    pub between: Between,
    pub doubt: Doubt,
}

/// In the order of their beginnings.
pub(super) fn steps(members: Vec<Member>, context: &Context) -> Vec<Step> {
    let mut groups: HashMap<Option<u32>, Vec<Member>> = HashMap::new();
    for member in members.into_iter().filter(|member| !member.rows.is_empty()) {
        let parent = context.processes.get(member.process).parent;
        groups.entry(parent).or_default().push(member);
    }
    let mut steps = Vec::new();
    for (parent, group) in groups {
        // Processes without a known parent are no ranks of one engine.
        if parent.is_some() {
            engine(group, context, &mut steps);
        } else {
            for member in group {
                engine(vec![member], context, &mut steps);
            }
        }
    }
    steps.sort_by_key(|step| (step.row.start, step.process));
    steps
}

/// The ranks of one engine have the same parent.
fn engine(mut members: Vec<Member>, context: &Context, steps: &mut Vec<Step>) {
    let leader = members.iter().filter_map(first_moment).min();
    let Some(leader) = leader else { return };
    let mut led: Option<Vec<Option<Kind>>> = None;
    // Who waits comes first: its kinds are those of all.
    members.sort_by_key(|member| (first_start(member).is_none(), member.process));
    for member in members {
        let is_follower = first_start(&member).is_none();
        let first = first_start(&member).unwrap_or(leader);
        let between = between(&member.rows);
        let of_steps = member.rows.into_iter().zip(between).filter(|(row, _)| row.queued >= first);
        let (mut rows, between): (Vec<Row>, Vec<_>) = of_steps.unzip();
        withhold_late(&mut rows);
        let mut own = kinds(&rows);
        match &led {
            Some(led) if is_follower && led.len() == own.len() => {
                for (own, led) in own.iter_mut().zip(led) {
                    *own = led.or(*own);
                }
            }
            Some(_) => {}
            None => led = Some(own.clone()),
        }
        let rank = rank(member.process, context);
        let process = member.process;
        let mut before = None;
        steps.extend(rows.into_iter().zip(own).zip(between).map(|((row, kind), between)| {
            let Row { low, high, estimate, .. } = row;
            let before = before.replace(Ended { low, high, estimate });
            Step { process, rank, kind, row, before, between, doubt: Doubt::default() }
        }));
    }
}

fn between(rows: &[Row]) -> Vec<Between> {
    let since = |at: usize| {
        let before = at.checked_sub(1).map_or(i64::MIN, |before| rows[before].queued);
        // Behind a long pause it hangs on nothing that was before.
        let pause = rows[at].start.saturating_sub(LONG_PAUSE_NS);
        if rows[at].is_rested { before.max(pause) } else { before }
    };
    let of = |at: usize| Between {
        since: since(at),
        until: rows.get(at + 1).map_or(i64::MAX, |next| next.start),
        settled: rows.get(at + KEPT_BEHIND + 1).map_or(i64::MAX, |next| next.queued),
    };
    (0..rows.len()).map(of).collect()
}

/// Threads that sleep until the GPU is done are woken late, by a time that differs from step to step.
/// Then steps in a row that launch the same seem to take different times, and returns of waits are
/// bounds only; so they are as long as too few steps have told. What changes slowly, as with the
/// length of the answers, does not count.
fn withhold_late(rows: &mut [Row]) {
    let mut scatter: Vec<i64> = Vec::new();
    for three in rows.windows(3) {
        if let (Some(first), Some(second), Some(third)) =
            (waited(&three[0]), waited(&three[1]), waited(&three[2]))
            && three.iter().all(|row| row.fingerprint == three[0].fingerprint)
        {
            scatter.push((third - second - (second - first)).abs());
        }
    }
    scatter.sort_unstable();
    let is_spinning = scatter.len() >= MIN_ALIKE && scatter[scatter.len() / 2] <= MAX_SCATTER_NS;
    if !is_spinning {
        rows.iter_mut().filter(|row| !row.is_polled).for_each(|row| row.estimate = None);
    }
}

/// The estimate, if a wait has told it.
fn waited(row: &Row) -> Option<i64> {
    row.estimate.filter(|_| !row.is_polled)
}

/// A moment before the first step and behind what was computed before it, on all ranks: in the middle
/// of the pause in front of it.
fn first_moment(member: &Member) -> Option<i64> {
    let at = member.rows.iter().position(|row| row.handed.is_some())?;
    let start = member.rows[at].start;
    let pause_ns = at.checked_sub(1).map_or(i64::MAX, |at| start - member.rows[at].queued);
    Some(start - pause_ns.clamp(0, MAX_LEAD_NS) / 2)
}

/// When the first step began for whose output somebody waited.
fn first_start(member: &Member) -> Option<i64> {
    member.rows.iter().find(|row| row.handed.is_some()).map(|row| row.start)
}

/// By what the process calls itself: a number over all tensor and pipeline ranks that are there.
pub(in crate::questions) fn rank(process: ProcessId, context: &Context) -> u32 {
    let of = |id: ProcessId, name: &str| context.processes.get(id).ranks.get(name).copied();
    if let Some(rank) = of(process, "rank") {
        return rank;
    }
    let width = context.processes.iter().filter_map(|(id, _)| of(id, "tp")).max().unwrap_or(0) + 1;
    of(process, "pp").unwrap_or(0) * width + of(process, "tp").unwrap_or(0)
}
