//! Results as the four programs write them, cut to a request or two, and what is none.

use super::*;

/// Of `vllm bench serve --save-detailed --save-result`, by `benchmarks/serve.py` of 0.20.2.
const VLLM_BENCH: &str = r#"{"date": "20261130-004024", "endpoint_type": "openai", "backend": "openai",
  "label": null, "model_id": "llama", "tokenizer_id": "llama", "num_prompts": 3, "request_rate": "inf",
  "burstiness": 1.0, "max_concurrency": 16, "duration": 1.3, "completed": 2, "failed": 1,
  "input_lens": [18, 17, 3], "output_lens": [3, 2, 0], "ttfts": [0.0435, 0.0481, 0.0],
  "itls": [[0.005, 0.0050000012], [0.0049], []], "start_times": [53500.25, 53500.2501, 53500.2502],
  "generated_texts": ["a", "b", ""], "errors": ["", "", "Bad Request"], "mean_ttft_ms": 45.8}"#;

/// Of GuideLLM 0.7.1, by its `schemas/request_stats.py` and `schemas/info.py`.
const GUIDE_LLM: &str = r#"{"metadata": {"version": 1, "guidellm_version": "0.7.1"}, "config": {},
  "benchmarks": [{"type_": "generative_benchmark", "requests": {"successful": [
  {"type_": "generative_request_stats", "request_id": "a-1", "response_id": "cmpl-1", "output": "x",
   "info": {"request_id": "a-1", "status": "completed", "timings": {"request_start": 1795999214.803,
   "first_token_iteration": 1795999215.299, "last_token_iteration": 1795999215.771,
   "token_iterations": 64, "request_end": 1795999215.78}},
   "input_metrics": {"text_tokens": 18}, "output_metrics": {"text_tokens": 64}}],
  "incomplete": [], "errored": [{"request_id": "a-2", "info": {"timings": {"request_start": null}},
   "output_metrics": {"text_tokens": null}}], "total": null}}]}"#;

/// Of AIPerf 0.13, by its `common/models/record_models.py` and `metrics/types/`.
const AI_PERF: &str = r#"{"metadata":{"session_num":0,"x_request_id":"u-1","request_start_ns":1795999214803000000,"request_end_ns":1795999215771000000,"worker_id":"w","record_processor_id":"p","benchmark_phase":"warmup","was_cancelled":false},"metrics":{"time_to_first_token":{"value":43.5,"unit":"ms"},"inter_chunk_latency":{"value":[5.0,5.25],"unit":"ms"},"output_sequence_length":{"value":3,"unit":"tokens"},"request_latency":{"value":53.8,"unit":"ms"}},"error":null}
{"metadata":{"session_num":1,"request_start_ns":1795999214804000000,"request_end_ns":1795999214805000000,"worker_id":"w","record_processor_id":"p","benchmark_phase":"profiling"},"metrics":{},"error":{"code":400,"message":"Bad Request"}}
"#;

const OURS: &str = r#"{"tool": "loadtest 0.1.0", "start_unix_ns": 1795999214803050335, "mean_ttft_ms": 3.1,
  "requests": [{"index": 1, "request_id": "r-1", "prompt": "p", "start_unix_ns": 1795999214803111776,
  "warmup": false, "output_tokens": 3, "finish_reason": "length", "e2e_ms": 652.3,
  "chunk_offsets_ms": [495.888, 642.792, 645.752]},
  {"index": 2, "start_unix_ns": 1795999214803111999, "output_tokens": null, "finish_reason": null,
  "chunk_offsets_ms": []}]}"#;

fn parsed(text: &str) -> Content {
    parse(text.as_bytes()).unwrap()
}

#[test]
fn ours() {
    let content = parsed(OURS);
    assert_eq!((content.format, content.clock), (Format::Loadtest, Clock::Unix));
    assert_eq!((content.requests.len(), content.without_tokens), (1, 1));
    let request = &content.requests[0];
    assert_eq!(request.sent_ns, 1_795_999_214_803_111_776);
    assert_eq!(request.arrivals[0], (0, 1_795_999_214_803_111_776 + 495_888_000));
    assert_eq!(request.arrivals[2], (2, 1_795_999_214_803_111_776 + 645_752_000));
    assert_eq!((request.tokens, request.ends_by_length), (Some(3), true));
}

#[test]
fn vllm_bench_counts_from_the_start_of_its_machine() {
    let content = parsed(VLLM_BENCH);
    assert_eq!((content.format, content.clock), (Format::VllmBench, Clock::Monotonic));
    assert_eq!(content.written.as_deref(), Some("20261130-004024"));
    assert_eq!((content.requests.len(), content.without_tokens), (2, 1));
    let request = &content.requests[0];
    assert_eq!(request.sent_ns, 53_500_250_000_000);
    let at: Vec<i64> = request.arrivals.iter().map(|it| it.1 - request.sent_ns).collect();
    // Gaps are added up before they are rounded.
    assert_eq!(at, [43_500_000, 48_500_000, 53_500_001]);
    assert_eq!(request.tokens, Some(3));
}

#[test]
fn the_chunk_with_the_role_of_a_chat_is_no_token() {
    let chat = VLLM_BENCH
        .replace("\"backend\": \"openai\"", "\"backend\": \"openai-chat\"")
        .replace("\"output_lens\": [3, 2, 0]", "\"output_lens\": [2, 2, 0]");
    let requests = parsed(&chat).requests;
    let at: Vec<i64> = requests[0].arrivals.iter().map(|it| it.1 - requests[0].sent_ns).collect();
    assert_eq!(at, [43_500_000, 53_500_001]);
    assert_eq!(requests[1].arrivals.len(), 2);
}

#[test]
fn guide_llm_tells_the_first_and_the_last_token() {
    let content = parsed(GUIDE_LLM);
    assert_eq!((content.format, content.without_tokens), (Format::GuideLlm, 1));
    let request = &content.requests[0];
    let at: Vec<(u32, i64)> = request
        .arrivals
        .iter()
        .map(|it| (it.0, (it.1 - request.sent_ns + 500_000) / 1_000_000))
        .collect();
    assert_eq!(at, [(0, 496), (63, 968)]);
    assert!(request.is_sparse);
}

#[test]
fn ai_perf_has_a_line_for_each_request() {
    let content = parsed(AI_PERF);
    assert_eq!((content.format, content.without_tokens), (Format::AiPerf, 1));
    let request = &content.requests[0];
    assert_eq!((request.index, request.is_warmup, request.tokens), (1, true, Some(3)));
    let at: Vec<i64> = request.arrivals.iter().map(|it| it.1 - request.sent_ns).collect();
    assert_eq!(at, [43_500_000, 48_500_000, 53_750_000]);
}

#[test]
fn what_is_no_result_is_named() {
    for (text, part) in [
        ("", "is empty"),
        ("[]", "no result"),
        ("{}", "no result of a load test that is known"),
        ("{\"requests\": 5}", "no result"),
        (r#"{"date": "x", "backend": "openai", "mean_ttft_ms": 1.0}"#, "--save-detailed"),
        (r#"{"tool": "loadtest", "requests": []}"#, "no request with a token"),
        (&VLLM_BENCH.replace("0.0435, ", ""), "not of the same length"),
        (&VLLM_BENCH.replace("0.005,", "-0.005,"), "request 1: -0.005 is no time"),
        (&OURS.replace("495.888", "1e300"), "request 1: 1e300 is no time"),
        (&OURS.replace("495.888", "995.888"), "request 1: its tokens are not in the order"),
        (&OURS.replace("495.888", "-1"), "is no time"),
        (&format!("{OURS}{OURS}"), "goes on behind"),
        (&AI_PERF.replace("\"ms\"", "\"s\""), "not in ms"),
        (&AI_PERF.replace("1795999214804000000", "null"), "request 2: request_start_ns"),
        (&OURS[..OURS.len() / 2], "EOF"),
    ] {
        let error = parse(text.as_bytes()).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

/// Whatever a file holds, it is read or refused.
#[test]
fn damaged_results_are_read_or_refused() {
    let mut seed = 7_u64;
    let mut below = |bound: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % bound
    };
    let mut refused = 0;
    for round in 0..4000 {
        let text = [OURS, VLLM_BENCH, GUIDE_LLM, AI_PERF][round % 4];
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..=below(3) {
            let at = below(bytes.len().max(1));
            match below(4) {
                _ if bytes.len() < 2 => {}
                0 => bytes[at] = b"0123456789-e.,[]{}\"n"[below(20)],
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"09-.e"[below(5)]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        match parse(&bytes) {
            Err(_) => refused += 1,
            Ok(content) => {
                for request in &content.requests {
                    assert!(request.arrivals.is_sorted_by(|one, other| one.0 < other.0));
                    assert!(request.arrivals.iter().all(|it| it.1 >= request.sent_ns));
                }
            }
        }
    }
    assert!(refused > 1000 && refused < 4000, "{refused}");
}
