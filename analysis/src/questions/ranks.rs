//! `ranks`: of the ranks of one engine, who comes late, by how much, and where its host is to blame.

mod engine;
mod silence;

use std::collections::BTreeMap;

use cuda::function::is_per_thread;
use trace::line::{Meta, MetaLine};

use self::{
    engine::Engine,
    silence::{Place, Silence, Silences},
};
use super::steps::{changes_steps, ledger::Ledger, operation::Operation, ranks::rank};
use crate::{
    answer::{Answer, Cell, Column, Table, Unit, Value},
    context::{Context, function::PerFunction, process::ProcessId},
    gap::{Cause, Gap},
    grade::Grade,
    quantiles::{Quantiles, RELATIVE_ERROR},
    question::{Call, Question},
};

/// Others go on without a silent rank for so long at least.
const MIN_LATE_NS: i64 = 2_000_000;

/// The time from the last launch to the output is less regular than that between launches.
const MIN_OVERDUE_NS: i64 = 3_000_000;

/// Rows; what lies beyond is counted.
const MAX_LATE: usize = 100_000;
const SHOWN: usize = 20;

const ONE_RANK: &str = "no engine with several ranks is in the trace";
const MISSING: &str = "calls are missing at that time: they may have been made in the silence";
const CHANGED: &str = "lines are missing, stand twice or in a wrong place: ranks may have been compared \
     at different steps";
const SEEN: &str = "the time up to the last line, and what had probes";
const FACT: &str = "functions that are traced: none of them was called by any thread";

#[derive(Default)]
pub struct Ranks {
    functions: PerFunction<Option<Function>>,
    ledgers: BTreeMap<ProcessId, Ledger>,
    silences: BTreeMap<ProcessId, Silences>,
    /// By the process that has started the ranks.
    engines: BTreeMap<u32, Engine>,
    late: Vec<(ProcessId, Silence)>,
    late_beyond: u64,
    /// Silences that end with the load of kernels.
    loads: u64,
    from_ns: Option<i64>,
    segment: u64,
    /// Calls of a process came before a line told whose rank it is.
    has_unknown: bool,
}

#[derive(Clone, Copy)]
struct Function {
    operation: Operation,
    is_per_thread: bool,
    loads_kernels: bool,
}

impl Question for Ranks {
    fn call(&mut self, call: &Call<'_>, context: &Context) {
        self.from_ns.get_or_insert(call.line.ts_ns);
        self.read(call, context);
    }

    fn call_before(&mut self, call: &Call<'_>, context: &Context) {
        self.read(call, context);
    }

    fn meta(&mut self, line: &MetaLine, _: &Context) {
        let Meta::SegmentOpen(opening) = &line.meta else { return };
        if opening.sequence > self.segment + 1 {
            self.engines.values_mut().for_each(Engine::doubt);
            self.ledgers.values_mut().for_each(Ledger::forget_order);
            self.silences.values_mut().for_each(Silences::forget);
            for engine in self.engines.values_mut() {
                engine.members.values_mut().for_each(|member| member.silences.forget());
            }
        }
        self.segment = opening.sequence;
    }

    fn gap(&mut self, gap: &Gap, _: &Context) {
        if changes_steps(gap) && !gap.is_end() {
            self.ledgers.values_mut().for_each(Ledger::forget_captures);
            self.engines.values_mut().for_each(Engine::doubt);
        }
    }

    fn finish(mut self: Box<Self>, context: &Context) -> Answer {
        for (process, mut ledger) in std::mem::take(&mut self.ledgers) {
            ledger.finish();
            self.take_rows(process, &mut ledger, context);
        }
        let parents: Vec<u32> = self.engines.keys().copied().collect();
        for parent in parents {
            if let Some(engine) = self.engines.get_mut(&parent) {
                engine.compare(true);
            }
            self.settle(parent, Some(i64::MAX));
        }
        self.answer(context)
    }
}

impl Ranks {
    fn read(&mut self, call: &Call<'_>, context: &Context) {
        let Call { line, function, process } = call;
        // Processes without a known parent are no ranks of one engine.
        let told = context.processes.get(*process);
        let Some(parent) = told.parent else {
            self.has_unknown |= !told.is_described;
            return;
        };
        let known = *self.functions.of(*function).get_or_insert_with(|| {
            let function = context.functions.get(*function);
            let name = &function.canonical;
            Function {
                operation: Operation::of(name),
                is_per_thread: is_per_thread(&function.name),
                loads_kernels: name.contains("LibraryLoad") || name.contains("ModuleLoad"),
            }
        });
        let ledger = self.ledgers.entry(*process).or_insert_with(Ledger::with_launches);
        ledger.call(known.operation, line, known.is_per_thread);
        let has_outputs = ledger.has_outputs();
        let rows = std::mem::take(&mut ledger.rows);
        let engine = if has_outputs {
            Some(self.engines.entry(parent).or_default())
        } else {
            self.engines.get_mut(&parent)
        };
        if let Some(engine) = engine
            && (has_outputs || engine.members.contains_key(process))
        {
            let member = engine.members.entry(*process).or_default();
            if !line.is_entry() {
                member.silences.call(line.ts_ns, line.end_ns(), *function);
            }
            if !rows.is_empty() {
                for row in rows {
                    engine.add(*process, row);
                }
                engine.compare(false);
                self.settle(parent, None);
            }
        }
    }

    fn take_rows(&mut self, process: ProcessId, ledger: &mut Ledger, context: &Context) {
        if let Some(parent) = context.processes.get(process).parent {
            for row in std::mem::take(&mut ledger.rows) {
                self.engines.entry(parent).or_default().add(process, row);
            }
        }
    }

    /// Keeps the silences that have made a rank late; all before a time are known by now.
    fn settle(&mut self, parent: u32, before: Option<i64>) {
        let Some(engine) = self.engines.get_mut(&parent) else { return };
        let Some(before) = before.or_else(|| engine.settled_before()) else { return };
        for (&process, member) in &mut engine.members {
            for silence in member.silences.ended_before(before) {
                let Some(late) = silence.late else { continue };
                let least = match late.at {
                    Place::Launch => MIN_LATE_NS,
                    Place::Output => MIN_OVERDUE_NS,
                };
                let is_asked_for = self.from_ns.is_some_and(|from| silence.to >= from);
                if late.ns < least || !is_asked_for {
                    continue;
                }
                if self.functions.of(silence.ended_by).is_some_and(|it| it.loads_kernels) {
                    self.loads += 1;
                } else if self.late.len() < MAX_LATE {
                    self.late.push((process, silence));
                } else {
                    self.late_beyond += 1;
                }
            }
        }
    }

    fn answer(mut self, context: &Context) -> Answer {
        let mut answer = Answer::new("ranks");
        self.late.sort_by_key(|(process, silence)| (silence.from, *process));
        let engines: Vec<&Engine> =
            self.engines.values().filter(|engine| engine.members.len() > 1).collect();
        let steps = engines.iter().map(|engine| engine.steps).sum::<u64>();
        let of_members = engines.iter().flat_map(|engine| engine.members.values());
        let mut silences = of_members.map(|member| &member.silences).chain(self.silences.values());
        let has_forgotten = silences.any(|silences| silences.forgotten > 0);
        let completeness =
            Completeness::of(context, has_forgotten, self.has_unknown && !engines.is_empty());
        let counted = |value: u64| match (engines.is_empty(), completeness) {
            (true, _) => (Value::None, Grade::unknown(ONE_RANK)),
            (_, Completeness::Changed) => (value.into(), Grade::unknown(CHANGED)),
            (_, Completeness::Cut) => (value.into(), Grade::at_least(value as f64)),
            (_, Completeness::Whole) => (value.into(), Grade::Exact),
        };
        for (name, title, value) in [
            ("steps_compared", "steps that all ranks have", steps),
            (
                "steps_unlike",
                "of which the ranks launched differently",
                sum(&engines, |it| it.unlike),
            ),
            ("steps_alone", "steps that not all ranks have", sum(&engines, |it| it.alone)),
            ("kernel_loads", "times that a rank loaded kernels meanwhile", self.loads),
        ] {
            let (value, grade) = counted(value);
            answer.figure(name, title, Unit::Count, value, grade);
        }
        let found = self.late.len() as u64 + self.late_beyond;
        let (value, grade) = match counted(found) {
            (value, Grade::Unknown { .. }) if !engines.is_empty() => {
                let is_sure = |it: &&(ProcessId, Silence)| !is_touched(it.0, &it.1, context);
                (value, Grade::at_least(self.late.iter().filter(is_sure).count() as f64))
            }
            counted => counted,
        };
        let title = "times that a rank was silent while others waited for it";
        answer.figure("late", title, Unit::Count, value, grade);
        if engines.is_empty() {
            answer.sentences.push(ONE_RANK.to_owned());
        } else {
            answer.sentences.push(self.sentence(context));
        }
        answer.tables = vec![self.by_rank(&engines, completeness, context), self.times(context)];
        answer.notes.push(
            "late: a launch behind the first rank's same launch of the same step. Silent: no thread \
             of the process began or ended a traced call, while another rank had made the next \
             launch, or the output was overdue. Then its host is late; whether it was stopped, or \
             computed without calls, the calls do not tell"
                .to_owned(),
        );
        answer
    }

    fn sentence(&self, context: &Context) -> String {
        let mut by_rank: BTreeMap<u32, (u64, i64)> = BTreeMap::new();
        for (process, silence) in &self.late {
            let (count, ns) = by_rank.entry(rank(*process, context)).or_default();
            *count += 1;
            *ns += silence.late.map_or(0, |late| late.ns);
        }
        let Some((rank, (count, ns))) = by_rank.into_iter().max_by_key(|(_, (_, ns))| *ns) else {
            return format!(
                "no rank was silent for {} or more while others waited for it",
                crate::answer::units::duration(silence::MIN_SILENCE_NS as f64)
            );
        };
        let late = crate::answer::units::duration(ns as f64);
        format!("rank {rank} made the others wait most: {count} times, for {late} together")
    }

    fn by_rank(&self, engines: &[&Engine], completeness: Completeness, context: &Context) -> Table {
        let ns = |name, title| {
            let grade = completeness.grade().rounded(RELATIVE_ERROR);
            Column::new(name, title, Unit::Nanoseconds).graded(grade)
        };
        let exact = |name, title, unit| Column::new(name, title, unit).graded(completeness.grade());
        let mut table = Table::new(
            "ranks",
            "by rank: how far its launches come behind the first rank's",
            vec![
                Column::new("pid", "pid", Unit::None),
                Column::new("rank", "rank", Unit::None),
                exact("steps", "steps", Unit::Count),
                exact("last", "came last", Unit::Count),
                ns("late_p50_ns", "late p50"),
                ns("late_p90_ns", "p90"),
                ns("late_p99_ns", "p99"),
                exact("late_max_ns", "max", Unit::Nanoseconds),
                exact("silent", "silent", Unit::Count),
                exact("silent_late_ns", "waited for", Unit::Nanoseconds),
            ],
        );
        let members = engines.iter().flat_map(|engine| &engine.members);
        for (&process, member) in members {
            let mine = || self.late.iter().filter(|(other, _)| *other == process);
            let late: i64 = mine().filter_map(|it| it.1.late).map(|late| late.ns).sum();
            let at = |part: f64| -> Value { Quantiles::at(&member.late, part).into() };
            table.rows.push(vec![
                context.processes.get(process).pid.into(),
                rank(process, context).into(),
                member.steps.into(),
                member.last.into(),
                at(0.5).into(),
                at(0.9).into(),
                at(0.99).into(),
                member.late.max().into(),
                mine().count().into(),
                late.into(),
            ]);
        }
        table.rows.sort_by_key(|row| match row[1].value {
            Value::Integer(rank) => rank,
            _ => i128::MAX,
        });
        table
    }

    fn times(&self, context: &Context) -> Table {
        let mut table = Table::new(
            "late",
            "silent while others waited",
            vec![
                Column::new("from_unix_ns", "from", Unit::UnixNanoseconds),
                Column::new("from_ns", "from", Unit::Nanoseconds).hidden(),
                Column::new("to_unix_ns", "to", Unit::UnixNanoseconds).hidden(),
                Column::new("pid", "pid", Unit::None),
                Column::new("rank", "rank", Unit::None),
                Column::new("silent_ns", "silent", Unit::Nanoseconds)
                    .graded(Grade::exact_within(FACT)),
                Column::new("late_ns", "late by", Unit::Nanoseconds)
                    .graded(Grade::exact_within(FACT)),
                Column::new("at", "at", Unit::None),
                Column::new("side", "side", Unit::None).graded(Grade::exact_within(FACT)),
                Column::new("step_start_unix_ns", "step", Unit::UnixNanoseconds).hidden(),
            ],
        );
        for (process, silence) in &self.late {
            let Some(late) = silence.late else { continue };
            let pid = context.processes.get(*process).pid;
            let is_touched = is_touched(*process, silence, context);
            let told = |value: Value| Cell::unless(is_touched.then_some(MISSING), value);
            table.rows.push(vec![
                told(context.time.unix_ns(silence.from).into()),
                told(silence.from.into()),
                told(context.time.unix_ns(silence.to).into()),
                pid.into(),
                rank(*process, context).into(),
                told((silence.to - silence.from).into()),
                told(late.ns.into()),
                match late.at {
                    Place::Launch => "launch",
                    Place::Output => "output",
                }
                .into(),
                told((!is_touched).then_some("host").into()),
                told(context.time.unix_ns(late.step).into()),
            ]);
        }
        table.shown = SHOWN;
        table
    }
}

/// Whether all lines are here, and where they belong.
#[derive(Clone, Copy)]
enum Completeness {
    Whole,
    /// More may follow, or was never recorded.
    Cut,
    Changed,
}

impl Completeness {
    fn of(context: &Context, has_forgotten: bool, has_unknown: bool) -> Self {
        let is_hole = |gap: &Gap| matches!(gap.cause, Cause::MissingSegments { .. });
        let changes = |gap: &Gap| gap.may_change_calls() && !gap.is_end() || is_hole(gap);
        let cuts = |gap: &Gap| gap.may_cut_lines() || gap.may_hide_calls();
        if has_unknown || context.gaps.iter().any(changes) {
            Self::Changed
        } else if has_forgotten || context.gaps.iter().any(cuts) {
            Self::Cut
        } else {
            Self::Whole
        }
    }

    /// Of what all steps together tell.
    fn grade(self) -> Grade {
        match self {
            Self::Whole => Grade::Exact,
            Self::Cut => Grade::exact_within(SEEN),
            Self::Changed => Grade::unknown(CHANGED),
        }
    }
}

/// Whether calls of the process may be missing in the silence, or the step was another.
fn is_touched(process: ProcessId, silence: &Silence, context: &Context) -> bool {
    let pid = context.processes.get(process).pid;
    let is_doubtful = silence.late.is_some_and(|late| late.is_doubtful);
    let since = silence.late.map_or(silence.from, |late| late.step.min(silence.from));
    let touches = |gap: &Gap| {
        (gap.may_change_calls() || matches!(gap.cause, Cause::Interleaved { .. }))
            && !matches!(
                gap.cause,
                Cause::MissingSegments { .. } | Cause::NotListed { .. } | Cause::NotEnded
            )
            && gap.pid.is_none_or(|other| other == pid)
            && gap.from_ns.is_none_or(|from| from <= silence.to)
            && gap.to_ns.is_none_or(|to| since <= to)
    };
    is_doubtful || context.gaps.iter().any(touches)
}

fn sum(engines: &[&Engine], of: fn(&Engine) -> u64) -> u64 {
    engines.iter().map(|engine| of(engine)).sum()
}
