//! Answers that are broken, incomplete or not answers at all.

use serde_json::json;

use crate::{
    command::{assert_fails, single},
    reply::{Reply, Step, event, finish, text, usage},
    server::Seen,
};

#[test]
fn an_error_within_the_stream() {
    let ran = assert_fails(
        |_| {
            let error =
                json!({ "error": { "message": "EngineCore died", "code": 500 } }).to_string();
            Reply::events([text("a"), error, "[DONE]".to_owned()])
        },
        &[],
        "error_in_stream",
        "the server reported an error in the stream: EngineCore died",
    );
    assert_eq!(ran.request().output_text, "a");
}

#[test]
fn a_stream_that_is_not_what_it_should_be() {
    let kind = "malformed_stream";
    let not_json = "an event is not JSON (EOF while parsing a value at line 1 column 6)";
    let ran = assert_fails(
        |_| Reply::events([text("a"), r#"{"id":"#.to_owned()]),
        &[],
        kind,
        &format!("the stream is malformed: {not_json}"),
    );
    assert_eq!(ran.failure().detail.as_deref(), Some(r#"{"id":"#));
    assert!(ran.stderr.contains("\n  received: {\"id\":\n  try: "), "{}", ran.stderr);
    let ran = assert_fails(
        |_| {
            Reply::stream([Step::Chunk(
                [event_bytes(&text("a")), b"data: \xff\n\n".to_vec()].concat(),
            )])
        },
        &[],
        kind,
        "the stream is malformed: a line is not valid UTF-8",
    );
    assert_eq!(ran.request().output_text, "a");
}

fn event_bytes(data: &str) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

#[test]
fn a_stream_that_ends_too_soon() {
    let kind = "truncated_stream";
    let missing = |what: &str| format!("the stream ended without {what}");
    assert_fails(|_| Reply::stream([]), &[], kind, &missing("any part of an answer"));
    assert_fails(|_| Reply::events([text("a")]), &[], kind, &missing("finish_reason and [DONE]"));
    assert_fails(
        |_| Reply::events([text("a"), finish("stop"), usage(4, 5)]),
        &[],
        kind,
        &missing("[DONE]"),
    );
    assert_fails(
        |_| Reply::events([text("a"), "[DONE]".to_owned()]),
        &[],
        kind,
        &missing("finish_reason"),
    );
    let half = |_: &Seen| Reply::stream([event(&text("a")), Step::Chunk(b"data: {\"id".to_vec())]);
    assert_fails(half, &[], kind, &missing("finish_reason and [DONE]"));
    // Only the blank line after the last event is missing: nothing of the answer is.
    let complete = |_: &Seen| {
        Reply::stream([
            event(&text("a")),
            event(&finish("stop")),
            Step::Chunk(b"data: [DONE]".to_vec()),
        ])
    };
    assert_eq!(single(complete, &[]).code, 0);
}

#[test]
fn a_connection_that_breaks() {
    for (script, phase) in [
        ((|_: &Seen| Reply::raw([Step::Cut])) as fn(&Seen) -> Reply, "response headers"),
        (
            |_| Reply::raw([Step::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec()), Step::Cut]),
            "response headers",
        ),
        (|_| Reply::stream([Step::Cut]), "the first token"),
        (|_| Reply::stream([event(&text("a")), Step::Cut]), "the next token"),
    ] {
        let failure = single(script, &[]).failure();
        assert_eq!(failure.kind, "transport");
        let expected = format!("the connection failed while waiting for {phase}: ");
        assert!(
            failure.message.starts_with(&expected) && failure.message.len() > expected.len(),
            "{failure:?}"
        );
        assert!(failure.advice.unwrap().contains("restarted"));
    }
}

#[test]
fn a_request_the_server_gave_up() {
    assert_fails(
        |_| Reply::events([text("a"), finish("abort"), "[DONE]".to_owned()]),
        &[],
        "aborted",
        "the server gave the request up: finish_reason is \"abort\"",
    );
}

#[test]
fn a_whole_answer_that_is_not_one() {
    let (kind, whole) = ("malformed_response", ["--no-stream"]);
    let fails = |body: &'static str, message: &str| {
        assert_fails(move |_| Reply::text(200, "application/json", body), &whole, kind, message);
    };
    fails("", "the response is malformed: not JSON (EOF while parsing a value at line 1 column 0)");
    fails(r#"{"choices":[]}"#, "the response is malformed: it has no choice");
    fails(r#"{"choices":[{"text":"a"}]}"#, "the response is malformed: it has no finish_reason");
    assert_fails(
        |_| Reply::json(200, &json!({ "object": "error", "message": "out of memory" })),
        &whole,
        "http_status",
        "the server answered 200: out of memory",
    );
}
