//! The steps of one process, found in its calls.
//!
//! A step ends where its output is queued for the host: a copy to the host, and behind it, on the same
//! stream and by the same thread, the record of an event for which somebody waits later. It begins
//! with the work that follows the step before, after the longest pause in front of its first input:
//! what comes sooner belongs to the step before (bookkeeping, draft tokens).

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
};

use trace::call_view::CallView;

use super::{
    capture::{Captures, Votes, Widths},
    completion::{Interval, Output, StreamOrder},
    fingerprint::Fingerprint,
    operation::Operation,
};
use crate::context::function::Hasher;

/// `cudaErrorNotReady` and `CUDA_ERROR_NOT_READY`.
const NOT_READY: u32 = 600;

/// Work before such a pause is no part of the step behind it.
pub(super) const LONG_PAUSE_NS: i64 = 1_000_000_000;

/// The least that is handed out for a request: a token id or a count, of 32 bits or of 64.
const BYTES_OF_AN_OUTPUT: u64 = 4;
const MAX_BYTES_OF_AN_OUTPUT: u64 = 8;
const ITEM_SIZES: [u64; 2] = [BYTES_OF_AN_OUTPUT, MAX_BYTES_OF_AN_OUTPUT];

/// Positions are numbers of 64 bits.
const BYTES_OF_A_POSITION: u64 = 8;

/// Of a step; what lies beyond is counted, but not looked at.
const MAX_INPUTS: usize = 64;
const MAX_GRAPHS: usize = 1024;

const MAX_THREADS: usize = 65_536;

/// Launches of a step whose times are kept.
const MAX_LAUNCHED: usize = 4096;

/// No trace is so long; times up to here can be subtracted.
const MAX_TIME_NS: i64 = 1 << 61;

/// A graph that holds this part of all kernels in the graphs of a step is the whole model.
const WHOLE_MODEL: f64 = 0.8;

/// How the model ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::questions) enum GraphMode {
    /// One graph for the whole model.
    Full,
    /// Graphs for pieces of it, and attention between them.
    Piecewise,
    /// No graph.
    None,
}

impl GraphMode {
    /// As vLLM writes it.
    pub(in crate::questions) fn name(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Piecewise => "PIECEWISE",
            Self::None => "NONE",
        }
    }
}

/// One step; times are since the start of the run.
#[derive(Debug, Clone)]
pub(in crate::questions) struct Row {
    pub start: i64,
    /// When its output was queued for the host.
    pub queued: i64,
    pub low: i64,
    pub high: Option<i64>,
    pub estimate: Option<i64>,
    pub handed: Option<i64>,
    /// In calls that do not wait.
    pub api_ns: u64,
    /// For the output.
    pub wait_ns: u64,
    /// In all other calls that wait.
    pub other_wait_ns: u64,
    pub fingerprint: u64,
    pub launches: u32,
    pub graph_launches: u32,
    pub copies: u32,
    pub mode: GraphMode,
    pub graph_tokens: Option<u32>,
    /// 0 if its output does not tell; known when all steps are.
    pub requests: u32,
    /// Without padding; known when all steps are.
    pub tokens: Option<u32>,
    /// What both are taken from.
    pub read: OutputRead,
    /// It copies from what the step before has sampled.
    pub is_fed: bool,
    /// It follows a long pause.
    pub is_rested: bool,
    /// The estimate lies between two calls that are close to each other.
    pub is_polled: bool,
    /// What was queued for it up to its output, as [`Ledger::call`] numbers it.
    pub works: Range<u64>,
    /// When the last of that was called, or the output was queued, if that was later.
    pub queued_last: i64,
    /// When the calls of its launches began, where they are kept.
    pub launched: Vec<i64>,
    /// Captures before it: since when, until when.
    pub captured: Option<(i64, i64)>,
}

/// Calls between two outputs.
#[derive(Debug, Default)]
struct Part {
    start: Option<i64>,
    first_work: Option<u64>,
    last_work: i64,
    fingerprint: Fingerprint,
    launches: u32,
    graph_launches: u32,
    copies: u32,
    api_ns: u64,
    other_wait_ns: u64,
    inputs: Vec<u64>,
    graphs: Vec<u64>,
    votes: Votes,
    is_fed: bool,
    is_rested: bool,
    launched: Vec<i64>,
}

/// A step whose output is queued.
#[derive(Debug)]
struct Queued {
    part: Part,
    works: Range<u64>,
    since: i64,
    read: OutputRead,
    mode: GraphMode,
    graph_tokens: Option<u32>,
    captured: Option<(i64, i64)>,
}

/// What an output says if its items have 32 bits, and if they have 64.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::questions) struct OutputRead {
    requests: [u32; 2],
    tokens: [Option<u32>; 2],
    vote: Option<ItemSize>,
}

/// Of an output's items, by what a step tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ItemSize {
    Small,
    Large,
}

/// What the copies of an output say of one request.
#[derive(Debug, Clone, Copy)]
struct OutputBytes {
    /// Of the smallest copy.
    least: u64,
    /// Another copy is twice as large: numbers of 32 bits beside numbers of 64.
    has_double: bool,
}

impl OutputBytes {
    fn of(bytes: u64) -> Self {
        Self { least: bytes, has_double: false }
    }

    fn add(&mut self, bytes: u64) {
        let [least, other] = [self.least.min(bytes), self.least.max(bytes)];
        self.has_double &= least == self.least;
        self.has_double |= other == least.saturating_mul(2);
        self.least = least;
    }

    /// Small items are as many as the tokens in a step that decodes; large ones would be twice as
    /// many as there are tokens if they were small. Captures pad, and single grids mislead: a step
    /// tells of itself alone.
    fn vote(self, most: Option<u32>) -> Option<ItemSize> {
        let most = most.map(u64::from).filter(|_| !self.has_double)?;
        let items = self.least / BYTES_OF_AN_OUTPUT;
        if items == most {
            Some(ItemSize::Small)
        } else if items > most && self.least / MAX_BYTES_OF_AN_OUTPUT <= most {
            Some(ItemSize::Large)
        } else {
            None
        }
    }

    /// How many requests got a token; 0 if there are more than tokens, as of a model that embeds.
    fn requests(self, usual: u64, most: Option<u32>) -> u32 {
        let bytes = if self.has_double { BYTES_OF_AN_OUTPUT } else { usual };
        let requests = u32::try_from(self.least / bytes).unwrap_or(0);
        if most.is_some_and(|most| requests > most) { 0 } else { requests }
    }
}

/// Copies to the host that no event follows yet.
#[derive(Debug)]
struct Copying {
    stream: u64,
    copied: Interval,
    bytes: OutputBytes,
    sources: Vec<(u64, u64)>,
    is_direct: bool,
}

#[derive(Debug, Default)]
struct Thread {
    /// The latest call inside one that has not returned yet: the driver's part of it.
    inner: Option<(Operation, Interval, Direction)>,
    copying: Vec<Copying>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToDevice,
    ToHost,
    OnDevice,
    Unknown,
}

impl Direction {
    fn of(kind: Option<&str>) -> Self {
        match kind {
            Some("HtoD") => Self::ToDevice,
            Some("DtoH") => Self::ToHost,
            Some("DtoD") => Self::OnDevice,
            _ => Self::Unknown,
        }
    }
}

/// What is known of one process while its calls are read.
#[derive(Debug, Default)]
pub(in crate::questions) struct Ledger {
    order: StreamOrder,
    captures: Captures,
    captured: Option<(i64, i64)>,
    /// Of launches outside graphs.
    widths: Widths,
    threads: HashMap<u32, Thread, Hasher>,
    part: Part,
    /// The part's beginning is settled: an input has come.
    has_input: bool,
    longest_pause: i64,
    last_work: Option<i64>,
    /// Kernels, graphs, copies and fills so far.
    works: u64,
    /// What the latest output was copied from.
    sources: Vec<(u64, u64)>,
    queued: VecDeque<Queued>,
    /// Rows have the times of their launches.
    keeps_launches: bool,
    pub rows: Vec<Row>,
    /// Calls whose end is not known: they prove nothing.
    pub entries: u64,
}

impl Ledger {
    pub(in crate::questions) fn with_launches() -> Self {
        Self { keeps_launches: true, ..Self::default() }
    }

    /// Whether anything was copied to the host with an event behind it.
    pub(in crate::questions) fn has_outputs(&self) -> bool {
        !self.rows.is_empty() || !self.queued.is_empty()
    }

    /// The number of the work in its process, if the call is the outermost of one that queued any.
    pub(in crate::questions) fn call(
        &mut self,
        operation: Operation,
        line: &CallView<'_>,
        is_per_thread: bool,
    ) -> Option<u64> {
        if line.is_entry() {
            self.entries += 1;
            return None;
        }
        let whole = Interval { entry: line.ts_ns, ret: line.end_ns() };
        if whole.entry < -MAX_TIME_NS || whole.ret > MAX_TIME_NS {
            return None;
        }
        let tid = line.tid.unwrap_or(0);
        self.learn_end(operation, line, whole, stream_of(line, is_per_thread, tid));
        if self.threads.len() >= MAX_THREADS {
            self.threads.clear();
        }
        let thread = self.threads.entry(tid).or_default();
        let direction = Direction::of(line.kind);
        if line.depth.unwrap_or(0) > 0 {
            if operation != Operation::Other {
                thread.inner = Some((operation, whole, direction));
            }
            return None;
        }
        // The driver's call is the one that counts: the runtime may go on long after it.
        let inner = thread.inner.take().filter(|(inner, call, _)| {
            *inner == operation && call.entry >= whole.entry && call.ret <= whole.ret
        });
        let call = inner.map_or(whole, |(_, call, _)| call);
        let direction = match inner {
            Some((.., inner)) if direction == Direction::Unknown => inner,
            _ => direction,
        };
        self.account(operation, line, whole);
        let works = self.works;
        // A capture that fails to end has ended all the same.
        if line.ret.is_none_or(|ret| ret == 0) || operation == Operation::EndCapture {
            let stream = stream_of(line, is_per_thread, tid);
            self.outermost(operation, line, call, direction, stream, tid);
        }
        (self.works > works).then_some(works)
    }

    /// Whether a call on this event is about the output of a step.
    pub(in crate::questions) fn is_output(&self, event: u64, entry: i64, ret: i64) -> bool {
        self.order.is_output(event, Interval { entry, ret })
    }

    /// The rows of all steps, when no more calls come.
    pub(in crate::questions) fn finish(&mut self) {
        // No input has come: it belongs to the latest step, as it would in front of a pause. Calls
        // that queue nothing may be the end of the program.
        if !self.has_input && !self.part.is_rested {
            let rest = std::mem::take(&mut self.part);
            let rest = Part { api_ns: 0, other_wait_ns: 0, ..rest };
            if let Some(Queued { part, .. }) = self.queued.back_mut() {
                part.append(rest);
            }
        }
        while let Some(output) = self.order.next_left() {
            self.settle(output);
        }
        self.read_outputs();
    }

    /// All outputs of a process have items of the same size, that which more of its steps tell. What
    /// was computed before the first step was a trial, of sizes that tell nothing.
    fn read_outputs(&mut self) {
        let first = self.rows.iter().position(|row| row.handed.is_some()).unwrap_or(0);
        let votes = self.rows[first..].iter().filter_map(|row| row.read.vote);
        let (mut small, mut large) = (0_usize, 0_usize);
        for vote in votes {
            match vote {
                ItemSize::Small => small += 1,
                ItemSize::Large => large += 1,
            }
        }
        let size = usize::from(large > small);
        for row in &mut self.rows {
            row.requests = row.read.requests[size];
            row.tokens = row.read.tokens[size];
        }
    }

    /// Calls are missing here: what was recorded, copied or waited for in them is not known.
    pub(in crate::questions) fn forget_order(&mut self) {
        self.order.forget();
        self.captures.forget_open();
        self.threads.clear();
        self.part = Part::default();
        self.has_input = false;
    }

    /// The end of a capture may be missing: what comes later is done, not captured.
    pub(in crate::questions) fn forget_captures(&mut self) {
        self.captures.forget_open();
    }

    /// Waits and queries tell what the GPU has done, in the driver sooner than in the runtime.
    fn learn_end(
        &mut self,
        operation: Operation,
        line: &CallView<'_>,
        call: Interval,
        stream: Option<u64>,
    ) {
        let is_wait = operation.is_wait();
        match (operation, line.ret, line.event, stream) {
            (Operation::EventSynchronize | Operation::EventQuery, Some(0), Some(event), _) => {
                self.order.event_done(event.0, call, is_wait);
            }
            (Operation::EventQuery, Some(NOT_READY), Some(event), _) => {
                self.order.event_not_ready(event.0, call);
            }
            (Operation::StreamSynchronize | Operation::StreamQuery, Some(0), _, Some(stream)) => {
                self.order.stream_done(stream, call);
            }
            _ => return,
        }
        while let Some(output) = self.order.next_settled() {
            self.settle(output);
        }
    }

    fn account(&mut self, operation: Operation, line: &CallView<'_>, call: Interval) {
        let ns = u64::try_from(call.ret - call.entry).unwrap_or(0);
        if !operation.is_wait() {
            self.part.api_ns = self.part.api_ns.saturating_add(ns);
        } else if !line.event.is_some_and(|event| self.order.is_output(event.0, call)) {
            self.part.other_wait_ns = self.part.other_wait_ns.saturating_add(ns);
        }
    }

    fn outermost(
        &mut self,
        operation: Operation,
        line: &CallView<'_>,
        call: Interval,
        direction: Direction,
        stream: Option<u64>,
        tid: u32,
    ) {
        if let Some(stream) = stream
            && operation.is_queued()
            && !self.captures.is_capturing(stream)
        {
            self.order.work(stream, tid);
        }
        let event = line.event.map(|event| event.0);
        let graph = line.graph.map(|graph| graph.0);
        let executable = line.graph_exec.map(|executable| executable.0);
        match operation {
            Operation::Launch => self.launch(line, call, stream),
            Operation::GraphLaunch => self.graph_launch(executable, call),
            Operation::Copy => self.copy(line, call, direction, stream, tid),
            Operation::Set => {
                if !stream.is_some_and(|stream| self.captures.is_capturing(stream)) {
                    self.work(call);
                }
            }
            Operation::EventCreate | Operation::EventDestroy => {
                if let Some(event) = event {
                    self.order.forget_event(event);
                }
            }
            Operation::EventRecord => {
                if let (Some(event), Some(stream)) = (event, stream) {
                    self.record(event, stream, call, tid);
                }
            }
            Operation::StreamWaitEvent => {
                if let (Some(event), Some(stream)) = (event, stream) {
                    self.stream_wait(event, stream, call, tid);
                }
            }
            Operation::StreamSynchronize => {
                let thread = self.threads.entry(tid).or_default();
                thread.copying.retain(|copying| Some(copying.stream) != stream);
            }
            Operation::DeviceSynchronize => self.threads.entry(tid).or_default().copying.clear(),
            Operation::StreamDestroy => {
                if let Some(stream) = stream {
                    self.order.forget_stream(stream);
                }
            }
            Operation::BeginCapture => {
                let (since, until) = self.captured.unwrap_or((call.entry, call.ret));
                self.captured = Some((since.min(call.entry), until.max(call.ret)));
                if let Some(stream) = stream {
                    self.captures.begin(stream);
                }
            }
            Operation::EndCapture => {
                if let Some(stream) = stream {
                    self.captures.end(stream, graph);
                }
            }
            Operation::Instantiate => {
                if let Some((_, until)) = &mut self.captured {
                    *until = (*until).max(call.ret);
                }
                self.captures.instantiate(graph, executable);
            }
            Operation::ExecutableUpdate | Operation::ExecutableDestroy => {
                if let Some(executable) = executable {
                    self.captures.forget_executable(executable);
                }
            }
            Operation::GraphDestroy => {
                if let Some(graph) = graph {
                    self.captures.forget_graph(graph);
                }
            }
            Operation::EventQuery
            | Operation::EventSynchronize
            | Operation::StreamQuery
            | Operation::Other => {}
        }
    }

    fn launch(&mut self, line: &CallView<'_>, call: Interval, stream: Option<u64>) {
        let kernel = match (line.kernel, line.function) {
            (Some(kernel), _) => u64::from(kernel),
            (None, Some(function)) => function.0 | 1 << 63,
            (None, None) => u64::MAX,
        };
        let [grid, block] = [line.grid, line.block].map(Option::unwrap_or_default);
        let shape = [kernel, word(grid), word(block)];
        if let Some(stream) = stream
            && self.captures.launch(stream, kernel, line.grid, &shape)
        {
            return;
        }
        self.work(call);
        self.part.votes.launch(kernel, line.grid);
        self.part.fingerprint.add(&shape);
        self.part.launches += 1;
        self.launched(call);
    }

    fn launched(&mut self, call: Interval) {
        if self.keeps_launches && self.part.launched.len() < MAX_LAUNCHED {
            self.part.launched.push(call.entry);
        }
    }

    fn graph_launch(&mut self, executable: Option<u64>, call: Interval) {
        self.work(call);
        self.part.graph_launches += 1;
        self.launched(call);
        let Some(executable) = executable else { return };
        match self.captures.executable(executable) {
            Some(captured) => self.part.fingerprint.extend(captured.fingerprint),
            None => self.part.fingerprint.add(&[executable]),
        }
        if self.part.graphs.len() < MAX_GRAPHS {
            self.part.graphs.push(executable);
        }
    }

    fn copy(
        &mut self,
        line: &CallView<'_>,
        call: Interval,
        direction: Direction,
        stream: Option<u64>,
        tid: u32,
    ) {
        if stream.is_some_and(|stream| self.captures.is_capturing(stream)) {
            return;
        }
        self.work(call);
        self.part.copies += 1;
        let bytes = line.bytes.unwrap_or(0);
        match direction {
            Direction::ToDevice => {
                self.has_input = true;
                if self.part.inputs.len() < MAX_INPUTS {
                    self.part.inputs.push(bytes);
                }
            }
            Direction::OnDevice => {
                // Larger copies come from memory that has been used anew.
                let is_source = |address: u64| {
                    let to = address.saturating_add(bytes);
                    self.sources.iter().any(|&(from, end)| from <= address && to <= end)
                };
                self.part.is_fed |= line.src.is_some_and(|src| is_source(src.0));
            }
            Direction::ToHost => {
                let Some(stream) = stream else { return };
                let source = line.src.map(|src| (src.0, src.0.saturating_add(bytes)));
                let copying = &mut self.threads.entry(tid).or_default().copying;
                match copying.iter_mut().find(|copying| copying.stream == stream) {
                    Some(copying) => {
                        copying.copied = call;
                        copying.bytes.add(bytes);
                        copying.sources.extend(source);
                        copying.is_direct = true;
                    }
                    None => copying.push(Copying {
                        stream,
                        copied: call,
                        bytes: OutputBytes::of(bytes),
                        sources: source.into_iter().collect(),
                        is_direct: true,
                    }),
                }
            }
            Direction::Unknown => {}
        }
    }

    fn stream_wait(&mut self, event: u64, stream: u64, call: Interval, tid: u32) {
        if self.captures.stream_wait(stream, event) {
            return;
        }
        self.order.stream_wait(stream, event, call, tid);
        for copying in self.threads.values_mut().flat_map(|thread| &mut thread.copying) {
            copying.is_direct &= copying.stream != stream;
        }
    }

    fn record(&mut self, event: u64, stream: u64, call: Interval, tid: u32) {
        if self.captures.record(event, stream) {
            self.order.forget_event(event);
            return;
        }
        let copying = &mut self.threads.entry(tid).or_default().copying;
        let at = copying.iter().position(|copying| copying.stream == stream);
        let has_work = self.part.launches + self.part.graph_launches > 0;
        let output = at.map(|at| copying.swap_remove(at)).filter(|_| has_work);
        let Some(Copying { copied, bytes, sources, is_direct, .. }) = output else {
            self.order.record(event, stream, call, tid);
            return;
        };
        if self.order.output(stream, copied, event, call, is_direct, tid).is_none() {
            return;
        }
        self.sources = sources;
        self.has_input = false;
        self.longest_pause = -1;
        let queued = self.queue(call.ret, bytes);
        self.queued.push_back(queued);
        while let Some(output) = self.order.next_settled() {
            self.settle(output);
        }
    }

    fn queue(&mut self, since: i64, output: OutputBytes) -> Queued {
        let part = std::mem::take(&mut self.part);
        let works = part.first_work.unwrap_or(self.works)..self.works;
        let (mode, graph_tokens) = self.graphs(&part);
        let by_grids = match mode {
            GraphMode::None => {
                self.widths.learn(&part.votes);
                self.widths.tokens(&part.votes, &self.captures.widths)
            }
            GraphMode::Full | GraphMode::Piecewise => None,
        };
        let most = graph_tokens.or(by_grids);
        let requests = ITEM_SIZES.map(|bytes| output.requests(bytes, most));
        let tokens = requests.map(|requests| {
            let is_possible = |tokens: &u32| {
                *tokens >= requests && graph_tokens.is_none_or(|padded| *tokens <= padded)
            };
            by_positions(&part.inputs, is_possible).or(by_grids.filter(is_possible))
        });
        let read = OutputRead { requests, tokens, vote: output.vote(most) };
        Queued { part, works, since, read, mode, graph_tokens, captured: self.captured }
    }

    /// How the graphs of a step make up the model, and for how many tokens they were captured.
    fn graphs(&self, part: &Part) -> (GraphMode, Option<u32>) {
        let executables = part.graphs.iter().map(|&graph| self.captures.executable(graph));
        let known: Vec<_> = executables.clone().flatten().collect();
        let all: u32 = known.iter().map(|captured| captured.launches).sum();
        let largest = known.iter().max_by_key(|captured| captured.launches);
        let is_whole = known.len() == part.graphs.len()
            && largest.is_some_and(|it| f64::from(it.launches) > f64::from(all) * WHOLE_MODEL);
        let mode = match part.graph_launches {
            0 => return (GraphMode::None, None),
            1 => GraphMode::Full,
            _ if is_whole => GraphMode::Full,
            _ => GraphMode::Piecewise,
        };
        let tokens = if let (GraphMode::Full, Some(largest)) = (mode, largest) {
            self.captures.widths.tokens(&largest.votes, &self.widths)
        } else {
            let mut votes = Votes::default();
            for captured in &known {
                votes.merge(&captured.votes);
            }
            self.captures.widths.tokens(&votes, &self.widths)
        };
        (mode, tokens)
    }

    /// Finds where the step begins, before the work itself is counted.
    fn work(&mut self, call: Interval) {
        let since = self.last_work.unwrap_or_else(|| {
            // The trace may begin within a step.
            self.longest_pause = i64::MAX;
            call.entry
        });
        let pause = call.entry - since;
        self.last_work = Some(since.max(call.ret));
        if !self.has_input && pause > self.longest_pause {
            self.longest_pause = pause;
            let before = std::mem::take(&mut self.part);
            if let Some(Queued { part, .. }) = self.queued.back_mut() {
                part.append(before);
            }
        } else if pause >= LONG_PAUSE_NS {
            self.learn_trial();
            self.part = Part::default();
            self.has_input = false;
            self.longest_pause = pause;
        }
        self.part.is_rested |= pause >= LONG_PAUSE_NS;
        self.part.start.get_or_insert(call.entry);
        self.part.first_work.get_or_insert(self.works);
        self.part.last_work = self.part.last_work.max(call.entry);
        self.works += 1;
    }

    /// Trials without graphs show whose grids differ, too; beside graphs run kernels of other things.
    fn learn_trial(&mut self) {
        if self.part.graph_launches == 0 {
            self.widths.learn(&self.part.votes);
        }
    }

    fn settle(&mut self, output: Output) {
        let Some(queued) = self.queued.pop_front() else { return };
        let Queued { part, works, since, read, mode, graph_tokens, captured } = queued;
        // Contradictions come from lines that are missing: then nothing is proved.
        let high = output.high.filter(|&high| high >= output.low);
        self.rows.push(Row {
            start: part.start.unwrap_or(since),
            queued: since,
            low: output.low,
            high,
            estimate: output.estimate.filter(|_| high.is_some()),
            handed: output.handed,
            api_ns: part.api_ns,
            wait_ns: u64::try_from(output.waited_ns).unwrap_or(0),
            other_wait_ns: part.other_wait_ns,
            fingerprint: part.fingerprint.value(),
            launches: part.launches,
            graph_launches: part.graph_launches,
            copies: part.copies,
            mode,
            graph_tokens,
            captured,
            requests: 0,
            tokens: None,
            read,
            is_fed: part.is_fed,
            is_rested: part.is_rested,
            is_polled: output.is_polled,
            works,
            queued_last: part.last_work.max(since),
            launched: part.launched,
        });
    }
}

impl Part {
    /// What was found to belong to this step later.
    fn append(&mut self, more: Self) {
        let Self { fingerprint, launches, graph_launches, copies, launched, .. } = more;
        self.fingerprint.extend(fingerprint);
        self.launches += launches;
        self.graph_launches += graph_launches;
        self.copies += copies;
        self.launched.extend(launched);
        self.api_ns = self.api_ns.saturating_add(more.api_ns);
        self.other_wait_ns = self.other_wait_ns.saturating_add(more.other_wait_ns);
    }
}

/// The number of tokens for which two inputs of this step have a position each: of the tokens, and
/// of what they belong to. `None` if several numbers fit.
fn by_positions(inputs: &[u64], is_possible: impl Fn(&u32) -> bool) -> Option<u32> {
    let mut found = None;
    for (at, &bytes) in inputs.iter().enumerate() {
        let tokens = u32::try_from(bytes / BYTES_OF_A_POSITION).ok()?;
        let is_whole = bytes > 0 && bytes % BYTES_OF_A_POSITION == 0;
        if is_whole && is_possible(&tokens) && inputs[at + 1..].contains(&bytes) {
            if found.is_some_and(|other| other != tokens) {
                return None;
            }
            found = Some(tokens);
        }
    }
    found
}

/// One name for each stream: the default streams have several, and are those of a thread or of all.
fn stream_of(line: &CallView<'_>, is_per_thread: bool, tid: u32) -> Option<u64> {
    let of_thread = 1 << 63 | u64::from(tid);
    Some(match line.stream?.0 {
        0 if is_per_thread => of_thread,
        0 | 1 => 0,
        2 => of_thread,
        handle => handle,
    })
}

/// A shape as one number; shapes that differ hardly ever have the same.
fn word([x, y, z]: [u32; 3]) -> u64 {
    u64::from(x) | u64::from(y).rotate_left(32) ^ u64::from(z).rotate_left(48)
}

#[cfg(test)]
mod tests;
