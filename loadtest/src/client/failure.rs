//! From what the connection and the resolver report to the errors people read.

use std::io;

use crate::{error::RequestError, target::Target};

pub(super) fn of_lookup(target: &Target, error: &io::Error) -> RequestError {
    let text = error.to_string();
    let reason = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    RequestError::Resolve { host: target.host().to_owned(), reason: reason.to_owned() }
}

pub(super) fn of_connect(target: &Target, error: &io::Error) -> RequestError {
    let target = target.clone();
    match error.kind() {
        io::ErrorKind::ConnectionRefused => RequestError::Refused { target },
        _ => RequestError::Connect { target, reason: error.to_string() },
    }
}
