//! The part of the OpenAI protocol that a load test needs: request bodies and responses.

mod content;
mod failure;
mod surrogates;

use serde::Deserialize;
use serde_json::{Value, error::Category, json};

use content::Content;
pub use failure::error_message;
pub(crate) use failure::excerpt;

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
    /// `None` where the chunk says nothing of the first choice, as the one that carries the usage.
    pub choice: Option<Choice>,
    /// The chunk speaks of a second choice, which nobody asked for.
    pub other_choices: bool,
    pub usage: Usage,
}

#[derive(Debug, Default, PartialEq)]
pub struct Choice {
    pub text: String,
    /// What a reasoning model thinks before it answers.
    pub reasoning: String,
    pub carries: Carries,
    pub finish_reason: Option<String>,
}

/// What a choice's chunk may hold of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Carries {
    /// Text, reasoning or a part of a tool call.
    Text,
    /// A text that is there and empty: a token that shows nothing, for instance half a character.
    EmptyText,
    /// The announcement of who speaks, before anything is said.
    Role,
    #[default]
    Nothing,
}

/// Token counts as the server states them; `None` where it does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
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
    /// Takes any JSON object that is no error: what a figure needs and is not there is `None`.
    pub fn parse(text: &str) -> Result<Self, NotAMessage> {
        let malformed = |reason: String| NotAMessage::Malformed { reason, excerpt: excerpt(text) };
        let wire = match serde_json::from_str::<WireMessage>(text) {
            Ok(wire) => wire,
            // Half of a character outside the basic plane, which a model may well say, is no reason to fail.
            Err(error) => match surrogates::replaced(text) {
                Some(replaced) => serde_json::from_str(&replaced),
                None => Err(error),
            }
            .map_err(|error| {
                malformed(match error.classify() {
                    Category::Data => format!("not a completion ({error})"),
                    _ => format!("not JSON ({error})"),
                })
            })?,
        };
        if wire.error.is_some() || wire.object.as_ref().is_some_and(|object| object == "error") {
            return Err(NotAMessage::Error(error_message(text.as_bytes())));
        }
        let choices = wire.choices.unwrap_or_default();
        if choices.is_empty() && wire.detail.is_some() {
            return Err(NotAMessage::Error(error_message(text.as_bytes())));
        }
        let is_first = |choice: &WireChoice| choice.index.as_ref().is_none_or(|index| index == 0);
        let (first, others): (Vec<_>, Vec<_>) = choices.into_iter().partition(is_first);
        Ok(Self {
            id: wire.id.and_then(word),
            other_choices: !others.is_empty(),
            choice: first.into_iter().next().map(WireChoice::read),
            usage: wire.usage.map(|usage| Usage::read(&usage)).unwrap_or_default(),
        })
    }
}

impl Usage {
    fn read(usage: &Value) -> Self {
        let prompt_tokens = count(&usage["prompt_tokens"]);
        let rest = || count(&usage["total_tokens"])?.checked_sub(prompt_tokens?);
        let completion_tokens = count(&usage["completion_tokens"]).or_else(rest);
        Self { prompt_tokens, completion_tokens }
    }
}

#[derive(Deserialize)]
struct WireMessage {
    id: Option<Value>,
    object: Option<Value>,
    error: Option<Value>,
    detail: Option<Value>,
    choices: Option<Vec<WireChoice>>,
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct WireChoice {
    index: Option<Value>,
    text: Option<Content>,
    delta: Option<WireDelta>,
    message: Option<WireDelta>,
    finish_reason: Option<Value>,
}

/// vLLM names the reasoning `reasoning`; older releases named it `reasoning_content`.
#[derive(Deserialize, Default)]
struct WireDelta {
    role: Option<Value>,
    content: Option<Content>,
    reasoning: Option<Content>,
    reasoning_content: Option<Content>,
    tool_calls: Option<Value>,
}

impl WireChoice {
    fn read(self) -> Choice {
        let delta = self.message.or(self.delta).unwrap_or_default();
        let calls =
            delta.tool_calls.is_some_and(|calls| calls.as_array().is_some_and(|c| !c.is_empty()));
        let contents = [self.text, delta.content, delta.reasoning, delta.reasoning_content];
        let is_there = contents.iter().any(Option::is_some);
        let [text, content, reasoning, reasoning_content] = contents.map(Option::unwrap_or_default);
        let mut said = text.text + &content.text;
        said.shrink_to_fit();
        // Some servers send the reasoning under both names.
        let of_field =
            if reasoning.text.is_empty() { reasoning_content.text } else { reasoning.text };
        let reasoning = content.reasoning + &of_field;
        let carries = if calls || !said.is_empty() || !reasoning.is_empty() {
            Carries::Text
        } else if delta.role.is_some() {
            Carries::Role
        } else if is_there {
            Carries::EmptyText
        } else {
            Carries::Nothing
        };
        // Some servers send an empty reason until there is one.
        let finish_reason = self.finish_reason.and_then(word).filter(|reason| !reason.is_empty());
        Choice { text: said, reasoning, carries, finish_reason }
    }
}

/// A string or a number; `None` for what names nothing.
fn word(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A whole number, also if it is written as 3.0.
fn count(value: &Value) -> Option<u64> {
    const LARGEST: f64 = (1_u64 << 53) as f64;
    value.as_u64().or_else(|| {
        let float = value.as_f64()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number between zero and 2^53"
        )]
        (float.fract() == 0.0 && (0.0..LARGEST).contains(&float)).then_some(float as u64)
    })
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
        Choice {
            text: text.to_owned(),
            reasoning: String::new(),
            carries: if text.is_empty() { Carries::Nothing } else { Carries::Text },
            finish_reason: finish_reason.map(str::to_owned),
        }
    }

    fn usage_of(usage: &str) -> (Option<u64>, Option<u64>) {
        let message = Message::parse(&format!(r#"{{"choices":[],"usage":{usage}}}"#)).unwrap();
        (message.usage.prompt_tokens, message.usage.completion_tokens)
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
            (r#"{"choices":[{"text":"a","finish_reason":""}]}"#, Some(choice("a", None))),
            (
                r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
                Some(choice("", Some("stop"))),
            ),
            (
                r#"{"choices":[{"message":{"content":"b"},"finish_reason":"length"}]}"#,
                Some(choice("b", Some("length"))),
            ),
            (r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9}}"#, None),
            (r#"{"choices":null}"#, None),
            (r#"{"type":"ping"}"#, None),
        ] {
            assert_eq!(Message::parse(text).unwrap().choice, expected, "{text}");
        }
    }

    #[test]
    fn what_a_chunk_carries_is_told_apart() {
        for (choice, expected) in [
            (r#"{"text":""}"#, Carries::EmptyText),
            (r#"{"delta":{"content":""}}"#, Carries::EmptyText),
            (r#"{"delta":{"role":"assistant","content":""}}"#, Carries::Role),
            (r#"{"delta":{"role":"assistant","content":"a"}}"#, Carries::Text),
            (r#"{"delta":{"reasoning":"hm"}}"#, Carries::Text),
            (r#"{"delta":{"tool_calls":[{"function":{"arguments":"{"}}]}}"#, Carries::Text),
            (r#"{"delta":{"content":null}}"#, Carries::Nothing),
            (r#"{"delta":{}}"#, Carries::Nothing),
            ("{}", Carries::Nothing),
        ] {
            let message = Message::parse(&format!(r#"{{"choices":[{choice}]}}"#)).unwrap();
            assert_eq!(message.choice.unwrap().carries, expected, "{choice}");
        }
    }

    #[test]
    fn reasoning_is_kept_beside_the_content_whatever_its_name() {
        for delta in [
            r#"{"reasoning":"hm","content":"b"}"#,
            r#"{"reasoning_content":"hm","content":"b"}"#,
            r#"{"reasoning":"","reasoning_content":"hm","content":"b"}"#,
            r#"{"reasoning":"hm","reasoning_content":"hm","content":"b"}"#,
            r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"b"}]}"#,
        ] {
            let message = Message::parse(&format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#));
            let choice = message.unwrap().choice.unwrap();
            assert_eq!((choice.text.as_str(), choice.reasoning.as_str()), ("b", "hm"), "{delta}");
        }
    }

    #[test]
    fn only_the_first_choice_is_read() {
        let two = r#"{"choices":[{"index":1,"text":"x"},{"index":0,"text":"a"}]}"#;
        let message = Message::parse(two).unwrap();
        assert_eq!((message.choice.unwrap().text.as_str(), message.other_choices), ("a", true));
        let second = Message::parse(r#"{"choices":[{"index":1,"text":"x"}]}"#).unwrap();
        assert_eq!((second.choice, second.other_choices), (None, true));
    }

    #[test]
    fn of_the_usage_each_count_stands_for_itself() {
        assert_eq!(usage_of(r#"{"prompt_tokens":3,"completion_tokens":9}"#), (Some(3), Some(9)));
        assert_eq!(
            usage_of(r#"{"prompt_tokens":3.0,"completion_tokens":2.0}"#),
            (Some(3), Some(2))
        );
        assert_eq!(usage_of(r#"{"prompt_tokens":3,"total_tokens":5}"#), (Some(3), Some(2)));
        assert_eq!(usage_of(r#"{"prompt_tokens":3}"#), (Some(3), None));
        assert_eq!(usage_of(r#"{"completion_tokens":3}"#), (None, Some(3)));
        for nothing in
            ["null", "{}", r#"{"completion_tokens":null}"#, r#"{"completion_tokens":-1}"#]
        {
            assert_eq!(usage_of(nothing), (None, None), "{nothing}");
        }
    }

    #[test]
    fn half_a_character_is_no_reason_to_fail() {
        let message = Message::parse(r#"{"choices":[{"text":"a\ud83d"}]}"#).unwrap();
        assert_eq!(message.choice.unwrap().text, "a\u{fffd}");
    }

    #[test]
    fn identifiers_may_be_numbers() {
        assert_eq!(Message::parse(r#"{"id":7}"#).unwrap().id.as_deref(), Some("7"));
    }

    #[test]
    fn what_is_no_message_is_quoted() {
        let Err(NotAMessage::Malformed { reason, excerpt }) = Message::parse("{\"choices\":")
        else {
            panic!("accepted")
        };
        assert!(reason.starts_with("not JSON (EOF"), "{reason}");
        assert_eq!(excerpt, "{\"choices\":");
        let Err(NotAMessage::Malformed { reason, .. }) = Message::parse("[1]") else {
            panic!("accepted")
        };
        assert!(reason.starts_with("not a completion ("), "{reason}");
    }

    #[test]
    fn an_error_in_place_of_a_message_is_an_error() {
        for text in [
            r#"{"error":{"message":"engine died","code":500}}"#,
            r#"{"error":"engine died"}"#,
            r#"{"object":"error","message":"engine died"}"#,
            r#"{"detail":"engine died"}"#,
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
