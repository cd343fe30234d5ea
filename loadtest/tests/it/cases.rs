//! Answers as servers really send them: what no figure needs may be missing or odd, what a figure needs is said to be missing.

use loadtest::record::RunResult;

use crate::{
    command::{assert_fails, single},
    reply::{Reply, Step, event},
};

const END: &str = r#"{"choices":[{"text":"b","finish_reason":"stop"}]}"#;
const COUNTS: &str = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;

/// The result of a good answer.
fn answered(reply: impl Fn() -> Reply + Send + Sync + 'static, arguments: &[&str]) -> RunResult {
    let ran = single(move |_| reply(), arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.result()
}

fn body(body: &'static str) -> impl Fn() -> Reply {
    move || Reply::stream([Step::Chunk(body.into())])
}

/// What comes between the first and the last token.
fn between(events: &str) -> RunResult {
    let body = format!(
        "data: {{\"choices\":[{{\"text\":\"a\"}}]}}\n\n{events}data: {END}\n\ndata: {COUNTS}\n\ndata: [DONE]\n\n"
    );
    answered(move || Reply::stream([Step::Chunk(body.clone().into())]), &[])
}

fn with_usage(usage: &str) -> RunResult {
    let events = [r#"{"choices":[{"text":"a"}]}"#, END, usage, "[DONE]"].map(str::to_owned);
    answered(move || Reply::events(&events), &[])
}

#[test]
fn what_is_no_part_of_the_answer_is_passed_over() {
    for events in [
        "",
        "data:\n\n",
        "data: \n\n",
        ": ping\n\n",
        "event: ping\ndata: {\"type\":\"ping\"}\n\n",
        "data: {\"choices\":null}\n\n",
        "data: {\"choices\":[]}\n\n",
        "data: {\"id\":7,\"created\":\"now\",\"choices\":[{\"index\":0.0,\"delta\":{},\"logprobs\":[1]}]}\n\n",
    ] {
        let result = between(events);
        let request = &result.requests[0];
        assert_eq!(
            (request.output_text.as_str(), request.output_tokens),
            ("ab", Some(2)),
            "{events}"
        );
        assert_eq!(request.chunk_offsets_ms.len(), 2, "{events}");
    }
    let blank =
        "data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE] \n\n";
    assert_eq!(answered(body(blank), &[]).requests[0].output_text, "a");
}

#[test]
fn a_count_that_is_missing_is_said_to_be() {
    for (usage, counts, note) in [
        (COUNTS, (Some(3), Some(2)), None),
        (r#"{"usage":{"prompt_tokens":3,"completion_tokens":2}}"#, (Some(3), Some(2)), None),
        (
            r#"{"choices":null,"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
            (Some(3), Some(2)),
            None,
        ),
        (r#"{"usage":{"prompt_tokens":3.0,"completion_tokens":2.0}}"#, (Some(3), Some(2)), None),
        (r#"{"usage":{"prompt_tokens":3,"total_tokens":5}}"#, (Some(3), Some(2)), None),
        (r#"{"usage":{}}"#, (None, None), Some("without `usage`")),
        (
            r#"{"usage":{"prompt_tokens":null,"completion_tokens":null}}"#,
            (None, None),
            Some("without `usage`"),
        ),
        (
            r#"{"usage":{"completion_tokens":2}}"#,
            (None, Some(2)),
            Some("does not count input tokens"),
        ),
        (r#"{"usage":{"prompt_tokens":3}}"#, (Some(3), None), Some("does not count output tokens")),
        (
            r#"{"usage":{"prompt_tokens":3,"completion_tokens":0}}"#,
            (Some(3), None),
            Some("does not count output tokens"),
        ),
    ] {
        let result = with_usage(usage);
        let request = &result.requests[0];
        assert_eq!((request.input_tokens, request.output_tokens), counts, "{usage}");
        assert_eq!(
            result.summary.output_tokens_per_second.is_some(),
            counts.1.is_some(),
            "{usage}"
        );
        let notes = result.notes.join("\n");
        match note {
            Some(part) => assert!(notes.contains(part), "{usage}: {notes}"),
            None => assert!(!notes.contains("usage"), "{usage}: {notes}"),
        }
    }
}

#[test]
fn text_and_counts_that_disagree_are_said_to() {
    let more = with_usage(r#"{"usage":{"prompt_tokens":3,"completion_tokens":8}}"#);
    assert!(more.notes[0].contains("several tokens in a chunk (8 in 2)"), "{:?}", more.notes);
    let fewer = with_usage(r#"{"usage":{"prompt_tokens":3,"completion_tokens":1}}"#);
    assert!(
        fewer.notes[0].contains("more chunks with text than the server counts tokens (2 for 1)"),
        "{:?}",
        fewer.notes
    );
}

#[test]
fn chunks_that_came_together_are_said_to() {
    let ends = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n".repeat(9);
    let result = between(&ends);
    assert!(result.summary.itl_ms.unwrap().max <= 0.0);
    assert!(
        result.notes.iter().any(|note| note.starts_with("100 % of the chunks came together")),
        "{:?}",
        result.notes
    );
}

#[test]
fn an_empty_reason_is_none() {
    let (kind, reasonless) =
        ("truncated_stream", r#"{"choices":[{"text":"a","finish_reason":""}]}"#);
    assert_fails(
        move |_| Reply::events([reasonless, "[DONE]"]),
        &[],
        kind,
        "the stream ended without finish_reason",
    );
    assert_fails(
        move |_| Reply::events([reasonless]),
        &[],
        kind,
        "the stream ended without finish_reason and [DONE]",
    );
    let result = answered(move || Reply::events([reasonless, END, COUNTS, "[DONE]"]), &[]);
    assert_eq!(result.requests[0].finish_reason.as_deref(), Some("stop"));
}

#[test]
fn texts_in_unusual_forms_are_read() {
    let halves = "data: {\"choices\":[{\"text\":\"\\ud83d\"}]}\n\ndata: {\"choices\":[{\"text\":\"\\ude00\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    assert_eq!(answered(body(halves), &[]).requests[0].output_text, "\u{fffd}\u{fffd}");
    let whole = r#"{"choices":[{"text":"ab\ud83d","finish_reason":"length"}]}"#;
    let result = answered(|| Reply::text(200, "application/json", whole), &["--no-stream"]);
    assert_eq!(result.requests[0].output_text, "ab\u{fffd}");

    let parts = "data: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":\"hm\"}]}]}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let result = answered(body(parts), &["--chat"]);
    let request = &result.requests[0];
    assert_eq!((request.reasoning_text.as_str(), request.output_text.as_str()), ("hm", "b"));
    // The thought is a token too.
    assert_eq!(request.chunk_offsets_ms.len(), 2);
}

#[test]
fn a_second_choice_is_not_mixed_into_the_first() {
    let second = "data: {\"choices\":[{\"index\":1,\"text\":\"X\"}]}\n\n";
    let result = between(second);
    let request = &result.requests[0];
    assert_eq!((request.output_text.as_str(), request.chunk_offsets_ms.len()), ("ab", 2));
    assert_eq!(request.tpot_ms, None);
    assert!(result.notes.iter().any(|note| note.contains("several choices")), "{:?}", result.notes);
}

#[test]
fn the_type_of_the_content_does_not_matter() {
    for content_type in ["text/plain", "application/json", ""] {
        let result = answered(
            move || {
                let mut reply =
                    Reply::events([r#"{"choices":[{"text":"a"}]}"#, END, COUNTS, "[DONE]"]);
                reply.headers.retain(|_| false);
                if !content_type.is_empty() {
                    reply.headers.push(("content-type", content_type.to_owned()));
                }
                reply
            },
            &[],
        );
        assert_eq!(result.requests[0].output_text, "ab", "{content_type}");
    }
}

#[test]
fn a_whole_answer_to_a_request_for_a_stream() {
    let whole = r#"{"choices":[{"text":"ab","finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    for content_type in ["application/json", "text/event-stream"] {
        let result = answered(move || Reply::text(200, content_type, whole), &[]);
        let request = &result.requests[0];
        assert_eq!(
            (request.output_text.as_str(), request.output_tokens, request.ttft_ms),
            ("ab", Some(2), None)
        );
        assert!(result.notes[0].contains("came in one piece"), "{:?}", result.notes);
    }
}

#[test]
fn the_servers_own_words_reach_the_user() {
    for content_type in ["application/json", "text/event-stream"] {
        assert_fails(
            move |_| Reply::text(200, content_type, r#"{"error":{"message":"prompt too long"}}"#),
            &[],
            "http_status",
            "the server answered 200: prompt too long",
        );
    }
    let in_stream = |body: &'static str| {
        let message = "the server reported an error in the stream: too long";
        assert_fails(
            move |_| Reply::stream([event(END), Step::Chunk(body.into())]),
            &[],
            "error_in_stream",
            message,
        );
    };
    in_stream("event: error\ndata: {\"code\":422,\"details\":\"too long\"}\n\n");
    in_stream("error: {\"code\":500,\"message\":\"too long\"}\n\n");
    in_stream("error: {\"code\":500,\"message\":\"too long\"}");
    in_stream("data: {\"detail\":\"too long\"}\n\n");

    let nothing = "the stream ended without any part of an answer";
    for (sent, received) in [
        ("Internal \u{1b}[1mServer Error\n", r"Internal \u{1b}[1mServer Error"),
        ("data: {\"hello\":1}\n\n", r#"{"hello":1}"#),
        ("<html>", "<html>"),
    ] {
        let ran = assert_fails(
            move |_| Reply::text(200, "text/html", sent),
            &[],
            "truncated_stream",
            nothing,
        );
        assert_eq!(ran.failure().detail.as_deref(), Some(received));
    }
}

#[test]
fn an_answer_without_end_fills_no_memory() {
    // 80 MiB of small events; the client goes away before it has them all.
    let script = |_: &_| {
        let flood = format!("data: {}\n\n", "x".repeat(1 << 10)).replace('x', " ").repeat(1 << 10);
        Reply::stream((0..80).map(|_| Step::Chunk(flood.clone().into())))
    };
    let message = "the stream is malformed: it is longer than 64 MiB";
    assert_fails(script, &["--timeout", "120"], "malformed_stream", message);
}
