//! The steps of an engine in the order in which they were handed out.

use std::collections::BTreeMap;

use crate::{
    context::{Context, process::ProcessId},
    questions::steps::{Found, Kind, Step},
};

/// One step, with times since the start of the run.
#[derive(Debug, Clone)]
pub(super) struct EngineStep {
    /// Its place among all steps.
    pub at: usize,
    pub start: i64,
    /// When its output was queued for the host.
    pub queued: i64,
    /// Between these the GPU was done.
    pub low: i64,
    pub high: i64,
    pub estimate: Option<i64>,
    /// When a thread first knew that the output is there.
    pub handed: i64,
    /// That got a token, 0 if not known.
    pub requests: u32,
    /// No request got its first token in it.
    pub is_decode: bool,
    /// Lines may be missing around it.
    pub is_touched: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Engine {
    pub process: ProcessId,
    pub steps: Vec<EngineStep>,
}

/// One for each data-parallel rank: the process of it that waits for the outputs.
pub(super) fn engines(found: &Found, context: &Context) -> Vec<Engine> {
    let mut by_process: BTreeMap<ProcessId, Vec<usize>> = BTreeMap::new();
    for (at, step) in found.steps.iter().enumerate() {
        by_process.entry(step.process).or_default().push(at);
    }
    let handed = |all: &[usize]| all.iter().filter(|&&at| is_handed(&found.steps[at])).count();
    let mut leaders: BTreeMap<(Option<u32>, u32), (usize, ProcessId)> = BTreeMap::new();
    for (&process, all) in &by_process {
        let told = context.processes.get(process);
        let alone = told.parent.is_none().then_some(told.pid);
        let replica = told.ranks.get("dp").copied().unwrap_or(0);
        let key = (alone.or(told.parent), replica);
        let count = handed(all);
        let leader = leaders.entry(key).or_insert((count, process));
        if count > leader.0 {
            *leader = (count, process);
        }
    }
    leaders
        .into_values()
        .filter(|&(count, _)| count > 0)
        .map(|(_, process)| Engine { process, steps: in_order(&by_process[&process], found) })
        .collect()
}

fn is_handed(step: &Step) -> bool {
    step.row.handed.is_some()
}

fn in_order(all: &[usize], found: &Found) -> Vec<EngineStep> {
    let mut steps: Vec<EngineStep> = all
        .iter()
        .map(|&at| {
            let step = &found.steps[at];
            let row = &step.row;
            // An output for which nobody waited by itself was there when a later one was.
            let handed = row.handed.or(row.high).unwrap_or(row.queued).max(row.queued);
            EngineStep {
                at,
                start: row.start.min(row.queued),
                queued: row.queued,
                low: row.low,
                high: row.high.unwrap_or(handed),
                estimate: row.estimate,
                handed,
                requests: if step.doubt.graphs { 0 } else { row.requests },
                is_decode: step.kind == Some(Kind::Decode) && !step.doubt.kind,
                is_touched: row.handed.is_none() || step.doubt.step,
            }
        })
        .collect();
    steps.sort_by_key(|step| (step.queued, step.start));
    // Outputs of a process are there in the order in which they were queued.
    for at in 1..steps.len() {
        steps[at].handed = steps[at].handed.max(steps[at - 1].handed);
    }
    steps
}

impl Engine {
    /// Steps that were handed out at this time, or before it.
    pub(super) fn handed_by(&self, ts_ns: i64) -> usize {
        self.steps.partition_point(|step| step.handed <= ts_ns)
    }

    /// Steps whose output was queued before this time: of no later request.
    pub(super) fn queued_before(&self, ts_ns: i64) -> usize {
        self.steps.partition_point(|step| step.queued < ts_ns)
    }

    /// Steps that had begun before this time.
    pub(super) fn begun_before(&self, ts_ns: i64) -> usize {
        let at = self.queued_before(ts_ns);
        let begun = self.steps[at..].iter().take_while(|step| step.start < ts_ns).count();
        at + begun
    }
}
