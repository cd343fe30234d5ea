//! Sends one request and reads its response, streamed or whole, into a measurement.

use reqwest::{RequestBuilder, Response, header};

use super::Client;
use crate::{
    error::{Phase, RequestError},
    measurement::Measurement,
    protocol::{self, Message, NotAMessage},
    sse::{ParseError, Parser},
};

/// More than any error message; an error body is read no further.
const LONGEST_ERROR_BODY: usize = 64 << 10;

impl Client {
    /// Succeeds once the answer is complete and proven so.
    pub(super) async fn exchange(
        &self,
        request: RequestBuilder,
        measurement: &mut Measurement,
    ) -> Result<Response, RequestError> {
        let mut response =
            request.send().await.map_err(|error| self.failure(error, Phase::Headers))?;
        measurement.take_headers(response.status().as_u16());
        self.expect_ok(&mut response, Phase::Body).await?;
        if self.options.stream {
            self.read_stream(&mut response, measurement).await?;
        } else {
            self.read_whole(&mut response, measurement).await?;
        }
        match measurement.finish_reason() {
            Some(reason @ ("abort" | "error")) => {
                Err(RequestError::Aborted { finish_reason: reason.to_owned() })
            }
            _ => Ok(response),
        }
    }

    /// Turns any status other than 200 into an error with the server's own message.
    pub(super) async fn expect_ok(
        &self,
        response: &mut Response,
        phase: Phase,
    ) -> Result<(), RequestError> {
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(());
        }
        let mut body = Vec::new();
        while body.len() < LONGEST_ERROR_BODY {
            match response.chunk().await.map_err(|error| self.failure(error, phase))? {
                Some(bytes) => body.extend_from_slice(&bytes),
                None => break,
            }
        }
        Err(RequestError::Status { status, message: protocol::error_message(&body) })
    }

    pub(super) async fn whole_body(
        &self,
        response: &mut Response,
        phase: Phase,
    ) -> Result<Vec<u8>, RequestError> {
        let mut body = Vec::new();
        while let Some(bytes) =
            response.chunk().await.map_err(|error| self.failure(error, phase))?
        {
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }

    async fn read_whole(
        &self,
        response: &mut Response,
        measurement: &mut Measurement,
    ) -> Result<(), RequestError> {
        let body = self.whole_body(response, Phase::Body).await?;
        let at = measurement.elapsed();
        let malformed = |reason: &str| RequestError::MalformedResponse {
            reason: reason.to_owned(),
            excerpt: None,
        };
        let text = str::from_utf8(&body).map_err(|_| malformed("it is not valid UTF-8"))?;
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

    async fn read_stream(
        &self,
        response: &mut Response,
        measurement: &mut Measurement,
    ) -> Result<(), RequestError> {
        expect_event_stream(response)?;
        let mut parser = Parser::default();
        let mut events = Vec::new();
        loop {
            let read = response.chunk().await;
            let at = measurement.elapsed();
            let Some(bytes) = read.map_err(|error| self.failure(error, measurement.phase()))?
            else {
                break;
            };
            // Events that are complete count, also if what follows them is broken.
            let pushed = parser.push(&bytes, &mut events);
            for data in events.drain(..) {
                if data == "[DONE]" {
                    return expect_finish_reason(measurement);
                }
                measurement.take_message(parse_event(&data)?, at);
            }
            pushed.map_err(|error: ParseError| malformed_stream(error.to_string()))?;
        }
        match parser.finish() {
            Ok(Some(data)) if data == "[DONE]" => expect_finish_reason(measurement),
            _ if !measurement.has_choice() => {
                Err(RequestError::Truncated { missing: "any part of an answer" })
            }
            _ if measurement.finish_reason().is_none() => {
                Err(RequestError::Truncated { missing: "finish_reason and [DONE]" })
            }
            _ => Err(RequestError::Truncated { missing: "[DONE]" }),
        }
    }
}

fn expect_finish_reason(measurement: &Measurement) -> Result<(), RequestError> {
    match measurement.finish_reason() {
        Some(_) => Ok(()),
        None => Err(RequestError::Truncated { missing: "finish_reason" }),
    }
}

fn expect_event_stream(response: &Response) -> Result<(), RequestError> {
    let content_type =
        response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match content_type {
        Some(other) if !other.starts_with("text/event-stream") => {
            Err(malformed_stream(format!("its content type is {other}, not text/event-stream")))
        }
        _ => Ok(()),
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
