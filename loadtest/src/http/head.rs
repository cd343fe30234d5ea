//! The head of a request as it is sent, and that of a response as it came.

use std::fmt::Write as _;

use super::{HttpError, body::Body};

const USER_AGENT: &str = concat!("loadtest/", env!("CARGO_PKG_VERSION"));
/// More headers than any server sends.
const MAX_HEADERS: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
}

#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    /// As the `Host` header wants it.
    pub(crate) host: &'a str,
    /// Checked to be what a header can carry.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// Empty for none.
    pub(crate) body: &'a str,
}

impl Request<'_> {
    /// Head and body in one piece, so that they leave together.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let Self { method, path, host, headers, body } = self;
        let method = match method {
            Method::Get => "GET",
            Method::Post => "POST",
        };
        let mut text =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: identity\r\n");
        let mut add = |name: &str, value: &str| {
            text.extend([name, ": ", value, "\r\n"]);
        };
        for (name, value) in [("User-Agent", USER_AGENT), ("Accept", "*/*")] {
            if !headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
                add(name, value);
            }
        }
        for (name, value) in *headers {
            add(name, value);
        }
        if !body.is_empty() {
            add("Content-Type", "application/json");
            let _: std::fmt::Result = write!(text, "Content-Length: {}\r\n", body.len());
        }
        text.push_str("\r\n");
        text.push_str(body);
        text.into_bytes()
    }
}

/// What matters of a response's head.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) body: Body,
    /// The connection can carry another request after this response.
    pub(crate) keeps_alive: bool,
    /// Other than `identity`.
    pub(crate) encoding: Option<String>,
}

impl Head {
    /// The head and its length, once it is all there.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HttpError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(HttpError::NotHttp(error.to_string())),
        };
        let status = response.code.unwrap_or_default();
        let value = |name: &str| {
            let found =
                response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            Some(String::from_utf8_lossy(found.value).trim().to_ascii_lowercase())
        };
        let has_word = |name: &str, word: &str| {
            value(name).is_some_and(|value| value.split(',').any(|part| part.trim() == word))
        };
        let body = if matches!(status, 100..=199 | 204 | 304) {
            Body::empty()
        } else if has_word("transfer-encoding", "chunked") {
            Body::chunked()
        } else if let Some(length) = value("content-length") {
            let length = length
                .parse()
                .map_err(|_| HttpError::NotHttp("its content-length is not a number".to_owned()))?;
            Body::of_length(length)
        } else {
            Body::until_close()
        };
        let keeps_alive = !has_word("connection", "close")
            && (response.version == Some(1) || has_word("connection", "keep-alive"));
        let encoding = value("content-encoding").filter(|encoding| encoding != "identity");
        Ok(Some((Self { status, body, keeps_alive, encoding }, length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        Head::parse(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn a_request_is_one_piece() {
        let request = Request {
            method: Method::Post,
            path: "/v1/completions",
            host: "[::1]:80",
            headers: &[("X-Request-Id", "r-1")],
            body: "{}",
        };
        let text = String::from_utf8(request.to_bytes()).unwrap();
        assert!(text.starts_with("POST /v1/completions HTTP/1.1\r\nHost: [::1]:80\r\n"), "{text}");
        assert!(
            text.ends_with(
                "X-Request-Id: r-1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_head_is_taken_when_it_is_complete() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert!(Head::parse(&text[..20]).unwrap().is_none());
        let (head, length) = Head::parse(text).unwrap().unwrap();
        assert_eq!((head.status, length, head.keeps_alive), (200, text.len() - 3, true));
        assert!(matches!(Head::parse(b"SSH-2.0-OpenSSH\r\n"), Err(HttpError::NotHttp(_))));
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n").is_err());
    }

    #[test]
    fn a_connection_is_kept_only_if_both_sides_want_it() {
        for (head_text, keeps) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nconnection: Close\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", true),
        ] {
            assert_eq!(head(head_text).keeps_alive, keeps, "{head_text}");
        }
    }

    #[test]
    fn an_encoding_is_noticed() {
        assert_eq!(
            head("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n").encoding.as_deref(),
            Some("gzip")
        );
        assert_eq!(head("HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\n\r\n").encoding, None);
    }
}
