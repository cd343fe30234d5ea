//! Findings as an answer: the costliest first.

use cuda::{error_name::error_name, function::Api};

use super::{
    Served, is_disordered,
    rule::Rule,
    tally::{Detail, Occurrence, Sums, Tally},
};
use crate::{
    answer::{
        Answer, Cell, Column, Table, Unit, Value,
        units::{bytes, counted, duration, shown},
    },
    context::{Context, accounting::Loss, process::ProcessId},
    gap::Gap,
    grade::Grade,
    questions::steps::Found,
};

const NO_STEPS: &str = "no engine step was found: the rules look only at what is done while an \
     engine serves";
const ENTRIES: &str = "calls without an end tell nothing of steps (TRACE_DETAIL=entry)";
const MISSING: &str = "lines are missing around some of these calls";
const WITHIN: &str = "the steps that were found; around some of them lines are missing";
const NOTHING: &str = "nothing found";
const MORE: &str = "lines are missing: there may be more";
const DISORDER: &str =
    "lines may stand twice or in a wrong place: what was done in a step is not known";

/// What one rule found in one process.
pub(super) struct Finding {
    pub rule: Rule,
    pub process: ProcessId,
    pub tally: Tally,
    /// Nothing was given up for want of memory.
    pub is_whole: bool,
    /// It would be told without what lies where lines are missing, too.
    pub is_sure: bool,
}

impl Finding {
    /// Some of it may be none: lines are missing around it.
    fn is_doubtful(&self) -> bool {
        self.tally.sure.count < self.tally.all.count
    }
}

pub(super) fn answer(
    mut findings: Vec<Finding>,
    served: &[Served<'_>],
    found: &Found,
    context: &Context,
) -> Answer {
    let mut answer = Answer::new("findings");
    findings.sort_by_key(|it| (std::cmp::Reverse(it.tally.all.most_ns), it.rule, it.process));
    let count = findings.len() as u64;
    let is_cut = is_cut(context) || found.is_doubtful;
    let sure = findings.iter().filter(|it| it.is_sure).count();
    let grade = if found.steps.is_empty() {
        Grade::unknown(if found.entries > 0 { ENTRIES } else { NO_STEPS })
    } else if is_disordered(context) {
        Grade::unknown(DISORDER)
    } else if is_cut || findings.iter().any(|it| !it.is_whole || !it.is_sure) {
        Grade::at_least(sure as f64)
    } else {
        context.loss_grade()
    };
    let is_known = !matches!(grade, Grade::Unknown { .. });
    let value = if is_known { count.into() } else { Value::None };
    answer.sentences = sentences(&findings, served, found, &grade, context);
    let mut first =
        answer.sentences.iter().take(2).map(|it| it.trim()).collect::<Vec<_>>().join(" ");
    if is_known && findings.is_empty() {
        first.push_str(" The rules are named below.");
    }
    // A bare number says nothing of what was looked for.
    let (shown, shown_grade) = match &grade {
        Grade::Unknown { .. } => (Value::None, grade.clone()),
        _ if !findings.is_empty() => (value.clone(), grade.clone()),
        Grade::Bounds { .. } => (NOTHING.into(), Grade::unknown(MORE)),
        _ => (NOTHING.into(), grade.clone()),
    };
    answer.headline("what to change first?", Unit::Count, shown, shown_grade, first);
    answer.figure("findings", "findings", Unit::Count, value, grade);
    let steps = found.steps.len();
    let known = found.steps.iter().filter(|step| !step.doubt.step).count();
    let steps_grade = if is_cut { Grade::at_least(known as f64) } else { Grade::Exact };
    answer.figure("steps", "steps looked at", Unit::Count, steps, steps_grade);
    let serving_ns: u64 = served.iter().map(|served| served.serving_ns).sum();
    let serving_grade = if is_cut { Grade::exact_within(WITHIN) } else { Grade::Exact };
    answer.figure("serving_ns", "time of steps", Unit::Nanoseconds, serving_ns, serving_grade);
    answer.tables = vec![table(&findings, served, found, context), evidence(&findings, context)];
    if findings.is_empty() {
        return answer;
    }
    answer.notes.push(
        "cost: time of the host's threads, as the column \"time of\" says; what the engine would gain \
         without it is another matter. share: the cost as a part of the time of the process's steps. \
         proved: the calls show it; likely: the calls show what took the time, and the usual reason is \
         told. lines: zstdcat FILE | sed -n LINEp"
            .to_owned(),
    );
    answer
}

/// Whether more may be found with the lines that are missing, or that come too late for their step.
fn is_cut(context: &Context) -> bool {
    let may_hide =
        |gap: &Gap| gap.may_cut_lines() || gap.may_hide_calls() || gap.may_reorder_lines();
    context.gaps.iter().any(may_hide)
}

/// How the cost is known: what was read is there, more may have been.
fn cost_grade(it: &Finding, context: &Context) -> Grade {
    let Tally { all: Sums { cost_ns, most_ns, .. }, functions, .. } = &it.tally;
    let names =
        functions.iter().filter(|id| id.0 != u32::MAX).map(|id| &*context.functions.get(*id).name);
    let low = *cost_ns as f64;
    if it.is_doubtful() {
        return at_least(it.tally.sure.cost_ns);
    }
    match context.loss_of_all(names) {
        Loss::None(_) if most_ns > cost_ns => Grade::between(low, *most_ns as f64),
        Loss::None(grade) if it.is_whole => grade,
        _ => Grade::at_least(low),
    }
}

fn at_least(sure: u64) -> Grade {
    if sure > 0 { Grade::at_least(sure as f64) } else { Grade::unknown(MISSING) }
}

/// `sure` of the count are not where lines are missing.
fn count_grade(it: &Finding, count: u64, sure: u64, context: &Context) -> Grade {
    if it.is_doubtful() {
        return at_least(sure);
    }
    let names = it.tally.functions.iter().filter(|id| id.0 != u32::MAX);
    match context.loss_of_all(names.map(|id| &*context.functions.get(*id).name)) {
        Loss::None(grade) if it.is_whole => grade,
        _ => Grade::at_least(count as f64),
    }
}

fn sentences(
    findings: &[Finding],
    served: &[Served<'_>],
    found: &Found,
    grade: &Grade,
    context: &Context,
) -> Vec<String> {
    if let Grade::Unknown { reason } = grade {
        return vec![format!("Nothing can be found: {reason}.")];
    }
    if findings.is_empty() {
        let rules: Vec<&str> = Rule::ALL.iter().map(|rule| rule.about().name).collect();
        return vec![
            format!(
                "Nothing found: {} rules looked at {} of {}.",
                rules.len(),
                counted(found.steps.len() as u64, "step", "steps"),
                counted(served.len() as u64, "process", "processes")
            ),
            "What calls do not tell, no rule finds: how long kernels run, and what the engine does \
             outside of CUDA."
                .to_owned(),
            format!("The rules: {}.", rules.join(", ")),
        ];
    }
    let mut sentences = Vec::new();
    for (number, it) in findings.iter().enumerate() {
        let about = it.rule.about();
        let Sums { count, steps, cost_ns, most_ns, .. } = it.tally.all;
        let of = served.iter().find(|served| served.process == it.process);
        let (all, serving_ns) = of.map_or((0, 1), |of| (of.steps.len(), of.serving_ns.max(1)));
        let share = shown(&Value::Float(most_ns as f64 / serving_ns as f64), Unit::Ratio);
        let cost = if most_ns > cost_ns {
            format!("{} to {}, up to {share}", duration(cost_ns as f64), duration(most_ns as f64))
        } else {
            format!("{}, {share}", duration(cost_ns as f64))
        };
        sentences.push(format!(
            "{}. {} {}: {} {} in {} of {} steps; {} of the time of its steps ({}).",
            number + 1,
            context.processes.get(it.process).label(),
            about.what,
            shown(&count.into(), Unit::Count),
            about.counted,
            shown(&steps.into(), Unit::Count),
            shown(&all.into(), Unit::Count),
            cost,
            about.confidence.name(),
        ));
        sentences.push(format!("   {}", about.advice));
    }
    sentences
}

fn table(findings: &[Finding], served: &[Served<'_>], found: &Found, context: &Context) -> Table {
    let mut table = Table::new(
        "findings",
        "Findings, by cost",
        vec![
            Column::new("finding", "finding", Unit::None),
            Column::new("process", "process", Unit::None),
            Column::new("pid", "pid", Unit::None).hidden(),
            Column::new("rank", "rank", Unit::None).hidden(),
            Column::new("count", "count", Unit::Count),
            Column::new("counted", "of", Unit::None),
            Column::new("steps", "steps", Unit::Count),
            Column::new("steps_share", "of all", Unit::Ratio),
            Column::new("since_unix_ns", "since", Unit::UnixNanoseconds),
            Column::new("since_ns", "since the start", Unit::Nanoseconds).hidden(),
            Column::new("cost_ns", "cost", Unit::Nanoseconds),
            Column::new("cost_share", "share", Unit::Ratio),
            Column::new("cost_of", "time of", Unit::None),
            Column::new("confidence", "confidence", Unit::None),
            Column::new("what", "what", Unit::None).hidden(),
            Column::new("advice", "advice", Unit::None).hidden(),
        ],
    );
    let is_cut = is_cut(context) || found.is_doubtful;
    // Of all steps that were found.
    let shared = |grade: &Grade| match grade {
        Grade::Exact if is_cut => Grade::exact_within(WITHIN),
        other => other.clone(),
    };
    for it in findings {
        let about = it.rule.about();
        let process = context.processes.get(it.process);
        let Tally { all, sure, first_ns, .. } = it.tally;
        let Sums { count, steps, cost_ns, most_ns, .. } = all;
        let of = served.iter().find(|served| served.process == it.process);
        let (all, serving_ns, rank) = of.map_or((1, 1, 0), |of| {
            (of.steps.len().max(1), of.serving_ns.max(1), of.steps.first().map_or(0, |it| it.rank))
        });
        let share = |ns: u64| ns as f64 / serving_ns as f64;
        let cost = cost_grade(it, context);
        let share_grade = match &cost {
            Grade::Bounds { high: Some(_), .. } => Grade::between(share(cost_ns), share(most_ns)),
            Grade::Bounds { .. } => Grade::unknown(MISSING),
            other => shared(other),
        };
        let steps_grade = count_grade(it, steps, sure.steps, context);
        let part_grade = match &steps_grade {
            Grade::Bounds { .. } => Grade::unknown(MISSING),
            other => shared(other),
        };
        // It may have been found before.
        let since = |at: Option<i64>| {
            let grade = match (it.is_doubtful(), is_cut) {
                (true, _) => Grade::unknown(MISSING),
                (_, true) => Grade::Bounds { low: None, high: at.map(|at| at as f64) },
                _ => Grade::Exact,
            };
            Cell::graded(at, grade)
        };
        table.rows.push(vec![
            about.name.into(),
            process.label().into(),
            process.pid.into(),
            rank.into(),
            Cell::graded(count, count_grade(it, count, sure.count, context)),
            about.counted.into(),
            Cell::graded(steps, steps_grade),
            Cell::graded(steps as f64 / all as f64, part_grade),
            since(first_ns.and_then(|ns| found.unix_ns(ns))),
            since(first_ns),
            Cell::graded(cost_ns, cost),
            Cell::graded(share(cost_ns), share_grade),
            about.cost.into(),
            about.confidence.name().into(),
            about.what.into(),
            about.advice.into(),
        ]);
    }
    table
}

fn evidence(findings: &[Finding], context: &Context) -> Table {
    let mut table = Table::new(
        "evidence",
        "Lines that show it: the first and the costliest",
        vec![
            Column::new("finding", "finding", Unit::None),
            Column::new("pid", "pid", Unit::None).hidden(),
            Column::new("file", "file", Unit::None),
            Column::new("line", "line", Unit::None),
            Column::new("ts_ns", "at", Unit::Nanoseconds),
            Column::new("cost_ns", "cost", Unit::Nanoseconds),
            Column::new("function", "function", Unit::None),
            Column::new("detail", "detail", Unit::None),
        ],
    );
    for it in findings {
        let pid = context.processes.get(it.process).pid;
        let mut examples = it.tally.examples.clone();
        examples.sort_by_key(|example| (example.from, example.place.file, example.place.line));
        for example in examples {
            let Occurrence { from, most_ns, function, place, detail, .. } = example;
            let name = (function.0 != u32::MAX).then(|| context.functions.get(function));
            table.rows.push(vec![
                it.rule.about().name.into(),
                pid.into(),
                context.file_name(place).filter(|_| place.line > 0).into(),
                Some(place.line).filter(|line| *line > 0).into(),
                from.into(),
                most_ns.into(),
                name.map(|function| function.name.to_string()).into(),
                told(detail).into(),
            ]);
        }
    }
    table
}

fn told(detail: Detail) -> Option<String> {
    match detail {
        Detail::None | Detail::Pause(0) => None,
        Detail::Bytes(count) => Some(bytes(count as f64)),
        Detail::Error { code, is_runtime } => {
            let api = if is_runtime { Api::Runtime } else { Api::Driver };
            Some(error_name(api, code).map_or_else(|| format!("error {code}"), str::to_owned))
        }
        Detail::Queued(count) => Some(format!("behind {count} launches")),
        Detail::Pause(ns) => Some(format!("after {} without a call", duration(ns as f64))),
    }
}
