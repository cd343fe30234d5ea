//! A small HTTP server that answers as a test tells it to, down to the byte, and remembers what it was asked.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use crate::reply::{Reply, Step};

/// Lives in a thread of its own until dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    log: Arc<Log>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    /// `Null` where there was none.
    pub(crate) body: Value,
    pub(crate) at: Instant,
}

#[derive(Default)]
struct Log {
    metrics: Mutex<Metrics>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

/// The pages that `/metrics` shows, the last one again and again; without any it is not there.
#[derive(Default)]
struct Metrics(VecDeque<String>);

impl Metrics {
    fn next_page(&mut self) -> String {
        let page = if self.0.len() > 1 { self.0.pop_front() } else { self.0.front().cloned() };
        let (status, body) = page.map_or((404, String::new()), |page| (200, page));
        format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

impl Server {
    pub(crate) fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let log = Arc::new(Log::default());
        let (stop, stopped) = oneshot::channel();
        let (port_sender, port) = mpsc::channel();
        let (script, shared): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&log));
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                port_sender.send(listener.local_addr().unwrap().port()).unwrap();
                tokio::select! {
                    () = accept(listener, script, shared) => (),
                    _ = stopped => (),
                }
            });
        });
        Self { port: port.recv().unwrap(), log, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn show_metrics(&self, pages: &[&str]) {
        let pages = pages.iter().map(|&page| page.to_owned()).collect();
        *self.log.metrics.lock().unwrap() = Metrics(pages);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().unwrap().clone()
    }

    /// When each request had arrived, in the order of arrival.
    pub(crate) fn arrivals(&self) -> Vec<Instant> {
        self.seen().iter().map(|seen| seen.at).collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.log.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn most_in_flight(&self) -> usize {
        self.log.most_in_flight.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(thread::JoinHandle::join);
        // A script that panicked must not pass unseen; within a failing test the first panic says enough.
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the server panicked");
    }
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn prompt(&self) -> &str {
        self.body["prompt"].as_str().unwrap()
    }
}

async fn accept(listener: TcpListener, script: Arc<Script>, log: Arc<Log>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (script, log) = (Arc::clone(&script), Arc::clone(&log));
        tokio::spawn(async move {
            // A client that goes away in the middle is part of some tests.
            let _ = serve(stream, &*script, &log).await;
        });
    }
}

async fn serve(stream: TcpStream, script: &Script, log: &Log) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut is_counted = false;
    while let Some(request) = read_request(&mut stream).await? {
        // They come when they come, and are no part of a load.
        if request.path.ends_with("/metrics") {
            let page = log.metrics.lock().unwrap_or_else(PoisonError::into_inner).next_page();
            stream.write_all(page.as_bytes()).await?;
            continue;
        }
        if !std::mem::replace(&mut is_counted, true) {
            log.connections.fetch_add(1, Ordering::SeqCst);
        }
        let now = log.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        log.most_in_flight.fetch_max(now, Ordering::SeqCst);
        let reply = script(&request);
        log.seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let kept = write_reply(&mut stream, reply).await;
        // Before the end of the body: the client may send its next request as soon as it has that.
        log.in_flight.fetch_sub(1, Ordering::SeqCst);
        if !kept? {
            return Ok(());
        }
        stream.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Seen>> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let path = head[0].split(' ').nth(1).unwrap().to_owned();
    let headers: Vec<(String, String)> = head[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    let mut request = Seen { path, headers, body: Value::Null, at: Instant::now() };
    if let Some(length) = request.header("content-length") {
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await?;
        request.body = serde_json::from_slice(&body).unwrap();
    }
    Ok(Some(request))
}

/// Whether the connection is still good and the chunked body only lacks its end.
async fn write_reply(stream: &mut BufReader<TcpStream>, reply: Reply) -> io::Result<bool> {
    let Reply { status, headers, steps } = reply;
    if let Some(status) = status {
        let mut head = format!("HTTP/1.1 {status} Scripted\r\ntransfer-encoding: chunked\r\n");
        for (name, value) in headers {
            head.push_str(&[name, ": ", value.as_str(), "\r\n"].concat());
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await?;
    }
    for step in steps {
        match step {
            Step::Chunk(bytes) => {
                let frame = [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
                stream.write_all(&frame).await?;
            }
            Step::Raw(bytes) => stream.write_all(&bytes).await?,
            Step::Pause(duration) => tokio::time::sleep(duration).await,
            Step::Meet(barrier) => {
                barrier.wait().await;
            }
            Step::Hang => std::future::pending().await,
            Step::Cut => {
                stream.shutdown().await?;
                return Ok(false);
            }
        }
    }
    Ok(true)
}
