//! What is observed of one request while it runs, and the record made of it.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::{
    error::{Phase, RequestError},
    protocol::{Message, Usage},
    record::{Failure, RequestRecord, gaps},
    statistics::{Distribution, rounded},
};

/// A request in flight. Kept outside the future that runs it, so that a timeout loses nothing already seen.
#[derive(Debug)]
pub(crate) struct Measurement {
    wall_start: Timestamp,
    start: Instant,
    streamed: bool,
    headers: Option<(Duration, u16)>,
    completion_id: Option<String>,
    content: Vec<Duration>,
    text: String,
    last_choice: Option<Duration>,
    finish_reason: Option<String>,
    usage: Option<Usage>,
}

impl Measurement {
    pub(crate) fn start(streamed: bool) -> Self {
        Self {
            wall_start: Timestamp::now(),
            start: Instant::now(),
            streamed,
            headers: None,
            completion_id: None,
            content: Vec::new(),
            text: String::new(),
            last_choice: None,
            finish_reason: None,
            usage: None,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn take_headers(&mut self, status: u16) {
        self.headers = Some((self.elapsed(), status));
    }

    pub(crate) fn take_message(&mut self, message: Message, at: Duration) {
        let Message { id, choice, usage } = message;
        if self.completion_id.is_none() {
            self.completion_id = id;
        }
        if usage.is_some() {
            self.usage = usage;
        }
        let Some(choice) = choice else { return };
        self.last_choice = Some(at);
        if self.streamed && !choice.text.is_empty() {
            self.content.push(at);
        }
        self.text.push_str(&choice.text);
        if choice.finish_reason.is_some() {
            self.finish_reason = choice.finish_reason;
        }
    }

    pub(crate) fn has_choice(&self) -> bool {
        self.last_choice.is_some()
    }

    pub(crate) fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    /// What the request waits for now.
    pub(crate) fn phase(&self) -> Phase {
        match self.headers {
            None => Phase::Headers,
            Some(_) if !self.streamed => Phase::Body,
            Some(_) if self.content.is_empty() => Phase::FirstContent,
            Some(_) => Phase::MoreContent,
        }
    }

    /// `ended` is when the outcome was known; it counts only for a request that failed.
    pub(crate) fn into_record(
        self,
        index: u32,
        request_id: String,
        prompt: String,
        outcome: Result<(), RequestError>,
        ended: Duration,
    ) -> RequestRecord {
        let e2e = if outcome.is_ok() { self.last_choice.unwrap_or(ended) } else { ended };
        let output_tokens = self.usage.map(|usage| usage.completion_tokens);
        let chunk_offsets_ms: Vec<f64> = self.content.iter().copied().map(milliseconds).collect();
        RequestRecord {
            index,
            request_id,
            completion_id: self.completion_id,
            prompt,
            started_at: self.wall_start.to_string(),
            start_unix_ns: unix_nanoseconds(self.wall_start),
            failure: outcome.err().map(|error| Failure::from(&error)),
            http_status: self.headers.map(|(_, status)| status),
            headers_ms: self.headers.map(|(at, _)| milliseconds(at)),
            ttft_ms: chunk_offsets_ms.first().copied(),
            itl_ms: Distribution::of(gaps(&chunk_offsets_ms)),
            tpot_ms: time_per_output_token(&self.content, output_tokens),
            e2e_ms: milliseconds(e2e),
            output_tokens_per_second: output_tokens
                .map(|tokens| rounded(tokens as f64 / e2e.as_secs_f64())),
            input_tokens: self.usage.map(|usage| usage.prompt_tokens),
            output_tokens,
            finish_reason: self.finish_reason,
            chunk_offsets_ms,
            output_text: self.text,
        }
    }
}

impl From<&RequestError> for Failure {
    fn from(error: &RequestError) -> Self {
        Self {
            kind: error.kind().to_owned(),
            message: error.to_string(),
            detail: error.detail().map(str::to_owned),
            advice: error.advice(),
        }
    }
}

/// The two forms of a wall-clock time in the result file agree with each other to the nanosecond.
pub(crate) fn unix_nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).expect("the clock stands between 1970 and 2554")
}

/// Unknown where the answer came in one piece, even if that piece held many tokens.
fn time_per_output_token(content: &[Duration], output_tokens: Option<u64>) -> Option<f64> {
    let [first, .., last] = content else { return None };
    let after_first = output_tokens?.checked_sub(1).filter(|&tokens| tokens > 0)?;
    Some(rounded(last.saturating_sub(*first).as_secs_f64() * 1e3 / after_first as f64))
}

fn milliseconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Choice;

    fn chunk(text: &str, finish_reason: Option<&str>) -> Message {
        let choice =
            Choice { text: text.to_owned(), finish_reason: finish_reason.map(str::to_owned) };
        Message { id: Some("cmpl-1".to_owned()), choice: Some(choice), usage: None }
    }

    fn usage(prompt_tokens: u64, completion_tokens: u64) -> Message {
        Message { usage: Some(Usage { prompt_tokens, completion_tokens }), ..Message::default() }
    }

    fn record(
        streamed: bool,
        messages: Vec<(u64, Message)>,
        outcome: Result<(), RequestError>,
        ended: u64,
    ) -> RequestRecord {
        let mut measurement = Measurement::start(streamed);
        for (at, message) in messages {
            measurement.take_message(message, Duration::from_millis(at));
        }
        measurement.into_record(
            1,
            "id".to_owned(),
            "p".to_owned(),
            outcome,
            Duration::from_millis(ended),
        )
    }

    #[test]
    fn a_streamed_answer_is_measured() {
        let messages = vec![
            (90, chunk("", None)),
            (100, chunk("a", None)),
            (120, chunk("b", None)),
            (160, chunk("c", None)),
            (200, chunk("", Some("length"))),
            (250, usage(7, 5)),
        ];
        let record = record(true, messages, Ok(()), 260);
        assert_eq!(record.chunk_offsets_ms, [100.0, 120.0, 160.0]);
        assert_eq!(record.gaps_ms().collect::<Vec<_>>(), [20.0, 40.0]);
        assert_eq!(record.ttft_ms, Some(100.0));
        assert_eq!(record.itl_ms.map(|itl| itl.mean), Some(30.0));
        // Five tokens in three chunks: the tokens come from the usage, not from the chunks.
        assert_eq!(record.tpot_ms, Some(15.0));
        // The usage chunk at 250 ms does not extend it.
        assert_eq!(Some(record.e2e_ms), Some(200.0));
        assert_eq!(record.output_tokens_per_second, Some(25.0));
        assert_eq!((record.input_tokens, record.output_tokens), (Some(7), Some(5)));
        assert_eq!(record.output_text, "abc");
        assert_eq!(record.completion_id.as_deref(), Some("cmpl-1"));
    }

    #[test]
    fn without_usage_nothing_is_counted() {
        let messages = vec![(1, chunk("a", None)), (2, chunk("b", Some("stop")))];
        let record = record(true, messages, Ok(()), 3);
        assert_eq!((record.input_tokens, record.output_tokens), (None, None));
        assert_eq!((record.tpot_ms, record.output_tokens_per_second), (None, None));
        assert_eq!(record.ttft_ms, Some(1.0));
    }

    #[test]
    fn an_answer_in_one_piece_has_no_token_times() {
        let mut message = chunk("abc", Some("stop"));
        message.usage = Some(Usage { prompt_tokens: 1, completion_tokens: 3 });
        let whole = record(false, vec![(50, message)], Ok(()), 60);
        assert_eq!((whole.ttft_ms, whole.itl_ms, whole.tpot_ms), (None, None, None));
        assert_eq!((whole.e2e_ms, whole.output_tokens), (50.0, Some(3)));
        let one_chunk =
            record(true, vec![(50, chunk("abc", Some("stop"))), (51, usage(1, 3))], Ok(()), 60);
        assert_eq!((one_chunk.ttft_ms, one_chunk.tpot_ms), (Some(50.0), None));
    }

    #[test]
    fn a_failed_request_keeps_what_came_before() {
        let limit = Duration::from_millis(500);
        let timeout = RequestError::Timeout { limit, waiting_for: Phase::MoreContent };
        let record = record(true, vec![(100, chunk("a", None))], Err(timeout), 500);
        assert_eq!((record.ttft_ms, record.e2e_ms), (Some(100.0), 500.0));
        assert_eq!(record.failure.unwrap().kind, "timeout");
    }

    #[test]
    fn both_forms_of_the_start_agree() {
        let record = record(true, vec![], Ok(()), 1);
        let parsed: Timestamp = record.started_at.parse().unwrap();
        assert_eq!(unix_nanoseconds(parsed), record.start_unix_ns);
    }

    #[test]
    fn the_phase_follows_the_response() {
        let mut measurement = Measurement::start(true);
        assert_eq!(measurement.phase(), Phase::Headers);
        measurement.take_headers(200);
        assert_eq!(measurement.phase(), Phase::FirstContent);
        measurement.take_message(chunk("a", None), Duration::ZERO);
        assert_eq!(measurement.phase(), Phase::MoreContent);
        let mut whole = Measurement::start(false);
        whole.take_headers(200);
        assert_eq!(whole.phase(), Phase::Body);
    }
}
