//! What a client asks for, of either endpoint, checked against the model, as one plan.

mod body;

use body::{Chat, Common, Completion, Message, StreamOptions};

use super::error::ApiError;
use super::options::Options;
use super::text::{Voice, count_tokens};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Completion,
    Chat,
}

/// What will be generated, and how it is to be told.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    /// As the client named it.
    pub(super) model: String,
    pub(super) choices: Vec<Choice>,
    pub(super) prompt_tokens: usize,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) continuous_usage: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) voice: Voice,
    pub(super) prompt_tokens: usize,
    pub(super) tokens: usize,
    /// Why it ends after so many tokens.
    pub(super) finish_reason: &'static str,
    /// What stands before the answer.
    pub(super) echo: String,
}

impl Plan {
    pub(super) fn of(kind: Kind, body: &[u8], options: &Options) -> Result<Self, ApiError> {
        match kind {
            Kind::Completion => {
                let Completion { prompt, echo, common } = body::parse(body)?;
                // As OpenAI's endpoint: sixteen tokens unless asked otherwise.
                let limit = common.max_tokens.or(Some(16));
                Self::make(kind, prompt.texts(), limit, echo, common, options)
            }
            Kind::Chat => {
                let Chat { messages, max_completion_tokens, common } = body::parse(body)?;
                if messages.is_empty() {
                    return Err(ApiError::bad_request(
                        Some("messages"),
                        "messages is empty: there is nothing to answer",
                    ));
                }
                let text = messages.iter().map(Message::text).collect::<Vec<_>>().join("\n");
                let tokens = count_tokens(&text);
                let limit = max_completion_tokens.or(common.max_tokens);
                Self::make(kind, vec![(text, tokens)], limit, false, common, options)
            }
        }
    }

    fn make(
        kind: Kind,
        prompts: Vec<(String, usize)>,
        limit: Option<i64>,
        echo: bool,
        common: Common,
        options: &Options,
    ) -> Result<Self, ApiError> {
        let Common { model, max_tokens: _, min_tokens, n, ignore_eos, stream, stream_options } =
            common;
        let model = model.unwrap_or_else(|| options.served_names[0].clone());
        if !options.served_names.contains(&model) {
            return Err(ApiError::unknown_model(&model));
        }
        let limit = match limit {
            Some(limit) if limit < 1 => {
                return Err(ApiError::bad_request(
                    Some("max_tokens"),
                    format!("max_tokens must be at least 1, got {limit}."),
                ));
            }
            Some(limit) => Some(usize::try_from(limit).unwrap_or(usize::MAX)),
            None => None,
        };
        let answers = n.unwrap_or(1);
        if answers == 0 {
            return Err(ApiError::bad_request(Some("n"), "n must be at least 1, got 0."));
        }
        let mut choices = Vec::new();
        for (text, prompt_tokens) in &prompts {
            let room = room_for_answer(*prompt_tokens, limit, options.max_model_len)?;
            let wanted = limit.unwrap_or(room);
            for answer in 0..answers {
                let voice = Voice::new(text, answer);
                let natural = if ignore_eos {
                    usize::MAX
                } else {
                    voice.natural_length().max(min_tokens.unwrap_or(0))
                };
                choices.push(Choice {
                    voice,
                    prompt_tokens: *prompt_tokens,
                    tokens: wanted.min(natural),
                    finish_reason: if natural < wanted { "stop" } else { "length" },
                    echo: if echo { text.clone() } else { String::new() },
                });
            }
        }
        let StreamOptions { include_usage, continuous_usage_stats } =
            stream_options.unwrap_or_default();
        Ok(Self {
            kind,
            model,
            choices,
            // A prompt is counted once, however many answers it gets.
            prompt_tokens: prompts.iter().map(|(_, tokens)| tokens).sum(),
            stream: stream.unwrap_or(false),
            include_usage: include_usage.unwrap_or(false),
            continuous_usage: continuous_usage_stats.unwrap_or(false),
        })
    }
}

fn room_for_answer(
    prompt_tokens: usize,
    limit: Option<usize>,
    max_model_len: usize,
) -> Result<usize, ApiError> {
    if prompt_tokens >= max_model_len {
        let message = format!(
            "This model's maximum context length is {max_model_len} tokens. However, your request has {prompt_tokens} input tokens. \
             Please reduce the length of the input messages."
        );
        return Err(ApiError::bad_request(Some("input_tokens"), message));
    }
    let room = max_model_len - prompt_tokens;
    match limit {
        Some(limit) if limit > room => {
            let message = format!(
                "'max_tokens' or 'max_completion_tokens' is too large: {limit}. This model's maximum context length is {max_model_len} \
                 tokens and your request has {prompt_tokens} input tokens ({limit} > {max_model_len} - {prompt_tokens})."
            );
            Err(ApiError::bad_request(Some("max_tokens"), message))
        }
        _ => Ok(room),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vllm::options::Invocation;

    fn options() -> Options {
        let arguments = ["serve", "m", "--max-model-len", "100"].map(str::to_owned);
        match Options::parse(&arguments).unwrap() {
            Invocation::Serve { options, .. } => *options,
            Invocation::Help => panic!("help"),
        }
    }

    fn plan(kind: Kind, body: &str) -> Result<Plan, ApiError> {
        Plan::of(kind, body.as_bytes(), &options())
    }

    #[test]
    fn prompts_of_every_form_are_counted() {
        for (prompt, tokens, choices) in [
            (r#""one two three""#, 3, 1),
            (r#"["one two", "three"]"#, 3, 2),
            ("[5, 6, 7, 8]", 4, 1),
            ("[[5, 6], [7]]", 3, 2),
        ] {
            let plan =
                plan(Kind::Completion, &format!(r#"{{"model":"m","prompt":{prompt}}}"#)).unwrap();
            assert_eq!(
                (plan.prompt_tokens, plan.choices.len(), plan.choices[0].tokens),
                (tokens, choices, 16),
                "{prompt}"
            );
            assert_eq!(plan.choices[0].finish_reason, "length");
        }
        let body = r#"{"model":"m","messages":[{"role":"system","content":"be brief"},
            {"role":"user","content":[{"type":"text","text":"what is it"}]}],"max_completion_tokens":5,"n":2}"#;
        let plan = plan(Kind::Chat, body).unwrap();
        assert_eq!((plan.prompt_tokens, plan.choices.len(), plan.choices[1].tokens), (5, 2, 5));
    }

    #[test]
    fn an_answer_without_a_limit_ends_by_itself_or_with_the_context() {
        let long = Options { max_model_len: 4096, ..options() };
        let body = r#"{"messages":[{"role":"user","content":"hi"}]}"#;
        let plan = Plan::of(Kind::Chat, body.as_bytes(), &long).unwrap();
        assert_eq!(
            (plan.choices[0].tokens, plan.choices[0].finish_reason),
            (plan.choices[0].voice.natural_length(), "stop")
        );
        let body = r#"{"messages":[{"role":"user","content":"hi"}],"ignore_eos":true}"#;
        let plan = Plan::of(Kind::Chat, body.as_bytes(), &long).unwrap();
        assert_eq!((plan.choices[0].tokens, plan.choices[0].finish_reason), (4095, "length"));
    }

    #[test]
    fn what_cannot_be_served_is_named() {
        let error = |kind, body: &str| plan(kind, body).unwrap_err();
        let unknown = error(Kind::Completion, r#"{"model":"x","prompt":"p"}"#);
        assert_eq!((unknown.status.as_u16(), unknown.message.contains("`x`")), (404, true));
        for (body, word) in [
            ("{", "cannot understand"),
            (r#"{"model":"m"}"#, "prompt"),
            (r#"{"model":"m","prompt":"p","max_tokens":0}"#, "at least 1"),
            (r#"{"model":"m","prompt":"p","max_tokens":100}"#, "too large"),
            (r#"{"model":"m","prompt":"p","n":0}"#, "n must"),
        ] {
            let error = error(Kind::Completion, body);
            assert_eq!(
                (error.status.as_u16(), error.message.contains(word)),
                (400, true),
                "{body}: {error:?}"
            );
        }
        let long = format!(r#"{{"model":"m","prompt":"{}"}}"#, "word ".repeat(100));
        assert!(
            error(Kind::Completion, &long).message.contains("maximum context length is 100 tokens")
        );
        assert_eq!(error(Kind::Chat, r#"{"messages":[]}"#).status.as_u16(), 400);
    }
}
