//! From tokens to answers: one JSON object, or a stream of them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::response::sse::Event;
use futures_util::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};

use super::link::{Heard, Link, Sequence};
use super::metrics::Metrics;
use super::request::{Choice, Kind, Plan};

/// One choice on its way. If it is dropped before its end, it counts as aborted.
struct Speaker {
    index: usize,
    choice: Choice,
    sequence: Sequence,
    metrics: Arc<Metrics>,
    started: Instant,
    last: Instant,
    spoken: usize,
    finished: bool,
}

/// What a choice says next.
struct Utterance {
    index: usize,
    text: String,
    /// Tokens of this choice so far.
    spoken: usize,
    finish_reason: Option<&'static str>,
}

impl Speaker {
    async fn next(&mut self) -> Option<Utterance> {
        if self.finished {
            return None;
        }
        let heard = self.sequence.next().await;
        let text = if heard.is_some() { self.speak() } else { String::new() };
        let finish_reason = match heard {
            Some(Heard::Token) => None,
            Some(Heard::Last) => Some(self.choice.finish_reason),
            None => Some("abort"),
        };
        if let Some(reason) = finish_reason {
            self.finish(reason);
        }
        Some(Utterance { index: self.index, text, spoken: self.spoken, finish_reason })
    }

    fn speak(&mut self) -> String {
        let token = self.choice.voice.token(self.spoken);
        let now = Instant::now();
        if self.spoken == 0 {
            self.metrics.first_token(self.choice.prompt_tokens, now - self.started);
        } else {
            self.metrics.next_token(now - self.last);
        }
        self.last = now;
        self.spoken += 1;
        if self.spoken == 1 { format!("{}{token}", self.choice.echo) } else { token }
    }

    fn finish(&mut self, reason: &'static str) {
        self.finished = true;
        self.metrics.finished(
            reason,
            self.choice.prompt_tokens,
            self.spoken,
            self.started.elapsed(),
        );
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        if !self.finished {
            self.finish("abort");
        }
    }
}

/// An answer in the making: what all its objects have in common.
pub(super) struct Answer {
    kind: Kind,
    id: String,
    created: u64,
    model: String,
    prompt_tokens: usize,
    include_usage: bool,
    continuous_usage: bool,
    speakers: Vec<Speaker>,
}

impl Answer {
    /// Hands the plan's choices to the engine.
    pub(super) fn begin(plan: Plan, number: u64, link: &Link, metrics: &Arc<Metrics>) -> Self {
        let Plan {
            kind,
            model,
            choices,
            prompt_tokens,
            stream: _,
            include_usage,
            continuous_usage,
        } = plan;
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let prefix = if kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
        let started = Instant::now();
        let speakers = choices
            .into_iter()
            .enumerate()
            .map(|(index, choice)| {
                let sequence = link.add(choice.prompt_tokens, choice.tokens);
                let metrics = Arc::clone(metrics);
                Speaker {
                    index,
                    choice,
                    sequence,
                    metrics,
                    started,
                    last: started,
                    spoken: 0,
                    finished: false,
                }
            })
            .collect();
        let id = format!("{prefix}-{:08x}{created:08x}{number:016x}", std::process::id());
        Self { kind, id, created, model, prompt_tokens, include_usage, continuous_usage, speakers }
    }

    /// The whole answer.
    pub(super) async fn whole(mut self) -> Value {
        let mut choices = Vec::new();
        let mut tokens = 0;
        for mut speaker in std::mem::take(&mut self.speakers) {
            let (mut text, mut finish_reason) = (String::new(), None);
            while let Some(said) = speaker.next().await {
                text += &said.text;
                finish_reason = said.finish_reason;
            }
            tokens += speaker.spoken;
            let mut choice = json!({
                "index": speaker.index, "logprobs": null, "finish_reason": finish_reason, "stop_reason": null,
            });
            match self.kind {
                Kind::Completion => choice["text"] = text.into(),
                Kind::Chat => {
                    choice["message"] = json!({"role": "assistant", "content": text.trim_start()});
                }
            }
            choices.push(choice);
        }
        let object = if self.kind == Kind::Chat { "chat.completion" } else { "text_completion" };
        self.object(object, choices, Some(tokens))
    }

    /// The answer in server-sent events, `[DONE]` at its end.
    pub(super) fn events(mut self) -> impl Stream<Item = Result<Event, Infallible>> {
        let speakers = std::mem::take(&mut self.speakers);
        let mut totals = vec![0; speakers.len()];
        // A chat begins by saying whose words they are.
        let roles: Vec<String> = match self.kind {
            Kind::Chat => (0..speakers.len())
                .map(|index| {
                    self.chunk(index, json!({"role": "assistant", "content": ""}), None, 0)
                })
                .collect(),
            Kind::Completion => Vec::new(),
        };
        let said = stream::select_all(speakers.into_iter().map(|speaker| {
            let next = |mut speaker: Speaker| async move {
                speaker.next().await.map(|said| (said, speaker))
            };
            Box::pin(stream::unfold(speaker, next))
        }));
        // The end needs the totals of all choices, so the stream carries them along.
        let said = said.map(Some).chain(stream::iter([None]));
        let chunks = said.flat_map(move |said| {
            let texts = if let Some(said) = said {
                totals[said.index] = said.spoken;
                vec![self.said(said, totals.iter().sum())]
            } else {
                self.ending(totals.iter().sum())
            };
            stream::iter(texts)
        });
        stream::iter(roles).chain(chunks).map(|text| Ok(Event::default().data(text)))
    }

    fn said(&self, said: Utterance, tokens: usize) -> String {
        let Utterance { index, text, spoken, finish_reason } = said;
        let content = match self.kind {
            Kind::Completion => json!(text),
            Kind::Chat if spoken == 1 => json!({"content": text.trim_start()}),
            Kind::Chat => json!({"content": text}),
        };
        self.chunk(index, content, finish_reason, tokens)
    }

    fn ending(&self, tokens: usize) -> Vec<String> {
        let usage = self
            .include_usage
            .then(|| self.object(self.chunk_object(), Vec::new(), Some(tokens)).to_string());
        usage.into_iter().chain(["[DONE]".to_owned()]).collect()
    }

    fn chunk_object(&self) -> &'static str {
        if self.kind == Kind::Chat { "chat.completion.chunk" } else { "text_completion" }
    }

    fn chunk(
        &self,
        index: usize,
        content: Value,
        finish_reason: Option<&str>,
        tokens: usize,
    ) -> String {
        let field = if self.kind == Kind::Chat { "delta" } else { "text" };
        let mut choice = json!({"index": index, "logprobs": null, "finish_reason": finish_reason});
        choice[field] = content;
        if self.kind == Kind::Completion || finish_reason.is_some() {
            choice["stop_reason"] = Value::Null;
        }
        self.object(self.chunk_object(), vec![choice], self.continuous_usage.then_some(tokens))
            .to_string()
    }

    fn object(&self, object: &str, choices: Vec<Value>, tokens: Option<usize>) -> Value {
        let mut value = json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices,
        });
        if let Some(tokens) = tokens {
            value["usage"] = json!({
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": tokens,
                "total_tokens": self.prompt_tokens + tokens,
            });
        }
        value
    }
}
