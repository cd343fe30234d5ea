//! One request over plain HTTP, to something on this machine.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

/// Fails unless the answer is 200 to 399. Waits for `timeout` for the connection, and for each part
/// of the answer.
pub fn get(address: &SocketAddr, path: &str, timeout: Duration) -> Result<()> {
    answer(address, path, timeout)
        .and_then(|answer| judge(&answer))
        .with_context(|| format!("GET {path}"))
}

/// Sends JSON; fails unless the answer is 200 to 399.
pub fn post(address: &SocketAddr, path: &str, body: &str, timeout: Duration) -> Result<()> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    exchange(address, &(head + body), timeout)
        .and_then(|answer| judge(&answer))
        .with_context(|| format!("POST {path}"))
}

fn answer(address: &SocketAddr, path: &str, timeout: Duration) -> Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    exchange(address, &request, timeout)
}

fn exchange(address: &SocketAddr, request: &str, timeout: Duration) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(address, timeout)
        .with_context(|| format!("nothing answers on {address}"))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("no answer")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
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
    fn asked(answer: &'static str) -> (Result<()>, String) {
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
        (get(&address, "/readyz", Duration::from_secs(5)), server.join().unwrap())
    }

    #[test]
    fn success_is_200_to_399() {
        let (result, request) = asked("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        result.unwrap();
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        let (result, _) = asked("HTTP/1.1 503 Service Unavailable\r\n\r\nnot yet: no libraries");
        let error = format!("{:#}", result.unwrap_err());
        assert_eq!(error, "GET /readyz: HTTP/1.1 503 Service Unavailable: not yet: no libraries");
        assert!(asked("ebpf\n").0.is_err());
        assert!(asked("").0.is_err());
    }
}
