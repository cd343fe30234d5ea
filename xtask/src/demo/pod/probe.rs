//! A probe over HTTP, as the kubelet sends it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

/// What `manifests --kubelet` tells of a probe.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Probe {
    pub(super) address: SocketAddr,
    pub(super) path: String,
    period_seconds: u64,
    timeout_seconds: u64,
    failures: u64,
}

impl Probe {
    /// How long it may fail at a container's start.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.period_seconds * self.failures)
    }

    /// Passes if the answer is 200 to 399.
    pub(super) fn send(&self) -> Result<()> {
        self.answer()
            .and_then(|answer| judge(&answer))
            .with_context(|| format!("GET {}", self.path))
    }

    fn answer(&self) -> Result<String> {
        let Self { address, path, .. } = self;
        let timeout = Duration::from_secs(self.timeout_seconds);
        let mut stream = TcpStream::connect_timeout(address, timeout)
            .with_context(|| format!("nothing answers on {address}"))?;
        stream.set_read_timeout(Some(timeout))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).context("no answer")?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn judge(answer: &str) -> Result<()> {
    let status = answer.lines().next().unwrap_or_default();
    let Some(code) = status.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok()) else {
        bail!("no answer by HTTP: {status:?}");
    };
    ensure!((200..400).contains(&code), "{status}: {}", answer.lines().last().unwrap_or_default());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::BufRead as _, io::BufReader, net::TcpListener, thread};

    use super::*;

    /// A server that answers once, and what it was asked.
    fn probed(answer: &'static str) -> (Result<()>, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while !asked.ends_with("\r\n\r\n") {
                reader.read_line(&mut asked).unwrap();
            }
            stream.write_all(answer.as_bytes()).unwrap();
            asked
        });
        let probe = Probe {
            address,
            path: "/readyz".to_owned(),
            period_seconds: 1,
            timeout_seconds: 5,
            failures: 60,
        };
        (probe.send(), server.join().unwrap())
    }

    #[test]
    fn success_is_200_to_399() {
        let (result, asked) = probed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        result.unwrap();
        assert!(asked.starts_with("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:"), "{asked}");
        let (result, _) = probed("HTTP/1.1 503 Service Unavailable\r\n\r\nnot yet: no libraries");
        let error = format!("{:#}", result.unwrap_err());
        assert_eq!(error, "GET /readyz: HTTP/1.1 503 Service Unavailable: not yet: no libraries");
        assert!(probed("ebpf\n").0.is_err());
        assert!(probed("").0.is_err());
    }
}
