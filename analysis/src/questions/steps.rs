//! `steps`: one row for each step of an engine, and when the GPU was done with it.

mod capture;
mod completion;
mod doubt;
mod fingerprint;
pub(in crate::questions) mod kind;
pub(in crate::questions) mod ledger;
pub(in crate::questions) mod operation;
pub(in crate::questions) mod ranks;
mod table;

use std::collections::BTreeMap;

use cuda::function::is_per_thread;
use trace::{
    call_view::from_milliseconds,
    line::{Meta, MetaLine},
};

pub(super) use self::{
    completion::MAX_OPEN_OUTPUTS,
    doubt::{Doubt, Touched, changes_steps},
    kind::Kind,
    ledger::GraphMode,
    ranks::Step,
};
use self::{ledger::Ledger, operation::Operation, ranks::Member};
use crate::{
    answer::Answer,
    context::{Context, function::PerFunction, process::ProcessId},
    gap::Gap,
    question::{Call, Question},
};

#[derive(Default)]
pub struct Steps {
    functions: PerFunction<Option<(Operation, bool)>>,
    ledgers: BTreeMap<ProcessId, Ledger>,
    /// From a time of the run on: what is added to make it a time of day.
    clocks: Vec<(i64, i64)>,
    /// When the window that was asked for begins.
    from_ns: Option<i64>,
    /// Number of the segment, and up to when it holds all lines.
    segment: u64,
    latest_ns: i64,
    /// Where segments are missing.
    holes: Vec<(i64, i64)>,
}

impl Question for Steps {
    fn call(&mut self, call: &Call<'_>, context: &Context) {
        self.follow(call, context);
    }

    fn call_before(&mut self, call: &Call<'_>, context: &Context) {
        self.read(call, context);
    }

    fn meta(&mut self, line: &MetaLine, context: &Context) {
        let ts_ns = from_milliseconds(line.ts);
        let Meta::SegmentOpen(opening) = &line.meta else {
            if matches!(line.meta, Meta::SegmentClose(_)) {
                self.latest_ns = self.latest_ns.max(ts_ns);
            }
            return;
        };
        if opening.sequence > self.segment + 1 {
            let from_ns = if self.segment == 0 { i64::MIN } else { self.latest_ns };
            self.holes.push((from_ns, ts_ns));
            self.ledgers.values_mut().for_each(Ledger::forget_order);
        }
        self.segment = opening.sequence;
        if let Some(unix_ns) = context.time.unix_ns(0)
            && self.clocks.last().is_none_or(|&(_, latest)| latest != unix_ns)
        {
            self.clocks.push((if self.clocks.is_empty() { i64::MIN } else { ts_ns }, unix_ns));
        }
    }

    fn gap(&mut self, gap: &Gap, _: &Context) {
        if changes_steps(gap) {
            self.ledgers.values_mut().for_each(Ledger::forget_captures);
        }
    }

    fn finish(self: Box<Self>, context: &Context) -> Answer {
        table::answer(&self.found(context), context)
    }
}

/// All steps, when no more lines come: what other questions build on.
pub(super) struct Found {
    /// In the order of their beginnings.
    pub steps: Vec<Step>,
    /// Calls whose end is not known.
    pub entries: u64,
    /// From a time of the run on: what is added to make it a time of day.
    clocks: Vec<(i64, i64)>,
    /// Where segments are missing.
    pub holes: Vec<(i64, i64)>,
    /// Steps may be missing, or be there that were none.
    pub is_doubtful: bool,
}

impl Found {
    /// Gaps that may touch the steps of the process.
    pub(super) fn touched(&self, process: ProcessId, context: &Context) -> Touched {
        Touched::of(context.processes.get(process).pid, &self.holes, context)
    }

    pub(super) fn unix_ns(&self, ts_ns: i64) -> Option<i64> {
        let at = self.clocks.partition_point(|&(from, _)| from <= ts_ns);
        at.checked_sub(1).map(|at| self.clocks[at].1.saturating_add(ts_ns))
    }

    /// The other way round; without a clock, times of day are times of the run.
    pub(super) fn ts_ns(&self, unix_ns: i64) -> i64 {
        let is_begun = |&&(from, clock): &&(i64, i64)| from <= unix_ns.saturating_sub(clock);
        let clock = self.clocks.iter().rev().find(is_begun).or(self.clocks.first());
        unix_ns.saturating_sub(clock.map_or(0, |&(_, clock)| clock))
    }
}

/// A function that only waits for an event.
pub(super) fn is_wait_for_event(canonical: &str) -> bool {
    Operation::of(canonical) == Operation::EventSynchronize
}

impl Steps {
    /// When the first step of a process began, once that is settled. Ranks that wait for no output have
    /// none before all lines are read.
    pub(super) fn first_start_ns(&self, process: ProcessId) -> Option<i64> {
        let rows = &self.ledgers.get(&process)?.rows;
        rows.iter().find(|row| row.handed.is_some()).map(|row| row.start)
    }

    /// As [`Question::call`]; tells the number of the work in its process, if the call is the outermost
    /// of one that queued any. [`Row::works`](ledger::Row::works) counts the same way.
    pub(super) fn follow(&mut self, call: &Call<'_>, context: &Context) -> Option<u64> {
        self.from_ns.get_or_insert(call.line.ts_ns);
        self.read(call, context)
    }

    /// Where segments are missing in front of the one that begins here.
    pub(super) fn hole_before(&self, begins: i64) -> Option<(i64, i64)> {
        self.holes.last().copied().filter(|&(_, until)| until == begins)
    }

    /// No more calls come: the latest steps are as well known as they will be.
    pub(super) fn finish_ledgers(&mut self) {
        self.ledgers.values_mut().for_each(Ledger::finish);
    }

    pub(super) fn found(mut self, context: &Context) -> Found {
        self.finish_ledgers();
        let from_ns = self.from_ns.unwrap_or(i64::MIN);
        let members = self.ledgers.into_iter().map(|(process, ledger)| Member {
            process,
            rows: ledger.rows,
            entries: ledger.entries,
        });
        let members: Vec<Member> = members.collect();
        let is_described = |process: ProcessId| context.processes.get(process).is_described;
        let has_described = members.iter().any(|member| is_described(member.process));
        // Which rank of what it is, if its process was told of, is not known.
        let is_lost =
            |it: &Member| !it.rows.is_empty() && has_described && !is_described(it.process);
        let has_lost = members.iter().any(is_lost);
        let entries = members.iter().map(|member| member.entries).sum();
        let mut steps = ranks::steps(members, context);
        doubt::doubt(&mut steps, &self.holes, context);
        // Those before the window tell what is known of the others.
        steps.retain(|step| step.row.queued >= from_ns);
        let is_doubtful =
            has_lost || doubt::is_doubtful(context) || steps.iter().any(|step| step.doubt.step);
        Found { steps, entries, clocks: self.clocks, holes: self.holes, is_doubtful }
    }

    /// What is known of a process by now.
    pub(super) fn ledger(&self, process: ProcessId) -> Option<&Ledger> {
        self.ledgers.get(&process)
    }

    fn read(&mut self, call: &Call<'_>, context: &Context) -> Option<u64> {
        let Call { line, function, process } = call;
        self.latest_ns = self.latest_ns.max(line.end_ns());
        let (operation, is_per_thread) = *self.functions.of(*function).get_or_insert_with(|| {
            let function = context.functions.get(*function);
            (Operation::of(&function.canonical), is_per_thread(&function.name))
        });
        self.ledgers.entry(*process).or_default().call(operation, line, is_per_thread)
    }
}

#[cfg(test)]
mod tests;
