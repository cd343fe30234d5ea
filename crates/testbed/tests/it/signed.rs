//! The least S3 client there is: one signed request per connection (signature version 4).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use testbed::s3::{ACCESS_KEY, SECRET_KEY};

pub(crate) struct Client {
    host: String,
    /// Another name than the address, as behind a proxy.
    pub(crate) host_header: Option<String>,
    pub(crate) secret_key: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn new(endpoint: &str) -> Self {
        Self {
            host: endpoint.trim_start_matches("http://").to_owned(),
            host_header: None,
            secret_key: SECRET_KEY.to_owned(),
        }
    }

    /// A request for `path` with `query` in canonical form; `headers` in lower case.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let hash = hex(&Sha256::digest(body));
        let mut all: BTreeMap<String, String> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let host = self.host_header.as_ref().unwrap_or(&self.host);
        all.insert("host".into(), host.clone());
        all.insert("x-amz-date".into(), now.clone());
        all.insert("x-amz-content-sha256".into(), hash.clone());
        let signature = self.sign(&now, method, path, query, &all, &hash);
        let mut request = format!(
            "{method} {path}{}{query} HTTP/1.1\r\n",
            if query.is_empty() { "" } else { "?" }
        );
        for (name, value) in &all {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        write!(
            request,
            "authorization: {signature}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        )
        .unwrap();

        let mut stream = TcpStream::connect(&self.host)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(request.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        parse(&answer).ok_or_else(|| {
            io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended before the answer")
        })
    }

    fn sign(
        &self,
        now: &str,
        method: &str,
        path: &str,
        query: &str,
        headers: &BTreeMap<String, String>,
        hash: &str,
    ) -> String {
        let names = headers.keys().cloned().collect::<Vec<_>>().join(";");
        let lines = headers
            .iter()
            .fold(String::new(), |lines, (name, value)| lines + name + ":" + value + "\n");
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{hash}");
        let day = &now[..8];
        let scope = format!("{day}/us-east-1/s3/aws4_request");
        let text = format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let key = ["us-east-1", "s3", "aws4_request"].into_iter().fold(
            hmac(format!("AWS4{}", self.secret_key).as_bytes(), day.as_bytes()),
            |key, part| hmac(&key, part.as_bytes()),
        );
        let signature = hex(&hmac(&key, text.as_bytes()));
        format!(
            "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
    }
}

pub(crate) fn sha256_base64(body: &[u8]) -> String {
    BASE64_STANDARD.encode(Sha256::digest(body))
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner =
        Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x5c))
        .chain_update(inner)
        .finalize()
        .to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    Some(Answer { status, headers, body: answer[end + 4..].to_vec() })
}
