//! The slowest tokens, and what the engine did meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{
    Correlation, Waited,
    engine::EngineStep,
    join::{Asked, Placed},
    known::{self, part_cell},
    long_calls::LongCalls,
    split::{Length, PARTS, Part, Split},
};
use crate::{
    answer::{
        Cell, Column, Table, Unit, Value,
        units::{counted, duration},
    },
    context::Context,
    questions::steps::{Doubt, Found, GraphMode, Kind},
};

/// Tokens that JSON has one by one.
const MAX_SLOWEST: usize = 200;
const SHOWN_SLOWEST: usize = 5;

/// The slowest tokens, of each step the slowest; memory does not grow with the load test.
#[derive(Default)]
pub(super) struct Slowest(Vec<(Option<Place>, Waited)>);

/// An engine, and a step of it.
pub(super) type Place = (usize, usize);

impl Slowest {
    pub(super) fn push(&mut self, place: Option<Place>, waited: Waited) {
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

    pub(super) fn sorted(mut self) -> Vec<Waited> {
        self.sort();
        self.0.into_iter().map(|(_, waited)| waited).collect()
    }
}

/// By engine and step: requests that got their first token there.
pub(super) fn joins(correlation: &Correlation<'_>) -> BTreeMap<Place, u64> {
    let mut joins = BTreeMap::new();
    for placed in correlation.placed.iter().flatten() {
        *joins.entry((placed.engine, placed.steps[0])).or_default() += 1;
    }
    joins
}

/// What is needed to say what an engine did meanwhile.
pub(super) struct Saying<'a> {
    pub correlation: &'a Correlation<'a>,
    pub found: &'a Found,
    pub long_calls: &'a LongCalls,
    pub joins: &'a BTreeMap<Place, u64>,
    /// Tokens by step, those after the first apart.
    pub alike: &'a BTreeMap<(bool, Place), u64>,
    pub context: &'a Context,
}

impl Saying<'_> {
    pub(super) fn slowest(&self, name: &'static str, title: &str, list: &[Waited]) -> Table {
        let holds = known::joined;
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
            Column::new("waited_for", "waited mostly", Unit::None).graded(holds()),
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
            let unknown = known::no_step;
            row.extend((0..19).map(|_| unknown()));
            return row;
        };
        row.extend(PARTS.map(|part| part_cell(split, part)));
        let did = self.meanwhile(waited, placed);
        let step = &self.correlation.engines[placed.engine].steps[placed.steps[waited.token]];
        let told = &self.found.steps[step.at];
        let (call, call_ns) =
            did.call.clone().map_or((None, None), |(it, ns)| (Some(it), Some(ns)));
        let Doubt { kind, graphs, sums, calls, .. } = told.doubt;
        let is_part = self.found.is_doubtful || self.correlation.is_part();
        let alike = (waited.token > 0, (placed.engine, placed.steps[waited.token]));
        row.extend([
            mostly(split, waited).into(),
            Cell::count(self.alike.get(&alike).copied().unwrap_or(1), is_part),
            did.steps.into(),
            Value::from(self.found.unix_ns(step.start)).into(),
            known::of_step(kind, told.kind.map(Kind::name)),
            known::of_step(graphs && told.row.graph_launches > 1, told.row.mode.name()),
            known::of_step(graphs, told.row.graph_tokens),
            known::of_step(graphs, Some(told.row.requests).filter(|&count| count > 0)),
            known::of_step(sums || calls, told.row.api_ns),
            Cell::count(did.joined, is_part),
            known::of_step(calls, call),
            known::of_step(calls, call_ns),
            known::of_step(kind || graphs || sums || calls || is_part, did.text()),
        ]);
        row
    }

    /// Its number and id, as its load test has them.
    pub(super) fn request(&self, asked: &Asked) -> (u64, Option<String>) {
        let load = self.correlation.used[asked.load].load;
        let request = load.content.as_ref().ok().map(|content| &content.requests[asked.at]);
        request.map_or((0, None), |request| (request.index, request.id.clone()))
    }

    pub(super) fn meanwhile(&self, waited: &Waited, placed: &Placed) -> Meanwhile {
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
            let size = size.map(|tokens| counted(tokens.into(), "token", "tokens"));
            let size = size.map_or(String::new(), |tokens| format!(", {tokens}"));
            let requests = match step.requests {
                0 => String::new(),
                requests => format!(", {}", counted(requests.into(), "request", "requests")),
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
pub(super) struct Meanwhile {
    steps: u64,
    last: String,
    /// In calls that do not wait.
    api_ns: u64,
    /// Requests that got their first token, beside the own.
    joined: u64,
    call: Option<(String, i64)>,
}

impl Meanwhile {
    pub(super) fn text(&self) -> String {
        let mut text = self.last.clone();
        let mut add = |args: std::fmt::Arguments<'_>| {
            text.write_fmt(args).expect("a string takes all");
        };
        if self.joined > 0 {
            add(format_args!("; {} joined", counted(self.joined, "prompt", "prompts")));
        }
        add(format_args!("; {} in its calls", duration(self.api_ns as f64)));
        if let Some((call, ns)) = &self.call {
            add(format_args!("; {} in {call}", duration(*ns as f64)));
        }
        text
    }
}

/// `for steps of others, 52 %`, or as much of it as is proved.
pub(super) fn mostly(split: &Split, waited: &Waited) -> String {
    let all = (waited.to - waited.from).max(1) as f64;
    // A way out that was shorter than before counts against the others.
    let share = |ns: i64| format!("{:.0}", (100.0 * ns as f64 / all).clamp(0.0, 100.0));
    let between = |length: Length| match (share(length.low), share(length.high)) {
        (low, high) if low == high => format!("{high} %"),
        (low, high) => format!("{low}..{high} %"),
    };
    let part = split.largest();
    let length = split.of(part);
    let is_proved = |part: Part| {
        let others = PARTS.into_iter().filter(|other| *other != part);
        others.map(|other| split.of(other).high).max().is_none_or(|high| high <= split.of(part).low)
    };
    let title = match part {
        Part::Before => "the engine to begin",
        Part::Queue => "steps of others",
        Part::Host => "the engine's host",
        Part::Gpu => "the GPU",
        Part::Wait => "a thread to take the output",
        Part::After => "the way out",
    };
    if is_proved(part) {
        return format!("for {title}, {}", between(length));
    }
    if matches!(part, Part::Gpu | Part::Wait) {
        let queued = split.queued_to_taken();
        let gpu = between(split.of(Part::Gpu));
        return format!(
            "between queueing its step and taking its output, {}: GPU {gpu}",
            between(queued)
        );
    }
    format!("perhaps for {title}, {}", between(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_part_that_is_proved_to_be_the_largest_is_named() {
        let told = |parts: [(i64, i64, i64); 6]| {
            let parts = parts.map(|(ns, low, high)| Length { ns, low, high });
            let split = Split { parts, is_touched: false };
            mostly(&split, &Waited { request: 0, token: 1, from: 0, to: 100, split: None })
        };
        let none = (0, 0, 0);
        assert_eq!(told([none, none, (4, 4, 4), (96, 96, 96), none, none]), "for the GPU, 96 %");
        assert_eq!(
            told([none, none, (4, 4, 4), (96, 60, 96), (0, 0, 36), none]),
            "for the GPU, 60..96 %"
        );
        // All of it may have been the output that nobody took.
        assert_eq!(
            told([none, none, (1, 1, 1), (99, 0, 99), (0, 0, 99), none]),
            "between queueing its step and taking its output, 99 %: GPU 0..99 %"
        );
        assert_eq!(
            told([none, (52, 0, 52), (8, 8, 20), (40, 40, 60), none, (0, 0, 9)]),
            "perhaps for steps of others, 0..52 %"
        );
    }
}
