//! What is observed of one request while it runs, and the record made of it.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::{
    error::{Phase, RequestError},
    http::{Arrival, Departure},
    protocol::{Carries, Choice, Message, Usage},
    record::{Failure, RequestRecord, gaps},
    statistics::{Distribution, rounded},
};

/// A request in flight. Kept outside the future that runs it, so that a timeout loses nothing already seen.
#[derive(Debug)]
pub(crate) struct Measurement {
    due: Instant,
    /// When the first byte of the request left; until then, when its work began.
    start: Instant,
    wall_start: Timestamp,
    connect: Option<Duration>,
    handshake: Option<Duration>,
    connecting_since: Option<Instant>,
    sending: Option<Duration>,
    retried: bool,
    last_arrival: Duration,
    earliest: Duration,
    bounds: Bounds,
    receive_lags: Vec<Option<Duration>>,
    streamed: bool,
    headers: Option<(Duration, u16)>,
    completion_id: Option<String>,
    chunks: Chunks,
    text: String,
    reasoning: String,
    last_choice: Option<Duration>,
    other_choices: bool,
    finish_reason: Option<String>,
    usage: Usage,
}

impl Measurement {
    pub(crate) fn start(streamed: bool, due: Instant) -> Self {
        Self {
            due,
            start: Instant::now(),
            wall_start: Timestamp::now(),
            connect: None,
            handshake: None,
            connecting_since: None,
            sending: None,
            retried: false,
            last_arrival: Duration::ZERO,
            earliest: Duration::ZERO,
            bounds: Bounds::default(),
            receive_lags: Vec::new(),
            streamed,
            headers: None,
            completion_id: None,
            chunks: Chunks::default(),
            text: String::new(),
            reasoning: String::new(),
            last_choice: None,
            other_choices: false,
            finish_reason: None,
            usage: Usage::default(),
        }
    }

    pub(crate) fn start_connecting(&mut self) {
        self.connecting_since = Some(Instant::now());
    }

    /// With the time that the handshake of TLS took of it.
    pub(crate) fn end_connecting(&mut self, handshake: Option<Duration>) {
        self.connect = self.connecting_since.take().map(|since| since.elapsed());
        self.handshake = handshake;
    }

    /// The clock of the request starts here.
    pub(crate) fn take_departure(&mut self, departure: Departure) {
        let Departure { began, ended } = departure;
        self.start = began;
        self.wall_start = ago(began.elapsed());
        self.sending = Some(ended - began);
    }

    pub(crate) fn take_retry(&mut self) {
        self.retried = true;
    }

    pub(crate) fn take_headers(&mut self, status: u16, arrival: Arrival) {
        self.headers = Some((self.offset(arrival.at), status));
    }

    /// Bytes came; the offset of that time.
    pub(crate) fn take_arrival(&mut self, arrival: Arrival) -> Duration {
        self.receive_lags.push(arrival.lag);
        self.last_arrival = self.offset(arrival.at);
        self.earliest = self.offset(arrival.earliest).min(self.last_arrival);
        self.last_arrival
    }

    pub(crate) fn last_arrival(&self) -> Duration {
        self.last_arrival
    }

    fn offset(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }

    pub(crate) fn take_message(&mut self, message: Message, at: Duration) {
        let Message { id, choice, other_choices, usage } = message;
        if self.completion_id.is_none() {
            self.completion_id = id;
        }
        self.usage.prompt_tokens = usage.prompt_tokens.or(self.usage.prompt_tokens);
        self.usage.completion_tokens = usage.completion_tokens.or(self.usage.completion_tokens);
        if other_choices {
            self.other_choices = true;
            self.last_choice = Some(at);
        }
        let Some(choice) = choice else { return };
        self.bounds.end = self.earliest;
        if self.streamed {
            let before = self.chunks.at.len();
            self.chunks.take(&choice, self.last_choice.is_none(), at);
            if self.chunks.at.len() > before {
                self.bounds.last_token = self.earliest;
                self.bounds.first_token.get_or_insert(self.earliest);
            }
        }
        self.last_choice = Some(at);
        self.text.push_str(&choice.text);
        self.reasoning.push_str(&choice.reasoning);
        if choice.finish_reason.is_some() {
            self.finish_reason = choice.finish_reason;
        }
    }

    /// The answer came in one piece, whatever was asked for.
    pub(crate) fn is_whole(&mut self) {
        self.streamed = false;
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
            None if self.connecting_since.is_some() => Phase::Connection,
            None => Phase::Headers,
            Some(_) if !self.streamed => Phase::Body,
            Some(_) if self.chunks.is_empty() => Phase::FirstContent,
            Some(_) => Phase::MoreContent,
        }
    }

    /// `ended` is when the outcome was known; it counts only for a request that failed.
    pub(crate) fn end(
        self,
        index: u32,
        request_id: String,
        prompt: String,
        failure: Option<Failure>,
        ended: Instant,
    ) -> Measured {
        let ended = self.offset(ended);
        let waited = self.start.saturating_duration_since(self.due);
        let e2e = if failure.is_none() { self.last_choice.unwrap_or(ended) } else { ended };
        let said_something = !self.text.is_empty() || !self.reasoning.is_empty();
        // A server that counts zero tokens of a text has not counted.
        let output_tokens =
            self.usage.completion_tokens.filter(|&tokens| tokens > 0 || !said_something);
        let arrivals = self.chunks.arrivals(output_tokens);
        let chunk_offsets_ms: Vec<f64> = arrivals.iter().copied().map(milliseconds).collect();
        // The count is that of all choices, the arrivals are those of one.
        let tokens_of_choice = output_tokens.filter(|_| !self.other_choices);
        let record = RequestRecord {
            index,
            request_id,
            completion_id: self.completion_id,
            prompt,
            started_at: self.wall_start.to_string(),
            start_unix_ns: unix_nanoseconds(self.wall_start),
            queue_ms: milliseconds(waited.saturating_sub(self.connect.unwrap_or_default())),
            connect_ms: self.connect.map(milliseconds),
            tls_ms: self.handshake.map(milliseconds),
            server: None,
            send_ms: self.sending.map(milliseconds),
            schedule_lag_ms: None,
            retried: self.retried,
            warmup: false,
            failure,
            http_status: self.headers.map(|(_, status)| status),
            streamed: self.streamed,
            headers_ms: self.headers.map(|(at, _)| milliseconds(at)),
            ttft_ms: chunk_offsets_ms.first().copied(),
            itl_ms: Distribution::of(gaps(&chunk_offsets_ms)),
            tpot_ms: time_per_output_token(&arrivals, tokens_of_choice),
            streaming_ms: streaming(&arrivals).map(milliseconds),
            e2e_ms: milliseconds(e2e),
            output_tokens_per_second: output_tokens
                .map(|tokens| rounded(tokens as f64 / e2e.as_secs_f64())),
            input_tokens: self.usage.prompt_tokens,
            output_tokens,
            finish_reason: self.finish_reason,
            chunk_offsets_ms,
            several_choices: self.other_choices,
            output_text: self.text,
            reasoning_text: self.reasoning,
        };
        let sending = self.sending.unwrap_or_default();
        let tpot_ms = tokens_of_choice.and_then(|tokens| self.bounds.tpot_ms(&arrivals, tokens));
        let bounds = AnswerBounds {
            ttft_ms: self.bounds.first_token.zip(arrivals.first()).map(|(earliest, &at)| {
                (milliseconds(earliest.saturating_sub(sending)), milliseconds(at))
            }),
            tpot_ms,
            sending,
            earliest_end: self.bounds.end.min(e2e),
        };
        Measured { record, began: self.start, took: e2e, bounds, receive_lags: self.receive_lags }
    }
}

/// A record, and what of it only the figures of the whole run need.
#[derive(Debug)]
pub struct Measured {
    pub record: RequestRecord,
    pub began: Instant,
    pub took: Duration,
    pub bounds: AnswerBounds,
    /// Of each read of the answer; `None` where the kernel did not say when the bytes came.
    pub receive_lags: Vec<Option<Duration>>,
}

/// Between what its figures are, for all that this client knows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct AnswerBounds {
    pub ttft_ms: Option<(f64, f64)>,
    pub tpot_ms: Option<(f64, f64)>,
    /// The request left within this time after the start of its clock.
    pub sending: Duration,
    /// The answer did not end before.
    pub earliest_end: Duration,
}

/// The earliest times at which parts of an answer may have come.
#[derive(Debug, Default)]
struct Bounds {
    first_token: Option<Duration>,
    last_token: Duration,
    end: Duration,
}

impl Bounds {
    fn tpot_ms(&self, arrivals: &[Duration], tokens: u64) -> Option<(f64, f64)> {
        let ([first, .., last], Some(earliest)) = (arrivals, self.first_token) else { return None };
        let each = |time: Duration| time.as_secs_f64() * 1e3 / (tokens - 1) as f64;
        let shortest = self.last_token.saturating_sub(*first);
        (tokens > 1).then(|| (each(shortest), each(last.saturating_sub(earliest))))
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

/// The wall clock at a time in the past.
fn ago(duration: Duration) -> Timestamp {
    let now = Timestamp::now();
    now.checked_sub(duration).unwrap_or(now)
}

/// The two forms of a wall-clock time in the result file agree with each other to the nanosecond.
pub(crate) fn unix_nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).expect("the clock stands between 1970 and 2554")
}

fn streaming(arrivals: &[Duration]) -> Option<Duration> {
    let [first, .., last] = arrivals else { return None };
    Some(last.saturating_sub(*first))
}

/// When the chunks of a choice came, and which of them may have brought no token.
#[derive(Debug, Default)]
struct Chunks {
    at: Vec<Duration>,
    /// Positions in `at` of chunks without text.
    without_text: Vec<usize>,
    /// A last chunk that has no text and says why the answer ends: often the token that ended it.
    end: Option<Duration>,
}

impl Chunks {
    fn take(&mut self, choice: &Choice, is_first: bool, at: Duration) {
        match choice.carries {
            Carries::Text => self.at.push(at),
            Carries::Nothing | Carries::EmptyText | Carries::Role
                if choice.finish_reason.is_some() =>
            {
                self.end = Some(at);
            }
            Carries::EmptyText => self.push_without_text(at),
            // Some servers name the role in every chunk.
            Carries::Role if !is_first => self.push_without_text(at),
            Carries::Role | Carries::Nothing => (),
        }
    }

    fn push_without_text(&mut self, at: Duration) {
        self.without_text.push(self.at.len());
        self.at.push(at);
    }

    fn is_empty(&self) -> bool {
        self.at.is_empty()
    }

    /// When tokens arrived. The one definition behind TTFT, ITL and TPOT: a chunk with text brought a token; a chunk
    /// with an empty text brought one unless the server's count says otherwise; the chunk that ends the answer brought
    /// one if the server's count says so.
    fn arrivals(&self, output_tokens: Option<u64>) -> Vec<Duration> {
        let counted = |chunks: usize| output_tokens == Some(chunks as u64);
        let with_text = self.at.len() - self.without_text.len();
        let end = usize::from(self.end.is_some());
        let only_text = !self.without_text.is_empty()
            && ![self.at.len(), self.at.len() + end].into_iter().any(counted)
            && [with_text, with_text + end].into_iter().any(counted);
        let mut arrivals = self.at.clone();
        if only_text {
            let mut position = 0..;
            arrivals.retain(|_| {
                position
                    .next()
                    .is_none_or(|position| self.without_text.binary_search(&position).is_err())
            });
        }
        if counted(arrivals.len() + 1) {
            arrivals.extend(self.end);
        }
        arrivals
    }
}

/// Unknown where the answer came in one piece, even if that piece held many tokens.
fn time_per_output_token(arrivals: &[Duration], output_tokens: Option<u64>) -> Option<f64> {
    let streaming = streaming(arrivals)?;
    let after_first = output_tokens?.checked_sub(1).filter(|&tokens| tokens > 0)?;
    Some(rounded(streaming.as_secs_f64() * 1e3 / after_first as f64))
}

fn milliseconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: &str, finish_reason: Option<&str>) -> Message {
        let choice = Choice {
            text: text.to_owned(),
            carries: if text.is_empty() { Carries::EmptyText } else { Carries::Text },
            finish_reason: finish_reason.map(str::to_owned),
            ..Choice::default()
        };
        Message { id: Some("cmpl-1".to_owned()), choice: Some(choice), ..Message::default() }
    }

    fn role() -> Message {
        let choice = Choice { carries: Carries::Role, ..Choice::default() };
        Message { choice: Some(choice), ..Message::default() }
    }

    fn usage(prompt_tokens: u64, completion_tokens: u64) -> Message {
        let usage = Usage {
            prompt_tokens: Some(prompt_tokens),
            completion_tokens: Some(completion_tokens),
        };
        Message { usage, ..Message::default() }
    }

    fn streamed(messages: Vec<(u64, Message)>) -> RequestRecord {
        record(true, messages, Ok(()), 1000)
    }

    fn record(
        streamed: bool,
        messages: Vec<(u64, Message)>,
        outcome: Result<(), RequestError>,
        ended: u64,
    ) -> RequestRecord {
        let mut measurement = Measurement::start(streamed, Instant::now());
        for (at, message) in messages {
            measurement.take_message(message, Duration::from_millis(at));
        }
        let ended = measurement.start + Duration::from_millis(ended);
        let failure = outcome.err().map(|error| Failure::from(&error));
        measurement.end(1, "id".to_owned(), "p".to_owned(), failure, ended).record
    }

    #[test]
    fn a_streamed_answer_is_measured() {
        let messages = vec![
            (90, role()),
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
    fn a_token_without_text_is_a_token() {
        // Eleven tokens, one each 10 ms, of which the first and all after the third show nothing.
        let mut messages: Vec<_> = (0..10)
            .map(|n| (200 + 10 * n, chunk(if n == 1 || n == 2 { "a" } else { "" }, None)))
            .collect();
        messages.push((300, chunk("", Some("length"))));
        messages.push((301, usage(7, 11)));
        let record = streamed(messages);
        assert_eq!((record.ttft_ms, record.tpot_ms), (Some(200.0), Some(10.0)));
        assert_eq!(record.itl_ms.map(|itl| (itl.count, itl.max)), Some((10, 10.0)));
    }

    #[test]
    fn the_servers_count_decides_what_chunks_without_text_are() {
        let answer = |tokens| {
            streamed(vec![
                (5, chunk("", None)),
                (10, chunk("a", None)),
                (20, chunk("b", None)),
                (30, chunk("", Some("stop"))),
                (31, usage(7, tokens)),
            ])
            .chunk_offsets_ms
        };
        assert_eq!(answer(4), [5.0, 10.0, 20.0, 30.0]);
        // Three could be the first or the end: what comes before the end is likelier.
        assert_eq!(answer(3), [5.0, 10.0, 20.0]);
        assert_eq!(answer(2), [10.0, 20.0]);
        // Chunks with several tokens: nothing speaks against the first.
        assert_eq!(answer(9), [5.0, 10.0, 20.0]);
    }

    #[test]
    fn a_role_is_no_token_but_at_the_start() {
        let record = streamed(vec![
            (1, role()),
            (10, chunk("a", None)),
            (20, role()),
            (30, chunk("b", Some("stop"))),
            (31, usage(1, 3)),
        ]);
        assert_eq!(record.chunk_offsets_ms, [10.0, 20.0, 30.0]);
    }

    #[test]
    fn zero_tokens_of_a_text_are_no_count() {
        let record = streamed(vec![(1, chunk("a", Some("stop"))), (2, usage(3, 0))]);
        assert_eq!((record.input_tokens, record.output_tokens), (Some(3), None));
        assert_eq!(
            streamed(vec![(1, chunk("", Some("stop"))), (2, usage(3, 0))]).output_tokens,
            Some(0)
        );
    }

    #[test]
    fn a_count_of_several_choices_gives_no_time_per_token() {
        let other = Message { other_choices: true, ..Message::default() };
        let record = streamed(vec![
            (10, chunk("a", None)),
            (11, other),
            (20, chunk("b", Some("stop"))),
            (21, usage(1, 4)),
        ]);
        assert_eq!((record.tpot_ms, record.output_tokens), (None, Some(4)));
        assert!(record.several_choices);
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
        message.usage = Usage { prompt_tokens: Some(1), completion_tokens: Some(3) };
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
    fn the_clock_starts_when_the_bytes_leave() {
        let due = Instant::now();
        let at = |offset| due + Duration::from_millis(offset);
        let mut measurement = Measurement::start(true, due);
        measurement.connect = Some(Duration::from_millis(30));
        measurement.take_departure(Departure { began: at(50), ended: at(51) });
        measurement.take_headers(200, Arrival { at: at(140), earliest: at(140), lag: None });
        let offset =
            measurement.take_arrival(Arrival { at: at(150), earliest: at(145), lag: None });
        measurement.take_message(chunk("a", Some("stop")), offset);
        let Measured { record, bounds, .. } =
            measurement.end(1, String::new(), String::new(), None, at(200));
        // It left within a millisecond, and its token came in the last five.
        assert_eq!(bounds.ttft_ms, Some((94.0, 100.0)));
        assert_eq!(bounds.earliest_end, Duration::from_millis(95));
        assert_eq!((record.headers_ms, record.ttft_ms), (Some(90.0), Some(100.0)));
        assert_eq!((record.connect_ms, record.send_ms), (Some(30.0), Some(1.0)));
        assert_eq!((Some(record.queue_ms), Some(record.e2e_ms)), (Some(20.0), Some(100.0)));
    }

    #[test]
    fn both_forms_of_the_start_agree() {
        let record = record(true, vec![], Ok(()), 1);
        let parsed: Timestamp = record.started_at.parse().unwrap();
        assert_eq!(unix_nanoseconds(parsed), record.start_unix_ns);
    }

    #[test]
    fn the_phase_follows_the_response() {
        let mut measurement = Measurement::start(true, Instant::now());
        assert_eq!(measurement.phase(), Phase::Headers);
        measurement
            .take_headers(200, Arrival { at: Instant::now(), earliest: Instant::now(), lag: None });
        assert_eq!(measurement.phase(), Phase::FirstContent);
        measurement.take_message(chunk("a", None), Duration::ZERO);
        assert_eq!(measurement.phase(), Phase::MoreContent);
        let mut whole = Measurement::start(false, Instant::now());
        whole
            .take_headers(200, Arrival { at: Instant::now(), earliest: Instant::now(), lag: None });
        assert_eq!(whole.phase(), Phase::Body);
    }
}
