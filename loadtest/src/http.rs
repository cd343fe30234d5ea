//! HTTP/1.1 for measuring: when the bytes of a request left, and when those of its answer came.
//!
//! A general client hides both: it queues requests, reads ahead, and hands over pieces later than they came.
//! Here a connection carries one request at a time, and each piece of an answer has the time at which the kernel got it.

mod body;
mod connection;
mod encoding;
mod head;
mod stamped;
mod tls;

use std::{fmt, io};

pub(crate) use connection::{Connection, Response};
pub(crate) use head::{Method, Request};
pub(crate) use stamped::{Arrival, Departure, Stamping};
pub(crate) use tls::{Tls, configuration as tls_configuration};

/// Why an answer could not be had, or not to its end.
#[derive(Debug)]
pub(crate) enum HttpError {
    Io(io::Error),
    /// The server closed the connection; `began` says whether any byte of the answer had come.
    Closed {
        began: bool,
    },
    NotHttp(String),
}

impl HttpError {
    /// A connection that was idle may have been closed by the server while the request was on its way.
    /// The request then never reached the application, and may be sent again.
    pub(crate) fn is_before_answer(&self) -> bool {
        match self {
            Self::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionAborted
            ),
            Self::Closed { began } => !began,
            Self::NotHttp(_) => false,
        }
    }
}

impl From<io::Error> for HttpError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(formatter),
            Self::Closed { began: false } => {
                formatter.write_str("the server closed the connection without an answer")
            }
            Self::Closed { began: true } => {
                formatter.write_str("the server closed the connection in the middle of its answer")
            }
            Self::NotHttp(reason) => write!(formatter, "what came is not HTTP: {reason}"),
        }
    }
}
