//! Which cells of a step are not known, as lines may be missing around it, or stand twice or in a wrong
//! place.

use std::collections::HashMap;

use super::{
    operation::Operation,
    ranks::{Between, Step},
};
use crate::{
    context::{Context, process::ProcessId},
    gap::{Cause, Gap},
    time_ranges::TimeRanges,
};

/// The kind of a step is told by so many before it, too.
const STEPS_THAT_TELL_A_KIND: usize = 2;

/// The runtime's wait returns by so much after the driver's.
const MAX_RETURN_NS: i64 = 100_000_000;

/// What is not known of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for cells of its own")]
pub(in crate::questions) struct Doubt {
    /// Anything: where it begins and ends, what is in it.
    pub step: bool,
    /// How much was queued for it: some of that may come behind its output.
    pub sums: bool,
    /// The time in calls, whatever they do.
    pub calls: bool,
    /// How long a thread waited for its output: the runtime's call may go on after the driver's.
    pub waits: bool,
    /// What its graphs were captured from, and what follows from sizes of captures.
    pub graphs: bool,
    /// Its kind.
    pub kind: bool,
    /// When the step before ended.
    pub before: bool,
}

/// Gaps that may touch the steps of one process.
pub(in crate::questions) struct Touched {
    /// Calls that make up steps may be missing, or be there that were none.
    step: TimeRanges,
    /// The same of any calls.
    calls: TimeRanges,
    /// The same of calls that make graphs: what was captured is not known from then on.
    graphs: TimeRanges,
    /// When the trace was cut off behind its last line.
    cut_ns: Option<i64>,
}

impl Touched {
    pub(super) fn of(pid: u32, holes: &[(i64, i64)], context: &Context) -> Self {
        let (mut step, mut calls) = (holes.to_vec(), holes.to_vec());
        let mut graphs = Vec::new();
        let mut is_open = false;
        let last_ns = context.time.last_ns;
        // The counts of the whole run tell which functions lack lines, and which have too many.
        let is_counted = context.accounting.is_final();
        for gap in context.gaps.iter().filter(|gap| gap.pid.is_none_or(|other| other == pid)) {
            if gap.is_end() {
                // Where segments are missing, there are some behind them: those are among the holes.
                is_open |= !matches!(gap.cause, Cause::MissingSegments { .. });
                continue;
            }
            if !gap.may_change_calls() {
                continue;
            }
            let span = (gap.from_ns.unwrap_or(i64::MIN), gap.to_ns.unwrap_or(i64::MAX));
            calls.push(span);
            if gap.function.as_deref().is_some_and(|function| !matters(function)) {
                continue;
            }
            step.push(span);
            let is_of_graphs = match gap.function.as_deref() {
                Some(function) => is_about_graphs(function),
                None => !is_counted || gap.may_add_lines(),
            };
            if is_of_graphs {
                graphs.push(span);
            }
        }
        if !is_counted {
            graphs.extend_from_slice(holes);
        }
        let [step, calls, graphs] = [step, calls, graphs].map(TimeRanges::from_iter);
        let cut_ns = is_open.then(|| last_ns.unwrap_or(i64::MAX));
        Self { step, calls, graphs, cut_ns }
    }

    /// Whether steps between these times may be missing, or be there that were none.
    pub(in crate::questions) fn is_between(&self, from: i64, to: i64) -> bool {
        self.step.overlap(from, to)
    }

    fn doubt(&self, step: &Step) -> Doubt {
        let row = &step.row;
        let Between { since, until, settled } = step.between;
        let since = since.min(row.start);
        let to = row.high.or(row.handed).unwrap_or(i64::MAX);
        // What was never written after the last line touches no step that has ended before.
        let is_cut = self.cut_ns.is_some() && row.high.is_none();
        let is_last = self.cut_ns.is_some() && until == i64::MAX;
        let returns = to.saturating_add(MAX_RETURN_NS);
        let (captured_since, captured_until) = row.captured.unwrap_or((i64::MAX, i64::MIN));
        // Where no capture was seen, it may be one that is missing.
        let from = if row.captured.is_none() { i64::MIN } else { captured_since };
        let is_of_captures =
            captured_since <= captured_until && self.step.overlap(captured_since, captured_until);
        Doubt {
            step: is_cut || self.step.overlap(since, to),
            sums: self.step.overlap(since, to.max(until)) || is_last,
            calls: self.calls.overlap(since, to.max(until)) || is_last,
            waits: self.step.overlap(since, returns)
                || self.cut_ns.is_some_and(|cut| cut <= returns),
            graphs: is_of_captures || self.graphs.overlap(from, to.max(settled)),
            kind: false,
            before: false,
        }
    }
}

/// Sets the doubts of all steps, which are in the order of their beginnings.
pub(super) fn doubt(steps: &mut [Step], holes: &[(i64, i64)], context: &Context) {
    let mut touched: HashMap<ProcessId, Touched> = HashMap::new();
    let mut before: HashMap<ProcessId, [bool; STEPS_THAT_TELL_A_KIND]> = HashMap::new();
    for step in steps {
        let touched = touched.entry(step.process).or_insert_with(|| {
            Touched::of(context.processes.get(step.process).pid, holes, context)
        });
        let mut doubt = touched.doubt(step);
        let before = before.entry(step.process).or_default();
        doubt.before = doubt.step || before[STEPS_THAT_TELL_A_KIND - 1];
        doubt.kind = doubt.step || doubt.graphs || before.contains(&true);
        before.rotate_left(1);
        before[STEPS_THAT_TELL_A_KIND - 1] = doubt.step;
        step.doubt = doubt;
    }
}

/// Whether steps at the time of the gap may be missing, or be there that were none.
pub(in crate::questions) fn changes_steps(gap: &Gap) -> bool {
    gap.may_change_calls() && gap.function.as_deref().is_none_or(matters)
}

/// Whether steps may be missing anywhere, or be there that were none.
pub(super) fn is_doubtful(context: &Context) -> bool {
    let touches = |gap: &Gap| {
        (gap.may_change_calls() || gap.may_hide_calls())
            && gap.function.as_deref().is_none_or(matters)
    };
    context.gaps.iter().any(touches)
}

/// Whether steps are made of calls of this function.
fn matters(function: &str) -> bool {
    Operation::of(cuda::function::canonical(function)) != Operation::Other
        || function.contains("Stream")
        || function.contains("Async")
}

fn is_about_graphs(function: &str) -> bool {
    matches!(
        Operation::of(cuda::function::canonical(function)),
        Operation::BeginCapture
            | Operation::EndCapture
            | Operation::Instantiate
            | Operation::ExecutableUpdate
            | Operation::ExecutableDestroy
            | Operation::GraphDestroy
    )
}
