//! vLLM's Prometheus metrics.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[rustfmt::skip]
const TIME_TO_FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
#[rustfmt::skip]
const INTER_TOKEN_LATENCY: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
#[rustfmt::skip]
const REQUEST_LATENCY: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
];
const TOKENS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0];

/// The metrics of one model.
#[derive(Debug)]
pub(super) struct Metrics {
    model: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    running: usize,
    waiting: usize,
    cache_tokens: usize,
    kept_tokens: usize,
    prompt_tokens: u64,
    generation_tokens: u64,
    finished: BTreeMap<&'static str, u64>,
    time_to_first_token: Histogram,
    inter_token_latency: Histogram,
    request_latency: Histogram,
    request_prompt_tokens: Histogram,
    request_generation_tokens: Histogram,
}

impl Metrics {
    pub(super) fn new(model: &str) -> Self {
        let state = State {
            running: 0,
            waiting: 0,
            cache_tokens: 0,
            kept_tokens: 0,
            prompt_tokens: 0,
            generation_tokens: 0,
            finished: ["abort", "length", "stop"].into_iter().map(|reason| (reason, 0)).collect(),
            time_to_first_token: Histogram::new(TIME_TO_FIRST_TOKEN),
            inter_token_latency: Histogram::new(INTER_TOKEN_LATENCY),
            request_latency: Histogram::new(REQUEST_LATENCY),
            request_prompt_tokens: Histogram::new(TOKENS),
            request_generation_tokens: Histogram::new(TOKENS),
        };
        Self { model: model.to_owned(), state: Mutex::new(state) }
    }

    pub(super) fn set_cache(&self, tokens: usize) {
        self.lock().cache_tokens = tokens;
    }

    pub(super) fn step(&self, running: usize, waiting: usize, kept_tokens: usize) {
        let mut state = self.lock();
        (state.running, state.waiting, state.kept_tokens) = (running, waiting, kept_tokens);
    }

    pub(super) fn first_token(&self, prompt_tokens: usize, after: Duration) {
        let mut state = self.lock();
        state.prompt_tokens += prompt_tokens as u64;
        state.generation_tokens += 1;
        state.time_to_first_token.observe(after.as_secs_f64());
    }

    pub(super) fn next_token(&self, after: Duration) {
        let mut state = self.lock();
        state.generation_tokens += 1;
        state.inter_token_latency.observe(after.as_secs_f64());
    }

    pub(super) fn finished(
        &self,
        reason: &'static str,
        prompt_tokens: usize,
        tokens: usize,
        after: Duration,
    ) {
        let mut state = self.lock();
        *state.finished.entry(reason).or_default() += 1;
        state.request_latency.observe(after.as_secs_f64());
        state.request_prompt_tokens.observe(prompt_tokens as f64);
        state.request_generation_tokens.observe(tokens as f64);
    }

    /// In Prometheus's text format.
    pub(super) fn render(&self) -> String {
        let state = self.lock();
        let labels = format!(
            "engine=\"0\",model_name=\"{}\"",
            self.model.replace('\\', "\\\\").replace('"', "\\\"")
        );
        let mut page = Page { text: String::new(), labels };
        let cache = if state.cache_tokens == 0 {
            0.0
        } else {
            state.kept_tokens as f64 / state.cache_tokens as f64
        };
        page.gauge(
            "num_requests_running",
            "Number of requests in model execution batches.",
            state.running as f64,
        );
        page.gauge(
            "num_requests_waiting",
            "Number of requests waiting to be processed.",
            state.waiting as f64,
        );
        page.gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", cache);
        page.counter(
            "prompt_tokens_total",
            "Number of prefill tokens processed.",
            &[("", state.prompt_tokens)],
        );
        page.counter(
            "generation_tokens_total",
            "Number of generation tokens processed.",
            &[("", state.generation_tokens)],
        );
        let finished: Vec<_> = state
            .finished
            .iter()
            .map(|(reason, count)| (format!(",finished_reason=\"{reason}\""), *count))
            .collect();
        let finished: Vec<_> =
            finished.iter().map(|(label, count)| (label.as_str(), *count)).collect();
        page.counter(
            "request_success_total",
            "Count of successfully processed requests.",
            &finished,
        );
        for (name, help, histogram) in [
            (
                "time_to_first_token_seconds",
                "Time to first token in seconds.",
                &state.time_to_first_token,
            ),
            (
                "inter_token_latency_seconds",
                "Time between two tokens in seconds.",
                &state.inter_token_latency,
            ),
            ("e2e_request_latency_seconds", "Request latency in seconds.", &state.request_latency),
            (
                "request_prompt_tokens",
                "Number of prefill tokens of a request.",
                &state.request_prompt_tokens,
            ),
            (
                "request_generation_tokens",
                "Number of generation tokens of a request.",
                &state.request_generation_tokens,
            ),
        ] {
            page.histogram(name, help, histogram);
        }
        page.text
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Histogram {
    bounds: &'static [f64],
    /// Observations up to each bound and above the one before; the last is for those above all.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    fn observe(&mut self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket] += 1;
        self.sum += value;
    }
}

struct Page {
    text: String,
    labels: String,
}

impl Page {
    fn line(&mut self, name: &str, suffix: &str, extra: &str, value: f64) {
        writeln!(self.text, "vllm:{name}{suffix}{{{}{extra}}} {value}", self.labels)
            .expect("text grows");
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        write!(self.text, "# HELP vllm:{name} {help}\n# TYPE vllm:{name} {kind}\n")
            .expect("text grows");
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, help, "gauge");
        self.line(name, "", "", value);
    }

    fn counter(&mut self, name: &str, help: &str, values: &[(&str, u64)]) {
        self.head(name, help, "counter");
        for (extra, value) in values {
            self.line(name, "", extra, *value as f64);
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, help, "histogram");
        let mut below = 0;
        for (bound, count) in histogram
            .bounds
            .iter()
            .map(f64::to_string)
            .chain(["+Inf".to_owned()])
            .zip(&histogram.counts)
        {
            below += count;
            self.line(name, "_bucket", &format!(",le=\"{bound}\""), below as f64);
        }
        self.line(name, "_count", "", below as f64);
        self.line(name, "_sum", "", histogram.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let metrics = Metrics::new("m");
        for milliseconds in [1, 15, 15, 3_000_000] {
            metrics.first_token(2, Duration::from_millis(milliseconds));
        }
        let page = metrics.render();
        for line in [
            "vllm:prompt_tokens_total{engine=\"0\",model_name=\"m\"} 8",
            "vllm:time_to_first_token_seconds_bucket{engine=\"0\",model_name=\"m\",le=\"0.001\"} 1",
            "vllm:time_to_first_token_seconds_bucket{engine=\"0\",model_name=\"m\",le=\"0.02\"} 3",
            "vllm:time_to_first_token_seconds_bucket{engine=\"0\",model_name=\"m\",le=\"2560\"} 3",
            "vllm:time_to_first_token_seconds_bucket{engine=\"0\",model_name=\"m\",le=\"+Inf\"} 4",
            "vllm:time_to_first_token_seconds_count{engine=\"0\",model_name=\"m\"} 4",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
        }
    }
}
