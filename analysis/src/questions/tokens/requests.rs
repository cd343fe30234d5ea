//! Requests, one by one: queue, prefill, decode.

use super::{
    join::{Asked, Certainty, Placed},
    known::{self, ESTIMATE_ERROR_NS, grade, part_cell},
    slowest::Saying,
    split::{Length, Part, Split},
};
use crate::{
    answer::{Cell, Chart, Column, Table, Unit, Value},
    grade::Grade,
};

const SHOWN_REQUESTS: usize = 5;

/// The column of requests by which they are sorted.
const TTFT: usize = 10;

pub(super) fn requests(say: &Saying<'_>) -> Table {
    let holds = known::joined;
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
            part("decode_out_ns", "way out longer by"),
        ],
    );
    let asked = say.correlation.asked.iter().enumerate();
    table.rows = asked.map(|(at, asked)| row(say, at, asked)).collect();
    let slowness = |row: &Vec<Cell>| match row[TTFT].value {
        Value::Integer(ns) => std::cmp::Reverse(ns),
        _ => std::cmp::Reverse(0),
    };
    table.rows.sort_by_key(slowness);
    table.shown = SHOWN_REQUESTS;
    table.chart = Some(Chart::Stack(&["before_ns", "queue_ns", "prefill_ns", "first_out_ns"]));
    table
}

fn row(say: &Saying<'_>, at: usize, asked: &Asked) -> Vec<Cell> {
    let correlation = say.correlation;
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
        step_cell(placed.filter(|_| is_explained), say, |placed| placed.steps[0]),
        step_cell(placed.filter(|_| is_explained), say, Placed::last),
        Value::from(ttft).into(),
    ];
    let unknown = known::no_step;
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
    row
}

/// When the step began; where it may be an earlier one, at the latest.
fn step_cell(placed: Option<&Placed>, say: &Saying<'_>, of: fn(&Placed) -> usize) -> Cell {
    let Some(placed) = placed else { return known::no_step() };
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
