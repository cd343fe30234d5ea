//! What is sent, and what is measured of a good answer.

use jiff::Timestamp;
use serde_json::json;

use crate::{
    command::run_at,
    reply::{MODEL, Reply, Step, finish, healthy, models, text, usage},
    server::Server,
};

#[test]
fn a_streamed_completion() {
    let server = Server::start(healthy);
    let before = Timestamp::now();
    let ran = run_at(server.port, &["single", "--prompt", "count", "--max-tokens", "5"]);
    let after = Timestamp::now();
    assert_eq!(ran.code, 0, "{}", ran.stderr);

    let [_, asked] = &server.seen()[..] else { panic!("{:?}", server.seen()) };
    assert_eq!(asked.path, "/v1/completions");
    let expected = json!({
        "model": MODEL, "prompt": "count", "max_tokens": 5, "temperature": 0, "stream": true,
        "stream_options": { "include_usage": true },
    });
    assert_eq!(asked.body, expected);

    let request = ran.request();
    assert_eq!(asked.header("x-request-id"), Some(request.request_id.as_str()));
    assert_eq!(request.completion_id.as_deref(), Some("cmpl-7"));
    assert_eq!(
        (request.output_text.as_str(), request.finish_reason.as_deref()),
        (" one two three", Some("length"))
    );
    // Five tokens in three chunks: the usage counts, not the chunks.
    assert_eq!((request.input_tokens, request.output_tokens), (Some(4), Some(5)));
    assert_eq!(request.chunk_offsets_ms.len(), 3);
    assert!(request.chunk_offsets_ms.is_sorted(), "{:?}", request.chunk_offsets_ms);
    assert_eq!(request.ttft_ms, Some(request.chunk_offsets_ms[0]));
    assert_eq!(request.itl_ms.unwrap().count, 2);
    assert!(request.tpot_ms.is_some() && request.output_tokens_per_second.is_some());
    assert!(request.headers_ms.unwrap() <= request.ttft_ms.unwrap());
    assert!(request.chunk_offsets_ms[2] <= request.e2e_ms);

    let start: Timestamp = request.started_at.parse().unwrap();
    assert!(before <= start && start <= after, "{before} {start} {after}");
    assert_eq!(i128::from(request.start_unix_ns), start.as_nanosecond());
}

#[test]
fn a_streamed_chat() {
    let server = Server::start(healthy);
    let ran = run_at(server.port, &["single", "--chat", "--prompt", "count"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let asked = &server.seen()[1];
    assert_eq!(asked.path, "/v1/chat/completions");
    assert_eq!(asked.body["messages"], json!([{ "role": "user", "content": "count" }]));
    let request = ran.request();
    // The first of its four chunks only names the role.
    assert_eq!(request.chunk_offsets_ms.len(), 3);
    assert_eq!(request.output_text, "one two three");
    assert_eq!(request.completion_id.as_deref(), Some("chatcmpl-9"));
}

#[test]
fn an_answer_in_one_piece() {
    for (arguments, answer) in [
        (&["single", "--no-stream"][..], " one two three"),
        (&["single", "--no-stream", "--chat"], "one two three"),
    ] {
        let server = Server::start(healthy);
        let ran = run_at(server.port, arguments);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(server.seen()[1].body["stream"], false);
        assert_eq!(server.seen()[1].body.get("stream_options"), None);
        let request = ran.request();
        assert_eq!(request.output_text, answer);
        assert_eq!((request.ttft_ms, request.itl_ms, request.tpot_ms), (None, None, None));
        assert_eq!((request.input_tokens, request.output_tokens), (Some(4), Some(5)));
        assert!(request.output_tokens_per_second.is_some());
        assert!(
            ran.stderr.contains("note: not streamed, so TTFT, ITL and TPOT are unknown"),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn bytes_may_be_cut_anywhere() {
    let server = Server::start(|_| {
        let mut body = ": hello\r\n\r\n".to_owned();
        for data in
            [text("größe"), text(" 東京 🦀"), finish("stop"), usage(4, 5), "[DONE]".to_owned()]
        {
            body.push_str(&["data: ", &data, "\r\n\r\n"].concat());
        }
        Reply::stream(body.bytes().map(|byte| Step::Chunk(vec![byte])))
    });
    let ran = run_at(server.port, &["single", "--model", MODEL]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.request().output_text, "größe 東京 🦀");
    assert_eq!(ran.request().output_tokens, Some(5));
}

#[test]
fn without_usage_counts_are_null_and_said_to_be() {
    let server = Server::start(|_| {
        Reply::events([text("a"), text("b"), finish("stop"), "[DONE]".to_owned()])
    });
    let ran = run_at(server.port, &["single", "--model", MODEL]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let result = ran.result();
    let request = &result.requests[0];
    assert_eq!((request.input_tokens, request.output_tokens), (None, None));
    assert_eq!((request.tpot_ms, request.output_tokens_per_second), (None, None));
    assert!(request.ttft_ms.is_some() && request.itl_ms.is_some());
    assert_eq!(
        (result.summary.output_tokens, result.summary.output_tokens_per_second),
        (None, None)
    );
    assert_eq!(result.summary.responses_without_usage, 1);
    assert!(
        result.notes[0].starts_with("1 of 1 answers came without `usage`"),
        "{:?}",
        result.notes
    );
    assert!(ran.stderr.contains("tokens      - in, - out"), "{}", ran.stderr);
}

#[test]
fn the_first_model_listed_is_taken_and_the_choice_told() {
    let server =
        Server::start(
            |seen| if seen.path == "/v1/models" { models(&["b", "a"]) } else { healthy(seen) },
        );
    let ran = run_at(server.port, &["single"]);
    assert_eq!(server.seen()[1].body["model"], "b");
    assert_eq!(ran.result().settings.model, "b");
    assert!(
        ran.stderr.contains("note: the server has several models, b is the first of: b, a"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_named_model_is_not_asked_for() {
    let server = Server::start(healthy);
    let ran = run_at(server.port, &["single", "--model", "mine", "--ignore-eos"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let [asked] = &server.seen()[..] else { panic!("{:?}", server.seen()) };
    assert_eq!((&asked.body["model"], &asked.body["ignore_eos"]), (&json!("mine"), &json!(true)));
}
