//! The result file: what one request, and one run, leave behind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{server_metrics::ServerMetrics, slo::Slo, statistics::Distribution};

/// One run, as written to `*_result_*.json` and printed by `--json`.
///
/// A time is the wall clock of this machine, in nanoseconds since 1970 and as RFC 3339; an offset is in milliseconds
/// on the monotonic clock since the start of its request. `null` means "not measured", never zero.
/// The file has, at its top level, also the figures by the names that `vllm bench serve` gives them, such as
/// `mean_ttft_ms`, `p99_tpot_ms` and `request_throughput`; they say nothing that is not here too.
/// Readers that hold numbers as doubles (JavaScript, jq before 1.7) get nanoseconds since 1970 to the nearest 256 only;
/// the RFC 3339 form is exact everywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub tool: String,
    /// What `--label` says of the run.
    #[serde(default)]
    pub label: Option<String>,
    pub started_at: String,
    pub start_unix_ns: u64,
    pub finished_at: String,
    pub settings: Settings,
    pub summary: Summary,
    /// What of the figures may be this client's own doing.
    #[serde(default)]
    pub client: Option<ClientFigures>,
    /// What each server said of itself meanwhile, at `/metrics`; none where it does not.
    #[serde(default)]
    pub server_metrics: Vec<ServerMetrics>,
    /// What a reader of the figures should know.
    pub notes: Vec<String>,
    pub requests: Vec<RequestRecord>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `single` or `batch`.
    pub test: String,
    pub host: String,
    pub port: u16,
    /// With `--base-url`: all of them. `host` and `port` are those of the first.
    #[serde(default)]
    pub base_urls: Vec<String>,
    /// Of the headers that were added; their values may be secrets.
    #[serde(default)]
    pub header_names: Vec<String>,
    pub endpoint: String,
    pub model: String,
    pub stream: bool,
    pub max_tokens: u32,
    pub ignore_eos: bool,
    pub timeout_seconds: f64,
    pub count: u32,
    /// Requests in flight at once; 1 is sequential. In an open loop the most that may be, or 0 for no limit.
    pub workers: u32,
    /// Requests a second, in an open loop.
    #[serde(default)]
    pub rate: Option<f64>,
    /// As in `1..50`, with `--ramp`.
    #[serde(default)]
    pub ramp: Option<String>,
    /// The file of `--replay`.
    #[serde(default)]
    pub replay: Option<String>,
    /// `constant`, `poisson` or `gamma:SHAPE`.
    #[serde(default)]
    pub arrivals: Option<String>,
    #[serde(default)]
    pub duration_seconds: Option<f64>,
    /// As it was given: a number of requests, or a time.
    #[serde(default)]
    pub warmup: Option<String>,
    #[serde(default)]
    pub seed: u64,
    /// As they were given, where they were.
    #[serde(default)]
    pub input_tokens: Option<String>,
    #[serde(default)]
    pub output_tokens: Option<String>,
}

/// Figures over the requests that succeeded and are no warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub requests: usize,
    pub succeeded: usize,
    pub failed: usize,
    /// From the first byte of the first request to the end of the last answer.
    pub wall_seconds: f64,
    /// Succeeded requests over the wall time.
    pub requests_per_second: f64,
    /// `null` as soon as one succeeded response came without `usage`: a partial sum would mislead.
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    /// All output tokens over the wall time.
    pub output_tokens_per_second: Option<f64>,
    pub responses_without_usage: usize,
    /// Requests that were sent again because the server had closed the connection that waited for them.
    #[serde(default)]
    pub retried: usize,
    /// Wait inside this client before sending; connecting; and from the first token to the last: beside TTFT, which is
    /// the server's part, all that an answer's time is made of.
    #[serde(default)]
    pub queue_ms: Option<Distribution>,
    #[serde(default)]
    pub connect_ms: Option<Distribution>,
    #[serde(default)]
    pub streaming_ms: Option<Distribution>,
    /// In an open loop: TTFT as somebody sees it who asks when the request is due, waiting and connecting included.
    #[serde(default)]
    pub ttft_from_due_ms: Option<Distribution>,
    /// Requests that are left out of all these figures.
    #[serde(default)]
    pub warmup_requests: usize,
    pub ttft_ms: Option<Distribution>,
    /// Over all gaps of all requests, so long answers weigh more.
    pub itl_ms: Option<Distribution>,
    pub tpot_ms: Option<Distribution>,
    pub e2e_ms: Option<Distribution>,
    /// Output tokens per second of each request by itself.
    pub request_output_tokens_per_second: Option<Distribution>,
    /// With `--slo`.
    #[serde(default)]
    pub goodput: Option<Goodput>,
    /// With `--percentiles`: of each figure by its name here, by the names of the percentiles.
    #[serde(default)]
    pub percentiles: BTreeMap<String, BTreeMap<String, f64>>,
    /// With `--ramp`: the same for each tenth of its time.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// The same for each server, where there are several.
    #[serde(default)]
    pub servers: Vec<ServerFigures>,
    pub failures: Vec<FailureGroup>,
}

/// The requests that left within a part of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    pub from_s: f64,
    pub to_s: f64,
    pub requests: usize,
    pub failed: usize,
    pub requests_per_second: f64,
    pub ttft_ms: Option<Distribution>,
    pub tpot_ms: Option<Distribution>,
}

/// The part of one of several servers in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerFigures {
    pub server: String,
    pub requests: usize,
    pub failed: usize,
    pub ttft_ms: Option<Distribution>,
    pub tpot_ms: Option<Distribution>,
    pub e2e_ms: Option<Distribution>,
}

/// Answers that kept a service level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Goodput {
    pub slo: Slo,
    pub good_requests: usize,
    /// Good ones over the wall time.
    pub good_requests_per_second: f64,
    /// Good ones over all, those that failed among them.
    pub good_share: f64,
}

/// How well this client kept time. Marks are what is beyond the limits within which the figures are the server's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientFigures {
    /// Threads that sent and received.
    pub threads: usize,
    /// CPU time of the busiest of them over the time of the run; at 1 it could do no more.
    pub cpu_share: f64,
    /// The same, with the time that it was ready to run and had no core.
    pub busy_share: f64,
    /// CPU time of all of them over all output tokens.
    pub cpu_us_per_token: Option<f64>,
    /// Share of the reads for which the kernel told when the bytes came; the others have the time of the read.
    pub kernel_stamped_share: Option<f64>,
    /// From the kernel's receiving to this client's reading. Times are those of the kernel, so this is no error of them;
    /// but tokens that wait together have the time of the last.
    pub receive_lag_ms: Option<Distribution>,
    /// Handing a request to the kernel. Its clock starts before, so TTFT is too large by at most this.
    pub send_ms: Option<Distribution>,
    /// How late requests of an open loop left, by this client's doing.
    pub schedule_lag_ms: Option<Distribution>,
    pub clock_resolution_ns: u64,
    /// Between what the figures are, for all that this client knows.
    #[serde(default)]
    pub bounds: FigureBounds,
    pub marks: Vec<String>,
}

/// Error bars: what this client cannot tell of the times at which bytes left and came. A time is between the kernel's
/// taking the request and its having the token; the network is part of it, the client is not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct FigureBounds {
    pub ttft_mean_ms: Option<Bounds>,
    pub tpot_mean_ms: Option<Bounds>,
    pub output_tokens_per_second: Option<Bounds>,
}

/// Both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    pub low: f64,
    pub high: f64,
}

/// Requests that failed for the same reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureGroup {
    pub count: usize,
    pub failure: Failure,
    /// The `index` of each.
    pub requests: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: String,
    pub message: String,
    /// The text at fault, for instance the event that is not JSON.
    pub detail: Option<String>,
    pub advice: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own in the file")]
pub struct RequestRecord {
    /// 1 for the first request of the run.
    pub index: u32,
    /// Sent as `X-Request-Id`.
    pub request_id: String,
    /// The `id` of the completion; vLLM builds it from the request id and shows it in its log.
    pub completion_id: Option<String>,
    pub prompt: String,
    /// When its first byte left, which is where its offsets begin; where none left, when it was tried.
    pub started_at: String,
    pub start_unix_ns: u64,
    /// How long it waited inside this client before it left, connecting not counted.
    #[serde(default)]
    pub queue_ms: f64,
    /// In an open loop: how much of that was this client's being late, not `--max-concurrency` or connecting.
    #[serde(default)]
    pub schedule_lag_ms: Option<f64>,
    /// `null` where a connection was there already.
    #[serde(default)]
    pub connect_ms: Option<f64>,
    /// How much of that was the handshake of TLS.
    #[serde(default)]
    pub tls_ms: Option<f64>,
    /// The base URL of the server that it was sent to, where there are several.
    #[serde(default)]
    pub server: Option<String>,
    /// From its first byte to its last.
    #[serde(default)]
    pub send_ms: Option<f64>,
    /// The server had closed the connection that waited, so the request was sent again over a new one.
    #[serde(default)]
    pub retried: bool,
    /// Left out of all figures.
    #[serde(default)]
    pub warmup: bool,
    pub failure: Option<Failure>,
    pub http_status: Option<u16>,
    /// The answer came in events; false also where that was asked for and the server sent it whole.
    #[serde(default)]
    pub streamed: bool,
    /// To the response headers.
    pub headers_ms: Option<f64>,
    /// Time to first token: to the first of `chunk_offsets_ms`.
    pub ttft_ms: Option<f64>,
    /// Inter-token latency: gaps between `chunk_offsets_ms`. A chunk may carry more than one token.
    pub itl_ms: Option<Distribution>,
    /// Time per output token after the first: (last of `chunk_offsets_ms` - ttft) / (output tokens - 1).
    pub tpot_ms: Option<f64>,
    /// From the first of `chunk_offsets_ms` to the last.
    #[serde(default)]
    pub streaming_ms: Option<f64>,
    /// To the last chunk of the answer, or to the last byte if not streamed, or to the failure.
    /// The chunk that carries the usage and `[DONE]` do not extend it.
    pub e2e_ms: f64,
    /// `output_tokens` over `e2e_ms`.
    pub output_tokens_per_second: Option<f64>,
    /// As the server counted, from `usage`; never a count of chunks.
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub finish_reason: Option<String>,
    /// When each chunk with a token arrived: each chunk with text, and each with an empty text, unless the server's
    /// count says that those brought none. The first chunk of a chat, which only names a role, is not one.
    pub chunk_offsets_ms: Vec<f64>,
    /// The server sent more than the one choice that was asked for; all but `output_tokens` is of the first.
    #[serde(default)]
    pub several_choices: bool,
    pub output_text: String,
    /// What a reasoning model thought before it answered.
    #[serde(default)]
    pub reasoning_text: String,
}

impl RequestRecord {
    pub fn succeeded(&self) -> bool {
        self.failure.is_none()
    }

    /// The gaps between chunks with a token, in milliseconds.
    pub fn gaps_ms(&self) -> impl Iterator<Item = f64> {
        gaps(&self.chunk_offsets_ms)
    }
}

pub(crate) fn gaps(offsets: &[f64]) -> impl Iterator<Item = f64> {
    offsets.windows(2).map(|pair| crate::statistics::rounded(pair[1] - pair[0]))
}
