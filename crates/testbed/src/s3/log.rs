//! What was asked of the server.

use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub bucket: String,
    /// Decoded; empty for requests about a bucket.
    pub key: String,
    /// As sent, without the question mark.
    pub query: String,
    /// `None` while it is served, and for ever if the connection was cut.
    pub status: Option<u16>,
}

impl Request {
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Log {
    /// Notes an arrival; the number is for [`Log::answered`].
    pub(super) fn arrived(&self, method: &str, path: &str, query: &str) -> usize {
        let path = decode(path);
        let (bucket, key) = path
            .trim_start_matches('/')
            .split_once('/')
            .unwrap_or((path.trim_start_matches('/'), ""));
        let request = Request {
            method: method.to_owned(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            query: query.to_owned(),
            status: None,
        };
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(request);
        requests.len() - 1
    }

    pub(super) fn answered(&self, number: usize, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests[number].status = Some(status);
    }

    pub(super) fn all(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Undoes percent-encoding; what is not a valid escape stays as it is.
fn decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = || u8::from_str_radix(std::str::from_utf8(tail.get(..2)?).ok()?, 16).ok();
        if let (b'%', Some(byte)) = (first, escaped()) {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_and_decoded() {
        let log = Log::default();
        log.arrived("PUT", "/bucket/a%20b/c%3Dd%", "x-id=PutObject");
        let request = log.all().remove(0);
        assert_eq!((request.bucket.as_str(), request.key.as_str()), ("bucket", "a b/c=d%"));
        assert!(!request.succeeded());
        log.answered(0, 204);
        assert!(log.all()[0].succeeded());
    }
}
