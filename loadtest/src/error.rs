//! What can go wrong with one request: a kind to group by, and a sentence for people.

mod advice;

use std::{error, fmt, time::Duration};

use crate::target::Target;

/// A failed request. The sentence holds nothing that differs between two failures of the same cause, so it groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestError {
    /// The host name has no address.
    Resolve {
        target: Target,
        reason: String,
    },
    /// Nothing listens at the address.
    Refused {
        target: Target,
    },
    /// Any other failure to connect.
    Connect {
        target: Target,
        reason: String,
    },
    /// The server is there, and no connection over TLS came about.
    Tls {
        target: Target,
        reason: String,
    },
    Timeout {
        limit: Duration,
        waiting_for: Phase,
    },
    /// The connection broke, or what came was not HTTP.
    Transport {
        waiting_for: Phase,
        reason: String,
    },
    /// A status other than 200, with the server's own words.
    Status {
        status: u16,
        message: String,
    },
    /// The server does not serve this model; `available` is `None` if it would not say which it does.
    ModelNotFound {
        model: String,
        available: Option<Vec<String>>,
    },
    /// `/v1/models` is empty.
    NoModel,
    /// An error reported inside a stream that began with status 200.
    InStream {
        message: String,
    },
    MalformedStream {
        reason: String,
        excerpt: Option<String>,
    },
    MalformedResponse {
        reason: String,
        excerpt: Option<String>,
    },
    /// The stream ended in good order but without a part that proves it complete.
    Truncated {
        missing: &'static str,
        /// What came and was no part of an answer.
        received: Option<String>,
    },
    /// The server gave the request up and said so in `finish_reason`.
    Aborted {
        finish_reason: String,
    },
}

/// What a request was waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Connection,
    Headers,
    FirstContent,
    MoreContent,
    Body,
}

impl RequestError {
    /// A stable name for scripts; the `kind` of a failure in the result file.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "dns",
            Self::Refused { .. } => "connection_refused",
            Self::Connect { .. } => "connect",
            Self::Tls { .. } => "tls",
            Self::Timeout { .. } => "timeout",
            Self::Transport { .. } => "transport",
            Self::Status { .. } => "http_status",
            Self::ModelNotFound { .. } => "model_not_found",
            Self::NoModel => "no_model",
            Self::InStream { .. } => "error_in_stream",
            Self::MalformedStream { .. } => "malformed_stream",
            Self::MalformedResponse { .. } => "malformed_response",
            Self::Truncated { .. } => "truncated_stream",
            Self::Aborted { .. } => "aborted",
        }
    }

    /// What differs from one failure of this sort to the next: the text that could not be read.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::MalformedStream { excerpt, .. } | Self::MalformedResponse { excerpt, .. } => {
                excerpt.as_deref()
            }
            Self::Truncated { received, .. } => received.as_deref(),
            _ => None,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { target, reason } => {
                write!(formatter, "cannot resolve the host name {}: {reason}", target.host())
            }
            Self::Refused { target } => {
                write!(formatter, "cannot connect to {target}: connection refused")
            }
            Self::Connect { target, reason } => {
                write!(formatter, "cannot connect to {target}: {reason}")
            }
            Self::Tls { target, reason } => {
                write!(formatter, "cannot speak TLS with {target}: {reason}")
            }
            Self::Timeout { limit, waiting_for } => {
                write!(
                    formatter,
                    "timed out after {} s while waiting for {waiting_for}",
                    limit.as_secs_f64()
                )
            }
            Self::Transport { waiting_for, reason } => {
                write!(formatter, "the connection failed while waiting for {waiting_for}: {reason}")
            }
            Self::Status { status, message } => {
                write!(formatter, "the server answered {status}: {message}")
            }
            Self::ModelNotFound { model, available: Some(available) } if !available.is_empty() => {
                write!(
                    formatter,
                    "the server has no model {model}; it has: {}",
                    available.join(", ")
                )
            }
            Self::ModelNotFound { model, available: _ } => {
                write!(formatter, "the server has no model {model}, and lists none at /v1/models")
            }
            Self::NoModel => formatter.write_str("the server lists no model at /v1/models"),
            Self::InStream { message } => {
                write!(formatter, "the server reported an error in the stream: {message}")
            }
            Self::MalformedStream { reason, .. } => {
                write!(formatter, "the stream is malformed: {reason}")
            }
            Self::MalformedResponse { reason, .. } => {
                write!(formatter, "the response is malformed: {reason}")
            }
            Self::Truncated { missing, .. } => {
                write!(formatter, "the stream ended without {missing}")
            }
            Self::Aborted { finish_reason } => {
                write!(
                    formatter,
                    "the server gave the request up: finish_reason is \"{finish_reason}\""
                )
            }
        }
    }
}

impl error::Error for RequestError {}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Connection => "the connection",
            Self::Headers => "response headers",
            Self::FirstContent => "the first token",
            Self::MoreContent => "the next token",
            Self::Body => "the response body",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target::new("localhost", 30800).unwrap()
    }

    #[test]
    fn a_refused_connection_names_address_and_checks() {
        let error = RequestError::Refused { target: target() };
        assert_eq!(error.to_string(), "cannot connect to localhost:30800: connection refused");
        let advice = error.advice().unwrap();
        assert!(advice.contains("--port") && advice.contains("kubectl get pods"), "{advice}");
    }

    #[test]
    fn a_timeout_says_how_long_and_for_what() {
        let error = RequestError::Timeout {
            limit: Duration::from_millis(1500),
            waiting_for: Phase::FirstContent,
        };
        assert_eq!(error.to_string(), "timed out after 1.5 s while waiting for the first token");
        assert_eq!(
            error.advice().unwrap(),
            "raise --timeout, or lower --max-tokens, --workers or --rate"
        );
    }

    #[test]
    fn an_unknown_model_lists_those_that_exist() {
        let available = Some(vec!["a".to_owned(), "b/c".to_owned()]);
        let error = RequestError::ModelNotFound { model: "x".to_owned(), available };
        assert_eq!(error.to_string(), "the server has no model x; it has: a, b/c");
        let error = RequestError::ModelNotFound { model: "x".to_owned(), available: None };
        assert_eq!(error.to_string(), "the server has no model x, and lists none at /v1/models");
    }

    #[test]
    fn a_status_repeats_the_servers_words() {
        let error = RequestError::Status { status: 500, message: "engine died".to_owned() };
        assert_eq!(error.to_string(), "the server answered 500: engine died");
        assert_eq!(error.advice(), None);
    }

    #[test]
    fn a_dns_failure_names_the_host() {
        let error = RequestError::Resolve {
            target: Target::new("gpu7", 80).unwrap(),
            reason: "Name or service not known".to_owned(),
        };
        assert_eq!(
            error.to_string(),
            "cannot resolve the host name gpu7: Name or service not known"
        );
    }

    #[test]
    fn a_truncated_stream_names_what_is_missing() {
        let error = RequestError::Truncated { missing: "[DONE]", received: None };
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            ("truncated_stream", "the stream ended without [DONE]")
        );
    }
}
