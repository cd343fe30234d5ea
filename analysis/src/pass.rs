//! One pass over a run: every line once, to every question.

use std::{collections::HashMap, path::PathBuf};

use tables::read::Damaged;
use trace::{
    call_view::{CallView, LineView, Parser, from_milliseconds},
    line::{CloseReason, Coverage, CoverageCounts, CoverageKind, Meta, MetaLine, SegmentClose},
    reader::Reason,
};

use crate::{
    context::{Context, Place, function::Hasher},
    gap::{Cause, Gap},
    input::{
        RunFiles, Segment,
        location::Altered,
        pieces::{Piece, Pieces},
    },
    question::{Call, Question},
};

/// Lines of different threads may be this far out of order, as they enter the ring when their calls
/// return; an H200 under load showed 0.1 us.
const MAX_DISORDER_NS: i64 = 50_000;

/// Beyond 17 days a floating-point number of milliseconds has no nanoseconds.
const SAME_TIME_NS: u64 = 1000;

/// Times in a segment in which lines are out of order; beyond these, the last one is longer.
const MAX_LATE: usize = 64;

/// Threads whose order is watched; more do not fit into any machine's pid space of our time.
const MAX_THREADS: usize = 1 << 20;

/// The part of the run that was asked for, by the time at which a call began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    pub from: Option<Moment>,
    pub to: Option<Moment>,
}

#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// Nanoseconds since 1970.
    Unix(i64),
    /// Nanoseconds since the start of the run.
    Run(i64),
}

impl Window {
    fn is_everything(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }
}

/// Reads all segments of the run; gaps are told, nothing fails.
pub fn read(run: &RunFiles, window: &Window, questions: &mut [Box<dyn Question>]) -> Context {
    let context = Context {
        run: run.name.clone(),
        is_windowed: !window.is_everything(),
        ..Context::default()
    };
    let mut pass = Pass {
        context,
        questions,
        segment: State::default(),
        uncounted: None,
        order: Order::default(),
        coverage: None,
        is_entry_detail: false,
    };
    for gap in &run.gaps {
        pass.gap(gap.clone());
    }
    let mut pieces = Pieces::of(run.sources());
    let mut parser = Parser::default();
    for file in &run.files {
        let path = file.path().to_owned();
        pass.context.files.push(path.clone());
        let latest_ns = Some(pass.order.of_all_ns).filter(|_| !pass.order.latest.is_empty());
        pass.segment = State::new(path, file.sequence.is_some(), latest_ns);
        let mut number = 0;
        loop {
            match pieces.receive() {
                Some(Piece::Lines(buffer)) => {
                    pass.lines(buffer.bytes(), &mut number, &mut parser, window);
                    pieces.give_back(buffer);
                }
                Some(Piece::TooLong) => {
                    number += 1;
                    pass.bad(number, &Reason::TooLong);
                }
                Some(Piece::Failed(error)) => {
                    let (file, reason) = (file.path().to_owned(), error.to_string());
                    let inner = error.get_ref();
                    let is_altered = Damaged::is(&error)
                        || inner.and_then(|inner| inner.downcast_ref::<Altered>()).is_some();
                    pass.gap(Gap::anywhere(if is_altered {
                        Cause::Altered { file, reason }
                    } else {
                        Cause::Unreadable { file, reason }
                    }));
                }
                Some(Piece::End) | None => break,
            }
        }
        pass.segment_ended();
    }
    pass.ended(run);
    pass.context
}

/// When the last call of the run ended, since its start. Reads no more than its end, where that can be.
pub fn last_call_ns(run: &RunFiles) -> Option<i64> {
    let read = |files: &[Segment]| {
        let (name, gaps) = (run.name.clone(), Vec::new());
        let part = RunFiles { name, files: files.to_vec(), gaps };
        read(&part, &Window::default(), &mut []).time.last_ns
    };
    if run.files.iter().any(|file| file.exported.is_some()) {
        return read(&run.files);
    }
    run.files.iter().rev().find_map(|file| read(std::slice::from_ref(file)))
}

struct Pass<'a> {
    context: Context,
    questions: &'a mut [Box<dyn Question>],
    segment: State,
    /// Where segments before this one have no closing line.
    uncounted: Option<Uncounted>,
    order: Order,
    /// As the latest closing line has it.
    coverage: Option<CoverageCounts>,
    /// `TRACE_DETAIL=entry`: no line has a duration.
    is_entry_detail: bool,
}

/// Calls that no closing line has counted yet: the next one counts them, too.
struct Uncounted {
    from_ns: Option<i64>,
}

/// Of the segment that is being read.
#[derive(Default)]
struct State {
    path: PathBuf,
    /// By its name it begins and ends with a line that says so.
    is_segment: bool,
    /// Good and bad ones.
    lines: u64,
    has_opening: bool,
    /// Whether the closing line is the run's last one; `None` without any.
    is_final: Option<bool>,
    from_ns: Option<i64>,
    to_ns: Option<i64>,
    /// When the latest call of the segments before returned; `None` where there is none.
    latest_ns: Option<i64>,
    /// What was asked for, on the clock of the run.
    window: Option<(i64, i64)>,
    /// The first one's number, what is wrong with it, and how many there are.
    bad: Option<(u64, String, u64)>,
}

impl State {
    fn new(path: PathBuf, is_segment: bool, latest_ns: Option<i64>) -> Self {
        Self { path, is_segment, latest_ns, ..Self::default() }
    }
}

impl Pass<'_> {
    fn lines(&mut self, buffer: &[u8], number: &mut u64, parser: &mut Parser, window: &Window) {
        let mut start = 0;
        while start < buffer.len() {
            let end = memchr::memchr(b'\n', &buffer[start..]).map_or(buffer.len(), |at| start + at);
            let line = &buffer[start..end];
            start = end + 1;
            *number += 1;
            let file = u32::try_from(self.context.files.len() - 1).unwrap_or(u32::MAX);
            self.context.place = Place { file, line: *number };
            match parser.parse(line) {
                Ok(LineView::Call(call)) => self.call(&call, window),
                Ok(LineView::Meta(meta)) => self.meta(&meta, window),
                Err(_) if line.trim_ascii().is_empty() => {}
                Err(_) if end == buffer.len() => self.bad(*number, &Reason::Unfinished),
                Err(reason) => self.bad(*number, &reason),
            }
        }
    }

    fn call(&mut self, line: &CallView<'_>, window: &Window) {
        self.segment.lines += 1;
        let end_ns = line.end_ns();
        self.order.begins(line.ts_ns);
        // In a trace of whole calls, an entry stands where its thread ended or the sidecar stopped.
        if let Some(tid) = line.tid
            && line.is_entry() == self.is_entry_detail
            && !self.order.is_next(line.pid, tid, line.ts_ns, end_ns)
        {
            return;
        }
        let context = &mut self.context;
        let function = context.functions.intern(line.func);
        let process = context.processes.intern(line.pid);
        context.accounting.call(function);
        context.call_begins(line.ts_ns, end_ns);
        let call = Call { line, function, process };
        let (from, to) = *self.segment.window.get_or_insert_with(|| bounds(window, context));
        if line.ts_ns < from {
            for question in &mut *self.questions {
                question.call_before(&call, context);
            }
        } else if line.ts_ns < to {
            context.calls += 1;
            context.time.add(line.ts_ns, end_ns);
            for question in &mut *self.questions {
                question.call(&call, context);
            }
        }
        context.call_ended(line, function);
    }

    fn meta(&mut self, line: &MetaLine, window: &Window) {
        let segment = &mut self.segment;
        let ts_ns = from_milliseconds(line.ts);
        match &line.meta {
            Meta::SegmentOpen(open) => {
                let detail = open.options.get("trace_detail");
                self.is_entry_detail = detail.is_some_and(|detail| detail == "entry");
                segment.has_opening |= segment.lines == 0;
                // Calls that were on their way to the segment before are in this one.
                let behind = segment.latest_ns.map_or(ts_ns, |latest| latest.saturating_add(1));
                segment.from_ns = Some(ts_ns.min(behind));
            }
            Meta::SegmentClose(close) => {
                segment.is_final = Some(close.r#final || segment.is_final == Some(true));
                segment.to_ns = Some(ts_ns);
                self.context.accounting.close(close);
                self.close(close);
            }
            Meta::Coverage(coverage) => self.coverage(line.pid, ts_ns, coverage),
            Meta::Kernel(_) | Meta::Graph(_) | Meta::Process(_) => self.order.announce(ts_ns),
            Meta::Library(_) | Meta::Stage(_) => {}
        }
        self.segment.lines += 1;
        self.context.meta(line);
        if matches!(line.meta, Meta::SegmentOpen(_)) {
            self.segment.window = Some(bounds(window, &self.context));
        }
        for question in &mut *self.questions {
            question.meta(line, &self.context);
        }
    }

    fn close(&mut self, close: &SegmentClose) {
        self.coverage = close.coverage.or(self.coverage);
        if close.reason == CloseReason::Truncated {
            let file = self.segment.path.clone();
            self.gap(Gap::anywhere(Cause::Truncated { file }));
        }
    }

    /// The latest line of a process and a library holds.
    fn coverage(&mut self, pid: u32, ts_ns: i64, coverage: &Coverage) {
        let Coverage { coverage: kind, path, reason, .. } = coverage;
        let (path, reason) = (path.clone(), reason.clone().unwrap_or_default());
        let is_same = |gap: &Gap| match &gap.cause {
            Cause::Unseen { path: other, .. } | Cause::SeenFrom { path: other, .. } => {
                gap.pid == Some(pid) && *other == path
            }
            _ => false,
        };
        self.context.gaps.retain(|gap| !is_same(gap));
        let (cause, to_ns) = match kind {
            CoverageKind::Exact => return,
            CoverageKind::From => (Cause::SeenFrom { path, reason }, Some(ts_ns)),
            CoverageKind::Unseen => (Cause::Unseen { path, reason }, None),
        };
        self.gap(Gap { pid: Some(pid), to_ns, ..Gap::anywhere(cause) });
    }

    fn bad(&mut self, line: u64, reason: &Reason) {
        self.segment.lines += 1;
        let (.., count) = self.segment.bad.get_or_insert_with(|| (line, reason.to_string(), 0));
        *count += 1;
    }

    fn segment_ended(&mut self) {
        let bad = self.segment.bad.take();
        let State { path: file, is_segment, lines, has_opening, is_final, from_ns, to_ns, .. } =
            &self.segment;
        let (from_ns, to_ns) = (*from_ns, *to_ns);
        let mut causes = Vec::new();
        if *is_segment && !has_opening && *lines > 0 {
            causes.push(Cause::NoOpening { file: file.clone() });
        }
        if *is_segment && is_final.is_none() {
            causes.push(Cause::NotClosed { file: file.clone() });
        }
        if let Some((line, reason, count)) = bad {
            causes.push(Cause::BadLines { file: file.clone(), line, reason, count });
        }
        causes.extend(self.order.take());
        let in_segment = |cause| Gap { from_ns, to_ns, ..Gap::anywhere(cause) };
        for cause in causes {
            self.gap(in_segment(cause));
        }
        for Late { among, from_ns, to_ns, count } in std::mem::take(&mut self.order.late) {
            let (from_ns, to_ns) = (Some(from_ns), Some(to_ns));
            let (cause, pid) = match among {
                Among::Threads(pid) => (Cause::Late { count }, Some(pid)),
                Among::Processes => (Cause::Interleaved { count }, None),
                Among::All => (Cause::Late { count }, None),
            };
            self.gap(Gap { cause, function: None, pid, from_ns, to_ns });
        }
        let accounting = &mut self.context.accounting;
        let Some(found) = accounting.segment_ended(&self.context.functions) else {
            self.uncounted.get_or_insert(Uncounted { from_ns });
            return;
        };
        let from_ns = self.uncounted.take().map_or(from_ns, |uncounted| uncounted.from_ns);
        for (name, cause) in found {
            self.gap(Gap { function: Some(name), from_ns, to_ns, ..Gap::anywhere(cause) });
        }
    }

    fn ended(&mut self, run: &RunFiles) {
        let State { is_segment, is_final, .. } = self.segment;
        if is_segment && is_final != Some(true) && !run.files.is_empty() {
            self.gap(Gap::anywhere(Cause::NotEnded));
        }
        let Some(CoverageCounts { exact: _, from, unseen, events_lost, unexamined }) =
            self.coverage
        else {
            return;
        };
        let is_told =
            |gap: &&Gap| matches!(gap.cause, Cause::Unseen { .. } | Cause::SeenFrom { .. });
        let told = self.context.gaps.iter().filter(is_told).count() as u64;
        if let count @ 1.. = from.saturating_add(unseen).saturating_sub(told) {
            self.gap(Gap::anywhere(Cause::UnseenUntold { count }));
        }
        if events_lost > 0 {
            self.gap(Gap::anywhere(Cause::EventsLost { count: events_lost }));
        }
        if unexamined > 0 {
            self.gap(Gap::anywhere(Cause::Unexamined { count: unexamined }));
        }
    }

    fn gap(&mut self, gap: Gap) {
        for question in &mut *self.questions {
            question.gap(&gap, &self.context);
        }
        self.context.gaps.push(gap);
    }
}

/// In time since the start of the run; without a clock, times of day bound nothing.
fn bounds(window: &Window, context: &Context) -> (i64, i64) {
    let ts_ns = |moment: Moment| match moment {
        Moment::Run(ts_ns) => Some(ts_ns),
        Moment::Unix(unix_ns) => context.time.ts_ns(unix_ns),
    };
    (window.from.and_then(ts_ns).unwrap_or(i64::MIN), window.to.and_then(ts_ns).unwrap_or(i64::MAX))
}

/// Calls of one thread return one after the other: a line that does not follow is out of place.
#[derive(Default)]
struct Order {
    /// When the latest call of a thread returned, and when it began.
    latest: HashMap<(u32, u32), (i64, i64), Hasher>,
    /// When the latest call of a process returned.
    of_process_ns: HashMap<u32, i64, Hasher>,
    of_all_ns: i64,
    /// Of lines that tell what the next call means.
    announced_ns: Vec<i64>,
    repeated: u64,
    disordered: u64,
    late: Vec<Late>,
    misplaced: u64,
}

/// A time in which lines of different threads are out of order.
struct Late {
    among: Among,
    from_ns: i64,
    to_ns: i64,
    count: u64,
}

/// Whose lines are out of order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Among {
    /// Those of one process.
    Threads(u32),
    /// Those of several, each of which is in order.
    Processes,
    All,
}

impl Order {
    /// False for a line that stands there a second time.
    fn is_next(&mut self, pid: u32, tid: u32, begin_ns: i64, end_ns: i64) -> bool {
        let is_behind = |latest_ns: i64| end_ns < latest_ns.saturating_sub(MAX_DISORDER_NS);
        let has_room = self.of_process_ns.len() < MAX_THREADS;
        let among = if let Some(latest_ns) = self.of_process_ns.get_mut(&pid) {
            let before_ns = *latest_ns;
            *latest_ns = before_ns.max(end_ns);
            if is_behind(before_ns) { Among::Threads(pid) } else { Among::Processes }
        } else if has_room {
            self.of_process_ns.insert(pid, end_ns);
            Among::Processes
        } else {
            Among::All
        };
        if is_behind(self.of_all_ns) {
            self.is_late(among, begin_ns);
        }
        self.of_all_ns = self.of_all_ns.max(end_ns);
        if let Some(latest) = self.latest.get_mut(&(pid, tid)) {
            if *latest == (end_ns, begin_ns) {
                self.repeated += 1;
                return false;
            }
            if *latest >= (end_ns, begin_ns) && end_ns < latest.0 {
                self.disordered += 1;
            }
            *latest = (*latest).max((end_ns, begin_ns));
        } else if self.latest.len() < MAX_THREADS {
            self.latest.insert((pid, tid), (end_ns, begin_ns));
        }
        true
    }

    fn is_late(&mut self, among: Among, begin_ns: i64) {
        let is_full = self.late.len() >= MAX_LATE;
        match self.late.last_mut() {
            Some(last) if is_full || begin_ns <= last.to_ns => {
                if last.among != among {
                    last.among = Among::All;
                }
                last.from_ns = last.from_ns.min(begin_ns);
                last.to_ns = last.to_ns.max(self.of_all_ns);
                last.count += 1;
            }
            _ => self.late.push(Late { among, from_ns: begin_ns, to_ns: self.of_all_ns, count: 1 }),
        }
    }

    /// Such a line has the time of the call behind it.
    fn announce(&mut self, ts_ns: i64) {
        if self.announced_ns.last() != Some(&ts_ns) {
            self.announced_ns.push(ts_ns);
        }
    }

    fn begins(&mut self, ts_ns: i64) {
        let is_other = |announced: &i64| announced.abs_diff(ts_ns) > SAME_TIME_NS;
        self.misplaced += self.announced_ns.drain(..).filter(is_other).count() as u64;
    }

    /// What was found in the segment, by its causes.
    fn take(&mut self) -> Vec<Cause> {
        self.misplaced += self.announced_ns.drain(..).count() as u64;
        let causes = [
            (&mut self.repeated, (|count| Cause::Repeated { count }) as fn(u64) -> Cause),
            (&mut self.disordered, |count| Cause::OutOfOrder { count }),
            (&mut self.misplaced, |count| Cause::Misplaced { count }),
        ];
        causes
            .into_iter()
            .map(|(count, cause)| (std::mem::take(count), cause))
            .filter(|(count, _)| *count > 0)
            .map(|(count, cause)| cause(count))
            .collect()
    }
}
