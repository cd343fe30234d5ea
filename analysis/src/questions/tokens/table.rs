//! The correlation as tables: the parts of the first token and of the next ones, the slowest, requests
//! and load tests.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Correlation, Used, Waited,
    engine::EngineStep,
    join::{Asked, Certainty, Placed},
    load::Clock,
    long_calls::LongCalls,
    split::{Length, PARTS, Part, Split},
};
use crate::{
    answer::{Answer, Cell, Column, Table, Unit, Value, units::duration},
    context::Context,
    grade::Grade,
    questions::steps::{Found, GraphMode, Kind},
};

/// Tokens that JSON has one by one.
const MAX_SLOWEST: usize = 200;
const SHOWN_SLOWEST: usize = 5;
const SHOWN_REQUESTS: usize = 5;

/// The column of requests by which they are sorted.
const TTFT: usize = 10;

/// How far estimates of the GPU's end are off: nine of ten are closer.
const ESTIMATE_ERROR_NS: f64 = 25_000.0;

const JOIN_HOLDS: &str = "requests that get a token in each step from their first on, and a client \
                          whose clock is that of the trace";
const MOSTLY: &str = "nine of ten steps; where the waiting thread was held up, its delay is in it";
const NO_STEP: &str = "no step can be told that computed these tokens";

/// Client-side times of one kind: to the first token, or from one to the next.
#[derive(Default)]
struct Sum {
    times: Vec<i64>,
    explained: usize,
    split: Split,
    unexplained: i64,
}

impl Sum {
    fn add(&mut self, waited: &Waited) {
        let ns = waited.to - waited.from;
        self.times.push(ns);
        match &waited.split {
            Some(split) => {
                self.explained += 1;
                self.split.add(split);
            }
            None => self.unexplained = self.unexplained.saturating_add(ns),
        }
    }

    fn total(&self) -> i64 {
        self.times.iter().fold(0, |sum, ns| sum.saturating_add(*ns))
    }

    /// Of sorted times.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
    fn quantile(&self, part: f64) -> Option<i64> {
        let rank = (part * self.times.len() as f64).ceil().max(1.0) as usize;
        self.times.get(rank - 1).copied()
    }

    fn mean(&self, ns: i64) -> Option<f64> {
        (!self.times.is_empty()).then(|| ns as f64 / self.times.len() as f64)
    }
}

/// How many tokens were placed, and how.
#[derive(Default, Clone, Copy)]
struct Matched {
    tokens: u64,
    matched: u64,
    ambiguous: u64,
}

pub(super) fn answer(
    correlation: &Correlation<'_>,
    found: &Found,
    long_calls: &LongCalls,
    offsets: Option<(i128, i128)>,
    context: &Context,
) -> Answer {
    let mut answer = Answer::new("tokens");
    let (mut first, mut next) = (Sum::default(), Sum::default());
    let mut slowest = [Slowest::default(), Slowest::default()];
    let mut alike = BTreeMap::new();
    let mut by_load = vec![Matched::default(); correlation.used.len()];
    for (request, asked) in correlation.asked.iter().enumerate() {
        let certainty = correlation.placed[request].as_ref().map(|placed| placed.certainty);
        for waited in correlation.waited(request) {
            let matched = &mut by_load[asked.load];
            matched.tokens += 1;
            match (&waited.split, certainty) {
                (Some(_), Some(Certainty::Matched)) => matched.matched += 1,
                (Some(_), _) => matched.ambiguous += 1,
                (None, _) => {}
            }
            let is_next = waited.token > 0;
            if asked.is_warmup || is_next && asked.is_sparse {
                continue;
            }
            if is_next { &mut next } else { &mut first }.add(&waited);
            let step = correlation.placed[request].as_ref().map(|placed| {
                let step = (placed.engine, placed.steps[waited.token]);
                *alike.entry((is_next, step)).or_default() += 1;
                step
            });
            slowest[usize::from(is_next)].push(step, waited);
        }
    }
    first.times.sort_unstable();
    next.times.sort_unstable();
    let slowest = slowest.map(Slowest::sorted);
    let joins = joins(correlation);
    let say = Saying { correlation, found, long_calls, joins: &joins, alike: &alike, context };
    figures(&first, &next, &by_load, correlation, offsets, &mut answer);
    answer.sentences = sentences(&first, &next, &slowest, &say);
    let [slowest_first, slowest_next] = &slowest;
    answer.tables = vec![
        parts(&first, &next),
        say.slowest("slowest_next", "the slowest tokens after the first", slowest_next),
        say.slowest("slowest_first", "the slowest first tokens", slowest_first),
        requests(&say),
        loads(&by_load, correlation),
    ];
    answer.notes = notes(correlation);
    answer
}

/// The slowest tokens, of each step the slowest; memory does not grow with the load test.
#[derive(Default)]
struct Slowest(Vec<(Option<Place>, Waited)>);

/// An engine, and a step of it.
type Place = (usize, usize);

impl Slowest {
    fn push(&mut self, place: Option<Place>, waited: Waited) {
        self.0.push((place, waited));
        if self.0.len() >= MAX_SLOWEST * 64 {
            self.sort();
        }
    }

    fn sort(&mut self) {
        let Self(list) = self;
        list.sort_by_key(|(_, it)| (std::cmp::Reverse(it.to - it.from), it.request, it.token));
        let mut places = BTreeSet::new();
        list.retain(|(place, _)| place.is_none_or(|place| places.insert(place)));
        list.truncate(MAX_SLOWEST);
    }

    fn sorted(mut self) -> Vec<Waited> {
        self.sort();
        self.0.into_iter().map(|(_, waited)| waited).collect()
    }
}

/// By engine and step: requests that got their first token there.
fn joins(correlation: &Correlation<'_>) -> BTreeMap<Place, u64> {
    let mut joins = BTreeMap::new();
    for placed in correlation.placed.iter().flatten() {
        *joins.entry((placed.engine, placed.steps[0])).or_default() += 1;
    }
    joins
}

fn figures(
    first: &Sum,
    next: &Sum,
    by_load: &[Matched],
    correlation: &Correlation<'_>,
    offsets: Option<(i128, i128)>,
    answer: &mut Answer,
) {
    let sum = |of: fn(&Matched) -> u64| by_load.iter().map(of).sum::<u64>();
    let (tokens, matched, ambiguous) =
        (sum(|it| it.tokens), sum(|it| it.matched), sum(|it| it.ambiguous));
    let mut count = |name, title, value: u64| {
        answer.figure(name, title, Unit::Count, value, Grade::Exact);
    };
    count("requests", "requests", correlation.asked.len() as u64);
    count("tokens", "token times of the client", tokens);
    count("tokens_matched", "whose step is told by counts or times", matched);
    count("tokens_ambiguous", "that may be of an earlier step", ambiguous);
    count("tokens_unmatched", "of no step that is known", tokens - matched - ambiguous);
    for (name, title, sum, part) in [
        ("ttft_p50_ns", "first token p50", first, 0.5),
        ("ttft_p99_ns", "first token p99", first, 0.99),
        ("itl_p50_ns", "between tokens p50", next, 0.5),
        ("itl_p99_ns", "between tokens p99", next, 0.99),
    ] {
        if let Some(ns) = sum.quantile(part) {
            answer.figure(name, title, Unit::Nanoseconds, ns, Grade::Exact);
        }
    }
    for (name, title, sum) in [
        ("ttft_unexplained", "first token: unexplained", first),
        ("itl_unexplained", "between tokens: unexplained", next),
    ] {
        if sum.total() > 0 {
            let share = sum.unexplained as f64 / sum.total() as f64;
            answer.figure(name, title, Unit::Ratio, share, Grade::Exact);
        }
    }
    clock_figures(correlation, offsets, answer);
}

/// How far the client's clock and the trace's may be apart.
fn clock_figures(
    correlation: &Correlation<'_>,
    offsets: Option<(i128, i128)>,
    answer: &mut Answer,
) {
    let is_unix = |used: &Used<'_>| {
        let content = used.load.content.as_ref().ok();
        used.problem.is_none() && content.is_some_and(|content| content.clock == Clock::Unix)
    };
    if let Some((least, most)) = offsets
        && correlation.used.iter().any(is_unix)
    {
        let drift = i64::try_from(most - least).unwrap_or(i64::MAX);
        let title = "clock: the trace's wall clock moved by";
        answer.figure("clock_drift_ns", title, Unit::Nanoseconds, drift, Grade::Exact);
    }
    let (mut ahead, mut behind) = (None, None);
    for (asked, placed) in correlation.asked.iter().zip(&correlation.placed) {
        let Some(placed) = placed.as_ref().filter(|it| it.certainty == Certainty::Matched) else {
            continue;
        };
        let steps = &correlation.engines[placed.engine].steps;
        let first = &steps[placed.steps[0]];
        let least = |side: &mut Option<i64>, ns: i64| {
            *side = Some(side.map_or(ns, |side| side.min(ns)));
        };
        least(&mut behind, first.queued - asked.sent);
        for (&(_, at), &step) in asked.arrivals.iter().zip(&placed.steps) {
            least(&mut ahead, at - steps[step].handed);
        }
    }
    for (name, title, side) in [
        ("clock_ahead_ns", "clock: the client's is ahead by at most", ahead),
        ("clock_behind_ns", "clock: the client's is behind by at most", behind),
    ] {
        if let Some(ns) = side {
            let grade = Grade::exact_within("tokens whose step is told");
            answer.figure(name, title, Unit::Nanoseconds, ns, grade);
        }
    }
}

fn parts(first: &Sum, next: &Sum) -> Table {
    let holds = || Grade::exact_within(JOIN_HOLDS);
    let mut table = Table::new(
        "parts",
        "what a token waited for, on average",
        vec![
            Column::new("part", "part", Unit::None).hidden(),
            Column::new("title", "part", Unit::None),
            Column::new("ttft_ns", "first token", Unit::Nanoseconds).graded(holds()),
            Column::new("ttft_share", "share", Unit::Ratio).graded(holds()),
            Column::new("itl_ns", "next tokens", Unit::Nanoseconds).graded(holds()),
            Column::new("itl_share", "share", Unit::Ratio).graded(holds()),
        ],
    );
    for part in PARTS {
        let mut row = vec![part.name().into(), part.title().into()];
        for sum in [first, next] {
            row.extend(mean_cells(sum, part));
        }
        table.rows.push(row);
    }
    for (name, title, of) in [
        ("unexplained", "unexplained", (|sum: &Sum| sum.unexplained) as fn(&Sum) -> i64),
        ("total", "what the client saw", Sum::total),
    ] {
        let mut row = vec![name.into(), title.into()];
        for sum in [first, next] {
            let share = (sum.total() > 0).then(|| of(sum) as f64 / sum.total() as f64);
            row.push(Cell::graded(sum.mean(of(sum)), Grade::Exact));
            row.push(Cell::graded(share, Grade::Exact));
        }
        table.rows.push(row);
    }
    table
}

/// The mean of a part, and its share of all that the client saw.
fn mean_cells(sum: &Sum, part: Part) -> [Cell; 2] {
    let (length, total) = (sum.split.of(part), sum.total());
    let Some(mean) = sum.mean(length.ns).filter(|_| total > 0) else {
        return [Value::None.into(), Value::None.into()];
    };
    let count = sum.times.len() as f64;
    let error = ESTIMATE_ERROR_NS * sum.explained as f64 / count;
    let scaled = |scale: f64| grade(length, part, scale, error * count);
    let share = length.ns as f64 / total as f64;
    [
        Cell { value: mean.into(), grade: scaled(1.0 / count) },
        Cell { value: share.into(), grade: scaled(1.0 / total as f64) },
    ]
}

/// Of a length times `scale`; `error_ns` is that of an estimate, before it is scaled.
fn grade(length: Length, part: Part, scale: f64, error_ns: f64) -> Option<Grade> {
    let scaled = |ns: i64| ns as f64 * scale;
    if !length.is_exact() {
        return Some(Grade::between(scaled(length.low), scaled(length.high)));
    }
    (matches!(part, Part::Gpu | Part::Wait) && length.ns > 0).then(|| Grade::Estimate {
        error: error_ns / length.ns as f64,
        windows: Some(MOSTLY.to_owned()),
    })
}

/// What is needed to say what an engine did meanwhile.
struct Saying<'a> {
    correlation: &'a Correlation<'a>,
    found: &'a Found,
    long_calls: &'a LongCalls,
    joins: &'a BTreeMap<Place, u64>,
    /// Tokens by step, those after the first apart.
    alike: &'a BTreeMap<(bool, Place), u64>,
    context: &'a Context,
}

impl Saying<'_> {
    fn slowest(&self, name: &'static str, title: &str, list: &[Waited]) -> Table {
        let holds = || Grade::exact_within(JOIN_HOLDS);
        let mut columns = vec![
            Column::new("load", "load", Unit::None).hidden(),
            Column::new("request", "request", Unit::None),
            Column::new("token", "token", Unit::None),
            Column::new("arrived_unix_ns", "arrived", Unit::UnixNanoseconds),
            Column::new("took_ns", "took", Unit::Nanoseconds),
        ];
        let names = ["before_ns", "queue_ns", "host_ns", "gpu_ns", "wait_ns", "after_ns"];
        for (part, name) in PARTS.into_iter().zip(names) {
            let column = Column::new(name, part.name(), Unit::Nanoseconds);
            columns.push(column.graded(holds()).hidden());
        }
        columns.extend([
            Column::new("waited_for", "mostly for", Unit::None).graded(holds()),
            Column::new("alike", "tokens of the step", Unit::Count).graded(holds()),
            Column::new("steps", "steps", Unit::Count).graded(holds()).hidden(),
            Column::new("step_start_unix_ns", "step begun", Unit::UnixNanoseconds)
                .graded(holds())
                .hidden(),
            Column::new("kind", "kind", Unit::None).graded(holds()).hidden(),
            Column::new("graph_mode", "graphs", Unit::None).graded(holds()).hidden(),
            Column::new("graph_tokens", "tokens", Unit::Count).graded(holds()).hidden(),
            Column::new("step_requests", "requests", Unit::Count).graded(holds()).hidden(),
            Column::new("step_api_ns", "in calls", Unit::Nanoseconds).graded(holds()).hidden(),
            Column::new("joined", "prompts that joined", Unit::Count).graded(holds()).hidden(),
            Column::new("call", "longest call", Unit::None).hidden(),
            Column::new("call_ns", "of it meanwhile", Unit::Nanoseconds).hidden(),
            Column::new("meanwhile", "meanwhile", Unit::None).graded(holds()),
        ]);
        let mut table = Table::new(name, title, columns);
        table.rows = list.iter().map(|waited| self.row(waited)).collect();
        table.shown = SHOWN_SLOWEST;
        table
    }

    fn row(&self, waited: &Waited) -> Vec<Cell> {
        let asked = &self.correlation.asked[waited.request];
        let (number, _) = asked.arrivals[waited.token];
        let mut row: Vec<Cell> = vec![
            asked.load.into(),
            self.request(asked).0.into(),
            (u64::from(number) + 1).into(),
            Value::from(self.found.unix_ns(waited.to)).into(),
            (waited.to - waited.from).into(),
        ];
        let placed = self.correlation.placed[waited.request].as_ref();
        let (Some(split), Some(placed)) = (&waited.split, placed) else {
            let unknown = || Cell::graded(Value::None, Grade::unknown(NO_STEP));
            row.extend((0..19).map(|_| unknown()));
            return row;
        };
        row.extend(PARTS.map(|part| part_cell(split, part)));
        let did = self.meanwhile(waited, placed);
        let step = &self.correlation.engines[placed.engine].steps[placed.steps[waited.token]];
        let told = &self.found.steps[step.at];
        let (call, call_ns) =
            did.call.clone().map_or((None, None), |(it, ns)| (Some(it), Some(ns)));
        row.extend([
            mostly(split, waited).into(),
            self.alike
                .get(&(waited.token > 0, (placed.engine, placed.steps[waited.token])))
                .copied()
                .unwrap_or(1)
                .into(),
            did.steps.into(),
            Value::from(self.found.unix_ns(step.start)).into(),
            Value::from(told.kind.map(Kind::name)).into(),
            told.row.mode.name().into(),
            Value::from(told.row.graph_tokens).into(),
            Value::from(Some(step.requests).filter(|&count| count > 0)).into(),
            told.row.api_ns.into(),
            did.joined.into(),
            Value::from(call).into(),
            Value::from(call_ns).into(),
            did.text().into(),
        ]);
        row
    }

    /// Its number and id, as its load test has them.
    fn request(&self, asked: &Asked) -> (u64, Option<String>) {
        let load = self.correlation.used[asked.load].load;
        let request = load.content.as_ref().ok().map(|content| &content.requests[asked.at]);
        request.map_or((0, None), |request| (request.index, request.id.clone()))
    }

    fn meanwhile(&self, waited: &Waited, placed: &Placed) -> Meanwhile {
        let engine = &self.correlation.engines[placed.engine];
        let target = placed.steps[waited.token];
        let first = engine.handed_by(waited.from).min(target);
        let joined = self.joins.range((placed.engine, first)..=(placed.engine, target));
        let own = u64::from(waited.token == 0);
        let describe = |step: &EngineStep| {
            let told = &self.found.steps[step.at];
            let kind = told.kind.map_or("a step", Kind::name);
            let mode = match told.row.mode {
                GraphMode::Full => "with one graph",
                GraphMode::Piecewise => "with graphs for pieces",
                GraphMode::None => "without graphs",
            };
            let size = told.row.tokens.or(told.row.graph_tokens);
            let size = size.map_or(String::new(), |tokens| format!(", {tokens} tokens"));
            let requests = match step.requests {
                0 => String::new(),
                requests => format!(", {requests} requests"),
            };
            format!("{kind} {mode}{size}{requests}")
        };
        let call = self.long_calls.longest(engine.process, waited.from, waited.to);
        let name = |function| self.context.functions.get(function).name.to_string();
        Meanwhile {
            steps: (target + 1 - first) as u64,
            last: describe(&engine.steps[target]),
            api_ns: self.found.steps[engine.steps[target].at].row.api_ns,
            joined: joined.map(|(_, count)| count).sum::<u64>().saturating_sub(own),
            call: call.map(|(call, ns)| (name(call.function), ns)),
        }
    }
}

/// What the engine did while a token was waited for.
struct Meanwhile {
    steps: u64,
    last: String,
    /// In calls that do not wait.
    api_ns: u64,
    /// Requests that got their first token, beside the own.
    joined: u64,
    call: Option<(String, i64)>,
}

impl Meanwhile {
    fn text(&self) -> String {
        let mut text = self.last.clone();
        if self.joined > 0 {
            text.push_str(&format!("; {} prompts joined", self.joined));
        }
        text.push_str(&format!("; {} in its calls", duration(self.api_ns as f64)));
        if let Some((call, ns)) = &self.call {
            text.push_str(&format!("; {} in {call}", duration(*ns as f64)));
        }
        text
    }
}

fn part_cell(split: &Split, part: Part) -> Cell {
    let length = split.of(part);
    Cell { value: length.ns.into(), grade: grade(length, part, 1.0, ESTIMATE_ERROR_NS) }
}

/// `GPU, 4.96 ms`.
fn mostly(split: &Split, waited: &Waited) -> String {
    let part = split.largest();
    let length = split.of(part);
    let title = match part {
        Part::Before => "the engine to begin",
        Part::Queue => "steps of others",
        Part::Host => "the engine's host",
        Part::Gpu => "the GPU",
        Part::Wait => "a thread to take the output",
        Part::After => "the way out",
    };
    let share = 100.0 * length.ns as f64 / (waited.to - waited.from).max(1) as f64;
    // A way out that was shorter than before counts against the others.
    let share = share.min(100.0);
    let at_most = if length.is_exact() { "" } else { "at most " };
    format!("{title}, {at_most}{share:.0} %")
}

fn sentences(first: &Sum, next: &Sum, slowest: &[Vec<Waited>; 2], say: &Saying<'_>) -> Vec<String> {
    let mut sentences: Vec<String> = Vec::new();
    for used in &say.correlation.used {
        if let Some(problem) = &used.problem {
            let path = used.load.path.display();
            sentences.push(format!("nothing is computed from {path}: {problem}"));
        }
    }
    for (what, sum, list) in [
        ("the slowest first token", first, &slowest[0]),
        ("the slowest token after a first", next, &slowest[1]),
    ] {
        let Some(waited) = list.first() else { continue };
        let asked = &say.correlation.asked[waited.request];
        let (number, _) = asked.arrivals[waited.token];
        let took = duration((waited.to - waited.from) as f64);
        let median = sum.quantile(0.5).map_or(String::new(), |ns| {
            format!(" (half of them take less than {})", duration(ns as f64))
        });
        let who = format!("token {} of request {}", u64::from(number) + 1, say.request(asked).0);
        let placed = say.correlation.placed[waited.request].as_ref();
        sentences.push(match (&waited.split, placed) {
            (Some(split), Some(placed)) => format!(
                "{what} took {took}{median}: {who} waited for {}; meanwhile {}",
                mostly(split, waited),
                say.meanwhile(waited, placed).text()
            ),
            _ => format!("{what} took {took}{median}: {who}, of no step that can be told"),
        });
    }
    sentences
}

fn requests(say: &Saying<'_>) -> Table {
    let holds = || Grade::exact_within(JOIN_HOLDS);
    let correlation = say.correlation;
    let part = |name, title| Column::new(name, title, Unit::Nanoseconds).graded(holds());
    let mut table = Table::new(
        "requests",
        "requests, the slowest first",
        vec![
            Column::new("load", "load", Unit::None).hidden(),
            Column::new("request", "request", Unit::None),
            Column::new("id", "id", Unit::None).hidden(),
            Column::new("pid", "engine", Unit::None).graded(holds()).hidden(),
            Column::new("sent_unix_ns", "sent", Unit::UnixNanoseconds).hidden(),
            Column::new("tokens", "tokens", Unit::Count),
            Column::new("match", "steps", Unit::None),
            Column::new("warmup", "warm-up", Unit::None).hidden(),
            Column::new("first_step_unix_ns", "first step", Unit::UnixNanoseconds)
                .graded(holds())
                .hidden(),
            Column::new("last_step_unix_ns", "last step", Unit::UnixNanoseconds)
                .graded(holds())
                .hidden(),
            Column::new("ttft_ns", "first token", Unit::Nanoseconds),
            part("before_ns", "before"),
            part("queue_ns", "queue"),
            part("prefill_ns", "prefill"),
            part("first_out_ns", "way out").hidden(),
            Column::new("decode_ns", "decode", Unit::Nanoseconds),
            part("decode_host_ns", "host"),
            part("decode_gpu_ns", "GPU"),
            part("decode_wait_ns", "not taken").hidden(),
            part("decode_out_ns", "way out"),
        ],
    );
    for (at, asked) in correlation.asked.iter().enumerate() {
        let placed = correlation.placed[at].as_ref();
        let (mut first, mut next) = (None, Split::default());
        let mut is_explained = placed.is_some();
        for waited in correlation.waited(at) {
            is_explained &= waited.split.is_some();
            match (waited.token, waited.split) {
                (0, split) => first = split,
                (_, Some(split)) => next.add(&split),
                (_, None) => {}
            }
        }
        let (request, id) = say.request(asked);
        let ttft = asked.arrivals.first().filter(|&&(token, _)| token == 0);
        let ttft = ttft.map(|&(_, at)| at - asked.sent);
        let told = match placed {
            None => "unmatched",
            Some(_) if !is_explained => "unmatched",
            Some(placed) if placed.certainty == Certainty::Matched => "matched",
            Some(_) => "ambiguous",
        };
        let pid = placed.map(|placed| correlation.engines[placed.engine].process);
        let pid = pid.map(|process| say.context.processes.get(process).pid);
        let mut row: Vec<Cell> = vec![
            asked.load.into(),
            request.into(),
            Value::from(id).into(),
            Value::from(pid).into(),
            Value::from(say.found.unix_ns(asked.sent)).into(),
            asked.tokens.map_or(asked.arrivals.len() as u64, u64::from).into(),
            told.into(),
            asked.is_warmup.into(),
            step_cell(placed, say, |placed| placed.steps[0]),
            step_cell(placed, say, Placed::last),
            Value::from(ttft).into(),
        ];
        let unknown = || Cell::graded(Value::None, Grade::unknown(NO_STEP));
        match &first {
            Some(split) => row.extend([
                part_cell(split, Part::Before),
                part_cell(split, Part::Queue),
                prefill(split),
                part_cell(split, Part::After),
            ]),
            None => row.extend((0..4).map(|_| unknown())),
        }
        let decode = asked.last() - asked.arrivals[0].1;
        row.push(decode.into());
        let parts = [Part::Host, Part::Gpu, Part::Wait, Part::After];
        if is_explained {
            let error = ESTIMATE_ERROR_NS * asked.arrivals.len() as f64;
            let cell = |part| {
                let length = next.of(part);
                Cell { value: length.ns.into(), grade: grade(length, part, 1.0, error) }
            };
            row.extend(parts.map(cell));
        } else {
            row.extend(parts.map(|_| unknown()));
        }
        table.rows.push(row);
    }
    let slowness = |row: &Vec<Cell>| match row[TTFT].value {
        Value::Integer(ns) => std::cmp::Reverse(ns),
        _ => std::cmp::Reverse(0),
    };
    table.rows.sort_by_key(slowness);
    table.shown = SHOWN_REQUESTS;
    table
}

/// When the step began; where it may be an earlier one, at the latest.
fn step_cell(placed: Option<&Placed>, say: &Saying<'_>, of: fn(&Placed) -> usize) -> Cell {
    let Some(placed) = placed else { return Cell::graded(Value::None, Grade::unknown(NO_STEP)) };
    let step = &say.correlation.engines[placed.engine].steps[of(placed)];
    let begun = say.found.unix_ns(step.start);
    let grade = (placed.certainty == Certainty::Ambiguous)
        .then(|| Grade::Bounds { low: None, high: begun.map(|ns| ns as f64) });
    Cell { value: begun.into(), grade }
}

/// Host, GPU and the wait for its output: which part is the GPU's does not matter to the sum.
fn prefill(split: &Split) -> Cell {
    let sum = |of: fn(&Length) -> i64| {
        let parts = [Part::Host, Part::Gpu, Part::Wait].map(|part| of(&split.of(part)));
        parts.iter().fold(0, |sum: i64, ns| sum.saturating_add(*ns))
    };
    let (ns, low, high) = (sum(|it| it.ns), sum(|it| it.low), sum(|it| it.high));
    // Of a token whose step is told, only the border between GPU and wait is open.
    let is_told = split.of(Part::After).is_exact();
    let grade = (!is_told).then(|| Grade::between(low as f64, high as f64));
    Cell { value: ns.into(), grade }
}

fn loads(by_load: &[Matched], correlation: &Correlation<'_>) -> Table {
    let mut table = Table::new(
        "loads",
        "load tests",
        vec![
            Column::new("file", "file", Unit::None),
            Column::new("format", "written by", Unit::None),
            Column::new("requests", "requests", Unit::Count),
            Column::new("without_tokens", "without token times", Unit::Count).hidden(),
            Column::new("outside", "not in the trace", Unit::Count),
            Column::new("tokens", "tokens", Unit::Count),
            Column::new("matched", "matched", Unit::Count),
            Column::new("ambiguous", "ambiguous", Unit::Count),
            Column::new("problem", "not used: why", Unit::None).hidden(),
        ],
    );
    for (Used { load, problem, outside }, matched) in correlation.used.iter().zip(by_load) {
        let content = load.content.as_ref().ok();
        table.rows.push(vec![
            load.path.display().to_string().into(),
            Value::from(content.map(|content| content.format.name())).into(),
            Value::from(content.map(|content| content.requests.len())).into(),
            Value::from(content.map(|content| content.without_tokens)).into(),
            (*outside).into(),
            matched.tokens.into(),
            matched.matched.into(),
            matched.ambiguous.into(),
            Value::from(problem.clone()).into(),
        ]);
    }
    table
}

fn notes(correlation: &Correlation<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if correlation.holds.contains(&true) {
        notes.push(
            "no token came while the engine queued the next step, so it gives tokens out behind \
             that: this time is the host's"
                .to_owned(),
        );
    }
    let is_sparse = |it: &Asked| it.is_sparse;
    if correlation.asked.iter().any(is_sparse) {
        notes.push("GuideLLM tells only the first and the last token of a request".to_owned());
    }
    notes
}
