//! What the rules look for in the calls of one process.
//!
//! Whether a call was made while the engine serves is known only when the ledger has found the step
//! around it. Until then it waits here; what belongs to no step is dropped.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use cuda::function::Api;
use trace::call_view::CallView;

use super::{
    gaps::Gaps,
    pinned::Pinned,
    rule::Rule,
    tally::{Detail, Occurrence, Tally},
};
use crate::{
    context::{
        Place,
        function::{Function, FunctionId, Hasher},
    },
    questions::{
        blocked::{Blocked, Run},
        memory::live::{Action, Kind},
        steps::{
            ledger::{Ledger, Row},
            operation::Operation,
        },
    },
};

/// `cudaErrorNotReady` and `cudaErrorGraphExecUpdateFailure` are answers, and their namesakes in the
/// driver too.
const ANSWERS: [u32; 2] = [600, 910];

/// A wait that is over sooner may have found the work done.
const MIN_WAIT_NS: u64 = 50_000;

/// What is no longer in front of a step belongs to it.
const MAX_LEAD_NS: i64 = 5_000_000;

/// A wait that is no longer in front of a capture belongs to it.
const CAPTURE_LEAD_NS: i64 = 2_000_000;

/// A pause of a thread that is looked at.
const MIN_PAUSE_NS: i64 = 1_000_000;

/// An engine serves when it has made so many steps without a capture, or so many at all.
const MIN_CALM: u32 = 3;
const MAX_WARM_UP: u32 = 16;

/// Occurrences that wait for their step.
const MAX_PENDING: usize = 16_384;

const MAX_THREADS: usize = 4096;
const MAX_GRAPHS: usize = 65_536;
const MAX_RECORDS: usize = 256;
const MAX_DESTROYED: usize = 1024;

/// What a function is to the rules.
#[derive(Debug, Clone, Copy)]
pub(super) struct Role {
    operation: Operation,
    action: Option<Action>,
    other: Other,
    is_async: bool,
    returns_code: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    None,
    /// Code comes to the GPU.
    Load,
    CreateStream,
    /// Memory of another process is opened.
    Import,
}

impl Role {
    pub(super) fn of(function: &Function) -> Self {
        let name: &str = &function.canonical;
        let stem = name.trim_start_matches('_');
        let stem = stem.strip_prefix("cuda").or_else(|| stem.strip_prefix("cu")).unwrap_or("");
        let other = match stem {
            "LinkComplete" => Other::Load,
            "IpcOpenMemHandle" | "MemImportFromShareableHandle" | "MemPoolImportPointer" => {
                Other::Import
            }
            _ if stem.starts_with("ModuleLoad") || stem.starts_with("LibraryLoad") => Other::Load,
            _ if stem.starts_with("StreamCreate") => Other::CreateStream,
            _ => Other::None,
        };
        Self {
            operation: Operation::of(name),
            action: Action::of(name),
            other,
            is_async: stem.ends_with("Async"),
            returns_code: function.returns_code,
        }
    }
}

/// A step as it is remembered, beside its row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// When its output was queued: the row's own.
    pub queued: i64,
    /// Of the record that ends it.
    pub place: Place,
    /// Rules that found something in it, by number.
    pub found: u32,
    /// How long the launching thread made no call in it.
    pub paused_ns: u64,
    /// The longest of these pauses.
    pub longest_pause_ns: u64,
}

#[derive(Debug, Default)]
struct Thread {
    last_end: Option<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Watch {
    threads: HashMap<u32, Thread, Hasher>,
    /// The thread of the latest launch.
    launcher: Option<u32>,
    blocked: Blocked,
    pinned: Pinned,
    /// Open captures by stream.
    capturing: HashMap<u64, i64, Hasher>,
    /// Graphs that were captured and not instantiated yet.
    captured: HashSet<u64, Hasher>,
    /// When graphs were given up, the latest.
    destroyed: VecDeque<i64>,
    /// Earlier times were forgotten.
    has_forgotten: bool,
    /// When event records returned, in the order of their lines.
    records: VecDeque<(i64, Place)>,
    pending: VecDeque<Occurrence>,
    /// Of steps that may have been a trial.
    unconfirmed: VecDeque<(usize, Occurrence)>,
    /// Of the latest occurrence that had to be given up.
    lost_until: Option<i64>,
    /// Steps for whose output somebody has waited, and of these the latest in a row without a capture.
    waited: u32,
    calm: u32,
    /// Warm-up is over.
    is_serving: bool,
    pub marks: Vec<Mark>,
    pub tallies: BTreeMap<Rule, Tally>,
    /// Pauses by size.
    pub pauses: BTreeMap<u32, Tally>,
}

/// A call, and what is known of it.
pub(super) struct Seen<'a> {
    pub line: &'a CallView<'a>,
    pub function: FunctionId,
    pub role: Role,
    pub place: Place,
    /// What it launches or copies goes into a graph.
    pub is_captured: bool,
    /// In the window that was asked for.
    pub is_asked: bool,
}

impl Watch {
    /// The ledger has seen the call.
    pub(super) fn call(&mut self, seen: &Seen<'_>, ledger: &Ledger, gaps: &Gaps) {
        let Seen { line, function, role, place, is_captured, is_asked } = *seen;
        if line.is_entry() {
            return;
        }
        let (from, to) = (line.ts_ns, line.end_ns());
        let took_ns = line.dur_ns.unwrap_or(0);
        if role.operation == Operation::EventRecord {
            if self.records.len() >= MAX_RECORDS {
                self.records.pop_front();
            }
            self.records.push_back((to, place));
        }
        let tid = line.tid.unwrap_or(0);
        let it = |rule, detail| Occurrence {
            rule,
            from,
            to,
            count: 1,
            cost_ns: took_ns,
            most_ns: took_ns,
            function,
            place,
            detail,
        };
        let mut found = Vec::new();
        let is_outermost = line.depth.unwrap_or(0) == 0;
        let is_inner_load = line.parent.is_some_and(|parent| parent.contains("Load"));
        let pause_ns = self.pause(tid, from, to, is_outermost);
        if role.other == Other::Load && !is_inner_load && line.ret.is_none_or(|ret| ret == 0) {
            let pause_ns = if is_outermost { pause_ns.unwrap_or(0) } else { 0 };
            let load = it(Rule::ModuleLoad, Detail::Pause(pause_ns));
            found.push(Occurrence { most_ns: took_ns.saturating_add(pause_ns), ..load });
        }
        if is_outermost {
            if let Some(ns) = pause_ns
                && role.other != Other::Load
                && self.launcher == Some(tid)
            {
                let pause = it(Rule::HostHeldUp, Detail::Pause(ns));
                let from = from.saturating_sub_unsigned(ns);
                found.push(Occurrence { from, to: line.ts_ns, cost_ns: ns, most_ns: ns, ..pause });
            }
            self.outermost(seen, ledger, &it, &mut found);
        }
        if is_asked {
            for it in found {
                self.wait_for_step(it);
            }
        }
        if role.operation == Operation::Launch && is_outermost && !is_captured {
            let run = self.blocked.launch(tid, function, place, from, took_ns);
            self.queue_full(run.filter(|_| is_asked));
        }
        self.settle(&ledger.rows, gaps);
    }

    /// How long the thread has made no call, if that is worth a look.
    fn pause(&mut self, tid: u32, from: i64, to: i64, is_outermost: bool) -> Option<u64> {
        if self.threads.len() >= MAX_THREADS {
            self.threads.clear();
        }
        let thread = self.threads.entry(tid).or_default();
        let pause_ns = thread.last_end.map_or(0, |end| from.saturating_sub(end));
        if is_outermost {
            thread.last_end = Some(to);
        }
        (pause_ns >= MIN_PAUSE_NS).then_some(pause_ns.unsigned_abs())
    }

    fn outermost(
        &mut self,
        seen: &Seen<'_>,
        ledger: &Ledger,
        it: &dyn Fn(Rule, Detail) -> Occurrence,
        found: &mut Vec<Occurrence>,
    ) {
        let Seen { line, role, is_captured, .. } = *seen;
        let is_runtime = line.api == Api::Runtime.type_name();
        if let Some(code) = line.ret
            && code != 0
            && role.returns_code
            && !ANSWERS.contains(&code)
        {
            found.push(it(Rule::Errors, Detail::Error { code, is_runtime }));
        }
        if line.ret.is_some_and(|ret| ret != 0) {
            if role.operation == Operation::EndCapture {
                self.capturing.remove(&line.stream.map_or(0, |stream| stream.0));
            }
            return;
        }
        let tid = line.tid.unwrap_or(0);
        if role.other == Other::CreateStream {
            found.push(it(Rule::StreamCreation, Detail::None));
        } else if role.other == Other::Import {
            self.pinned.blind();
        }
        if let Some(action) = role.action {
            self.pinned.follow(action, line);
            let is_lazy = role.is_async || matches!(action, Action::Allocate(Kind::Async));
            if !is_lazy && (action != Action::Free || line.ptr.is_none_or(|ptr| ptr.0 != 0)) {
                found.push(it(
                    Rule::AllocationInStep,
                    line.bytes.map_or(Detail::None, Detail::Bytes),
                ));
            }
        }
        match role.operation {
            Operation::Launch | Operation::GraphLaunch if !is_captured => {
                self.launcher = Some(tid);
                self.blocked.queued();
            }
            Operation::StreamSynchronize
            | Operation::DeviceSynchronize
            | Operation::EventSynchronize => {
                let run = self.blocked.wait(tid);
                self.queue_full(run.filter(|_| seen.is_asked));
                let is_output = line
                    .event
                    .is_some_and(|event| ledger.is_output(event.0, line.ts_ns, line.end_ns()));
                let is_long = line.dur_ns.is_some_and(|ns| ns >= MIN_WAIT_NS);
                if is_long && !is_output && self.launcher == Some(tid) {
                    found.push(it(Rule::SyncInStep, Detail::None));
                }
            }
            Operation::Copy if !is_captured => self.copy(line, role, it, found),
            Operation::Set if !role.is_async && !is_captured => {
                found.push(it(Rule::SyncCopy, line.bytes.map_or(Detail::None, Detail::Bytes)));
            }
            Operation::EventCreate => found.push(it(Rule::EventCreation, Detail::None)),
            _ => self.graphs(line, role, it, found),
        }
    }

    fn copy(
        &self,
        line: &CallView<'_>,
        role: Role,
        it: &dyn Fn(Rule, Detail) -> Occurrence,
        found: &mut Vec<Occurrence>,
    ) {
        let detail = line.bytes.map_or(Detail::None, Detail::Bytes);
        if !role.is_async {
            // On the device alone nobody waits.
            if line.kind != Some("DtoD") {
                found.push(it(Rule::SyncCopy, detail));
            }
            return;
        }
        let host = match line.kind {
            Some("HtoD") => line.src,
            Some("DtoH") => line.dst,
            _ => None,
        };
        if host.is_some_and(|host| self.pinned.is_pageable(host.0)) {
            found.push(it(Rule::PageableCopy, detail));
        }
    }

    fn graphs(
        &mut self,
        line: &CallView<'_>,
        role: Role,
        it: &dyn Fn(Rule, Detail) -> Occurrence,
        found: &mut Vec<Occurrence>,
    ) {
        let graph = line.graph.map(|graph| graph.0);
        match role.operation {
            Operation::BeginCapture => {
                if self.capturing.len() < MAX_GRAPHS {
                    self.capturing.insert(line.stream.map_or(0, |stream| stream.0), line.ts_ns);
                }
                // Whoever captures waits for the GPU first.
                let begins = line.ts_ns.saturating_sub(CAPTURE_LEAD_NS);
                for wait in self.pending.iter_mut().rev().take_while(|it| it.to >= begins) {
                    if wait.rule == Rule::SyncInStep {
                        (wait.rule, wait.count) = (Rule::CaptureWhileServing, 0);
                    }
                }
            }
            Operation::EndCapture => {
                let stream = line.stream.map_or(0, |stream| stream.0);
                let Some(from) = self.capturing.remove(&stream) else { return };
                if let Some(graph) = graph
                    && self.captured.len() < MAX_GRAPHS
                {
                    self.captured.insert(graph);
                }
                let cost_ns = line.end_ns().saturating_sub(from).try_into().unwrap_or(0);
                let capture = it(Rule::CaptureWhileServing, Detail::None);
                found.push(Occurrence { from, cost_ns, most_ns: cost_ns, ..capture });
            }
            Operation::Instantiate => {
                // The first instantiation belongs to the capture.
                if graph.is_some_and(|graph| self.captured.remove(&graph)) {
                    let part = it(Rule::CaptureWhileServing, Detail::None);
                    found.push(Occurrence { count: 0, ..part });
                } else {
                    found.push(it(Rule::GraphReinstantiation, Detail::None));
                }
            }
            Operation::ExecutableDestroy => {
                if self.destroyed.len() >= MAX_DESTROYED {
                    self.destroyed.pop_front();
                    self.has_forgotten = true;
                }
                self.destroyed.push_back(line.ts_ns);
            }
            _ => {}
        }
    }

    /// Whether all graphs that were there at the one time were still there at the other.
    pub(super) fn has_kept_graphs(&self, from: i64, to: i64) -> bool {
        !self.has_forgotten && !self.destroyed.iter().any(|at| (from..=to).contains(at))
    }

    fn queue_full(&mut self, run: Option<Run>) {
        let Some(Run { from, to, long, excess_ns, queued, function, place, .. }) = run else {
            return;
        };
        self.wait_for_step(Occurrence {
            rule: Rule::QueueFull,
            from,
            to,
            count: long,
            cost_ns: excess_ns,
            most_ns: excess_ns,
            function,
            place,
            detail: Detail::Queued(queued),
        });
    }

    fn wait_for_step(&mut self, it: Occurrence) {
        if self.pending.len() >= MAX_PENDING
            && let Some(lost) = self.pending.pop_front()
        {
            self.lost_until = self.lost_until.max(Some(lost.from));
        }
        self.pending.push_back(it);
    }

    /// Gives what waits to the steps that the ledger has found since.
    pub(super) fn settle(&mut self, rows: &[Row], gaps: &Gaps) {
        while let Some(row) = rows.get(self.marks.len()) {
            let at = self.marks.len();
            let before_ends = at.checked_sub(1).map(|before| {
                let before = &rows[before];
                before.queued.max(before.handed.unwrap_or(i64::MIN))
            });
            let record = self.records.iter().rev().find(|(ret, _)| *ret == row.queued);
            let place = record.map_or_else(Place::default, |&(_, place)| place);
            self.marks.push(Mark {
                queued: row.queued,
                place,
                found: 0,
                paused_ns: 0,
                longest_pause_ns: 0,
            });
            let (mut found, captured) = self.of_row(row, before_ends);
            if row.handed.is_some() && !self.is_serving {
                self.warm_up(row, before_ends, captured, &mut found, gaps);
            }
            for it in found {
                if self.is_serving {
                    self.add(it, at, gaps);
                } else {
                    if self.unconfirmed.len() >= MAX_PENDING
                        && let Some((_, lost)) = self.unconfirmed.pop_front()
                    {
                        self.lost_until = self.lost_until.max(Some(lost.from));
                    }
                    self.unconfirmed.push_back((at, it));
                }
            }
        }
    }

    /// What is before the first step for which somebody waits is no step, and neither is what an
    /// engine computes between its first captures.
    fn warm_up(
        &mut self,
        row: &Row,
        before_ends: Option<i64>,
        captured: Option<i64>,
        found: &mut Vec<Occurrence>,
        gaps: &Gaps,
    ) {
        self.waited += 1;
        self.calm = if captured.is_some() { 0 } else { self.calm + 1 };
        let captured = captured.filter(|_| self.waited < MAX_WARM_UP);
        if self.waited == 1 || captured.is_some() {
            self.unconfirmed.clear();
            found.retain(|it| captured.is_none_or(|captured| it.from >= captured));
            let start = before_ends.unwrap_or(i64::MIN).max(row.start - MAX_LEAD_NS);
            self.lost_until = self.lost_until.filter(|&lost| lost >= start);
        }
        if self.calm >= MIN_CALM || self.waited >= MAX_WARM_UP {
            self.is_serving = true;
            self.confirm(0, gaps);
        }
    }

    /// What was found in the step, or right in front of it; and when the last capture ended, wherever
    /// since the step before.
    fn of_row(&mut self, row: &Row, before_ends: Option<i64>) -> (Vec<Occurrence>, Option<i64>) {
        let mut taken = Vec::new();
        self.pending.retain(|it| {
            let is_taken = it.from < row.queued;
            if is_taken {
                taken.push(*it);
            }
            !is_taken
        });
        let captures = taken.iter().filter(|it| it.rule == Rule::CaptureWhileServing);
        let captured = captures.map(|it| it.to).max();
        taken.sort_by_key(|it| (std::cmp::Reverse(it.to), it.from));
        // From the step backwards: what follows on something else without a long pause.
        let mut since = row.start;
        taken.retain(|it| {
            let is_inside = it.from >= row.start && it.to <= row.queued;
            match it.rule {
                Rule::SyncInStep | Rule::HostHeldUp => return is_inside,
                _ if is_inside => return true,
                _ => {}
            }
            let follows = before_ends.is_some_and(|ends| it.from <= ends);
            let leads = since.saturating_sub(it.to) <= MAX_LEAD_NS;
            if leads {
                since = since.min(it.from);
            }
            leads || follows
        });
        (taken, captured)
    }

    /// A segment has ended, without a gap if it is whole.
    pub(super) fn segment_ended(&mut self, is_whole: bool) {
        for tally in self.tallies.values_mut().chain(self.pauses.values_mut()) {
            tally.settle(is_whole);
        }
    }

    fn add(&mut self, it: Occurrence, row: usize, gaps: &Gaps) {
        let since = row.checked_sub(1).map_or(i64::MIN, |before| self.marks[before].queued);
        let certainty = gaps.certainty(since.min(it.from), it.to.max(self.marks[row].queued));
        self.marks[row].found |= 1 << it.rule as u32;
        match it.rule {
            Rule::HostHeldUp => {
                let mark = &mut self.marks[row];
                mark.paused_ns = mark.paused_ns.saturating_add(it.cost_ns);
                mark.longest_pause_ns = mark.longest_pause_ns.max(it.cost_ns);
                self.pauses.entry(size_class(it.cost_ns)).or_default().add(it, row, certainty);
            }
            rule => self.tallies.entry(rule).or_default().add(it, row, certainty),
        }
    }

    /// Steps from `first` on were steps, though this process has never waited for one: a rank.
    pub(super) fn confirm(&mut self, first: usize, gaps: &Gaps) {
        for (row, it) in std::mem::take(&mut self.unconfirmed) {
            if row >= first {
                self.add(it, row, gaps);
            }
        }
    }

    /// Whether occurrences of steps from then on were given up.
    pub(super) fn has_lost(&self, since: i64) -> bool {
        self.lost_until.is_some_and(|lost| lost >= since)
    }
}

/// Four classes to each power of two.
pub(super) fn size_class(ns: u64) -> u32 {
    let ns = ns.max(4);
    let log = ns.ilog2();
    log * 4 + u32::try_from(ns >> (log - 2) & 3).expect("two bits")
}

/// The least that is of this class.
pub(super) fn least_of_class(class: u32) -> u64 {
    (4 + u64::from(class % 4)) << (class / 4 - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_the_class_that_begins_below_them() {
        for ns in [4, 5, 7, 8, 1000, 1_000_000, 1_310_720, u64::MAX] {
            let least = least_of_class(size_class(ns));
            assert!(least <= ns && ns as f64 <= least as f64 * 1.26, "{ns} {least}");
        }
    }
}
