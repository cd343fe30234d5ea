//! What vLLM says of itself while it is measured: `/metrics`, read once a second.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{client::Client, statistics::rounded};

const BETWEEN: Duration = Duration::from_secs(1);
/// When there are more, every other one is left out, and half as many are taken from then on.
const MAX_SAMPLES: usize = 600;
/// More than any page of metrics; what is behind is not read.
const MAX_LINES: usize = 100_000;
/// The last sample waits for a server that is slow, but not for one that hangs.
const LAST_SAMPLE: Duration = Duration::from_secs(5);

/// A server's own figures of a run, warm-up included: differences of its counters between the first and the last sample.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerMetrics {
    pub server: String,
    /// In the order of time.
    pub samples: Vec<Sample>,
    pub preemptions: Option<f64>,
    pub prompt_tokens: Option<f64>,
    pub generation_tokens: Option<f64>,
    /// Tokens of prompts that the prefix cache had, over those that it was asked for.
    pub prefix_hit_share: Option<f64>,
    pub iterations: Option<f64>,
    /// Tokens that an iteration of the engine worked on.
    pub tokens_per_iteration: Option<f64>,
    /// By the server's own clocks, from where it had the request.
    pub ttft_mean_ms: Option<f64>,
    /// Per token after the first.
    pub tpot_mean_ms: Option<f64>,
    pub queue_mean_ms: Option<f64>,
    pub prefill_mean_ms: Option<f64>,
    pub decode_mean_ms: Option<f64>,
}

/// `None` where the server does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Since the start of the run.
    pub at_s: f64,
    pub running: Option<f64>,
    pub waiting: Option<f64>,
    /// Share of the KV cache that is in use; of several engines, that of the fullest.
    pub kv_cache_usage: Option<f64>,
}

/// Takes samples of all servers until it is dropped.
#[derive(Debug)]
pub(crate) struct Sampler {
    client: Client,
    start: Instant,
    between: Duration,
    series: Vec<Series>,
}

#[derive(Debug, Default)]
struct Series {
    first: Option<Page>,
    last: Option<Page>,
    samples: Vec<Sample>,
}

/// The metrics of vLLM by name, without its prefix; summed over labels, except for what is a share.
type Page = BTreeMap<String, f64>;

impl Sampler {
    /// The first sample is taken before the load.
    pub(crate) async fn start(client: &Client) -> Self {
        let series = (0..client.servers().len()).map(|_| Series::default()).collect();
        let client = client.for_another_thread();
        let mut sampler = Self { client, start: Instant::now(), between: BETWEEN, series };
        sampler.sample().await;
        sampler
    }

    /// Has no end. Servers that have no metrics of vLLM are not asked again.
    pub(crate) async fn run(&mut self) -> Infallible {
        loop {
            tokio::time::sleep(self.between).await;
            self.sample().await;
        }
    }

    /// After the load; the figures of those servers that have any.
    pub(crate) async fn end(mut self) -> Vec<ServerMetrics> {
        let _ = tokio::time::timeout(LAST_SAMPLE, self.sample()).await;
        let servers = self.client.servers();
        let metrics = |(server, series): (String, Series)| series.metrics(server);
        servers.into_iter().zip(self.series).filter_map(metrics).collect()
    }

    async fn sample(&mut self) {
        let is_first = self.series.iter().all(|series| series.first.is_none());
        for (number, series) in self.series.iter_mut().enumerate() {
            if !is_first && series.first.is_none() {
                continue;
            }
            let Ok(text) = self.client.metrics(number).await else { continue };
            series.take(parse(&text), self.start.elapsed());
            if series.samples.len() >= MAX_SAMPLES {
                let mut keep = false;
                series.samples.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.between *= 2;
            }
        }
    }
}

impl Series {
    fn take(&mut self, page: Page, at: Duration) {
        if page.is_empty() {
            return;
        }
        let value = |names: &[&str]| names.iter().find_map(|&name| page.get(name).copied());
        self.samples.push(Sample {
            at_s: rounded(at.as_secs_f64()),
            running: value(&["num_requests_running"]),
            waiting: value(&["num_requests_waiting"]),
            kv_cache_usage: value(&["kv_cache_usage_perc", "gpu_cache_usage_perc"]).map(rounded),
        });
        self.first.get_or_insert_with(|| page.clone());
        self.last = Some(page);
    }

    /// `None` without two samples to compare. A counter that fell is that of a server that was started again.
    fn metrics(self, server: String) -> Option<ServerMetrics> {
        let (first, last) = (self.first?, self.last?);
        let more = |name: &str| {
            let (before, after) = (first.get(name).copied().unwrap_or(0.0), *last.get(name)?);
            (after >= before).then_some(after - before)
        };
        let of_names = |names: &[&str]| names.iter().find_map(|&name| more(name));
        let over = |part: Option<f64>, whole: Option<f64>| {
            part.zip(whole).filter(|&(_, whole)| whole > 0.0).map(|(part, whole)| part / whole)
        };
        let mean = |name: &str| over(more(&format!("{name}_sum")), more(&format!("{name}_count")));
        let mean_ms = |name: &str| mean(name).map(|seconds| rounded(seconds * 1e3));
        let per_token = ["request_time_per_output_token_seconds", "time_per_output_token_seconds"];
        Some(ServerMetrics {
            server,
            preemptions: more("num_preemptions_total"),
            prompt_tokens: more("prompt_tokens_total"),
            generation_tokens: more("generation_tokens_total"),
            prefix_hit_share: over(
                of_names(&["prefix_cache_hits_total", "gpu_prefix_cache_hits_total"]),
                of_names(&["prefix_cache_queries_total", "gpu_prefix_cache_queries_total"]),
            )
            .map(rounded),
            iterations: more("iteration_tokens_total_count"),
            tokens_per_iteration: mean("iteration_tokens_total").map(rounded),
            ttft_mean_ms: mean_ms("time_to_first_token_seconds"),
            tpot_mean_ms: per_token.into_iter().find_map(mean_ms),
            queue_mean_ms: mean_ms("request_queue_time_seconds"),
            prefill_mean_ms: mean_ms("request_prefill_time_seconds"),
            decode_mean_ms: mean_ms("request_decode_time_seconds"),
            samples: self.samples,
        })
    }
}

fn parse(text: &str) -> Page {
    let mut page = Page::new();
    for line in text.lines().take(MAX_LINES) {
        let Some(rest) = line.strip_prefix("vllm:") else { continue };
        let end = rest.find(['{', ' ']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        if name.ends_with("_bucket") {
            continue;
        }
        // A label may hold a blank, and a brace.
        let values = rest.rsplit_once('}').map_or(rest, |(_, values)| values);
        let value = values.split_whitespace().next().and_then(|value| value.parse::<f64>().ok());
        let Some(value) = value.filter(|value| value.is_finite()) else { continue };
        let known = page.entry(name.to_owned()).or_insert(0.0);
        *known = if name.ends_with("_perc") { known.max(value) } else { *known + value };
    }
    page
}

impl ServerMetrics {
    /// Mean and maximum of a figure of the samples.
    pub(crate) fn mean_and_max(&self, of: fn(&Sample) -> Option<f64>) -> Option<(f64, f64)> {
        let values: Vec<f64> = self.samples.iter().filter_map(of).collect();
        let max = values.iter().copied().reduce(f64::max)?;
        Some((values.iter().sum::<f64>() / values.len() as f64, max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
# HELP vllm:num_requests_running Number of requests
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine=\"0\",model_name=\"a } b\"} 1.0
vllm:num_requests_waiting{engine=\"0\"} 0.0
vllm:kv_cache_usage_perc{engine=\"0\"} 0.25
vllm:num_preemptions_total{engine=\"0\"} 7.0
vllm:prefix_cache_queries_total{engine=\"0\"} 100.0
vllm:prefix_cache_hits_total{engine=\"0\"} 50.0
vllm:time_to_first_token_seconds_sum{engine=\"0\"} 1.0
vllm:time_to_first_token_seconds_count{engine=\"0\"} 10.0
vllm:time_to_first_token_seconds_bucket{engine=\"0\",le=\"0.001\"} 5.0
python_gc_objects_collected_total 5
";
    const AFTER: &str = "\
vllm:num_requests_running{engine=\"0\"} 3.0
vllm:num_requests_running{engine=\"1\"} 4.0 1767225600000
vllm:kv_cache_usage_perc{engine=\"0\"} 0.5
vllm:kv_cache_usage_perc{engine=\"1\"} 0.75
vllm:num_preemptions_total{engine=\"0\"} 9.0
vllm:prefix_cache_queries_total{engine=\"0\"} 300.0
vllm:prefix_cache_hits_total{engine=\"0\"} 90.0
vllm:iteration_tokens_total_sum{engine=\"0\"} 640.0
vllm:iteration_tokens_total_count{engine=\"0\"} 20.0
vllm:time_to_first_token_seconds_sum{engine=\"0\"} 3.0
vllm:time_to_first_token_seconds_count{engine=\"0\"} 20.0
vllm:generation_tokens_total{engine=\"0\"} NaN
";

    #[test]
    fn figures_are_what_the_counters_gained() {
        let mut series = Series::default();
        series.take(parse(BEFORE), Duration::ZERO);
        series.take(parse(AFTER), Duration::from_millis(1500));
        let metrics = series.metrics("s".to_owned()).unwrap();
        let shares = (metrics.preemptions, metrics.prefix_hit_share, metrics.ttft_mean_ms);
        assert_eq!(shares, (Some(2.0), Some(0.2), Some(200.0)));
        let iterations = (metrics.iterations, metrics.tokens_per_iteration);
        assert_eq!(iterations, (Some(20.0), Some(32.0)));
        assert_eq!((metrics.generation_tokens, metrics.queue_mean_ms), (None, None));
        let last = metrics.samples[1];
        assert_eq!((last.at_s, last.running, last.waiting), (1.5, Some(7.0), None));
        assert_eq!(metrics.mean_and_max(|it| it.kv_cache_usage), Some((0.5, 0.75)));
        assert_eq!(metrics.mean_and_max(|it| it.running), Some((4.0, 7.0)));
    }

    #[test]
    fn a_server_that_was_started_again_has_no_differences() {
        let mut series = Series::default();
        series.take(parse(AFTER), Duration::ZERO);
        series.take(parse(BEFORE), Duration::from_secs(1));
        let metrics = series.metrics(String::new()).unwrap();
        assert_eq!((metrics.preemptions, metrics.prefix_hit_share), (None, None));
    }

    #[test]
    fn other_servers_have_none() {
        for text in [
            "",
            "<html>404</html>",
            "llamacpp:requests_processing 1\n",
            "vllm:",
            "vllm:a",
            "vllm:a x",
        ] {
            let mut series = Series::default();
            series.take(parse(text), Duration::ZERO);
            assert_eq!(series.metrics(String::new()), None, "{text}");
        }
    }
}
