//! `summary`: who called what, how often and for how long, and whether the trace is whole.

use std::collections::BTreeMap;

use cuda::error_name::error_name;
use trace::line::{CoverageCounts, Meta, MetaLine, SegmentClose};

use crate::{
    answer::{Answer, Cell, Chart, Column, Table, Unit, Value, units::counted},
    context::{
        Context,
        accounting::Loss,
        function::{FunctionId, PerFunction},
        process::ProcessId,
    },
    grade::Grade,
    quantiles::{Quantiles, RELATIVE_ERROR},
    question::{Call, Question},
    timeline::Timeline,
};

/// Pairs of function and code that are told; a program knows a few.
const MAX_ERRORS: usize = 4096;

const SHOWN_FUNCTIONS: usize = 25;
const SHOWN_ERRORS: usize = 15;

/// Results that say "not yet": what a query is for.
const STATUS: [&str; 2] = ["CUDA_ERROR_NOT_READY", "cudaErrorNotReady"];

#[derive(Default)]
pub struct Summary {
    functions: PerFunction<OfFunction>,
    processes: Vec<OfProcess>,
    errors: BTreeMap<(FunctionId, u32), OfError>,
    rate: Option<Timeline>,
    close: Option<SegmentClose>,
    coverage: Option<CoverageCounts>,
}

#[derive(Debug, Default, Clone)]
struct OfFunction {
    calls: u64,
    durations: Quantiles,
    errors: u64,
}

#[derive(Debug, Default, Clone)]
struct OfProcess {
    calls: u64,
    /// Of calls that no other call made.
    outermost_ns: u64,
    has_durations: bool,
    first_ns: Option<i64>,
    last_ns: i64,
}

#[derive(Debug, Clone)]
struct OfError {
    name: Option<String>,
    count: u64,
    first_ns: i64,
}

impl Question for Summary {
    fn call(&mut self, call: &Call<'_>, context: &Context) {
        let Call { line, function, process } = call;
        let of_function = self.functions.of(*function);
        of_function.calls += 1;
        if let Some(dur_ns) = line.dur_ns {
            of_function.durations.add(dur_ns);
        }
        if let Some(code) = line.ret.filter(|&code| code != 0)
            && (line.error.is_some() || context.functions.get(*function).returns_code)
        {
            of_function.errors += 1;
            self.error(call, code, context);
        }
        let of_process = self.process(*process);
        of_process.calls += 1;
        // The line of an outer call stands behind those of the calls that it made.
        let first_ns = of_process.first_ns.unwrap_or(line.ts_ns);
        of_process.first_ns = Some(first_ns.min(line.ts_ns));
        of_process.last_ns = of_process.last_ns.max(line.end_ns());
        if let (Some(0), Some(dur_ns)) = (line.depth, line.dur_ns) {
            of_process.outermost_ns = of_process.outermost_ns.saturating_add(dur_ns);
            of_process.has_durations = true;
        }
        self.rate.get_or_insert_with(Timeline::sums).add(line.ts_ns, 1.0);
    }

    fn meta(&mut self, line: &MetaLine, _context: &Context) {
        if let Meta::SegmentClose(close) = &line.meta {
            self.coverage = close.coverage.or(self.coverage);
            if !close.functions.is_empty() {
                self.close = Some(close.clone());
            }
        }
    }

    fn finish(self: Box<Self>, context: &Context) -> Answer {
        let mut answer = Answer::new("summary");
        let functions = self.functions(context);
        self.figures(context, &mut answer);
        answer.sentences = self.sentences(context, &functions);
        let (calls, grade) = self.all(context);
        let detail = answer.sentences.join(" ");
        answer.headline("what was traced?", Unit::Count, calls, grade, detail);
        if let Some(rate) = &self.rate {
            let grade = all_calls(context);
            answer.series("calls", "calls", Unit::Count, grade, rate, &context.time);
        }
        answer.tables = vec![self.process_table(context), functions, self.error_table(context)];
        answer.notes.push(
            "a driver call that the runtime made stands in both rows; share is of the time from the \
             first call to the last, over all threads"
                .to_owned(),
        );
        answer
    }
}

impl Summary {
    fn process(&mut self, id: ProcessId) -> &mut OfProcess {
        if id.index() >= self.processes.len() {
            self.processes.resize(id.index() + 1, OfProcess::default());
        }
        &mut self.processes[id.index()]
    }

    fn error(&mut self, call: &Call<'_>, code: u32, context: &Context) {
        let key = (call.function, code);
        if let Some(error) = self.errors.get_mut(&key) {
            error.count += 1;
            error.first_ns = error.first_ns.min(call.line.ts_ns);
        } else if self.errors.len() < MAX_ERRORS {
            let api = context.functions.get(call.function).api;
            let known = || api.and_then(|api| error_name(api, code));
            let name = call.line.error.or_else(known).map(str::to_owned);
            self.errors.insert(key, OfError { name, count: 1, first_ns: call.line.ts_ns });
        }
    }

    fn figures(&self, context: &Context, answer: &mut Answer) {
        let time = &context.time;
        let opening = context.opening.as_ref();
        let no_clock = || Grade::unknown("no opening line tells the time of day");
        let mut add = |name, title, unit, value: Value, grade| {
            if value != Value::None || !matches!(grade, Grade::Exact) {
                answer.figure(name, title, unit, value, grade);
            }
        };
        add("host", "host", Unit::None, opening.map(|it| it.host.clone()).into(), Grade::Exact);
        let kernel = opening.map(|it| it.kernel.clone());
        add("kernel", "kernel", Unit::None, kernel.into(), Grade::Exact);
        let sidecar =
            opening.map(|it| format!("{}, trace format {}", it.sidecar_version, it.format_version));
        add("sidecar", "sidecar", Unit::None, sidecar.into(), Grade::Exact);
        let first = time.first_ns.and_then(|first| time.unix_ns(first));
        let grade = if first.is_some() { Grade::Exact } else { no_clock() };
        add("first_call_unix_ns", "first call", Unit::UnixNanoseconds, first.into(), grade);
        let span = match all_calls(context) {
            Grade::Bounds { .. } => Grade::at_least(time.span_ns() as f64),
            grade => grade,
        };
        add("span_ns", "span", Unit::Nanoseconds, time.span_ns().into(), span);
        let (calls, grade) = self.all(context);
        add("calls", "calls", Unit::Count, calls.into(), grade);
        let lines = context.calls;
        add("lines", "call lines read", Unit::Count, lines.into(), Grade::Exact);
        if let Some(close) = &self.close {
            let sum = |of: fn(&trace::line::FunctionCounts) -> u64| {
                close.functions.values().map(of).fold(0, u64::saturating_add)
            };
            let grade = if close.r#final {
                Grade::Exact
            } else {
                Grade::exact_within("the time up to the last closing line")
            };
            for (name, title, count) in [
                ("dropped", "dropped", sum(|counts| counts.run_dropped)),
                ("ignored", "ignored, of other processes", sum(|counts| counts.run_ignored)),
                ("suppressed", "beyond TRACE_RATE_LIMIT", sum(|counts| counts.run_suppressed)),
            ] {
                add(name, title, Unit::Count, count.into(), grade.clone());
            }
            if let Some(cost) = close.cost {
                let ns = Value::Float(cost.cpu_s * 1e9);
                add("tracer_cpu_ns", "the sidecar's processor", Unit::Nanoseconds, ns, grade);
            }
        }
        if let Some(CoverageCounts { exact, from, unseen, .. }) = self.coverage {
            for (name, title, count) in [
                ("covered_exact", "libraries seen from the first call", exact),
                ("covered_from", "libraries seen from a later moment", from),
                ("covered_not", "libraries not seen", unseen),
            ] {
                add(name, title, Unit::Count, count.into(), Grade::Exact);
            }
        }
    }

    /// All functions together.
    fn all(&self, context: &Context) -> (u64, Grade) {
        let mut sum = 0_u64;
        // Of a function that has no line: whether that proves that nobody called it.
        let (_, mut worst) = context.calls_of("", 0);
        let mut low = 0.0;
        let mut high = if matches!(worst, Grade::Bounds { .. }) { None } else { Some(0.0) };
        for name in context.accounting.names(&context.functions) {
            let (calls, grade) = context.calls_of(name, self.seen(name, context));
            sum = sum.saturating_add(calls);
            let (least, most) = match &grade {
                Grade::Bounds { low, high } => (low.unwrap_or(0.0), *high),
                _ => (calls as f64, Some(calls as f64)),
            };
            low += least;
            high = high.zip(most).map(|(sum, most)| sum + most);
            worst = match (worst, grade) {
                (Grade::Unknown { reason }, _) | (_, Grade::Unknown { reason }) => {
                    Grade::Unknown { reason }
                }
                (Grade::Bounds { .. }, _) | (_, Grade::Bounds { .. }) => {
                    Grade::Bounds { low: Some(low), high }
                }
                (Grade::Exact, grade) => grade,
                (worst, _) => worst,
            };
        }
        if matches!(worst, Grade::Bounds { .. }) {
            worst = Grade::Bounds { low: Some(low), high };
        }
        (sum, worst)
    }

    fn seen(&self, name: &str, context: &Context) -> u64 {
        let id = context.functions.find(name);
        id.and_then(|id| self.functions.get(id)).map_or(0, |of_function| of_function.calls)
    }

    fn sentences(&self, context: &Context, functions: &Table) -> Vec<String> {
        let mut sentences = Vec::new();
        let called = functions.rows.len();
        let processes = self.processes.iter().filter(|process| process.calls > 0).count();
        let span = crate::answer::units::duration(context.time.span_ns() as f64);
        sentences.push(format!(
            "{} of {} by {} in {span}.",
            counted(context.calls, "call line", "call lines"),
            counted(called as u64, "function", "functions"),
            counted(processes as u64, "process", "processes")
        ));
        let cuts = context.gaps.iter().filter(|gap| gap.may_cut_lines() || gap.may_add_lines());
        sentences.push(match (cuts.count(), self.close.as_ref().is_some_and(|it| it.r#final)) {
            (0, true) => {
                "The trace is whole: every call that the kernel counted has its line.".to_owned()
            }
            (0, false) => {
                "Nothing proves that the trace is whole: no last closing line counts its \
                           calls."
                    .to_owned()
            }
            (count, _) => {
                let gaps = counted(count as u64, "gap", "gaps");
                format!("The trace is not whole: {gaps}, told above.")
            }
        });
        sentences
    }

    fn process_table(&self, context: &Context) -> Table {
        let grade = all_calls(context);
        let sum = match &grade {
            Grade::Exact | Grade::ExactWithin { .. } => grade.clone(),
            _ => Grade::unknown("calls of this process may be missing"),
        };
        let mut table = Table::new(
            "processes",
            "Processes",
            vec![
                Column::new("pid", "pid", Unit::None),
                Column::new("role", "role", Unit::None),
                Column::new("ranks", "ranks", Unit::None),
                Column::new("calls", "calls", Unit::Count).graded(sum.clone()),
                Column::new("in_api_ns", "in the API", Unit::Nanoseconds).graded(sum),
                Column::new("first_call_ns", "first call", Unit::Nanoseconds),
                Column::new("last_call_ns", "last call", Unit::Nanoseconds),
                Column::new("command", "command", Unit::None),
            ],
        );
        for (id, process) in context.processes.iter() {
            let Some(of_process) = self.processes.get(id.index()).filter(|it| it.calls > 0) else {
                continue;
            };
            let ranks: Vec<String> =
                process.ranks.iter().map(|(kind, rank)| format!("{kind}{rank}")).collect();
            let in_api = of_process.has_durations.then_some(of_process.outermost_ns);
            let command = process.command.clone().or_else(|| process.executable.clone());
            table.rows.push(vec![
                process.pid.into(),
                process.role.clone().into(),
                Value::from((!ranks.is_empty()).then(|| ranks.join(" "))).into(),
                of_process.calls.into(),
                in_api.into(),
                of_process.first_ns.into(),
                of_process.last_ns.into(),
                command.into(),
            ]);
        }
        table.rows.sort_by_key(|row| match row[3].value {
            Value::Integer(calls) => -calls,
            _ => 0,
        });
        table.shown = 20;
        table
    }

    fn functions(&self, context: &Context) -> Table {
        let estimate = Grade::Exact.rounded(RELATIVE_ERROR);
        let mut table = Table::new(
            "functions",
            "Calls by function",
            vec![
                Column::new("function", "function", Unit::None),
                Column::new("calls", "calls", Unit::Count),
                Column::new("lines", "lines", Unit::Count).hidden(),
                Column::new("per_second", "rate", Unit::PerSecond),
                Column::new("total_ns", "total", Unit::Nanoseconds),
                Column::new("share", "share", Unit::Ratio),
                Column::new("p10_ns", "p10", Unit::Nanoseconds).graded(estimate.clone()).hidden(),
                Column::new("p25_ns", "p25", Unit::Nanoseconds).graded(estimate.clone()).hidden(),
                Column::new("p50_ns", "p50", Unit::Nanoseconds).graded(estimate.clone()),
                Column::new("p75_ns", "p75", Unit::Nanoseconds).graded(estimate.clone()).hidden(),
                Column::new("p90_ns", "p90", Unit::Nanoseconds).graded(estimate.clone()).hidden(),
                Column::new("p99_ns", "p99", Unit::Nanoseconds).graded(estimate),
                Column::new("max_ns", "max", Unit::Nanoseconds),
                Column::new("errors", "errors", Unit::Count),
            ],
        );
        let span_ns = context.time.span_ns() as f64;
        let span_grade = all_calls(context);
        for name in context.accounting.names(&context.functions) {
            let id = context.functions.find(name);
            let nothing = OfFunction::default();
            let of_function = id.and_then(|id| self.functions.get(id)).unwrap_or(&nothing);
            let (calls, grade) = context.calls_of(name, of_function.calls);
            if calls == 0 && (context.is_windowed || grade.is_exact()) {
                continue;
            }
            let durations = Durations::new(of_function, context.loss(name));
            let per_second = (span_ns > 0.0).then(|| calls as f64 / (span_ns / 1e9));
            let rate_grade = divided(&grade, span_ns / 1e9, &span_grade);
            let (total, total_grade) = durations.total();
            let share = total.filter(|_| span_ns > 0.0).map(|total| total as f64 / span_ns);
            table.rows.push(vec![
                name.into(),
                Cell::graded(calls, grade),
                of_function.calls.into(),
                Cell::graded(per_second, rate_grade),
                Cell::graded(total, total_grade.clone()),
                Cell::graded(share, divided(&total_grade, span_ns, &span_grade)),
                durations.quantile(0.1),
                durations.quantile(0.25),
                durations.quantile(0.5),
                durations.quantile(0.75),
                durations.quantile(0.9),
                durations.quantile(0.99),
                durations.max(),
                Cell::graded(of_function.errors, durations.count(of_function.errors)),
            ]);
        }
        let number = |cell: &Cell| match cell.value {
            Value::Integer(number) => number,
            _ => 0,
        };
        table.rows.sort_by_key(|row| std::cmp::Reverse((number(&row[4]), number(&row[1]))));
        table.shown = SHOWN_FUNCTIONS;
        table.chart = Some(Chart::Bars(&["calls", "total_ns"]));
        table.reading = "total, p50, p99 and max are times inside the call, on the host";
        table
    }

    fn error_table(&self, context: &Context) -> Table {
        let mut table = Table::new(
            "errors",
            "Results other than success",
            vec![
                Column::new("function", "function", Unit::None),
                Column::new("code", "code", Unit::None),
                Column::new("name", "name", Unit::None),
                Column::new("count", "count", Unit::Count),
                Column::new("first_ns", "first", Unit::Nanoseconds),
                Column::new("is_status", "only says not yet", Unit::None),
            ],
        );
        for ((function, code), OfError { name, count, first_ns }) in &self.errors {
            let function = &context.functions.get(*function).name;
            let grade = match context.loss(function) {
                Loss::None(grade) => grade,
                Loss::AtMost(lost) => {
                    Grade::between(*count as f64, count.saturating_add(lost) as f64)
                }
                Loss::Unbounded => Grade::at_least(*count as f64),
                Loss::Extra => Grade::unknown("lines may stand twice"),
            };
            let is_status = name.as_deref().is_some_and(|name| STATUS.contains(&name));
            table.rows.push(vec![
                function.to_string().into(),
                (*code).into(),
                name.clone().into(),
                Cell::graded(*count, grade),
                (*first_ns).into(),
                is_status.into(),
            ]);
        }
        table.rows.sort_by_key(|row| match row[3].value {
            Value::Integer(count) => -count,
            _ => 0,
        });
        table.shown = SHOWN_ERRORS;
        table
    }
}

/// Figures of the durations of one function, as far as its calls are here.
struct Durations<'a> {
    of: &'a OfFunction,
    loss: Loss,
}

impl<'a> Durations<'a> {
    /// A call of which only the beginning is known is lost for them.
    fn new(of: &'a OfFunction, loss: Loss) -> Self {
        let loss = match (loss, of.calls - of.durations.count()) {
            (Loss::None(_), untimed @ 1..) => Loss::AtMost(untimed),
            (Loss::AtMost(lost), untimed) => Loss::AtMost(lost.saturating_add(untimed)),
            (loss, _) => loss,
        };
        Self { of, loss }
    }

    fn is_empty(&self) -> bool {
        self.of.durations.count() == 0
    }

    fn total(&self) -> (Option<u64>, Grade) {
        if self.is_empty() {
            return (None, unknown_durations());
        }
        let total = self.of.durations.sum();
        (Some(total), self.at_least(total))
    }

    fn max(&self) -> Cell {
        if self.is_empty() {
            return Cell::graded(Value::None, unknown_durations());
        }
        let max = self.of.durations.max();
        Cell::graded(max, self.at_least(max))
    }

    fn at_least(&self, value: u64) -> Grade {
        match &self.loss {
            Loss::None(grade) => grade.clone(),
            Loss::AtMost(_) | Loss::Unbounded => Grade::at_least(value as f64),
            Loss::Extra => Grade::unknown("lines may stand twice"),
        }
    }

    fn count(&self, count: u64) -> Grade {
        if self.is_empty() && self.of.calls > 0 {
            return Grade::unknown("no line has a result");
        }
        match &self.loss {
            Loss::AtMost(lost) => Grade::between(count as f64, count.saturating_add(*lost) as f64),
            _ => self.at_least(count),
        }
    }

    fn quantile(&self, part: f64) -> Cell {
        let Some(value) = self.of.durations.at(part) else {
            return Cell::graded(Value::None, unknown_durations());
        };
        let grade = match self.loss.clone() {
            Loss::None(grade) => grade.rounded(RELATIVE_ERROR),
            Loss::AtMost(lost) => {
                let (low, high) = self.of.durations.bounds(part, lost);
                Grade::Bounds { low: low.map(|it| it as f64), high: high.map(|it| it as f64) }
            }
            Loss::Unbounded => Grade::unknown("nobody knows how many calls are missing"),
            Loss::Extra => Grade::unknown("lines may stand twice"),
        };
        Cell::graded(value, grade)
    }
}

fn unknown_durations() -> Grade {
    Grade::unknown("no line has a duration")
}

/// Of a figure that is divided by the span, which is longer if calls before or behind it are missing.
fn divided(grade: &Grade, span: f64, span_grade: &Grade) -> Grade {
    let scale = |side: Option<f64>| side.map(|side| side / span);
    match (grade, span_grade) {
        (grade, Grade::Exact | Grade::ExactWithin { .. }) => match grade {
            Grade::Bounds { low, high } => Grade::Bounds { low: scale(*low), high: scale(*high) },
            other => other.clone(),
        },
        (Grade::Bounds { high, .. }, Grade::Bounds { .. }) => {
            Grade::Bounds { low: None, high: scale(*high) }
        }
        (Grade::Unknown { reason }, _) | (_, Grade::Unknown { reason }) => Grade::unknown(reason),
        _ => Grade::unknown("calls before or behind those that are here may be missing"),
    }
}

/// Of a figure that calls of any function make.
fn all_calls(context: &Context) -> Grade {
    match context.loss_of_all(context.accounting.names(&context.functions)) {
        Loss::None(grade) => grade,
        Loss::AtMost(_) | Loss::Unbounded => {
            Grade::Bounds { low: Some(context.calls as f64), high: None }
        }
        Loss::Extra => Grade::unknown("lines may stand twice"),
    }
}
