//! From the bytes of a response's body to messages, in whichever form the server chose.

use std::{mem, time::Duration};

use super::exchange::MAX_BODY;
use crate::{
    error::RequestError,
    measurement::Measurement,
    protocol::{self, Message, NotAMessage},
    sse::{Event, ParseError, Parser},
};

/// The body of a response to a request for a stream.
#[derive(Default)]
pub(super) struct EventStream {
    parser: Parser,
    events: Vec<Event>,
    read: usize,
    /// Something other than blanks came.
    began: bool,
    /// The body so far, while it looks like a JSON object: some servers answer in one piece, or report an error so.
    object: Option<Vec<u8>>,
    /// The first event that is no part of an answer.
    not_understood: Option<String>,
}

impl EventStream {
    /// Whether the answer is complete.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        at: Duration,
        measurement: &mut Measurement,
    ) -> Result<bool, RequestError> {
        let is_first = !self.began;
        self.began |= !bytes.trim_ascii().is_empty();
        self.read += bytes.len();
        if self.read > MAX_BODY {
            return Err(malformed_stream(too_long()));
        }
        if is_first && bytes.trim_ascii_start().starts_with(b"{") {
            self.object = Some(Vec::new());
        }
        if let Some(object) = &mut self.object {
            object.extend_from_slice(bytes);
            return Ok(false);
        }
        // Events that are complete count, also if what follows them is broken.
        let pushed = self.parser.push(bytes, &mut self.events);
        for event in mem::take(&mut self.events) {
            if self.take_event(event, at, measurement)? {
                return expect_finish_reason(measurement).map(|()| true);
            }
        }
        pushed.map_err(|error: ParseError| malformed_stream(error.to_string()))?;
        Ok(false)
    }

    /// Whether it is the one that says that all is said.
    fn take_event(
        &mut self,
        event: Event,
        at: Duration,
        measurement: &mut Measurement,
    ) -> Result<bool, RequestError> {
        let Event { data, is_error } = event;
        if is_error {
            let message = protocol::error_message(data.as_bytes());
            return Err(RequestError::InStream { message });
        }
        match data.trim() {
            "" => return Ok(false),
            "[DONE]" => return Ok(true),
            _ => (),
        }
        let message = parse_event(&data)?;
        if self.not_understood.is_none() && message == Message::default() {
            self.not_understood = Some(protocol::excerpt(&data));
        }
        measurement.take_message(message, at);
        Ok(false)
    }

    pub(super) fn end(
        mut self,
        at: Duration,
        measurement: &mut Measurement,
    ) -> Result<(), RequestError> {
        if let Some(object) = self.object {
            measurement.is_whole();
            return take_whole(&object, at, measurement);
        }
        let last = self.parser.finish().unwrap_or_default();
        if let Some(event) = last {
            let is_error = event.is_error;
            match self.take_event(event, at, measurement) {
                Ok(true) => return expect_finish_reason(measurement),
                // Half an event is no malformed one.
                Err(error) if is_error => return Err(error),
                _ => (),
            }
        }
        let received = self.parser.stray().map(protocol::excerpt).or(self.not_understood);
        Err(RequestError::Truncated {
            missing: match measurement.finish_reason() {
                _ if !measurement.has_choice() => "any part of an answer",
                None => "finish_reason and [DONE]",
                Some(_) => "[DONE]",
            },
            received,
        })
    }
}

/// A response that is one JSON object.
pub(super) fn take_whole(
    body: &[u8],
    at: Duration,
    measurement: &mut Measurement,
) -> Result<(), RequestError> {
    let malformed =
        |reason: &str| RequestError::MalformedResponse { reason: reason.to_owned(), excerpt: None };
    let text = str::from_utf8(body).map_err(|_| malformed("it is not valid UTF-8"))?;
    let message = Message::parse(text).map_err(|error| match error {
        NotAMessage::Error(message) => RequestError::Status { status: 200, message },
        NotAMessage::Malformed { reason, excerpt } => {
            RequestError::MalformedResponse { reason, excerpt: Some(excerpt) }
        }
    })?;
    measurement.take_message(message, at);
    match measurement.finish_reason() {
        Some(_) => Ok(()),
        None if measurement.has_choice() => Err(malformed("it has no finish_reason")),
        None => Err(malformed("it has no choice")),
    }
}

fn expect_finish_reason(measurement: &Measurement) -> Result<(), RequestError> {
    match measurement.finish_reason() {
        Some(_) => Ok(()),
        None => Err(RequestError::Truncated { missing: "finish_reason", received: None }),
    }
}

fn parse_event(data: &str) -> Result<Message, RequestError> {
    Message::parse(data).map_err(|error| match error {
        NotAMessage::Error(message) => RequestError::InStream { message },
        NotAMessage::Malformed { reason, excerpt } => RequestError::MalformedStream {
            reason: format!("an event is {reason}"),
            excerpt: Some(excerpt),
        },
    })
}

fn malformed_stream(reason: String) -> RequestError {
    RequestError::MalformedStream { reason, excerpt: None }
}

pub(super) fn too_long() -> String {
    format!("it is longer than {} MiB", MAX_BODY >> 20)
}
