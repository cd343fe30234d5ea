//! The bodies of both endpoints, as clients send them.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::vllm::error::ApiError;
use crate::vllm::text::count_tokens;

#[derive(Debug, Deserialize)]
pub(super) struct Completion {
    pub(super) prompt: Prompt,
    #[serde(default)]
    pub(super) echo: bool,
    #[serde(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Deserialize)]
pub(super) struct Chat {
    pub(super) messages: Vec<Message>,
    pub(super) max_completion_tokens: Option<i64>,
    #[serde(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Deserialize)]
pub(super) struct Common {
    pub(super) model: Option<String>,
    pub(super) max_tokens: Option<i64>,
    pub(super) min_tokens: Option<usize>,
    pub(super) n: Option<usize>,
    #[serde(default)]
    pub(super) ignore_eos: bool,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct StreamOptions {
    pub(super) include_usage: Option<bool>,
    pub(super) continuous_usage_stats: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Prompt {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    TokenLists(Vec<Vec<u32>>),
}

#[derive(Debug, Deserialize)]
pub(super) struct Message {
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    text: Option<String>,
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        ApiError::bad_request(None, format!("cannot understand the request body: {error}"))
    })
}

impl Prompt {
    /// Each prompt with its number of tokens.
    pub(super) fn texts(self) -> Vec<(String, usize)> {
        let of_tokens = |tokens: Vec<u32>| (format!("{tokens:?}"), tokens.len());
        let of_text = |text: String| {
            let tokens = count_tokens(&text);
            (text, tokens)
        };
        match self {
            Self::Text(text) => vec![of_text(text)],
            Self::Texts(texts) => texts.into_iter().map(of_text).collect(),
            Self::Tokens(tokens) => vec![of_tokens(tokens)],
            Self::TokenLists(lists) => lists.into_iter().map(of_tokens).collect(),
        }
    }
}

impl Message {
    pub(super) fn text(&self) -> String {
        match &self.content {
            None => String::new(),
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => {
                parts.iter().filter_map(|part| part.text.as_deref()).collect::<Vec<_>>().join(" ")
            }
        }
    }
}
