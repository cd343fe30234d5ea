//! `startup`: where the time before a process's first step went.

mod stages;
mod work;

use std::collections::BTreeMap;

use trace::line::{Meta, MetaLine};

use self::{
    stages::{Landmarks, Mark, Name, Stage},
    work::{Counter, Sign},
};
use super::{
    memory::live::{self, Action, Change},
    steps::Steps,
};
use crate::{
    answer::{Answer, Cell, Column, Table, Unit, Value, units},
    context::{Context, function::ByName, process::ProcessId},
    gap::{Cause, Gap},
    grade::Grade,
    question::{Call, Question},
    time_ranges::TimeRanges,
};

#[derive(Default)]
pub struct Startup {
    functions: ByName<(Option<Sign>, Option<Action>)>,
    /// Up to the first step of each process.
    steps: Steps,
    memory: live::Memory,
    processes: BTreeMap<ProcessId, Process>,
    /// Where segments are missing.
    holes: TimeRanges,
    /// When each pid was first told of.
    seen: BTreeMap<u32, i64>,
}

/// Pids whose first line is remembered. Linux gives out no more (`PID_MAX_LIMIT`).
const MAX_SEEN: usize = 1 << 22;

#[derive(Default)]
struct Process {
    counter: Counter,
    landmarks: Landmarks,
    live_bytes: u64,
    has_launched: bool,
    has_steps: bool,
    last: Mark,
    /// Once its first step has been found.
    stages: Option<Vec<Stage>>,
    /// The latest call that had a part in telling which step is the first.
    told_ns: i64,
}

const MISSING: &str = "lines of the start are missing, stand twice, or are out of order";
const OF_THE_STEP: &str = "calls of the first step are not told apart from those before it";
const UNDESCRIBED: &str = "no line tells which process it is, and so which step is its first";
const HIDDEN: &str = "calls of the process were not seen from its first on";

impl Question for Startup {
    fn call(&mut self, call: &Call<'_>, context: &Context) {
        self.follow(call, context);
    }

    /// A start may lie before the window.
    fn call_before(&mut self, call: &Call<'_>, context: &Context) {
        self.follow(call, context);
    }

    fn meta(&mut self, line: &MetaLine, context: &Context) {
        self.steps.meta(line, context);
        let is_of_process = matches!(line.meta, Meta::Process(_) | Meta::Coverage(_));
        if is_of_process && self.seen.len() < MAX_SEEN {
            let at_ns = trace::call_view::from_milliseconds(line.ts);
            let seen = self.seen.entry(line.pid).or_insert(at_ns);
            *seen = (*seen).min(at_ns);
        }
    }

    fn gap(&mut self, gap: &Gap, context: &Context) {
        self.steps.gap(gap, context);
    }

    fn finish(mut self: Box<Self>, context: &Context) -> Answer {
        self.settle_all(context);
        self.answer(context)
    }
}

/// A stage of a process, for questions that tell by stage.
pub(super) struct Span {
    pub process: ProcessId,
    pub name: &'static str,
    pub begin_ns: i64,
    /// `None` is the end of the trace: behind the start comes `serving`.
    pub end_ns: Option<i64>,
    pub grade: Grade,
}

impl Startup {
    /// The stages of each process that launches anything, when no more lines come.
    pub(super) fn spans(mut self, context: &Context) -> Vec<Span> {
        self.settle_all(context);
        let mut spans = Vec::new();
        for (process, told, stages) in self.told() {
            let grade = told.grade(process, stages, &self.holes, context);
            let mut add = |name, begin_ns, end_ns| {
                spans.push(Span { process, name, begin_ns, end_ns, grade: grade.clone() });
            };
            for stage in stages {
                add(stage.name.as_str(), stage.begin.at_ns, Some(stage.end.at_ns));
            }
            if told.has_steps {
                add("serving", stages[stages.len() - 1].end.at_ns, None);
            }
        }
        spans
    }

    fn settle_all(&mut self, context: &Context) {
        let mut first_steps = BTreeMap::new();
        let found = std::mem::take(&mut self.steps).found(context);
        self.holes = found.holes.iter().copied().collect();
        for step in found.steps {
            first_steps.entry(step.process).or_insert((step.row.start, step.between.settled));
        }
        let unsettled = self.processes.iter().filter(|(_, process)| process.stages.is_none());
        let unsettled: Vec<ProcessId> = unsettled.map(|(id, _)| *id).collect();
        for id in unsettled {
            let Some(process) = self.processes.get_mut(&id) else { continue };
            let mut end = process.last;
            // One that never comes to a step is in its start until its last call.
            process.told_ns = end.at_ns;
            if let Some((start_ns, settled_ns)) = first_steps.get(&id) {
                process.has_steps = true;
                process.told_ns = *settled_ns;
                end.at_ns = *start_ns;
            }
            self.settle(id, end, context);
        }
    }

    /// Who launches nothing only looks around.
    fn told(&self) -> impl Iterator<Item = (ProcessId, &Process, &[Stage])> {
        let told = self.processes.iter().filter(|(_, process)| process.has_launched);
        let stages = told.map(|(id, it)| (*id, it, it.stages.as_deref().unwrap_or_default()));
        stages.filter(|(.., stages)| !stages.is_empty())
    }

    fn follow(&mut self, call: &Call<'_>, context: &Context) {
        let Call { line, function, process: id } = call;
        let process = self.processes.entry(*id).or_default();
        if process.stages.is_some() {
            return;
        }
        let (sign, action) = self.functions.get(*function, &context.functions, |name| {
            (Sign::of(cuda::function::canonical(name)), Action::of(name))
        });
        let is_first = process.landmarks.is_empty();
        let before = process.counter.work;
        let pause = process.counter.call(sign, line);
        let is_outermost = line.depth.unwrap_or(0) == 0;
        let has_succeeded = line.ret.is_none_or(|ret| ret == 0);
        if let Some(action) = action.filter(|_| is_outermost && has_succeeded) {
            match self.memory.follow(action, *id, line) {
                Change::Allocated(kind, bytes) if kind.is_on_device() => {
                    process.live_bytes = process.live_bytes.saturating_add(bytes);
                }
                Change::Freed(kind, bytes) if kind.is_on_device() => {
                    process.live_bytes = process.live_bytes.saturating_sub(bytes);
                }
                _ => {}
            }
        }
        process.counter.work.live_bytes = process.live_bytes;
        let begin = Mark { at_ns: line.ts_ns, work: before };
        let end = Mark { at_ns: line.end_ns(), work: process.counter.work };
        process.has_launched |= sign == Some(Sign::Launch);
        if let Some((since, length_ns)) = pause {
            process.landmarks.paused(since, length_ns);
        }
        match sign.filter(|_| is_outermost) {
            _ if is_first => process.landmarks.asked(begin),
            Some(Sign::AskForMemory) => process.landmarks.asked(begin),
            Some(Sign::BeginCapture) => process.landmarks.captured(begin),
            Some(Sign::EndCapture) => process.landmarks.capture_ended(end),
            _ => {}
        }
        process.last = end;
        self.steps.call(call, context);
        if let Some(start_ns) = self.steps.first_start_ns(*id) {
            process.has_steps = true;
            process.told_ns = end.at_ns;
            self.settle(*id, Mark { at_ns: start_ns, work: end.work }, context);
        }
    }

    fn settle(&mut self, id: ProcessId, first_step: Mark, context: &Context) {
        let seen_ns = self.seen.get(&context.processes.get(id).pid).copied();
        let held = self.memory.of_process(id);
        if let Some(process) = self.processes.get_mut(&id) {
            process.stages = Some(process.landmarks.stages(seen_ns, first_step, held));
        }
    }

    fn answer(&self, context: &Context) -> Answer {
        let mut answer = Answer::new("startup");
        let mut table = Table::new(
            "stages",
            "Before the first step",
            vec![
                Column::new("pid", "pid", Unit::None).hidden(),
                Column::new("process", "process", Unit::None),
                Column::new("stage", "stage", Unit::None),
                Column::new("start_ns", "from", Unit::Nanoseconds),
                Column::new("start_unix_ns", "since", Unit::UnixNanoseconds).hidden(),
                Column::new("duration_ns", "took", Unit::Nanoseconds),
                Column::new("in_api_ns", "in the API", Unit::Nanoseconds),
                Column::new("without_calls_ns", "without calls", Unit::Nanoseconds),
                Column::new("before_code_ns", "before code", Unit::Nanoseconds),
                Column::new("calls", "calls", Unit::Count),
                Column::new("launches", "launches", Unit::Count),
                Column::new("code_loads", "code loads", Unit::Count),
                Column::new("captures", "captures", Unit::Count),
                Column::new("copied_bytes", "copied", Unit::Bytes),
                Column::new("live_bytes", "live at its end", Unit::Bytes),
            ],
        );
        for (id, process, stages) in self.told() {
            let grade = process.grade(id, stages, &self.holes, context);
            answer.sentences.push(match &grade {
                Grade::Unknown { reason } => {
                    format!("{}: {reason}.", context.processes.get(id).label())
                }
                _ => sentence(id, stages, context),
            });
            for (at, stage) in (1..).zip(stages) {
                let is_before_step = at == stages.len() && process.has_steps;
                table.rows.push(row(id, stage, is_before_step, &grade, context));
            }
        }
        if answer.sentences.is_empty() {
            answer.sentences.push("No process here has launched anything.".to_owned());
        }
        answer.notes = vec![
            "before code: without calls, until code was loaded before anything was launched. \
             Compiling looks like that, and so does reading compiled code from a cache"
                .to_owned(),
            "waiting ends with the first step; ready is somewhere in it, and what an API server does \
             makes no calls"
                .to_owned(),
        ];
        answer.tables = vec![table];
        answer
    }
}

fn sentence(id: ProcessId, stages: &[Stage], context: &Context) -> String {
    let length = |stage: &Stage| stage.end.at_ns.saturating_sub(stage.begin.at_ns).max(0);
    let busy = stages.iter().filter(|stage| stage.name != Name::Waiting);
    let all: i64 = busy.clone().map(length).fold(0, i64::saturating_add);
    let label = context.processes.get(id).label();
    let longest = busy.max_by_key(|stage| length(stage));
    let longest = longest.map_or_else(String::new, |stage| {
        let took = units::duration(length(stage) as f64);
        format!(", of which {took} in {}", stage.name.as_str())
    });
    format!("{label}: {} until it waited for work{longest}.", units::duration(all as f64))
}

/// `is_before_step`: the sums at its end were read when the end of the first step was known.
fn row(
    id: ProcessId,
    stage: &Stage,
    is_before_step: bool,
    grade: &Grade,
    context: &Context,
) -> Vec<Cell> {
    let Stage { name, begin, end } = stage;
    let process = context.processes.get(id);
    let work = end.work.since(begin.work);
    let cell = |value: Value, grade: &Grade| match grade {
        Grade::Unknown { .. } => Cell::graded(Value::None, grade.clone()),
        _ => Cell::graded(value, grade.clone()),
    };
    let sums = if is_before_step { Grade::unknown(OF_THE_STEP) } else { grade.clone() };
    let count = |value: u64| cell(value.into(), &sums);
    let took = end.at_ns.saturating_sub(begin.at_ns);
    vec![
        process.pid.into(),
        process.label().into(),
        name.as_str().into(),
        cell(begin.at_ns.into(), grade),
        cell(context.time.unix_ns(begin.at_ns).into(), grade),
        cell(took.into(), grade),
        count(work.api_ns),
        count(work.pauses_ns),
        count(work.pauses_before_code_ns),
        count(work.calls),
        count(work.launches),
        count(work.code_loads),
        count(work.captures),
        count(work.copied_bytes),
        count(work.live_bytes),
    ]
}

impl Process {
    /// How its stages are known. Which stage is which, and where the start ends, is told by the whole
    /// start: a line of it that is missing or stands in another place may give each stage the time of
    /// another.
    fn grade(
        &self,
        id: ProcessId,
        stages: &[Stage],
        holes: &TimeRanges,
        context: &Context,
    ) -> Grade {
        let pid = context.processes.get(id).pid;
        let is_described = |id: ProcessId| context.processes.get(id).is_described;
        if !is_described(id) && context.processes.iter().any(|(other, _)| is_described(other)) {
            return Grade::unknown(UNDESCRIBED);
        }
        let of_process = |gap: &&Gap| gap.pid.is_none_or(|other| other == pid);
        if context.gaps.iter().filter(of_process).any(Gap::may_hide_calls) {
            return Grade::unknown(HIDDEN);
        }
        let begin = stages[0].begin.at_ns;
        let end = stages[stages.len() - 1].end.at_ns.max(self.told_ns);
        let touches = |gap: &Gap| {
            // What comes behind the last line is no start, once a step has been seen.
            let is_behind = self.has_steps && gap.cause == Cause::NotEnded;
            // A line that tells of a call which does not follow shows that one is missing.
            (gap.may_change_calls() || gap.may_reorder_lines())
                && !is_behind
                && gap.from_ns.is_none_or(|from_ns| from_ns <= end)
                && gap.to_ns.is_none_or(|to_ns| to_ns >= begin)
        };
        if holes.overlap(begin, end) || context.gaps.iter().filter(of_process).any(touches) {
            return Grade::unknown(MISSING);
        }
        Grade::Exact
    }
}
