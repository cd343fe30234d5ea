//! From what the HTTP client and the resolver report to the errors people read.

use std::{error::Error, io};

use super::Client;
use crate::{
    error::{Phase, RequestError},
    target::Target,
};

impl Client {
    pub(super) fn failure(&self, error: reqwest::Error, waiting_for: Phase) -> RequestError {
        if error.is_connect() && error.is_timeout() {
            return RequestError::Timeout {
                limit: self.connect_limit,
                waiting_for: Phase::Connection,
            };
        }
        let reason = innermost(&error);
        if error.is_connect() {
            let target = self.target.clone();
            return if is_refused(&error) {
                RequestError::Refused { target }
            } else {
                RequestError::Connect { target, reason }
            };
        }
        RequestError::Transport { waiting_for, reason }
    }
}

pub(super) fn of_lookup(target: &Target, error: &io::Error) -> RequestError {
    let text = error.to_string();
    let reason = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    RequestError::Resolve { host: target.host().to_owned(), reason: reason.to_owned() }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn is_refused(error: &reqwest::Error) -> bool {
    chain(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::ConnectionRefused)
}

/// The layers above it repeat the URL and say little.
fn innermost(error: &reqwest::Error) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}
