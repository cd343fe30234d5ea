//! A store that answers as a test says: what the stand-in, being right, does not do.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// How long the connection stays open behind the body.
    pause: Duration,
    tells_length: bool,
    floods: bool,
}

/// Sent by an answer that floods, unless the client closes the connection.
pub(crate) const FLOOD: u64 = 256 << 20;

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        let (headers, body) = (Vec::new(), Vec::new());
        Self { status, headers, body, pause: Duration::ZERO, tells_length: true, floods: false }
    }

    /// A body of [`FLOOD`] bytes.
    pub(crate) fn flood() -> Self {
        Self { floods: true, ..Self::new(200) }.header("Content-Length", FLOOD.to_string())
    }

    /// For answers to HEAD.
    pub(crate) fn without_length(self) -> Self {
        Self { tells_length: false, ..self }
    }

    /// An error as S3 words it.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let text = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        Self::new(status).body(text)
    }

    /// A listing of everything there is.
    pub(crate) fn listing(objects: &[(&str, usize)]) -> Self {
        let mut text = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
        for (key, bytes) in objects {
            let bytes = bytes.to_string();
            text.extend(["<Contents><Key>", key, "</Key><Size>", &bytes, "</Size></Contents>"]);
        }
        text.push_str("</ListBucketResult>");
        Self::new(200).body(text)
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends no more, and does not end either.
    pub(crate) fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Sends no more of the body than this; what was said of its length stays.
    pub(crate) fn cut_to(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// Serves until the test process ends.
pub(crate) struct Scripted {
    pub(crate) endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
    flooded: Arc<AtomicU64>,
}

impl Scripted {
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let answer = Arc::new(answer);
        let flooded = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&flooded);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, answer, log, flooded) =
                    (stream.unwrap(), Arc::clone(&answer), Arc::clone(&log), Arc::clone(&count));
                thread::spawn(move || serve(&stream, &*answer, &log, &flooded));
            }
        });
        Self { endpoint, requests, flooded }
    }

    /// Bytes of the largest flood that a client took.
    pub(crate) fn flooded(&self) -> u64 {
        self.flooded.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// One request a connection.
fn serve(
    stream: &TcpStream,
    answer: &impl Fn(&Request) -> Reply,
    log: &Mutex<Vec<Request>>,
    flooded: &AtomicU64,
) {
    let mut reader = BufReader::new(stream);
    let Some(request) = read_request(&mut reader) else { return };
    let Reply { status, mut headers, body, pause, tells_length, floods } = answer(&request);
    let is_head = request.method == "HEAD";
    log.lock().unwrap().push(request);
    if tells_length && !headers.iter().any(|(name, _)| *name == "Content-Length") {
        headers.push(("Content-Length", body.len().to_string()));
    }
    let mut text = format!("HTTP/1.1 {status} Scripted\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.extend([name, ": ", &value, "\r\n"]);
    }
    text.push_str("\r\n");
    let mut stream = stream;
    // The client may have gone.
    let _ = stream.write_all(text.as_bytes());
    if !is_head {
        let _ = stream.write_all(&body);
    }
    let mut sent = 0;
    while floods && sent < FLOOD && stream.write_all(&[b' '; 1 << 12]).is_ok() {
        sent += 1 << 12;
        flooded.fetch_max(sent, Ordering::SeqCst);
    }
    thread::sleep(pause);
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}
