//! The part of the OpenAI protocol that a load test needs: request bodies and responses.

mod failure;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use failure::error_message;
use failure::{error_text, excerpt};

/// Which endpoint is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    Completions,
    Chat,
}

impl Api {
    pub fn path(self) -> &'static str {
        match self {
            Self::Completions => "/v1/completions",
            Self::Chat => "/v1/chat/completions",
        }
    }
}

/// One generation request.
#[derive(Debug, Clone, Copy)]
pub struct Generation<'a> {
    pub api: Api,
    pub model: &'a str,
    pub prompt: &'a str,
    pub max_tokens: u32,
    pub ignore_eos: bool,
    pub stream: bool,
}

impl Generation<'_> {
    /// Greedy sampling: two runs of the same prompts ask for the same work.
    pub fn body(&self) -> Value {
        let Self { api, model, prompt, max_tokens, ignore_eos, stream } = *self;
        let mut body =
            json!({ "model": model, "max_tokens": max_tokens, "temperature": 0, "stream": stream });
        match api {
            Api::Completions => body["prompt"] = json!(prompt),
            Api::Chat => body["messages"] = json!([{ "role": "user", "content": prompt }]),
        }
        if stream {
            body["stream_options"] = json!({ "include_usage": true });
        }
        // An extension of vLLM, so it is sent only when asked for.
        if ignore_eos {
            body["ignore_eos"] = json!(true);
        }
        body
    }
}

/// A whole response, or one chunk of a streamed one, of either endpoint.
#[derive(Debug, Default, PartialEq)]
pub struct Message {
    pub id: Option<String>,
    /// `None` where the chunk has no choice: the one that carries the usage.
    pub choice: Option<Choice>,
    pub usage: Option<Usage>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Choice {
    /// Text of any sort, also the reasoning of a reasoning model; empty in a chat's first chunk, which only names the role.
    pub text: String,
    pub finish_reason: Option<String>,
}

/// Token counts as the server states them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: u64,
    #[serde(default)]
    pub completion_tokens: u64,
}

/// Why a JSON text is not a message.
#[derive(Debug, PartialEq, Eq)]
pub enum NotAMessage {
    /// The server reports an error in place of a message.
    Error(String),
    Malformed {
        reason: String,
        excerpt: String,
    },
}

impl Message {
    pub fn parse(text: &str) -> Result<Self, NotAMessage> {
        let malformed = |reason: String| NotAMessage::Malformed { reason, excerpt: excerpt(text) };
        let value: Value =
            serde_json::from_str(text).map_err(|error| malformed(format!("not JSON ({error})")))?;
        if value.get("error").is_some_and(|error| !error.is_null()) || value["object"] == "error" {
            return Err(NotAMessage::Error(error_text(&value).unwrap_or_else(|| excerpt(text))));
        }
        let wire: WireMessage = serde_json::from_value(value)
            .map_err(|error| malformed(format!("not a completion ({error})")))?;
        let choice = wire.choices.into_iter().next().map(|choice| {
            let delta = choice.message.or(choice.delta).unwrap_or_default();
            let parts = [choice.text, delta.reasoning.or(delta.reasoning_content), delta.content];
            Choice {
                text: parts.into_iter().flatten().collect(),
                finish_reason: choice.finish_reason,
            }
        });
        Ok(Self { id: wire.id, choice, usage: wire.usage })
    }
}

#[derive(Deserialize)]
struct WireMessage {
    id: Option<String>,
    choices: Vec<WireChoice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct WireChoice {
    text: Option<String>,
    delta: Option<WireDelta>,
    message: Option<WireDelta>,
    finish_reason: Option<String>,
}

/// vLLM names the reasoning `reasoning`; older releases named it `reasoning_content`.
#[derive(Deserialize, Default)]
struct WireDelta {
    content: Option<String>,
    reasoning: Option<String>,
    reasoning_content: Option<String>,
}

/// The names in a `/v1/models` response.
pub fn parse_models(body: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Models {
        data: Vec<Model>,
    }
    #[derive(Deserialize)]
    struct Model {
        id: String,
    }
    let models: Models = serde_json::from_slice(body).map_err(|error| {
        format!("not a list of models ({error}): {}", excerpt(&String::from_utf8_lossy(body)))
    })?;
    Ok(models.data.into_iter().map(|model| model.id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(text: &str, finish_reason: Option<&str>) -> Choice {
        Choice { text: text.to_owned(), finish_reason: finish_reason.map(str::to_owned) }
    }

    #[test]
    fn a_streaming_body_asks_for_usage() {
        let generation = Generation {
            api: Api::Completions,
            model: "m",
            prompt: "p",
            max_tokens: 8,
            ignore_eos: false,
            stream: true,
        };
        let expected = json!({
            "model": "m", "prompt": "p", "max_tokens": 8, "temperature": 0, "stream": true,
            "stream_options": { "include_usage": true },
        });
        assert_eq!(generation.body(), expected);
    }

    #[test]
    fn a_chat_body_has_one_user_message() {
        let generation = Generation {
            api: Api::Chat,
            model: "m",
            prompt: "p",
            max_tokens: 8,
            ignore_eos: true,
            stream: false,
        };
        let expected = json!({
            "model": "m", "messages": [{ "role": "user", "content": "p" }], "max_tokens": 8, "temperature": 0,
            "stream": false, "ignore_eos": true,
        });
        assert_eq!(generation.body(), expected);
    }

    #[test]
    fn chunks_of_both_endpoints_are_read() {
        for (text, expected) in [
            (r#"{"choices":[{"text":" a","finish_reason":null}]}"#, Some(choice(" a", None))),
            (
                r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
                Some(choice("", None)),
            ),
            (
                r#"{"choices":[{"delta":{"reasoning":"hm"},"finish_reason":null}]}"#,
                Some(choice("hm", None)),
            ),
            (
                r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
                Some(choice("", Some("stop"))),
            ),
            (
                r#"{"choices":[{"message":{"content":"b"},"finish_reason":"length"}]}"#,
                Some(choice("b", Some("length"))),
            ),
            (r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9}}"#, None),
        ] {
            assert_eq!(Message::parse(text).unwrap().choice, expected, "{text}");
        }
    }

    #[test]
    fn usage_is_read_and_may_be_null() {
        let message = Message::parse(
            r#"{"id":"cmpl-1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9}}"#,
        );
        assert_eq!(message.unwrap().usage, Some(Usage { prompt_tokens: 3, completion_tokens: 9 }));
        assert_eq!(Message::parse(r#"{"choices":[],"usage":null}"#).unwrap().usage, None);
    }

    #[test]
    fn what_is_no_message_is_quoted() {
        let Err(NotAMessage::Malformed { reason, excerpt }) = Message::parse("{\"choices\":")
        else {
            panic!("accepted")
        };
        assert!(reason.starts_with("not JSON (EOF"), "{reason}");
        assert_eq!(excerpt, "{\"choices\":");
        let Err(NotAMessage::Malformed { reason, excerpt }) = Message::parse(r#"{"a":1}"#) else {
            panic!("accepted")
        };
        assert_eq!(reason, "not a completion (missing field `choices`)");
        assert_eq!(excerpt, r#"{"a":1}"#);
    }

    #[test]
    fn an_error_in_place_of_a_message_is_an_error() {
        for text in [
            r#"{"error":{"message":"engine died","code":500}}"#,
            r#"{"error":"engine died"}"#,
            r#"{"object":"error","message":"engine died"}"#,
        ] {
            assert_eq!(
                Message::parse(text),
                Err(NotAMessage::Error("engine died".to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn models_are_listed_in_order() {
        assert_eq!(parse_models(br#"{"data":[{"id":"b"},{"id":"a"}]}"#).unwrap(), ["b", "a"]);
        assert!(
            parse_models(b"<html>")
                .unwrap_err()
                .starts_with("not a list of models (expected value")
        );
    }
}
