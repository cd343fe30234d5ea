//! The ledger as tables: by kind, the slowest, by fingerprint, and every step.

use std::collections::BTreeMap;

use super::{
    Found,
    kind::Kind,
    ledger::{GraphMode, Row},
    operation::Operation,
    ranks::Step,
};
use crate::{
    answer::{Answer, Cell, Chart, Column, Table, Unit, Value},
    context::{Context, process::ProcessId},
    gap::{Cause, Gap},
    grade::Grade,
};

const SHOWN_SLOWEST: usize = 12;
const SHOWN_FINGERPRINTS: usize = 12;

/// A step is slow beside others of its kind if it takes this many times their median.
const SLOW: u64 = 2;

/// What a late thread adds to an estimate, as seen on an H200: nine of ten are closer.
const ESTIMATE_ERROR_NS: f64 = 25_000.0;

const MOSTLY: &str = "nine of ten steps; where the waiting thread was held up, its delay is in it";
const MISSING: &str = "calls are missing around this step: nothing is proved of its end";
const NEVER_WAITED: &str = "no wait or query covers the output: nothing bounds its end above";
const LATE: &str = "every thread came after the GPU was done: bounds are all that calls tell";
const ENTRIES: &str = "calls without an end tell nothing of steps (TRACE_DETAIL=entry)";
const FIRST: &str = "no step is before it";
const NO_KIND: &str = "the calls do not tell what the step computed";
const NO_TOKENS: &str = "no capture was seen, or its grids do not tell the tokens";
const KIND_HOLDS: &str =
    "engines that queue the next step without a pause while they have requests";

/// Steps that are alike: their kind, how the model ran, and for how many tokens.
type Group = (Option<Kind>, GraphMode, Option<u32>);

/// What a step is measured by, beside its row.
struct Measured<'a> {
    step: &'a Step,
    /// From the later of its beginning and the end of the step before, to its own end.
    duration: Option<u64>,
    bounds: (Option<u64>, Option<u64>),
    is_touched: bool,
    /// Not the kernels that most steps of its group launch.
    is_odd: bool,
    is_slow: bool,
}

#[derive(Default)]
struct OfGroup {
    durations: Vec<u64>,
    highest: Vec<u64>,
    api: Vec<u64>,
    waits: Vec<u64>,
    launches: Vec<u64>,
    fingerprints: BTreeMap<u64, u64>,
    deviating: u64,
}

pub(super) fn answer(found: &Found, context: &Context) -> Answer {
    let mut answer = Answer::new("steps");
    let Found { steps, entries, .. } = found;
    let (measured, groups) = measure(found, context);
    let unix = |ts_ns: i64| found.unix_ns(ts_ns);
    figures(&measured, *entries, context, &mut answer);
    answer.sentences = sentences(steps, &measured, *entries);
    headline(&measured, context, &mut answer);
    answer.tables = vec![
        by_kind(&groups),
        slowest(&measured, &unix, context),
        by_fingerprint(&measured, &unix),
        all(&measured, &unix, context),
    ];
    answer.notes.push(
        "took: from the later of a step's beginning and the end of the step before, to its own end \
         on the GPU. That is the GPU's time where the GPU always had work, else the host's is in it"
            .to_owned(),
    );
    answer
}

fn measure<'a>(
    found: &'a Found,
    context: &Context,
) -> (Vec<Measured<'a>>, BTreeMap<Group, OfGroup>) {
    let mut before: BTreeMap<ProcessId, &Row> = BTreeMap::new();
    let mut groups: BTreeMap<Group, OfGroup> = BTreeMap::new();
    let mut measured = Vec::with_capacity(found.steps.len());
    for step in &found.steps {
        let row = &step.row;
        let is_touched = found.is_touched(step, context);
        let (duration, bounds) = match before.insert(step.process, row) {
            Some(before) => duration(row, before),
            None => (None, (None, None)),
        };
        let group = groups.entry(group(step)).or_default();
        *group.fingerprints.entry(row.fingerprint).or_default() += 1;
        group.durations.extend(duration.filter(|_| !is_touched));
        group.highest.extend(bounds.1.filter(|_| !is_touched));
        group.api.push(row.api_ns);
        group.waits.push(row.wait_ns);
        group.launches.push(u64::from(row.launches + row.graph_launches));
        let (is_odd, is_slow) = (false, false);
        measured.push(Measured { step, duration, bounds, is_touched, is_odd, is_slow });
    }
    for group in groups.values_mut() {
        let OfGroup { durations, highest, api, waits, launches, .. } = group;
        for values in [durations, highest, api, waits, launches] {
            values.sort_unstable();
        }
    }
    for it in &mut measured {
        let Some(group) = groups.get_mut(&group(it.step)) else { continue };
        let all: u64 = group.fingerprints.values().sum();
        let usual = group.fingerprints.iter().max_by_key(|&(_, count)| *count);
        it.is_odd = usual
            .is_some_and(|(usual, count)| *usual != it.step.row.fingerprint && count * 2 > all);
        let median = at(&group.durations, 0.5);
        it.is_slow = match (it.duration, median) {
            (Some(duration), Some(median)) => duration > SLOW * median,
            _ => false,
        };
        group.deviating += u64::from(it.is_odd || it.is_slow);
    }
    (measured, groups)
}

fn group(step: &Step) -> Group {
    (step.kind, step.row.mode, step.row.graph_tokens)
}

/// A best guess, and between what the truth lies.
fn duration(row: &Row, before: &Row) -> (Option<u64>, (Option<u64>, Option<u64>)) {
    let length = |from: i64, to: i64| u64::try_from(to.saturating_sub(from)).unwrap_or(0);
    let guess = match (row.estimate, before.estimate) {
        (Some(end), Some(begin)) => Some(length(begin.max(row.start), end)),
        _ => None,
    };
    let low = before.high.map(|high| length(high.max(row.start), row.low));
    let high = row.high.map(|high| length(before.low.max(row.start), high));
    (guess, (low, high))
}

/// Whether steps are made of calls of this function.
fn matters(function: &str) -> bool {
    Operation::of(trace::function::canonical(function)) != Operation::Other
        || function.contains("Stream")
        || function.contains("Async")
}

/// Whether lines may be missing from which the step, or its end, was found.
pub(super) fn is_touched(step: &Step, holes: &[(i64, i64)], context: &Context) -> bool {
    let row = &step.row;
    let from = row.start;
    let to = row.high.or(row.handed).unwrap_or(i64::MAX);
    let pid = context.processes.get(step.process).pid;
    let overlaps = |begin: Option<i64>, end: Option<i64>| {
        begin.is_none_or(|begin| begin <= to) && end.is_none_or(|end| from <= end)
    };
    let touches = |gap: &Gap| {
        // What was never written after the last line touches no step that has ended before.
        let is_behind = matches!(
            gap.cause,
            Cause::MissingSegments { .. }
                | Cause::NotListed { .. }
                | Cause::NotEnded
                | Cause::NotClosed { .. }
        );
        (gap.may_cut_lines() || gap.may_add_lines())
            && gap.function.as_deref().is_none_or(matters)
            && (!is_behind || row.high.is_none())
            && gap.pid.is_none_or(|other| other == pid)
            && overlaps(gap.from_ns, gap.to_ns)
    };
    holes.iter().any(|&(begin, end)| begin < to && from < end) || context.gaps.iter().any(touches)
}

fn figures(measured: &[Measured<'_>], entries: u64, context: &Context, answer: &mut Answer) {
    let is_cut = context.gaps.iter().any(|gap| gap.may_cut_lines() || gap.may_hide_calls());
    let is_blind = measured.is_empty() && entries > 0;
    let mut add = |name, title, of: fn(&Measured<'_>) -> bool| {
        let count = measured.iter().filter(|it| of(it)).count();
        let (value, grade) = match (is_blind, is_cut) {
            (true, _) => (Value::None, Grade::unknown(ENTRIES)),
            (false, true) => ((count as u64).into(), Grade::at_least(count as f64)),
            (false, false) => ((count as u64).into(), Grade::Exact),
        };
        answer.figure(name, title, Unit::Count, value, grade);
    };
    add("steps", "steps", |_| true);
    add("steps_of_unknown_kind", "of unknown kind", |it| it.step.kind.is_none());
    add("steps_bounded", "whose end is proved to lie between two times", |it| {
        it.step.row.high.is_some() && !it.is_touched
    });
    add("steps_estimated", "with an estimate of their end", |it| it.step.row.estimate.is_some());
    add("steps_deviating", "that deviate from their kind", |it| it.is_odd || it.is_slow);
}

fn sentences(steps: &[Step], measured: &[Measured<'_>], entries: u64) -> Vec<String> {
    if steps.is_empty() && entries > 0 {
        return vec![
            "no step is found: the trace holds only the beginnings of calls (TRACE_DETAIL=entry), \
             and waits without an end tell nothing"
                .to_owned(),
        ];
    }
    if steps.is_empty() {
        return vec![
            "no step is found: nobody waited for an event behind a copy to the host".to_owned(),
        ];
    }
    let mut sentences = Vec::new();
    let late = measured.iter().filter(|it| it.step.row.estimate.is_none()).count();
    if late * 2 > measured.len() {
        sentences.push(format!(
            "of {late} of {} steps the calls give only bounds: a thread that spins in its wait was \
             late, or slept; where waits are short, the engine is bound by the host",
            measured.len()
        ));
    }
    let slowest = measured.iter().max_by_key(|it| it.duration.or(it.bounds.0));
    let took = crate::answer::units::duration;
    match slowest.map(|it| (it.duration, it.bounds.0)) {
        Some((Some(ns), _)) => sentences
            .push(format!("the slowest step took {} up to its end on the GPU", took(ns as f64))),
        Some((None, Some(ns))) => sentences.push(format!(
            "the slowest step took {} or more up to its end on the GPU",
            took(ns as f64)
        )),
        _ => {}
    }
    sentences
}

fn headline(measured: &[Measured<'_>], context: &Context, answer: &mut Answer) {
    const TITLE: &str = "how slow was the slowest step?";
    let longest = measured.iter().max_by_key(|it| it.duration.or(it.bounds.0));
    let Some(longest) = longest else {
        answer.headline(TITLE, Unit::None, Value::None, Grade::Exact, answer.sentences.join(" "));
        return;
    };
    let Cell { value, grade } = duration_cell(longest);
    let Step { row, kind, .. } = longest.step;
    let since = context.time.first_ns.map_or(0, |first| row.start.saturating_sub(first));
    let kind = kind.map_or("step of unknown kind", Kind::name);
    let mut known: Vec<u64> = measured.iter().filter_map(|it| it.duration).collect();
    known.sort_unstable();
    let usual = at(&known, 0.5).map_or_else(String::new, |median| {
        let median = crate::answer::units::duration(median as f64);
        format!(" The median of {} steps is {median}.", known.len())
    });
    let detail = format!(
        "A {kind} step that began {} after the first call; its thread waited {} for the output.{usual}",
        crate::answer::units::duration(since as f64),
        crate::answer::units::duration(row.wait_ns as f64)
    );
    answer.headline(TITLE, Unit::Nanoseconds, value, grade.unwrap_or_default(), detail);
}

fn by_kind(groups: &BTreeMap<Group, OfGroup>) -> Table {
    let estimate = |median: Option<u64>| close_to(median.unwrap_or(1));
    let mut table = Table::new(
        "kinds",
        "by kind, graph mode and captured tokens",
        vec![
            Column::new("kind", "kind", Unit::None).graded(Grade::exact_within(KIND_HOLDS)),
            Column::new("graph_mode", "graphs", Unit::None),
            Column::new("graph_tokens", "tokens", Unit::Count),
            Column::new("count", "steps", Unit::Count),
            Column::new("deviating", "deviating", Unit::Count),
            Column::new("duration_p50_ns", "took p50", Unit::Nanoseconds),
            Column::new("duration_p99_ns", "p99", Unit::Nanoseconds),
            Column::new("duration_count", "estimated", Unit::Count).hidden(),
            Column::new("launches_p50", "launches p50", Unit::Count),
            Column::new("api_p50_ns", "in calls p50", Unit::Nanoseconds),
            Column::new("wait_p50_ns", "wait p50", Unit::Nanoseconds),
        ],
    );
    let mut sorted: Vec<_> = groups.iter().collect();
    sorted.sort_by_key(|(_, group)| std::cmp::Reverse(group.api.len()));
    for (&(kind, mode, tokens), group) in sorted {
        let median = at(&group.durations, 0.5);
        let duration = |part: f64| match (at(&group.durations, part), at(&group.highest, part)) {
            (Some(ns), _) => Cell::graded(ns, estimate(median)),
            (None, Some(high)) => {
                Cell::graded(Value::None, Grade::Bounds { low: None, high: Some(high as f64) })
            }
            (None, None) => Cell::graded(Value::None, Grade::unknown(FIRST)),
        };
        table.rows.push(vec![
            kind_cell(kind),
            mode.name().into(),
            tokens_cell(mode, tokens),
            (group.api.len() as u64).into(),
            group.deviating.into(),
            duration(0.5),
            duration(0.99),
            (group.durations.len() as u64).into(),
            at(&group.launches, 0.5).into_cell(),
            at(&group.api, 0.5).into_cell(),
            at(&group.waits, 0.5).into_cell(),
        ]);
    }
    table
}

fn slowest(
    measured: &[Measured<'_>],
    unix: &impl Fn(i64) -> Option<i64>,
    context: &Context,
) -> Table {
    let mut table = Table::new(
        "slowest",
        "the slowest steps",
        vec![
            Column::new("start_unix_ns", "begun", Unit::UnixNanoseconds),
            Column::new("pid", "pid", Unit::None),
            Column::new("rank", "rank", Unit::None),
            Column::new("kind", "kind", Unit::None).graded(Grade::exact_within(KIND_HOLDS)),
            Column::new("graph_mode", "graphs", Unit::None),
            Column::new("graph_tokens", "tokens", Unit::Count),
            Column::new("requests", "requests", Unit::Count),
            Column::new("duration_ns", "took", Unit::Nanoseconds),
            Column::new("wait_ns", "wait", Unit::Nanoseconds),
            Column::new("deviates", "deviates by", Unit::None),
        ],
    );
    let mut sorted: Vec<&Measured<'_>> = measured.iter().collect();
    sorted.sort_by_key(|it| std::cmp::Reverse(it.duration.or(it.bounds.0)));
    for it in sorted.into_iter().take(SHOWN_SLOWEST) {
        let Step { process, rank, kind, row } = it.step;
        table.rows.push(vec![
            unix(row.start).into_cell(),
            context.processes.get(*process).pid.into(),
            (*rank).into(),
            kind_cell(*kind),
            row.mode.name().into(),
            tokens_cell(row.mode, row.graph_tokens),
            Some(row.requests).filter(|&requests| requests > 0).into_cell(),
            duration_cell(it),
            row.wait_ns.into(),
            deviates(it).into_cell(),
        ]);
    }
    table
}

fn by_fingerprint(measured: &[Measured<'_>], unix: &impl Fn(i64) -> Option<i64>) -> Table {
    let mut table = Table::new(
        "fingerprints",
        "distinct steps, by the hash of their kernels and grids in order",
        vec![
            Column::new("fingerprint", "fingerprint", Unit::None),
            Column::new("count", "steps", Unit::Count),
            Column::new("kind", "kind", Unit::None).graded(Grade::exact_within(KIND_HOLDS)),
            Column::new("graph_mode", "graphs", Unit::None),
            Column::new("graph_tokens", "tokens", Unit::Count),
            Column::new("launches", "launches", Unit::Count),
            Column::new("first_unix_ns", "first", Unit::UnixNanoseconds),
        ],
    );
    let mut distinct: BTreeMap<u64, (u64, &Step)> = BTreeMap::new();
    for it in measured {
        distinct.entry(it.step.row.fingerprint).or_insert((0, it.step)).0 += 1;
    }
    let mut sorted: Vec<_> = distinct.into_iter().collect();
    sorted.sort_by_key(|(_, (count, step))| (std::cmp::Reverse(*count), step.row.start));
    for (fingerprint, (count, Step { kind, row, .. })) in sorted {
        table.rows.push(vec![
            hexadecimal(fingerprint).into(),
            count.into(),
            kind_cell(*kind),
            row.mode.name().into(),
            tokens_cell(row.mode, row.graph_tokens),
            (row.launches + row.graph_launches).into(),
            unix(row.start).into_cell(),
        ]);
    }
    table.shown = SHOWN_FINGERPRINTS;
    table
}

fn all(measured: &[Measured<'_>], unix: &impl Fn(i64) -> Option<i64>, context: &Context) -> Table {
    let bounds = Grade::Bounds { low: None, high: None };
    let mut table = Table::new(
        "steps",
        "all steps",
        vec![
            Column::new("pid", "pid", Unit::None),
            Column::new("rank", "rank", Unit::None),
            Column::new("start_unix_ns", "begun", Unit::UnixNanoseconds),
            Column::new("start_ns", "since the start of the run", Unit::Nanoseconds).hidden(),
            Column::new("kind", "kind", Unit::None).graded(Grade::exact_within(KIND_HOLDS)),
            Column::new("graph_mode", "graphs", Unit::None),
            Column::new("graph_tokens", "tokens", Unit::Count),
            Column::new("requests", "requests", Unit::Count),
            Column::new("tokens", "computed", Unit::Count),
            Column::new("launches", "kernel launches", Unit::Count),
            Column::new("graph_launches", "graph launches", Unit::Count),
            Column::new("copies", "copies", Unit::Count),
            Column::new("api_ns", "in calls", Unit::Nanoseconds),
            Column::new("wait_ns", "wait for the output", Unit::Nanoseconds),
            Column::new("other_wait_ns", "other waits", Unit::Nanoseconds),
            Column::new("completed", "end on the GPU", Unit::UnixNanoseconds).graded(bounds),
            Column::new("handed_unix_ns", "handed out", Unit::UnixNanoseconds),
            Column::new("duration_ns", "took", Unit::Nanoseconds),
            Column::new("fingerprint", "fingerprint", Unit::None),
            Column::new("deviates", "deviates by", Unit::None),
        ],
    );
    for it in measured {
        let Step { process, rank, kind, row } = it.step;
        let counted = |count: u32| {
            if it.is_touched {
                Cell::graded(count, Grade::at_least(f64::from(count)))
            } else {
                count.into()
            }
        };
        table.rows.push(vec![
            context.processes.get(*process).pid.into(),
            (*rank).into(),
            unix(row.start).into_cell(),
            row.start.into(),
            kind_cell(*kind),
            row.mode.name().into(),
            tokens_cell(row.mode, row.graph_tokens),
            Some(row.requests).filter(|&requests| requests > 0).into_cell(),
            row.tokens.into_cell(),
            counted(row.launches),
            counted(row.graph_launches),
            counted(row.copies),
            row.api_ns.into(),
            row.wait_ns.into(),
            row.other_wait_ns.into(),
            completed(it, unix),
            row.handed.and_then(unix).into_cell(),
            duration_cell(it),
            hexadecimal(row.fingerprint).into(),
            deviates(it).into_cell(),
        ]);
    }
    table.shown = 0;
    table.chart = Some(Chart::Points {
        title: "how long each step took, by when it began",
        x: "start_ns",
        y: "duration_ns",
        by: "kind",
    });
    table
}

fn completed(it: &Measured<'_>, unix: &impl Fn(i64) -> Option<i64>) -> Cell {
    let row = &it.step.row;
    let value = Value::Object(vec![
        ("low_unix_ns", unix(row.low).into()),
        ("high_unix_ns", row.high.and_then(unix).into()),
        ("estimate_unix_ns", row.estimate.and_then(unix).into()),
    ]);
    match (it.is_touched, row.high) {
        (true, _) => Cell::graded(value, Grade::unknown(MISSING)),
        (false, None) => Cell::graded(value, Grade::unknown(NEVER_WAITED)),
        (false, Some(_)) => value.into(),
    }
}

fn duration_cell(it: &Measured<'_>) -> Cell {
    let Measured { duration, bounds: (low, high), is_touched, .. } = *it;
    let side = |side: Option<u64>| side.map(|ns| ns as f64);
    match (duration, low, high) {
        _ if is_touched => Cell::graded(duration, Grade::unknown(MISSING)),
        (Some(ns), ..) => Cell::graded(ns, close_to(ns)),
        (None, None, None) => Cell::graded(Value::None, Grade::unknown(FIRST)),
        (None, low, high) => {
            let bounds = Grade::Bounds { low: side(low), high: side(high) };
            Cell::graded(Value::None, if high.is_some() { bounds } else { Grade::unknown(LATE) })
        }
    }
}

/// Of a duration between two estimates.
fn close_to(ns: u64) -> Grade {
    let windows = Some(MOSTLY.to_owned());
    Grade::Estimate { error: ESTIMATE_ERROR_NS / ns.max(1) as f64, windows }
}

fn deviates(it: &Measured<'_>) -> Option<&'static str> {
    match (it.is_odd, it.is_slow) {
        (true, true) => Some("kernels and duration"),
        (true, false) => Some("kernels"),
        (false, true) => Some("duration"),
        (false, false) => None,
    }
}

fn kind_cell(kind: Option<Kind>) -> Cell {
    match kind {
        Some(kind) => kind.name().into(),
        None => Cell::graded(Value::None, Grade::unknown(NO_KIND)),
    }
}

fn tokens_cell(mode: GraphMode, tokens: Option<u32>) -> Cell {
    match tokens {
        None if mode != GraphMode::None => Cell::graded(Value::None, Grade::unknown(NO_TOKENS)),
        tokens => tokens.into_cell(),
    }
}

fn hexadecimal(fingerprint: u64) -> String {
    format!("{fingerprint:016x}")
}

/// Of sorted values the one below or at which this part of all lies.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
fn at(sorted: &[u64], part: f64) -> Option<u64> {
    let rank = (part * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

/// A value that may not be there, as a cell.
trait IntoCell {
    fn into_cell(self) -> Cell;
}

impl<T: Into<Value>> IntoCell for Option<T> {
    fn into_cell(self) -> Cell {
        Value::from(self).into()
    }
}
