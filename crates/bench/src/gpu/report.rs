//! What came out: compared by round, as JSON and as a table.

use std::fmt::Write as _;

use clap::ValueEnum as _;
use serde::Serialize;

use super::{load::Figures, proof::Proof, tracer::Tracer};
use crate::statistics::{Ratio, median};

/// One load under one tracer.
#[derive(Debug, Serialize)]
pub(super) struct Sample {
    pub(super) round: u32,
    pub(super) tracer: Tracer,
    #[serde(flatten)]
    pub(super) figures: Figures,
    /// Of the engine's processes, for all tokens of the load.
    pub(super) engine_processor_seconds: f64,
    /// Of the tracer, during the load.
    pub(super) tracer_processor_seconds: f64,
    /// Lines that the tracer wrote of the load.
    pub(super) events: u64,
    pub(super) bytes: u64,
    /// Events that the tracer says it has lost.
    pub(super) lost: u64,
}

/// One tracer beside none.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    pub(super) tracer: Tracer,
    pub(super) tokens_per_second: Option<Ratio>,
    pub(super) ttft: Option<Ratio>,
    pub(super) itl: Option<Ratio>,
    pub(super) engine_processor_time_per_token: Option<Ratio>,
    #[serde(flatten)]
    pub(super) recorded: Option<Recorded>,
}

/// What a tracer wrote down; empty probes write nothing.
#[derive(Debug, Serialize)]
pub(super) struct Recorded {
    pub(super) events: u64,
    pub(super) lost: u64,
    pub(super) tracer_microseconds_per_event: f64,
    pub(super) events_per_token: f64,
    pub(super) bytes_per_event: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) name: String,
    pub(super) serve: String,
    /// What the machine says of itself.
    pub(super) machine: Vec<String>,
    pub(super) requests: u32,
    pub(super) workers: u32,
    pub(super) output_tokens: u32,
    pub(super) proof: Proof,
    pub(super) untraced: Option<Untraced>,
    pub(super) comparisons: Vec<Comparison>,
    pub(super) samples: Vec<Sample>,
}

/// Medians of the loads without a tracer.
#[derive(Debug, Serialize)]
pub(super) struct Untraced {
    pub(super) tokens_per_second: f64,
    pub(super) ttft_ms: f64,
    pub(super) itl_ms: f64,
    pub(super) engine_processor_seconds_per_1000_tokens: f64,
}

pub(super) fn untraced(samples: &[Sample]) -> Option<Untraced> {
    let of = |value: fn(&Sample) -> f64| {
        let none = samples.iter().filter(|sample| sample.tracer == Tracer::None);
        median(&mut none.map(value).collect::<Vec<f64>>())
    };
    Some(Untraced {
        tokens_per_second: of(|sample| sample.figures.tokens_per_second)?,
        ttft_ms: of(|sample| sample.figures.ttft_ms_median)?,
        itl_ms: of(|sample| sample.figures.itl_ms_median)?,
        engine_processor_seconds_per_1000_tokens: of(engine_time)? * 1000.0,
    })
}

pub(super) fn comparisons(samples: &[Sample]) -> Vec<Comparison> {
    Tracer::value_variants()
        .iter()
        .filter(|tracer| **tracer != Tracer::None)
        .filter(|tracer| samples.iter().any(|sample| sample.tracer == **tracer))
        .map(|tracer| compare(samples, *tracer))
        .collect()
}

fn engine_time(sample: &Sample) -> f64 {
    sample.engine_processor_seconds / sample.figures.tokens as f64
}

fn compare(samples: &[Sample], tracer: Tracer) -> Comparison {
    let own: Vec<&Sample> = samples.iter().filter(|sample| sample.tracer == tracer).collect();
    let ratio = |value: fn(&Sample) -> f64| {
        Ratio::of(own.iter().filter_map(|with| {
            let without = samples
                .iter()
                .find(|sample| sample.tracer == Tracer::None && sample.round == with.round)?;
            Some((value(with), value(without)))
        }))
    };
    Comparison {
        tracer,
        tokens_per_second: ratio(|sample| sample.figures.tokens_per_second),
        ttft: ratio(|sample| sample.figures.ttft_ms_median),
        itl: ratio(|sample| sample.figures.itl_ms_median),
        engine_processor_time_per_token: ratio(engine_time),
        recorded: recorded(&own),
    }
}

fn recorded(samples: &[&Sample]) -> Option<Recorded> {
    let sum = |value: fn(&Sample) -> f64| samples.iter().map(|sample| value(sample)).sum::<f64>();
    let events = sum(|sample| sample.events as f64);
    (events > 0.0).then(|| Recorded {
        events: samples.iter().map(|sample| sample.events).sum(),
        lost: samples.iter().map(|sample| sample.lost).sum(),
        tracer_microseconds_per_event: sum(|sample| sample.tracer_processor_seconds) * 1e6 / events,
        events_per_token: events / sum(|sample| sample.figures.tokens as f64),
        bytes_per_event: sum(|sample| sample.bytes as f64) / events,
    })
}

/// Ratios as changes against no tracer, in percent, with their intervals.
pub(super) fn to_markdown(report: &Report) -> String {
    let mut text = String::new();
    if let Some(untraced) = &report.untraced {
        let _: std::fmt::Result = writeln!(
            text,
            "Untraced: {:.0} tokens/s, TTFT {:.1} ms, ITL {:.3} ms, {:.2} s of the engine's \
             processor time per 1 000 tokens (medians).\n",
            untraced.tokens_per_second,
            untraced.ttft_ms,
            untraced.itl_ms,
            untraced.engine_processor_seconds_per_1000_tokens
        );
    }
    text.push_str(
        "| tracer | pairs | tokens/s | TTFT | ITL | engine CPU per token | events | lost | \
         tracer CPU per event | bytes per event |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for comparison in &report.comparisons {
        let Comparison { tracer, tokens_per_second, ttft, itl, .. } = comparison;
        let name = tracer.to_possible_value().expect("no tracer is hidden");
        let recorded = comparison.recorded.as_ref().map_or_else(
            || "- | - | - | -".to_owned(),
            |Recorded { events, lost, tracer_microseconds_per_event, bytes_per_event, .. }| {
                format!(
                    "{events} | {lost} | {tracer_microseconds_per_event:.2} µs | \
                     {bytes_per_event:.0}"
                )
            },
        );
        let _: std::fmt::Result = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {recorded} |",
            name.get_name(),
            tokens_per_second.map_or(0, |ratio| ratio.pairs),
            change(*tokens_per_second),
            change(*ttft),
            change(*itl),
            change(comparison.engine_processor_time_per_token),
        );
    }
    text
}

fn change(ratio: Option<Ratio>) -> String {
    let percent = |value: f64| format!("{:+.1}", (value - 1.0) * 100.0);
    ratio.map_or("-".to_owned(), |Ratio { median, low, high, .. }| {
        format!("{} % ({} to {})", percent(median), percent(low), percent(high))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(round: u32, tracer: Tracer, tokens_per_second: f64, events: u64) -> Sample {
        let figures = Figures {
            tokens: 1000,
            tokens_per_second,
            ttft_ms_median: 20.0,
            itl_ms_median: 4.0,
            itl_ms_p99: 8.0,
        };
        Sample {
            round,
            tracer,
            figures,
            engine_processor_seconds: 0.5,
            tracer_processor_seconds: events as f64 / 1e6,
            events,
            bytes: events * 200,
            lost: 0,
        }
    }

    #[test]
    fn a_tracer_is_compared_with_none_of_the_same_round() {
        // The machine doubles its speed between the rounds; the tracer costs a tenth in each.
        let samples = vec![
            sample(1, Tracer::None, 1000.0, 0),
            sample(1, Tracer::Call, 900.0, 5000),
            sample(2, Tracer::Call, 1800.0, 5000),
            sample(2, Tracer::None, 2000.0, 0),
            sample(1, Tracer::TwoEmpty, 950.0, 0),
        ];
        let report = Report {
            name: "graphs".to_owned(),
            serve: "vllm serve".to_owned(),
            machine: Vec::new(),
            requests: 8,
            workers: 4,
            output_tokens: 125,
            proof: Proof::default(),
            untraced: untraced(&samples),
            comparisons: comparisons(&samples),
            samples,
        };
        insta::assert_snapshot!(to_markdown(&report), @r"
        Untraced: 1500 tokens/s, TTFT 20.0 ms, ITL 4.000 ms, 0.50 s of the engine's processor time per 1 000 tokens (medians).

        | tracer | pairs | tokens/s | TTFT | ITL | engine CPU per token | events | lost | tracer CPU per event | bytes per event |
        |---|---|---|---|---|---|---|---|---|---|
        | call | 2 | -10.0 % (-10.0 to -10.0) | +0.0 % (+0.0 to +0.0) | +0.0 % (+0.0 to +0.0) | +0.0 % (+0.0 to +0.0) | 10000 | 0 | 1.00 µs | 200 |
        | two-empty | 1 | -5.0 % (-5.0 to -5.0) | +0.0 % (+0.0 to +0.0) | +0.0 % (+0.0 to +0.0) | +0.0 % (+0.0 to +0.0) | - | - | - | - |
        ");
    }
}
