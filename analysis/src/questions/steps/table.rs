//! The ledger as tables: by kind, the slowest, by fingerprint, and every step.

use std::collections::BTreeMap;

use super::{
    Found,
    doubt::Doubt,
    kind::Kind,
    ledger::{GraphMode, Row},
    ranks::{Ended, Step},
};
use crate::{
    answer::{Answer, Cell, Chart, Column, Table, Unit, Value, legend::Legend},
    context::{Context, process::ProcessId},
    gap::Gap,
    grade::Grade,
};

const SHOWN_SLOWEST: usize = 12;
const SHOWN_FINGERPRINTS: usize = 12;

/// A step is slow beside others of its kind if it takes this many times their median.
const SLOW: u64 = 2;

/// What a late thread adds to an estimate, as seen on an H200: nine of ten are closer.
const ESTIMATE_ERROR_NS: f64 = 25_000.0;

const MOSTLY: &str = "nine of ten steps; where the waiting thread was held up, its delay is in it";
const MISSING: &str = "lines are missing around this step, stand twice or in a wrong place";
const BEFORE: &str = "lines are missing around the step before, stand twice or in a wrong place";
const CAPTURES: &str = "lines of captures are missing, stand twice or in a wrong place";
const UNDESCRIBED: &str = "no line tells which process it is";
const BOUNDED: &str = "only bounds are known, and only of steps around which no line is missing";
const WITHIN: &str = "steps around which no line is missing";
const NEVER_WAITED: &str = "no wait or query covers the output: nothing bounds its end above";
const ENTRIES: &str = "calls without an end tell nothing of steps (TRACE_DETAIL=entry)";
const NO_KIND: &str = "the calls do not tell what the step computed";
const NO_TOKENS: &str = "no capture was seen, or its grids do not tell the tokens";
const SEVERAL_GRAPHS: &str = "the same kernels ran with and without graphs, or in several";
const SEVERAL_KINDS: &str = "steps of several kinds launch the same";
const KIND_HOLDS: &str =
    "engines that queue the next step without a pause while they have requests";

/// Steps that are alike: their kind, how the model ran, and for how many tokens.
type Group = (Option<Kind>, GraphMode, Option<u32>);

/// What a step is measured by, beside its row.
struct Measured<'a> {
    step: &'a Step,
    /// From the later of its beginning and the end of the step before, if there is one, to its own end.
    duration: Option<u64>,
    bounds: (Option<u64>, Option<u64>),
    /// Not the kernels that most steps of its group launch.
    is_odd: bool,
    is_slow: bool,
}

/// Of the steps whose cells are known.
#[derive(Default)]
struct OfGroup {
    count: u64,
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
    let is_doubtful = found.is_doubtful;
    figures(&measured, *entries, is_doubtful, &mut answer);
    answer.sentences = sentences(steps, &measured, *entries);
    headline(&measured, is_doubtful, &mut answer);
    answer.tables = vec![
        by_kind(&groups, is_doubtful, found.steps.iter().any(|step| step.doubt.calls)),
        slowest(&measured, &unix, is_doubtful, context),
        by_fingerprint(&measured, &unix, is_doubtful),
        all(&measured, &unix, is_doubtful, context),
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
    let mut hidden: BTreeMap<ProcessId, bool> = BTreeMap::new();
    let mut groups: BTreeMap<Group, OfGroup> = BTreeMap::new();
    let mut measured = Vec::with_capacity(found.steps.len());
    for step in &found.steps {
        let row = &step.row;
        let is_hidden = hidden.entry(step.process).or_insert_with(|| may_follow(step, context));
        let (duration, bounds) = duration(step, *is_hidden);
        if !step.doubt.kind {
            let group = groups.entry(group(step)).or_default();
            group.count += 1;
            if !step.doubt.before {
                group.durations.extend(duration);
                group.highest.extend(bounds.1);
            }
            if !step.doubt.sums {
                *group.fingerprints.entry(row.fingerprint).or_default() += 1;
                group.launches.push(u64::from(row.launches + row.graph_launches));
            }
            if !step.doubt.calls {
                group.api.push(row.api_ns);
            }
            if !step.doubt.waits {
                group.waits.push(row.wait_ns);
            }
        }
        measured.push(Measured { step, duration, bounds, is_odd: false, is_slow: false });
    }
    for group in groups.values_mut() {
        let OfGroup { durations, highest, api, waits, launches, .. } = group;
        for values in [durations, highest, api, waits, launches] {
            values.sort_unstable();
        }
    }
    for it in &mut measured {
        let Doubt { kind, sums, before, .. } = it.step.doubt;
        let Some(group) = groups.get_mut(&group(it.step)).filter(|_| !kind) else { continue };
        let all: u64 = group.fingerprints.values().sum();
        let usual = group.fingerprints.iter().max_by_key(|&(_, count)| *count);
        it.is_odd = !sums
            && usual
                .is_some_and(|(usual, count)| *usual != it.step.row.fingerprint && count * 2 > all);
        let median = at(&group.durations, 0.5);
        it.is_slow = match (it.duration, median) {
            (Some(duration), Some(median)) => !before && duration > SLOW * median,
            _ => false,
        };
        group.deviating += u64::from(it.is_odd || it.is_slow);
    }
    (measured, groups)
}

fn group(step: &Step) -> Group {
    (step.kind, step.row.mode, step.row.graph_tokens)
}

/// Whether steps that nobody has seen may be before the first one.
fn may_follow(step: &Step, context: &Context) -> bool {
    let pid = context.processes.get(step.process).pid;
    let hides = |gap: &Gap| gap.may_hide_calls() && gap.pid.is_none_or(|other| other == pid);
    context.opening.is_none() || context.gaps.iter().any(hides)
}

/// A best guess, and between what the truth lies. The first step begins when nothing is before it; where
/// something may be, its beginning is a bound only.
fn duration(step: &Step, is_hidden: bool) -> (Option<u64>, (Option<u64>, Option<u64>)) {
    let Step { row, before, .. } = step;
    let length = |from: i64, to: i64| u64::try_from(to.saturating_sub(from)).unwrap_or(0);
    let since = |moment: i64| moment.max(row.start);
    let (low, high, estimate) = match before {
        Some(Ended { low, high, estimate }) => (since(*low), high.map(since), estimate.map(since)),
        None if is_hidden => (row.start, None, None),
        None => (row.start, Some(row.start), Some(row.start)),
    };
    let guess = estimate.zip(row.estimate).map(|(from, to)| length(from, to));
    let least = high.map(|from| length(from, row.low));
    let most = row.high.map(|to| length(low, to));
    (guess, (least, most))
}

impl Measured<'_> {
    /// The longest that it may have taken; `None` if nothing bounds that.
    fn most(&self) -> Option<u64> {
        self.duration.or(self.bounds.1).filter(|_| !self.step.doubt.before)
    }

    /// What it took at least.
    fn least(&self) -> Option<u64> {
        self.duration.or(self.bounds.0).filter(|_| !self.step.doubt.before)
    }
}

/// The order of all that shows the slowest steps first: one of which only bounds are known may be the
/// slowest.
fn slowness(it: &Measured<'_>) -> (Option<u64>, Option<u64>) {
    (it.most(), it.least())
}

fn figures(measured: &[Measured<'_>], entries: u64, is_doubtful: bool, answer: &mut Answer) {
    let is_blind = measured.is_empty() && entries > 0;
    let mut add = |name, title, of: fn(&Measured<'_>) -> bool, in_doubt: fn(&Doubt) -> bool| {
        let count = measured.iter().filter(|it| of(it)).count();
        let is_sure = |it: &&Measured<'_>| of(it) && !in_doubt(&it.step.doubt);
        let sure = measured.iter().filter(is_sure).count();
        let (value, grade) = match (is_blind, is_doubtful || sure < count) {
            (true, _) => (Value::None, Grade::unknown(ENTRIES)),
            (false, true) => ((count as u64).into(), Grade::at_least(sure as f64)),
            (false, false) => ((count as u64).into(), Grade::Exact),
        };
        answer.figure(name, title, Unit::Count, value, grade);
    };
    add("steps", "steps", |_| true, |doubt| doubt.step);
    let of_unknown_kind = |it: &Measured<'_>| it.step.kind.is_none();
    add("steps_of_unknown_kind", "of unknown kind", of_unknown_kind, |doubt| doubt.kind);
    let is_bounded = |it: &Measured<'_>| it.step.row.high.is_some() && !it.step.doubt.step;
    add("steps_bounded", "whose end is proved to lie between two times", is_bounded, |_| false);
    let is_estimated = |it: &Measured<'_>| it.step.row.estimate.is_some();
    add("steps_estimated", "with an estimate of their end", is_estimated, |doubt| doubt.step);
    let deviating = measured.iter().filter(|it| it.is_odd || it.is_slow).count();
    let grade = if is_blind { Grade::unknown(ENTRIES) } else { within(is_doubtful) };
    let value = if is_blind { Value::None } else { deviating.into() };
    let title = "that deviate from their kind";
    answer.figure("steps_deviating", title, Unit::Count, value, grade);
}

/// Of what steps have in common: those around which lines are missing are not looked at.
fn within(is_doubtful: bool) -> Grade {
    if is_doubtful { Grade::exact_within(WITHIN) } else { Grade::Exact }
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
    if let Some(it) = slowest_of(measured) {
        sentences.push(format!("the slowest step took {} up to its end on the GPU", length(it)));
    }
    sentences.extend(not_known(measured));
    sentences
}

fn headline(measured: &[Measured<'_>], is_doubtful: bool, answer: &mut Answer) {
    const TITLE: &str = "how slow was the slowest step?";
    let Some(longest) = slowest_of(measured) else {
        answer.headline(TITLE, Unit::None, Value::None, Grade::Exact, answer.sentences.join(" "));
        return;
    };
    let Cell { value, mut grade } = duration_cell(longest);
    let not_known = not_known(measured);
    if is_doubtful || not_known.is_some() {
        // What is not known may have taken longer.
        let least = measured.iter().filter_map(Measured::least).max().unwrap_or(0);
        grade = Some(Grade::at_least(least as f64));
    }
    let Step { row, kind, doubt, .. } = longest.step;
    let kind = kind.filter(|_| !doubt.kind);
    let kind = kind
        .map_or_else(|| "step of unknown kind".to_owned(), |kind| format!("{} step", kind.name()));
    let mut known: Vec<u64> = measured.iter().filter_map(|it| it.duration).collect();
    known.sort_unstable();
    let usual = at(&known, 0.5).map_or_else(String::new, |median| {
        let median = crate::answer::units::duration(median as f64);
        format!(" The median of {} steps is {median}.", known.len())
    });
    let not_known = not_known.map_or_else(String::new, |told| format!(" {told}."));
    let detail = format!(
        "A {kind} that began {} after the start of the run took {}; its thread waited {} for the output.\
         {usual}{not_known}",
        crate::answer::units::duration(row.start as f64),
        length(longest),
        crate::answer::units::duration(row.wait_ns as f64)
    );
    answer.headline(TITLE, Unit::Nanoseconds, value, grade.unwrap_or_default(), detail);
}

fn slowest_of<'a, 'b>(measured: &'a [Measured<'b>]) -> Option<&'a Measured<'b>> {
    // Of equals the first.
    let known = measured.iter().rev().filter(|it| it.most().is_some());
    known.max_by_key(|it| slowness(it))
}

/// `~1.2 ms`, or the bounds.
fn length(it: &Measured<'_>) -> String {
    let Cell { value, grade } = duration_cell(it);
    Legend::default().graded(&value, Unit::Nanoseconds, &grade.unwrap_or_default())
}

/// How many steps are not compared with the slowest.
fn not_known(measured: &[Measured<'_>]) -> Option<String> {
    let count = measured.iter().filter(|it| it.most().is_none()).count();
    let all = measured.len();
    (count > 0).then(|| format!("how long {count} of {all} steps took is not known"))
}

fn by_kind(groups: &BTreeMap<Group, OfGroup>, is_doubtful: bool, lacks_calls: bool) -> Table {
    let of_calls = within(is_doubtful || lacks_calls);
    let within = || within(is_doubtful);
    let estimate = |median: Option<u64>| match close_to(median.unwrap_or(1)) {
        Grade::Estimate { error, windows: Some(windows) } if is_doubtful => {
            Grade::Estimate { error, windows: Some(format!("{WITHIN}; {windows}")) }
        }
        grade => grade,
    };
    let mut table = Table::new(
        "kinds",
        "by kind, graph mode and captured tokens",
        vec![
            Column::new("kind", "kind", Unit::None).graded(Grade::exact_within(KIND_HOLDS)),
            Column::new("graph_mode", "graphs", Unit::None),
            Column::new("graph_tokens", "tokens", Unit::Count),
            Column::new("count", "steps", Unit::Count),
            Column::new("deviating", "deviating", Unit::Count).graded(within()),
            Column::new("duration_p50_ns", "took p50", Unit::Nanoseconds),
            Column::new("duration_p99_ns", "p99", Unit::Nanoseconds),
            Column::new("duration_count", "estimated", Unit::Count).graded(within()).hidden(),
            Column::new("launches_p50", "launches p50", Unit::Count).graded(within()),
            Column::new("api_p50_ns", "in calls p50", Unit::Nanoseconds).graded(of_calls),
            Column::new("wait_p50_ns", "wait p50", Unit::Nanoseconds).graded(within()),
        ],
    );
    let mut sorted: Vec<_> = groups.iter().collect();
    sorted.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
    for (&(kind, mode, tokens), group) in sorted {
        let median = at(&group.durations, 0.5);
        let duration = |part: f64| match (at(&group.durations, part), at(&group.highest, part)) {
            (Some(ns), _) => Cell::graded(ns, estimate(median)),
            (None, Some(_)) if is_doubtful => Cell::graded(Value::None, Grade::unknown(BOUNDED)),
            (None, Some(high)) => {
                Cell::graded(Value::None, Grade::Bounds { low: None, high: Some(high as f64) })
            }
            (None, None) if is_doubtful => Cell::graded(Value::None, Grade::unknown(MISSING)),
            (None, None) => Cell::graded(Value::None, Grade::unknown(NEVER_WAITED)),
        };
        table.rows.push(vec![
            kind_cell(kind),
            mode.name().into(),
            tokens_cell(mode, tokens),
            Cell::count(group.count, is_doubtful),
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
    is_doubtful: bool,
    context: &Context,
) -> Table {
    let mut table = Table::new(
        "slowest",
        "the slowest steps",
        vec![
            Column::new("start_unix_ns", "begun", Unit::UnixNanoseconds),
            Column::new("start_ns", "after the start", Unit::Nanoseconds),
            Column::new("pid", "pid", Unit::None),
            Column::new("rank", "rank", Unit::None),
            Column::new("kind", "kind", Unit::None).graded(Grade::exact_within(KIND_HOLDS)),
            Column::new("graph_mode", "graphs", Unit::None),
            Column::new("graph_tokens", "tokens", Unit::Count),
            Column::new("requests", "requests", Unit::Count),
            Column::new("duration_ns", "took", Unit::Nanoseconds),
            Column::new("wait_ns", "wait", Unit::Nanoseconds),
            Column::new("deviates", "deviates by", Unit::None).graded(within(is_doubtful)),
        ],
    );
    let known = measured.iter().filter(|it| !it.step.doubt.step);
    let mut sorted: Vec<&Measured<'_>> = known.collect();
    sorted.sort_by_key(|it| std::cmp::Reverse(slowness(it)));
    for it in sorted.into_iter().take(SHOWN_SLOWEST) {
        let known = Known { step: it.step, context };
        table.rows.push(vec![
            unix(it.step.row.start).into_cell(),
            it.step.row.start.into(),
            known.pid(),
            known.rank(),
            known.kind(),
            known.mode(),
            known.graph_tokens(),
            known.requests(),
            duration_cell(it),
            known.wait(),
            deviates(it),
        ]);
    }
    table
}

/// Steps that launch the same.
struct Distinct<'a> {
    count: u64,
    kinds: BTreeMap<Option<Kind>, u64>,
    first: &'a Step,
    /// A graph of the same kernels is the same work, by other calls.
    has_other_graphs: bool,
}

/// `186 decode, 3 mixed`, the most frequent first.
fn counts_of_kinds(kinds: &BTreeMap<Option<Kind>, u64>) -> String {
    let mut counts: Vec<_> = kinds.iter().collect();
    counts.sort_by_key(|&(kind, count)| (std::cmp::Reverse(*count), kind.is_none(), *kind));
    let counts = counts.into_iter().map(|(kind, count)| {
        let kind = kind.map_or("of unknown kind", Kind::name);
        format!("{count} {kind}")
    });
    counts.collect::<Vec<_>>().join(", ")
}

fn by_fingerprint(
    measured: &[Measured<'_>],
    unix: &impl Fn(i64) -> Option<i64>,
    is_doubtful: bool,
) -> Table {
    let mut table = Table::new(
        "fingerprints",
        "distinct steps, by the hash of their kernels and grids in order",
        vec![
            Column::new("fingerprint", "fingerprint", Unit::None),
            Column::new("count", "steps", Unit::Count),
            Column::new("kind", "kind", Unit::None)
                .graded(Grade::exact_within(KIND_HOLDS))
                .hidden(),
            Column::new("kinds", "kinds", Unit::None).graded(Grade::exact_within(KIND_HOLDS)),
            Column::new("graph_mode", "graphs", Unit::None),
            Column::new("graph_tokens", "tokens", Unit::Count),
            Column::new("launches", "launches", Unit::Count),
            Column::new("first_unix_ns", "first", Unit::UnixNanoseconds),
        ],
    );
    let mut distinct: BTreeMap<u64, Distinct<'_>> = BTreeMap::new();
    let is_known = |it: &&Measured<'_>| {
        let Doubt { kind, sums, .. } = it.step.doubt;
        !kind && !sums
    };
    for it in measured.iter().filter(is_known) {
        let kinds = BTreeMap::new();
        let first = Distinct { count: 0, kinds, first: it.step, has_other_graphs: false };
        let alike = distinct.entry(it.step.row.fingerprint).or_insert(first);
        alike.count += 1;
        let calls = |row: &Row| (row.mode, row.graph_tokens, row.launches, row.graph_launches);
        alike.has_other_graphs |= calls(&it.step.row) != calls(&alike.first.row);
        *alike.kinds.entry(it.step.kind).or_default() += 1;
    }
    let mut sorted: Vec<_> = distinct.into_iter().collect();
    sorted.sort_by_key(|(_, alike)| (std::cmp::Reverse(alike.count), alike.first.row.start));
    for (fingerprint, Distinct { count, kinds, first, has_other_graphs }) in sorted {
        let of_graphs = |cell: Cell| {
            let several = Cell::graded(Value::None, Grade::unknown(SEVERAL_GRAPHS));
            if has_other_graphs { several } else { cell }
        };
        let Step { row, .. } = first;
        let kind = match kinds.len() {
            1 if is_doubtful => Cell::unless(missing(true), first.kind.map(Kind::name)),
            1 => kind_cell(first.kind),
            _ => Cell::graded(Value::None, Grade::unknown(SEVERAL_KINDS)),
        };
        table.rows.push(vec![
            hexadecimal(fingerprint).into(),
            Cell::count(count, is_doubtful),
            kind,
            Cell::unless(missing(is_doubtful), counts_of_kinds(&kinds)),
            of_graphs(row.mode.name().into()),
            of_graphs(tokens_cell(row.mode, row.graph_tokens)),
            of_graphs((row.launches + row.graph_launches).into()),
            if is_doubtful {
                let high = unix(row.start).map(|ns| ns as f64);
                Cell::graded(unix(row.start), Grade::Bounds { low: None, high })
            } else {
                unix(row.start).into_cell()
            },
        ]);
    }
    table.shown = SHOWN_FINGERPRINTS;
    table
}

fn all(
    measured: &[Measured<'_>],
    unix: &impl Fn(i64) -> Option<i64>,
    is_doubtful: bool,
    context: &Context,
) -> Table {
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
            Column::new("deviates", "deviates by", Unit::None).graded(within(is_doubtful)),
        ],
    );
    for it in measured {
        let Step { row, doubt, .. } = it.step;
        let known = Known { step: it.step, context };
        let sum = |value: Value| Cell::unless(missing(doubt.step || doubt.sums), value);
        let told = |value: Value| Cell::unless(missing(doubt.step), value);
        table.rows.push(vec![
            known.pid(),
            known.rank(),
            told(unix(row.start).into()),
            told(row.start.into()),
            known.kind(),
            known.mode(),
            known.graph_tokens(),
            known.requests(),
            known.tokens(),
            sum(row.launches.into()),
            sum(row.graph_launches.into()),
            sum(row.copies.into()),
            Cell::unless(missing(doubt.step || doubt.calls), row.api_ns),
            known.wait(),
            sum(row.other_wait_ns.into()),
            completed(it, unix),
            told(row.handed.and_then(unix).into()),
            duration_cell(it),
            known.fingerprint(),
            deviates(it),
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

fn missing(is_touched: bool) -> Option<&'static str> {
    is_touched.then_some(MISSING)
}

/// Cells of a step as far as they are known.
struct Known<'a> {
    step: &'a Step,
    context: &'a Context,
}

impl Known<'_> {
    fn pid(&self) -> Cell {
        self.context.processes.get(self.step.process).pid.into()
    }

    fn rank(&self) -> Cell {
        let is_described = self.context.processes.get(self.step.process).is_described;
        Cell::unless((!is_described).then_some(UNDESCRIBED), self.step.rank)
    }

    fn kind(&self) -> Cell {
        let Doubt { step, kind, graphs, .. } = self.step.doubt;
        let reason = missing(step).or(graphs.then_some(CAPTURES)).or(kind.then_some(BEFORE));
        match reason {
            Some(_) => Cell::unless(reason, self.step.kind.map(Kind::name)),
            None => kind_cell(self.step.kind),
        }
    }

    fn mode(&self) -> Cell {
        let row = &self.step.row;
        // One graph is the whole model, several may be.
        Cell::unless(self.captures(row.graph_launches > 1), row.mode.name())
    }

    fn graph_tokens(&self) -> Cell {
        let row = &self.step.row;
        match self.captures(row.graph_launches > 0) {
            Some(reason) => Cell::unless(Some(reason), row.graph_tokens),
            None => tokens_cell(row.mode, row.graph_tokens),
        }
    }

    fn requests(&self) -> Cell {
        let requests = Some(self.step.row.requests).filter(|&requests| requests > 0);
        Cell::unless(self.captures(true), requests)
    }

    fn tokens(&self) -> Cell {
        Cell::unless(self.captures(true), self.step.row.tokens)
    }

    fn wait(&self) -> Cell {
        let Doubt { step, waits, .. } = self.step.doubt;
        Cell::unless(missing(step || waits), self.step.row.wait_ns)
    }

    fn fingerprint(&self) -> Cell {
        let row = &self.step.row;
        let reason = missing(self.step.doubt.sums).or(self.captures(row.graph_launches > 0));
        Cell::unless(reason, hexadecimal(row.fingerprint))
    }

    /// Why something is not known that hangs on captures, too, if it does.
    fn captures(&self, hangs_on_them: bool) -> Option<&'static str> {
        let Doubt { step, graphs, .. } = self.step.doubt;
        missing(step).or((graphs && hangs_on_them).then_some(CAPTURES))
    }
}

fn completed(it: &Measured<'_>, unix: &impl Fn(i64) -> Option<i64>) -> Cell {
    let row = &it.step.row;
    let value = Value::Object(vec![
        ("low_unix_ns", unix(row.low).into()),
        ("high_unix_ns", row.high.and_then(unix).into()),
        ("estimate_unix_ns", row.estimate.and_then(unix).into()),
    ]);
    match (it.step.doubt.step, row.high) {
        (true, _) => Cell::graded(value, Grade::unknown(MISSING)),
        (false, None) => Cell::graded(value, Grade::unknown(NEVER_WAITED)),
        (false, Some(_)) => value.into(),
    }
}

fn duration_cell(it: &Measured<'_>) -> Cell {
    let Measured { duration, bounds: (low, high), step, .. } = *it;
    let side = |side: Option<u64>| side.map(|ns| ns as f64);
    match (duration, low, high) {
        _ if step.doubt.step => Cell::graded(duration, Grade::unknown(MISSING)),
        _ if step.doubt.before => Cell::graded(duration, Grade::unknown(BEFORE)),
        (Some(ns), ..) => Cell::graded(ns, close_to(ns)),
        (None, _, None) => Cell::graded(Value::None, Grade::unknown(NEVER_WAITED)),
        (None, low, high) => {
            Cell::graded(Value::None, Grade::Bounds { low: side(low), high: side(high) })
        }
    }
}

/// Of a duration between two estimates.
fn close_to(ns: u64) -> Grade {
    let windows = Some(MOSTLY.to_owned());
    Grade::Estimate { error: ESTIMATE_ERROR_NS / ns.max(1) as f64, windows }
}

fn deviates(it: &Measured<'_>) -> Cell {
    let deviates = match (it.is_odd, it.is_slow) {
        (true, true) => Some("kernels and duration"),
        (true, false) => Some("kernels"),
        (false, true) => Some("duration"),
        (false, false) => None,
    };
    let Doubt { kind, sums, before, .. } = it.step.doubt;
    Cell::unless(missing(kind || sums || before), deviates)
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
