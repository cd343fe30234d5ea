//! What the scripted server can answer: good answers of either endpoint, and the pieces of bad ones.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::server::Seen;

/// The model that [`models`] lists first.
pub(crate) const MODEL: &str = "test/tiny-7b";

pub(crate) struct Reply {
    /// `None`: the steps are all there is, without an HTTP head.
    pub(crate) status: Option<u16>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) steps: Vec<Step>,
}

pub(crate) enum Step {
    /// One chunk of the chunked body, in one write.
    Chunk(Vec<u8>),
    /// Bytes outside the chunked encoding.
    Raw(Vec<u8>),
    Pause(Duration),
    /// Goes on when as many requests as the barrier counts are here.
    Meet(Arc<Barrier>),
    /// Never goes on.
    Hang,
    /// Closes the connection without ending the body.
    Cut,
}

impl Reply {
    pub(crate) fn stream(steps: impl IntoIterator<Item = Step>) -> Self {
        let headers = vec![("content-type", "text/event-stream; charset=utf-8".to_owned())];
        Self { status: Some(200), headers, steps: steps.into_iter().collect() }
    }

    pub(crate) fn events<T: AsRef<str>>(events: impl IntoIterator<Item = T>) -> Self {
        Self::stream(events.into_iter().map(|data| event(data.as_ref())))
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json", &body.to_string())
    }

    pub(crate) fn text(status: u16, content_type: &str, body: &str) -> Self {
        let steps = if body.is_empty() { vec![] } else { vec![Step::Chunk(body.into())] };
        Self {
            status: Some(status),
            headers: vec![("content-type", content_type.to_owned())],
            steps,
        }
    }

    pub(crate) fn raw(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { status: None, headers: vec![], steps: steps.into_iter().collect() }
    }
}

pub(crate) fn event(data: &str) -> Step {
    Step::Chunk(format!("data: {data}\n\n").into_bytes())
}

/// A chunk of `/v1/completions`.
pub(crate) fn text(text: &str) -> String {
    json!({ "id": "cmpl-7", "choices": [{ "index": 0, "text": text, "finish_reason": null }] })
        .to_string()
}

pub(crate) fn finish(reason: &str) -> String {
    json!({ "id": "cmpl-7", "choices": [{ "index": 0, "text": "", "finish_reason": reason }] })
        .to_string()
}

pub(crate) fn usage(input: u64, output: u64) -> String {
    let usage = json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output });
    json!({ "id": "cmpl-7", "choices": [], "usage": usage }).to_string()
}

pub(crate) fn delta(delta: Value, finish_reason: Option<&str>) -> String {
    json!({ "id": "chatcmpl-9", "choices": [{ "index": 0, "delta": delta, "finish_reason": finish_reason }] }).to_string()
}

/// What a healthy server does with any request: five tokens in three chunks, of a prompt of four.
pub(crate) fn healthy(seen: &Seen) -> Reply {
    match (seen.path.as_str(), seen.body["stream"] == true) {
        ("/v1/models", _) => models(&[MODEL]),
        ("/v1/completions", true) => Reply::events([
            text(" one"),
            text(" two"),
            text(" three"),
            finish("length"),
            usage(4, 5),
            "[DONE]".to_owned(),
        ]),
        ("/v1/chat/completions", true) => Reply::events([
            delta(json!({ "role": "assistant", "content": "" }), None),
            delta(json!({ "content": "one" }), None),
            delta(json!({ "content": " two" }), None),
            delta(json!({ "content": " three" }), Some("stop")),
            usage(4, 5),
            "[DONE]".to_owned(),
        ]),
        (path, _) => {
            let choice = if path == "/v1/completions" {
                json!({ "text": " one two three", "finish_reason": "length" })
            } else {
                json!({ "message": { "role": "assistant", "content": "one two three" }, "finish_reason": "stop" })
            };
            let usage = json!({ "prompt_tokens": 4, "completion_tokens": 5 });
            Reply::json(200, &json!({ "id": "cmpl-7", "choices": [choice], "usage": usage }))
        }
    }
}

pub(crate) fn models(names: &[&str]) -> Reply {
    let data: Vec<Value> =
        names.iter().map(|name| json!({ "id": name, "object": "model" })).collect();
    Reply::json(200, &json!({ "object": "list", "data": data }))
}

/// An error as vLLM words it.
pub(crate) fn error(status: u16, message: &str) -> Reply {
    Reply::json(
        status,
        &json!({ "error": { "message": message, "type": "Error", "code": status } }),
    )
}
