//! The layouts of result files, by program.

use serde::Deserialize;

use super::{Clock, Content, Format, Request, nanoseconds};

const MILLISECONDS: f64 = 1e6;
const SECONDS: f64 = 1e9;

/// Warm-up in the words of AIPerf.
const WARMUP: &str = "warmup";

/// How a problem begins with which the file is none at all.
pub(super) const NO_RESULT: &str = "is no result of a load test";
pub(super) const EMPTY: &str = "is empty";

/// Of a document that is something else.
pub(super) const OTHER: &str = "is no result of a load test that is known: loadtest, vllm bench serve \
     --save-detailed, GuideLLM's JSON, AIPerf's profile_export.jsonl";

/// Fields of all programs: which are there tells whose file it is.
#[derive(Deserialize)]
struct Document {
    /// Ours.
    tool: Option<String>,
    requests: Option<Vec<OurRequest>>,
    /// `vllm bench serve --save-detailed`: by request.
    start_times: Option<Vec<f64>>,
    ttfts: Option<Vec<f64>>,
    itls: Option<Vec<Vec<f64>>>,
    output_lens: Option<Vec<u32>>,
    date: Option<String>,
    backend: Option<String>,
    /// GuideLLM.
    benchmarks: Option<Vec<Benchmark>>,
    /// AIPerf: a document for each request; GuideLLM has something else of this name.
    metadata: Option<Metadata>,
    metrics: Option<AiPerfMetrics>,
}

#[derive(Deserialize)]
struct OurRequest {
    index: u64,
    request_id: Option<String>,
    start_unix_ns: u64,
    #[serde(default)]
    warmup: bool,
    output_tokens: Option<u64>,
    finish_reason: Option<String>,
    chunk_offsets_ms: Vec<f64>,
    e2e_ms: Option<f64>,
}

#[derive(Deserialize)]
struct Benchmark {
    requests: ByStatus,
}

/// Requests that ended, and those that did not.
#[derive(Deserialize)]
struct ByStatus {
    #[serde(default)]
    successful: Option<Vec<GuideLlmRequest>>,
    #[serde(default)]
    incomplete: Option<Vec<GuideLlmRequest>>,
    #[serde(default)]
    errored: Option<Vec<GuideLlmRequest>>,
}

#[derive(Deserialize)]
struct GuideLlmRequest {
    request_id: Option<String>,
    info: GuideLlmInfo,
    output_metrics: Option<GuideLlmUsage>,
}

#[derive(Deserialize)]
struct GuideLlmInfo {
    timings: GuideLlmTimings,
}

#[derive(Deserialize)]
struct GuideLlmTimings {
    request_start: Option<f64>,
    first_token_iteration: Option<f64>,
    last_token_iteration: Option<f64>,
    #[serde(default)]
    token_iterations: u64,
}

#[derive(Deserialize)]
struct GuideLlmUsage {
    text_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Metadata {
    session_num: Option<u64>,
    x_request_id: Option<String>,
    request_start_ns: Option<u64>,
    benchmark_phase: Option<String>,
}

#[derive(Deserialize)]
struct AiPerfMetrics {
    time_to_first_token: Option<Metric<f64>>,
    inter_chunk_latency: Option<Metric<Vec<f64>>>,
    output_sequence_length: Option<Metric<f64>>,
}

impl AiPerfMetrics {
    fn with_first(mut self) -> Option<(Self, Metric<f64>)> {
        let first = self.time_to_first_token.take()?;
        Some((self, first))
    }
}

#[derive(Deserialize)]
struct Metric<T> {
    value: T,
    unit: String,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Content, String> {
    let mut documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Document>();
    let first = match documents.next() {
        Some(Ok(first)) => first,
        Some(Err(error)) => return Err(format!("{NO_RESULT}: {error}")),
        None => return Err(EMPTY.to_owned()),
    };
    if first.metadata.as_ref().is_some_and(|metadata| metadata.request_start_ns.is_some()) {
        return ai_perf(first, documents);
    }
    let content = if let (Some(_), Some(requests)) = (&first.tool, first.requests) {
        ours(requests)
    } else if let Some(starts) = &first.start_times {
        let date = first.date;
        let is_chat = first.backend.as_deref().is_some_and(|backend| backend.contains("chat"));
        let (ttfts, itls) = (first.ttfts.unwrap_or_default(), first.itls.unwrap_or_default());
        vllm_bench(starts, &ttfts, itls, first.output_lens.as_deref(), date, is_chat)
    } else if let Some(benchmarks) = first.benchmarks {
        guide_llm(benchmarks)
    } else if first.backend.is_some() && first.date.is_some() {
        Err("has no times of requests: run vllm bench serve with --save-detailed".to_owned())
    } else {
        Err(OTHER.to_owned())
    }?;
    match documents.next() {
        None => Ok(content),
        Some(_) => Err("goes on behind the result of a load test".to_owned()),
    }
}

fn ours(requests: Vec<OurRequest>) -> Result<Content, String> {
    let mut content = Content::new(Format::Loadtest, Clock::Unix);
    for request in requests {
        let index = request.index;
        let of = |error| format!("request {index}: {error}");
        let Ok(sent_ns) = i64::try_from(request.start_unix_ns) else {
            return Err(of("start_unix_ns is no time".to_owned()));
        };
        let at = |offset: &f64| Ok(sent_ns.saturating_add(nanoseconds(*offset, MILLISECONDS)?));
        let times: Result<Vec<i64>, String> = request.chunk_offsets_ms.iter().map(at).collect();
        let ended: Option<Result<i64, String>> = request.e2e_ms.as_ref().map(at);
        content.add(Request {
            index,
            id: request.request_id,
            sent_ns,
            arrivals: numbered(times.map_err(of)?),
            ended_ns: ended.transpose().map_err(of)?,
            tokens: count(request.output_tokens),
            ends_by_length: request.finish_reason.as_deref() == Some("length"),
            is_warmup: request.warmup,
            is_sparse: false,
        });
    }
    Ok(content)
}

/// `start_times` are Python's `time.perf_counter()`: on Linux the monotonic clock in seconds.
fn vllm_bench(
    starts: &[f64],
    ttfts: &[f64],
    itls: Vec<Vec<f64>>,
    lengths: Option<&[u32]>,
    date: Option<String>,
    is_chat: bool,
) -> Result<Content, String> {
    if starts.len() != ttfts.len() || starts.len() != itls.len() {
        return Err("start_times, ttfts and itls are not of the same length".to_owned());
    }
    let mut content = Content::new(Format::VllmBench, Clock::Monotonic);
    content.written = date;
    for (at, ((start, ttft), itls)) in starts.iter().zip(ttfts).zip(itls).enumerate() {
        let index = at as u64 + 1;
        let of = |error| format!("request {index}: {error}");
        // One that failed has zeros.
        if *ttft <= 0.0 || *start <= 0.0 {
            content.without_tokens += 1;
            continue;
        }
        let sent_ns = nanoseconds(*start, SECONDS).map_err(of)?;
        let times = chained(sent_ns, *ttft, &itls, SECONDS).map_err(of)?;
        let tokens = lengths.and_then(|all| all.get(at)).copied().filter(|&count| count > 0);
        content.add(Request {
            index,
            id: None,
            sent_ns,
            arrivals: numbered(without_role(times, tokens, is_chat)),
            ended_ns: None,
            tokens,
            ends_by_length: false,
            is_warmup: false,
            is_sparse: false,
        });
    }
    Ok(content)
}

/// The first chunk of a chat only names a role, and comes with the first token: the next chunk is
/// left out, so that the first token's time stays what the client says.
fn without_role(mut times: Vec<i64>, tokens: Option<u32>, is_chat: bool) -> Vec<i64> {
    if is_chat && tokens.is_some_and(|tokens| times.len() == tokens as usize + 1) && times.len() > 1
    {
        times.remove(1);
    }
    times
}

fn guide_llm(benchmarks: Vec<Benchmark>) -> Result<Content, String> {
    let mut content = Content::new(Format::GuideLlm, Clock::Unix);
    let all = benchmarks.into_iter().flat_map(|Benchmark { requests }| {
        [requests.successful, requests.incomplete, requests.errored].into_iter().flatten().flatten()
    });
    for (at, GuideLlmRequest { request_id, info, output_metrics }) in all.enumerate() {
        let index = at as u64 + 1;
        let GuideLlmTimings { request_start, first_token_iteration, last_token_iteration, .. } =
            info.timings;
        let (Some(start), Some(first)) = (request_start, first_token_iteration) else {
            content.without_tokens += 1;
            continue;
        };
        let of = |error| format!("request {index}: {error}");
        let ns = |seconds: f64| nanoseconds(seconds, SECONDS).map_err(of);
        let mut arrivals = vec![(0, ns(first)?)];
        if let (Some(last), Some(iterations @ 2..)) =
            (last_token_iteration, count(Some(info.timings.token_iterations)))
        {
            arrivals.push((iterations - 1, ns(last)?));
        }
        content.add(Request {
            index,
            id: request_id,
            sent_ns: ns(start)?,
            arrivals,
            ended_ns: None,
            tokens: count(output_metrics.and_then(|usage| usage.text_tokens)),
            ends_by_length: false,
            is_warmup: false,
            is_sparse: true,
        });
    }
    Ok(content)
}

fn ai_perf(
    first: Document,
    more: impl Iterator<Item = serde_json::Result<Document>>,
) -> Result<Content, String> {
    let mut content = Content::new(Format::AiPerf, Clock::Unix);
    for (at, document) in std::iter::once(Ok(first)).chain(more).enumerate() {
        let index = at as u64 + 1;
        let of = |error| format!("request {index}: {error}");
        let Document { metadata, metrics, .. } = document.map_err(|error| of(error.to_string()))?;
        let Some(metadata) = metadata else { return Err(of("has no metadata".to_owned())) };
        let sent = metadata.request_start_ns.and_then(|sent| i64::try_from(sent).ok());
        let Some(sent_ns) = sent else {
            return Err(of("request_start_ns is no time".to_owned()));
        };
        let Some((metrics, ttft)) = metrics.and_then(AiPerfMetrics::with_first) else {
            content.without_tokens += 1;
            continue;
        };
        let gaps = metrics.inter_chunk_latency;
        if ttft.unit != "ms" || gaps.as_ref().is_some_and(|gaps| gaps.unit != "ms") {
            return Err(of("its times are not in ms".to_owned()));
        }
        let gaps = gaps.map(|gaps| gaps.value).unwrap_or_default();
        let times = chained(sent_ns, ttft.value, &gaps, MILLISECONDS).map_err(of)?;
        let tokens = metrics.output_sequence_length.map(|metric| metric.value);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let tokens = tokens.map(|tokens| tokens as u32).filter(|&tokens| tokens > 0);
        content.add(Request {
            index: metadata.session_num.map_or(index, |number| number.saturating_add(1)),
            id: metadata.x_request_id,
            sent_ns,
            arrivals: numbered(times),
            ended_ns: None,
            tokens,
            ends_by_length: false,
            is_warmup: metadata.benchmark_phase.as_deref() == Some(WARMUP),
            is_sparse: false,
        });
    }
    Ok(content)
}

/// When the first token came, and each after it.
fn chained(sent_ns: i64, first: f64, gaps: &[f64], unit_ns: f64) -> Result<Vec<i64>, String> {
    let mut times = Vec::with_capacity(gaps.len() + 1);
    // Rounding each gap by itself would add up.
    let mut since = first;
    times.push(sent_ns.saturating_add(nanoseconds(since, unit_ns)?));
    for gap in gaps {
        if *gap < 0.0 {
            return Err(format!("{gap} is no time between tokens"));
        }
        since += gap;
        times.push(sent_ns.saturating_add(nanoseconds(since, unit_ns)?));
    }
    Ok(times)
}

fn numbered(times: Vec<i64>) -> Vec<(u32, i64)> {
    (0..).zip(times).collect()
}

fn count(count: Option<u64>) -> Option<u32> {
    count.and_then(|count| u32::try_from(count).ok()).filter(|&count| count > 0)
}

impl Content {
    fn new(format: Format, clock: Clock) -> Self {
        Self { format, clock, written: None, requests: Vec::new(), without_tokens: 0 }
    }

    fn add(&mut self, request: Request) {
        if request.arrivals.is_empty() {
            self.without_tokens += 1;
        } else {
            self.requests.push(request);
        }
    }
}
