//! `findings`: what holds an engine up, with the lines that show it, its cost, and advice.
//!
//! A rule speaks only of what was done while the engine serves, which the step ledger tells, and only
//! where it matters: often, or for a part of the time of the steps.

mod gaps;
mod pinned;
mod report;
mod rule;
mod steps_alike;
mod tally;
mod watch;

use std::collections::BTreeMap;

use cuda::function::is_per_thread;
use trace::{
    call_view::{CallView, from_milliseconds},
    line::{Meta, MetaLine},
};

use self::{
    gaps::Gaps,
    report::Finding,
    rule::Rule,
    tally::{Sums, Tally},
    watch::{Mark, Role, Seen, Watch, least_of_class, size_class},
};
use super::steps::{Steps, ranks::Step};
use crate::{
    answer::Answer,
    context::{Context, function::PerFunction, process::ProcessId},
    gap::{Cause, Gap},
    question::{Call, Question},
};

/// What is found in so many steps, and in this part of all, is no matter of the beginning.
const MANY_STEPS: u64 = 5;
const MANY_STEPS_PART: f64 = 0.02;

/// What costs this part of the time of the steps matters, however often it is.
const MUCH: f64 = 0.01;

/// The same for what a busy machine does to any process now and then.
const MUCH_OF_PAUSES: f64 = 0.02;
const MUCH_OF_OUTLIERS: f64 = 0.05;

/// Events of an ordinary step: one or two for each copy or stream.
const MANY_EVENTS: u64 = 64;

#[derive(Default)]
pub struct Findings {
    steps: Steps,
    roles: PerFunction<Option<(Role, bool)>>,
    watches: BTreeMap<ProcessId, Watch>,
    gaps: Gaps,
    /// When the latest call returned.
    latest_ns: i64,
}

/// The steps of one process, and how long they took together.
struct Served<'a> {
    process: ProcessId,
    steps: Vec<&'a Step>,
    /// Without pauses between them.
    serving_ns: u64,
}

impl Question for Findings {
    fn call(&mut self, call: &Call<'_>, context: &Context) {
        self.latest_ns = self.latest_ns.max(call.line.end_ns());
        self.steps.call(call, context);
        self.watch(call, context, true);
    }

    fn call_before(&mut self, call: &Call<'_>, context: &Context) {
        self.latest_ns = self.latest_ns.max(call.line.end_ns());
        self.steps.call_before(call, context);
        self.watch(call, context, false);
    }

    fn meta(&mut self, line: &MetaLine, context: &Context) {
        self.steps.meta(line, context);
        if let Meta::SegmentOpen(_) = &line.meta {
            let begins = from_milliseconds(line.ts);
            if let Some((since, until)) = self.steps.hole_before(begins) {
                self.gaps.hole(since, until);
            }
            self.segment_ended(begins.min(self.latest_ns));
        }
    }

    fn gap(&mut self, gap: &Gap, context: &Context) {
        self.steps.gap(gap, context);
        self.gaps.add(gap);
    }

    fn finish(mut self: Box<Self>, context: &Context) -> Answer {
        self.steps.finish_ledgers();
        for (process, watch) in &mut self.watches {
            if let Some(ledger) = self.steps.ledger(*process) {
                watch.settle(&ledger.rows, &self.gaps);
            }
        }
        self.segment_ended(i64::MAX);
        let Self { steps, mut watches, gaps, .. } = *self;
        let found = steps.found(context);
        let mut by_process: BTreeMap<ProcessId, Vec<&Step>> = BTreeMap::new();
        for step in &found.steps {
            by_process.entry(step.process).or_default().push(step);
        }
        let served: Vec<Served<'_>> =
            by_process.into_iter().map(|(process, steps)| Served::new(process, steps)).collect();
        let mut findings = Vec::new();
        if !is_disordered(context) {
            for served in &served {
                if let Some(watch) = watches.get_mut(&served.process) {
                    findings.extend(of_process(served, watch, &gaps, context));
                }
            }
        }
        report::answer(findings, &served, &found, context)
    }
}

impl Findings {
    /// The next one begins.
    fn segment_ended(&mut self, begins: i64) {
        let Some(is_whole) = self.gaps.segment_begins(begins) else { return };
        self.watches.values_mut().for_each(|watch| watch.segment_ended(is_whole));
    }

    fn watch(&mut self, call: &Call<'_>, context: &Context, is_asked: bool) {
        let Call { line, function, process } = *call;
        let (role, is_per_thread) = *self.roles.of(function).get_or_insert_with(|| {
            let function = context.functions.get(function);
            (Role::of(function), is_per_thread(&function.name))
        });
        let Some(ledger) = self.steps.ledger(process) else { return };
        let seen = Seen {
            line,
            function,
            role,
            place: context.place,
            is_captured: is_captured(line, is_per_thread, context),
            is_asked,
        };
        self.watches.entry(process).or_default().call(&seen, ledger, &self.gaps);
    }
}

/// What is done on this stream now goes into a graph.
fn is_captured(line: &CallView<'_>, is_per_thread: bool, context: &Context) -> bool {
    // The default stream of a thread has no handle of its own.
    let stream = line.stream.map(|stream| stream.0).filter(|stream| *stream > 0 || !is_per_thread);
    stream.is_some_and(|stream| context.captures.origin(line.pid, stream).is_some())
}

/// Lines may stand twice or in a wrong place: what is inside of what is not known.
fn is_disordered(context: &Context) -> bool {
    let is_late = |gap: &Gap| matches!(gap.cause, Cause::Late { .. });
    context.gaps.iter().any(|gap| gap.may_add_lines() || gap.may_reorder_lines() && !is_late(gap))
}

impl<'a> Served<'a> {
    fn new(process: ProcessId, steps: Vec<&'a Step>) -> Self {
        let lengths = (0..steps.len()).filter_map(|at| length_ns(&steps, at));
        let serving_ns = lengths.fold(0, u64::saturating_add);
        Self { process, steps, serving_ns }
    }

    /// How long a step takes as a rule, without the pauses in it.
    fn usual_ns(&self, marks: &[Mark]) -> u64 {
        let mut lengths: Vec<u64> = (0..self.steps.len())
            .filter_map(|at| {
                let mark = steps_alike::mark(marks, &self.steps[at].row)?;
                Some(length_ns(&self.steps, at)?.saturating_sub(mark.paused_ns))
            })
            .collect();
        lengths.sort_unstable();
        lengths.get(lengths.len() / 2).copied().unwrap_or(u64::MAX)
    }

    fn since(&self) -> i64 {
        self.steps.first().map_or(i64::MAX, |step| step.row.start)
    }

    /// Whether it is worth telling.
    fn matters(&self, rule: Rule, tally: Sums) -> bool {
        let steps = self.steps.len() as f64;
        let part = |cost_ns: u64| cost_ns as f64 / self.serving_ns.max(1) as f64;
        let is_often = tally.steps >= MANY_STEPS && tally.steps as f64 >= MANY_STEPS_PART * steps;
        match rule {
            Rule::Errors | Rule::CaptureWhileServing => tally.count > 0,
            // A wait that costs nothing is none; a full queue is no fault of a busy engine.
            Rule::SyncInStep | Rule::QueueFull => part(tally.cost_ns) >= MUCH,
            Rule::ModuleLoad => is_often || part(tally.most_ns) >= MUCH,
            Rule::EagerDespiteGraph => is_often,
            Rule::EventCreation => tally.count > MANY_EVENTS * self.steps.len() as u64,
            Rule::HostHeldUp => is_often && part(tally.cost_ns) >= MUCH_OF_PAUSES,
            Rule::StepOutliers => is_often && part(tally.cost_ns) >= MUCH_OF_OUTLIERS,

            Rule::PageableCopy
            | Rule::SyncCopy
            | Rule::AllocationInStep
            | Rule::GraphReinstantiation
            | Rule::StreamCreation => is_often || part(tally.cost_ns) >= MUCH,
        }
    }
}

/// From the later of a step's beginning and the hand-over of the output before, to its own.
fn length_ns(steps: &[&Step], at: usize) -> Option<u64> {
    let row = &steps[at].row;
    let before = at.checked_sub(1).and_then(|at| steps[at].row.handed).unwrap_or(i64::MIN);
    let to = row.handed.or(row.high)?;
    u64::try_from(to.saturating_sub(row.start.max(before))).ok()
}

fn of_process(
    served: &Served<'_>,
    watch: &mut Watch,
    gaps: &Gaps,
    context: &Context,
) -> Vec<Finding> {
    let since = served.since();
    watch.confirm(watch.marks.partition_point(|mark| mark.queued < since), gaps);
    let is_whole = !watch.has_lost(since);
    let mut tallies = std::mem::take(&mut watch.tallies);
    if !knows_pinned(served.process, context) {
        tallies.remove(&Rule::PageableCopy);
    }
    let least_ns = served.usual_ns(&watch.marks);
    for (_, tally) in watch.pauses.iter().filter(|(class, _)| least_of_class(**class) >= least_ns) {
        tallies.entry(Rule::HostHeldUp).or_default().merge(tally);
    }
    if let Some(tally) = tallies.get_mut(&Rule::HostHeldUp) {
        tally.all.steps = steps_held_up(watch.marks.iter(), least_ns);
        let known = served.steps.iter().filter(|step| !step.doubt.step);
        let known: Vec<Mark> =
            known.filter_map(|step| steps_alike::mark(&watch.marks, &step.row)).collect();
        tally.sure.steps = steps_held_up(known.iter(), least_ns);
    }
    if let Some(tally) = steps_alike::eager(&served.steps, watch) {
        tallies.insert(Rule::EagerDespiteGraph, tally);
    }
    tallies.retain(|rule, tally| served.matters(*rule, tally.all));
    // What another finding explains is told once.
    let told = tallies.keys().fold(0, |told, rule| told | 1 << *rule as u32);
    let outliers = steps_alike::outliers(&served.steps, &watch.marks, told);
    if let Some((tally, without_stalls_ns)) = outliers {
        let mut typical = tally.all;
        typical.cost_ns = without_stalls_ns;
        if served.matters(Rule::StepOutliers, typical) {
            tallies.insert(Rule::StepOutliers, tally);
        }
    }
    let process = served.process;
    let finding = |(rule, tally): (Rule, Tally)| {
        let is_sure = served.matters(rule, tally.sure) || rule == Rule::StepOutliers;
        Finding { rule, process, tally, is_whole, is_sure }
    };
    tallies.into_iter().map(finding).collect()
}

/// Steps with a pause of a size class from `least_ns` on; one may have pauses of several classes.
fn steps_held_up<'a>(marks: impl Iterator<Item = &'a Mark>, least_ns: u64) -> u64 {
    let longest = marks.map(|mark| mark.longest_pause_ns).filter(|ns| *ns > 0);
    longest.filter(|ns| least_of_class(size_class(*ns)) >= least_ns).count() as u64
}

/// Whether all calls that pin memory of this process are here.
fn knows_pinned(process: ProcessId, context: &Context) -> bool {
    let pid = context.processes.get(process).pid;
    let functions = context.opening.as_ref().and_then(|open| open.options.get("trace_functions"));
    let has_all = functions.is_some_and(|functions| {
        let mut parts = functions.split(',').map(str::trim);
        parts.clone().any(|part| matches!(part, "default" | "all"))
            && parts.all(|part| !part.starts_with('!'))
    });
    let may_hide = |gap: &Gap| {
        let is_end = matches!(gap.cause, Cause::NotEnded | Cause::NotClosed { .. });
        (gap.may_cut_lines() && !is_end || gap.may_hide_calls() || gap.may_reorder_lines())
            && gap.pid.is_none_or(|other| other == pid)
    };
    has_all && !context.gaps.iter().any(may_hide)
}
