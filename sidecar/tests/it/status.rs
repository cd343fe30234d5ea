//! `ebpf-cuda-tracer status` and the server that it asks, without a tracer behind it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use sidecar::{
    http,
    spool::Spool,
    state::{Phase, State},
    status::{Facts, Reporter, Status},
};
use tempfile::TempDir;

use crate::{
    command::sidecar,
    scripted::{Reply, Scripted},
};

/// A server for as long as its runtime lives.
struct Served {
    _directory: TempDir,
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
    state: Arc<State>,
}

impl Served {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let state = Arc::new(State::default());
        let facts = Facts {
            host: "node".to_owned(),
            kernel: "6.18".to_owned(),
            run: "node_20261124T032105.123Z".to_owned(),
            started: "2026-11-24T03:21:05Z".parse().unwrap(),
            target_process: "python".to_owned(),
            trace_dir: directory.path().to_owned(),
            trace_dir_limit: 1 << 30,
            destination: None,
        };
        let spool = Spool::open(directory.path()).unwrap();
        let reporter = Arc::new(Reporter::new(facts, spool, Arc::clone(&state)));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = runtime.block_on(http::listen(any)).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(http::serve(listener, reporter));
        Self { _directory: directory, runtime, address, state }
    }

    /// Everything that is answered to these bytes.
    fn exchange(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn status(&self, arguments: &[&str]) -> crate::command::Ran {
        let address = self.address.to_string();
        sidecar(&[&["status"], arguments].concat(), &[("HTTP_ADDRESS", &address)])
    }
}

#[test]
fn the_command_prints_what_the_sidecar_says() {
    let served = Served::start();
    served.state.enter(Phase::Recording);
    let ran = served.status(&[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.starts_with("sidecar    recording (version "), "{}", ran.stdout);
    assert!(ran.stdout.contains("uploads    off"), "{}", ran.stdout);
    let ran = served.status(&["--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let status: Status = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((status.phase, status.host.as_str()), (Phase::Recording, "node"));
}

#[test]
fn http_is_spoken_as_probes_and_prometheus_speak_it() {
    let served = Served::start();
    let get = |path: &str| served.exchange(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(get("/healthz").starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(get("/readyz").starts_with("HTTP/1.1 503 "), "nothing is attached yet");
    served.state.enter(Phase::Recording);
    assert!(get("/readyz").starts_with("HTTP/1.1 200 "));
    let metrics = get("/metrics");
    assert!(
        metrics.to_lowercase().contains("content-type: text/plain; version=0.0.4"),
        "{metrics}"
    );
    assert!(metrics.contains("\nebpf_cuda_tracer_ready 1\n"), "{metrics}");
    let head = served.exchange("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(get("/nothing").starts_with("HTTP/1.1 404 "));
}

#[test]
fn odd_clients_do_not_keep_others_from_being_answered() {
    let served = Served::start();
    // Fewer than are served at a time, and none of them asks anything.
    let silent: Vec<TcpStream> =
        (0..16).map(|_| TcpStream::connect(served.address).unwrap()).collect();
    assert!(served.exchange("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(20_000));
    // Refused, or the connection is closed with a part of the request unread.
    let mut stream = TcpStream::connect(served.address).unwrap();
    stream.write_all(long.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert!(served.exchange("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").ends_with("ok\n"));
    drop(silent);
}

#[test]
fn a_port_that_is_taken_is_named_with_the_way_out() {
    let served = Served::start();
    let error = served.runtime.block_on(http::listen(served.address)).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.starts_with(&format!("cannot listen on HTTP_ADDRESS {}: ", served.address)));
    assert!(text.contains("choose another address or port") && text.contains("in use"), "{text}");
}

#[test]
fn without_a_sidecar_the_command_says_what_to_check() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let missing = format!("cannot ask the sidecar on {closed}: nothing answers there: ");
    for (address, expected) in [
        ("", "HTTP_ADDRESS is empty"),
        ("127.0.0.1:0", "HTTP_ADDRESS has port 0: the log of the sidecar says where"),
        (closed.as_str(), missing.as_str()),
    ] {
        let ran = sidecar(&["status"], &[("HTTP_ADDRESS", address)]);
        assert_eq!(ran.code, 1, "{}", ran.stdout);
        assert!(ran.stderr.contains(expected), "no {expected:?} in {}", ran.stderr);
        assert!(ran.stdout.is_empty());
    }
}

#[test]
fn what_is_no_sidecar_is_told_from_one() {
    for (reply, expected) in [
        (Reply::new(404).body("404 page not found"), "is no sidecar: HTTP 404"),
        (Reply::new(200).body("<html>"), "is no sidecar, or one of another version"),
        (Reply::new(403).body("from this machine or pod only\n"), "from this machine or pod only"),
    ] {
        let server = Scripted::start(move |_| reply.clone());
        let address = server.endpoint.strip_prefix("http://").unwrap().to_owned();
        let ran = sidecar(&["status", "--json", "--http-address", &address], &[]);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains(expected), "no {expected:?} in {}", ran.stderr);
        assert!(ran.stdout.is_empty());
    }
}
