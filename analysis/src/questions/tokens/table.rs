//! The correlation as tables: the parts of the first token and of the next ones, the slowest, requests
//! and load tests.

use std::collections::BTreeMap;

use super::{
    Correlation, Used, Waited,
    join::{Asked, Certainty},
    known::{self, ESTIMATE_ERROR_NS, grade},
    load::Clock,
    long_calls::LongCalls,
    requests::requests,
    slowest::{Saying, Slowest, joins, mostly},
    split::{PARTS, Part, Split},
};
use crate::{
    answer::{Answer, Cell, Column, Table, Unit, Value, units::duration},
    context::Context,
    grade::Grade,
    questions::steps::Found,
};

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
    certain: u64,
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
                (Some(_), Some(Certainty::Matched)) => matched.certain += 1,
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
    headline(&slowest, correlation.is_part(), &mut answer);
    let [slowest_first, slowest_next] = &slowest;
    answer.tables = vec![
        parts(&first, &next, correlation.is_part()),
        say.slowest("slowest_next", "the slowest tokens after the first", slowest_next),
        say.slowest("slowest_first", "the slowest first tokens", slowest_first),
        requests(&say),
        loads(&by_load, correlation),
    ];
    answer.notes = notes(correlation);
    answer
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
        (sum(|it| it.tokens), sum(|it| it.certain), sum(|it| it.ambiguous));
    let is_part = correlation.is_part();
    let mut count = |name, title, value: u64| {
        answer.figure(name, title, Unit::Count, value, known::of_requests(is_part));
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
            answer.figure(name, title, Unit::Nanoseconds, ns, known::of_requests(is_part));
        }
    }
    for (name, title, sum) in [
        ("ttft_unexplained", "first token: unexplained", first),
        ("itl_unexplained", "between tokens: unexplained", next),
    ] {
        if sum.total() > 0 {
            let share = sum.unexplained as f64 / sum.total() as f64;
            answer.figure(name, title, Unit::Ratio, share, known::of_requests(is_part));
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

fn parts(first: &Sum, next: &Sum, is_part: bool) -> Table {
    let holds = known::joined;
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
            row.push(Cell::graded(sum.mean(of(sum)), known::of_requests(is_part)));
            row.push(Cell::graded(share, known::of_requests(is_part)));
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
    let is_whole = sum.explained == sum.times.len();
    let scaled = |scale: f64| {
        if is_whole {
            grade(length, part, scale, error * count)
        } else {
            Some(known::of_some(part, length.low as f64 * scale))
        }
    };
    let share = length.ns as f64 / total as f64;
    [
        Cell { value: mean.into(), grade: scaled(1.0 / count) },
        Cell { value: share.into(), grade: scaled(1.0 / total as f64) },
    ]
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
                "{what} took {took}{median}: {who} waited {}{}; meanwhile {}",
                mostly(split, waited),
                if split.of(Part::Gpu).is_exact() { "" } else { ", the calls cannot tell more" },
                say.meanwhile(waited, placed).text()
            ),
            _ => format!("{what} took {took}{median}: {who}, of no step that can be told"),
        });
    }
    sentences
}

/// Of the slowest token of all; its sentence is the last but one where it is a first one.
fn headline(slowest: &[Vec<Waited>; 2], is_part: bool, answer: &mut Answer) {
    let took = |list: &Vec<Waited>| list.first().map(|waited| waited.to - waited.from);
    let [first, next] = [took(&slowest[0]), took(&slowest[1])];
    let back = if first > next && next.is_some() { 2 } else { 1 };
    let at = answer.sentences.len().checked_sub(back);
    let Some((took, detail)) = first.max(next).zip(at.map(|at| answer.sentences[at].clone()))
    else {
        return;
    };
    answer.headline(
        "what did the slowest token wait for?",
        Unit::Nanoseconds,
        took,
        known::of_requests(is_part),
        detail,
    );
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
            matched.certain.into(),
            matched.ambiguous.into(),
            Value::from(problem.clone()).into(),
        ]);
    }
    table
}

fn notes(correlation: &Correlation<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if correlation.holds.contains(&Some(true)) {
        notes.push(
            "no token came while the engine queued the next step, so it gives tokens out behind \
             that: this time is the host's"
                .to_owned(),
        );
    }
    notes.push(
        "way out longer by: the last token's way to the client less the first one's; below 0 where the \
         last one's was shorter"
            .to_owned(),
    );
    let is_sparse = |it: &Asked| it.is_sparse;
    if correlation.asked.iter().any(is_sparse) {
        notes.push("GuideLLM tells only the first and the last token of a request".to_owned());
    }
    notes
}
