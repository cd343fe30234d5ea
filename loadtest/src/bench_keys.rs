//! A run's figures by the names that `vllm bench serve` gives them, so that what reads its files reads ours.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    record::{RequestRecord, RunResult},
    statistics::{self, rounded},
};

/// What that program gives of each figure, whatever else is asked for.
const PERCENTILE: f64 = 99.0;

/// `percentiles` are given beside p99.
pub(crate) fn keys(result: &RunResult, percentiles: &[f64]) -> BTreeMap<String, Value> {
    let RunResult { settings, summary, requests, .. } = result;
    let succeeded = || requests.iter().filter(|record| !record.warmup && record.succeeded());
    let total =
        summary.input_tokens.zip(summary.output_tokens).map(|(input, output)| input + output);
    let per_second = |count: Option<u64>| {
        let seconds = summary.wall_seconds;
        count.filter(|_| seconds > 0.0).map(|count| rounded(count as f64 / seconds))
    };
    let backend = if settings.endpoint.contains("chat") { "openai-chat" } else { "openai" };
    let burstiness = match settings.arrivals.as_deref() {
        Some("constant") => json!("inf"),
        Some(arrivals) => {
            json!(
                arrivals.strip_prefix("gamma:").and_then(|shape| shape.parse().ok()).unwrap_or(1.0)
            )
        }
        None => json!(1.0),
    };
    let date = result
        .started_at
        .parse::<Timestamp>()
        .map(|time| time.strftime("%Y%m%d-%H%M%S").to_string());
    let mut keys: BTreeMap<String, Value> = [
        ("date", json!(date.unwrap_or_default())),
        ("backend", json!(backend)),
        ("endpoint_type", json!(backend)),
        ("model_id", json!(settings.model)),
        ("num_prompts", json!(summary.requests)),
        ("request_rate", settings.rate.map_or(json!("inf"), |rate| json!(rate))),
        ("burstiness", burstiness),
        ("max_concurrency", json!(Some(settings.workers).filter(|&workers| workers > 0))),
        ("duration", json!(summary.wall_seconds)),
        ("completed", json!(summary.succeeded)),
        ("total_input_tokens", json!(summary.input_tokens)),
        ("total_output_tokens", json!(summary.output_tokens)),
        ("request_throughput", json!(summary.requests_per_second)),
        ("request_goodput", json!(summary.goodput.map(|goodput| goodput.good_requests_per_second))),
        ("output_throughput", json!(summary.output_tokens_per_second)),
        ("total_token_throughput", json!(per_second(total))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some((from, to)) = settings.ramp.as_deref().and_then(|ramp| ramp.split_once("..")) {
        for (name, rate) in [("ramp_up_start_rps", from), ("ramp_up_end_rps", to)] {
            keys.insert(name.to_owned(), json!(rate.parse::<f64>().ok()));
        }
    }
    let mut add = |name: &str, values: Vec<f64>| {
        let wanted: Vec<f64> = percentiles.iter().copied().chain([PERCENTILE]).collect();
        let found = statistics::percentiles(values.iter().copied(), &wanted).unwrap_or_default();
        keys.extend(
            found.into_iter().map(|(rank, value)| (format!("{rank}_{name}_ms"), json!(value))),
        );
        for (kind, value) in moments(&values) {
            keys.insert(format!("{kind}_{name}_ms"), json!(value));
        }
    };
    let of = |value: fn(&RequestRecord) -> Option<f64>| succeeded().filter_map(value).collect();
    add("ttft", of(|record| record.ttft_ms));
    add("tpot", of(|record| record.tpot_ms));
    add("itl", succeeded().flat_map(RequestRecord::gaps_ms).collect());
    add("e2el", of(|record| Some(record.e2e_ms)));
    keys
}

/// `None` of no values.
fn moments(values: &[f64]) -> [(&'static str, Option<f64>); 3] {
    let count = values.len() as f64;
    let mean = (count > 0.0).then(|| values.iter().sum::<f64>() / count);
    let deviation = mean.map(|mean| {
        (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()
    });
    let median = statistics::percentiles(values.iter().copied(), &[50.0])
        .and_then(|found| found.into_values().next());
    [("mean", mean.map(rounded)), ("median", median), ("std", deviation.map(rounded))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_textbook() {
        let expected = [("mean", Some(5.0)), ("median", Some(4.0)), ("std", Some(2.0))];
        assert_eq!(moments(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]), expected);
        assert_eq!(moments(&[]).map(|(_, value)| value), [None; 3]);
    }
}
