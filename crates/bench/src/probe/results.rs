//! Medians, ratios and goals, as tables and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::tracer::Tracer;
use crate::{
    goal::{self, Goal, Wanted},
    statistics::median,
    table::{grouped, markdown},
};

/// A whole call beside the floor, two empty programs.
const MAX_OVER_EMPTY: f64 = 1.5;
/// bpftrace beside ours where it steps singly: at the entry of driver 550's functions.
const MIN_BELOW_BPFTRACE: f64 = 8.0;
const SINGLE_STEPPED: &str = "r550";

#[derive(Debug, Serialize)]
pub(super) struct Results {
    rounds: u32,
    seconds: f64,
    rows: Vec<Row>,
    goals: Vec<Goal>,
}

/// One function under every tracer.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    driver: &'static str,
    function: &'static str,
    /// Nanoseconds per call.
    medians: BTreeMap<Tracer, f64>,
    ratios: Ratios,
    samples: Vec<Sample>,
}

/// One measurement.
#[derive(Debug, Serialize)]
pub(super) struct Sample {
    pub(super) tracer: Tracer,
    pub(super) ns_per_call: f64,
    pub(super) calls: u64,
    /// Calls that the tracer says it has lost.
    pub(super) lost: u64,
}

/// Of medians; absent where one of the two was not measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Ratios {
    entry_to_empty: Option<f64>,
    call_to_two_empty: Option<f64>,
    bpftrace_entry_to_entry: Option<f64>,
    bpftrace_call_to_call: Option<f64>,
}

impl Results {
    pub(super) fn new(rounds: u32, seconds: f64, rows: Vec<Row>) -> Self {
        let goals = rows.iter().flat_map(Row::goals).collect();
        Self { rounds, seconds, rows, goals }
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "Nanoseconds per call, medians of {} rounds of {} s\n\n{}\nRatios\n\n{}\n",
            self.rounds,
            self.seconds,
            self.medians(),
            self.ratios()
        );
        text += &self.losses();
        text + &goal::text(&self.goals)
    }

    /// A line for each tracer that lost calls.
    fn losses(&self) -> String {
        let mut lines = Vec::new();
        for Row { driver, function, samples, .. } in &self.rows {
            for tracer in Tracer::ALL {
                let of = samples.iter().filter(|sample| sample.tracer == tracer);
                let (lost, calls) =
                    of.fold((0, 0), |sum, sample| (sum.0 + sample.lost, sum.1 + sample.calls));
                if lost > 0 {
                    let title = tracer.title();
                    lines.push(format!(
                        "{driver}, {function}: {title} lost {lost} of {calls} calls\n"
                    ));
                }
            }
        }
        lines.concat()
    }

    fn medians(&self) -> String {
        let heads: Vec<&str> =
            ["driver", "function"].into_iter().chain(Tracer::ALL.map(Tracer::title)).collect();
        let cells = |row: &Row| {
            let median = |tracer| row.medians.get(&tracer).map_or_else(absent, |ns| grouped(*ns));
            row.names().into_iter().chain(Tracer::ALL.map(median)).collect()
        };
        markdown(2, &heads, &self.rows.iter().map(cells).collect::<Vec<_>>())
    }

    fn ratios(&self) -> String {
        let heads = [
            "driver",
            "function",
            "entry / empty",
            "call / two empty",
            "bpftrace entry / ours",
            "bpftrace call / ours",
        ];
        let cells = |row: &Row| {
            let Ratios { entry_to_empty, call_to_two_empty, .. } = row.ratios;
            let Ratios { bpftrace_entry_to_entry, bpftrace_call_to_call, .. } = row.ratios;
            let fine =
                |ratio: Option<f64>| ratio.map_or_else(absent, |ratio| format!("{ratio:.2}"));
            let coarse =
                |ratio: Option<f64>| ratio.map_or_else(absent, |ratio| format!("{ratio:.1}"));
            let ratios = [
                fine(entry_to_empty),
                fine(call_to_two_empty),
                coarse(bpftrace_entry_to_entry),
                coarse(bpftrace_call_to_call),
            ];
            row.names().into_iter().chain(ratios).collect()
        };
        markdown(2, &heads, &self.rows.iter().map(cells).collect::<Vec<_>>())
    }
}

fn absent() -> String {
    "-".to_owned()
}

impl Row {
    pub(super) fn new(driver: &'static str, function: &'static str, samples: Vec<Sample>) -> Self {
        let mut by_tracer: BTreeMap<Tracer, Vec<f64>> = BTreeMap::new();
        for Sample { tracer, ns_per_call, .. } in &samples {
            by_tracer.entry(*tracer).or_default().push(*ns_per_call);
        }
        let medians: BTreeMap<_, _> = by_tracer
            .into_iter()
            .filter_map(|(tracer, mut values)| Some((tracer, median(&mut values)?)))
            .collect();
        let ratio = |above, below| Some(medians.get(&above)? / medians.get(&below)?);
        let ratios = Ratios {
            entry_to_empty: ratio(Tracer::Entry, Tracer::Empty),
            call_to_two_empty: ratio(Tracer::Call, Tracer::TwoEmpty),
            bpftrace_entry_to_entry: ratio(Tracer::BpftraceEntry, Tracer::Entry),
            bpftrace_call_to_call: ratio(Tracer::BpftraceCall, Tracer::Call),
        };
        Self { driver, function, medians, ratios, samples }
    }

    fn names(&self) -> [String; 2] {
        [self.driver.to_owned(), format!("`{}`", self.function)]
    }

    fn goals(&self) -> impl Iterator<Item = Goal> {
        let Self { driver, function, ratios, .. } = self;
        let goal = |what: &str, ratio: Option<f64>, wanted| {
            let what = format!("{driver}, {function}, {what}");
            ratio.map(|ratio| Goal::new(what, ratio, wanted))
        };
        let (most, least) = (Wanted::AtMost(MAX_OVER_EMPTY), Wanted::AtLeast(MIN_BELOW_BPFTRACE));
        let beside_bpftrace = [
            goal("bpftrace / ours at the entry", ratios.bpftrace_entry_to_entry, least),
            goal("bpftrace / ours of a call", ratios.bpftrace_call_to_call, least),
        ];
        let beside_bpftrace =
            beside_bpftrace.into_iter().filter(|_| *driver == SINGLE_STEPPED).flatten();
        goal("call / two empty", ratios.call_to_two_empty, most).into_iter().chain(beside_bpftrace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(driver: &'static str, times: &[(Tracer, f64)]) -> Row {
        let sample = |&(tracer, ns_per_call)| Sample { tracer, ns_per_call, calls: 100, lost: 0 };
        Row::new(driver, "cuCtxSynchronize", times.iter().map(sample).collect())
    }

    #[test]
    fn ratios_are_of_medians_and_absent_where_nothing_was_measured() {
        let times = [
            (Tracer::TwoEmpty, 100.0),
            (Tracer::TwoEmpty, 900.0),
            (Tracer::TwoEmpty, 200.0),
            (Tracer::Call, 250.0),
            (Tracer::Entry, 9.0),
        ];
        let expected = Ratios {
            entry_to_empty: None,
            call_to_two_empty: Some(1.25),
            bpftrace_entry_to_entry: None,
            bpftrace_call_to_call: None,
        };
        assert_eq!(row("r550", &times).ratios, expected);
    }

    #[test]
    fn tables_have_a_row_for_each_function_and_goals_are_told() {
        let times = [
            (Tracer::None, 6.0),
            (Tracer::Empty, 400.0),
            (Tracer::TwoEmpty, 1000.0),
            (Tracer::Entry, 500.0),
            (Tracer::Call, 1600.0),
            (Tracer::BpftraceEntry, 26_596.0),
            (Tracer::BpftraceCall, 11_200.0),
        ];
        let mut first = row("r550", &times);
        first.samples[6].lost = 7;
        let results = Results::new(1, 0.5, vec![first, row("r580", &times[..5])]);
        insta::assert_snapshot!(results.text(), @"
        Nanoseconds per call, medians of 1 rounds of 0.5 s

        | driver | function           | no probe | empty | two empty | ours, entry | ours, call | bpftrace, entry | bpftrace, call |
        | ------ | ------------------ | -------: | ----: | --------: | ----------: | ---------: | --------------: | -------------: |
        | r550   | `cuCtxSynchronize` |        6 |   400 |     1 000 |         500 |      1 600 |          26 596 |         11 200 |
        | r580   | `cuCtxSynchronize` |        6 |   400 |     1 000 |         500 |      1 600 |               - |              - |

        Ratios

        | driver | function           | entry / empty | call / two empty | bpftrace entry / ours | bpftrace call / ours |
        | ------ | ------------------ | ------------: | ---------------: | --------------------: | -------------------: |
        | r550   | `cuCtxSynchronize` |          1.25 |             1.60 |                  53.2 |                  7.0 |
        | r580   | `cuCtxSynchronize` |          1.25 |             1.60 |                     - |                    - |

        r550, cuCtxSynchronize: bpftrace, call lost 7 of 100 calls
        MISSED  r550, cuCtxSynchronize, call / two empty: 1.6, goal at most 1.5
        met     r550, cuCtxSynchronize, bpftrace / ours at the entry: 53.192, goal at least 8
        MISSED  r550, cuCtxSynchronize, bpftrace / ours of a call: 7, goal at least 8
        MISSED  r580, cuCtxSynchronize, call / two empty: 1.6, goal at most 1.5
        ");
    }
}
