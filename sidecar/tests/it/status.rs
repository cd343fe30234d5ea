//! `ebpf-cuda-tracer status` and the server that it asks, without a tracer behind it.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use sidecar::{
    reporting::{
        http,
        state::{Evidence, Phase, State},
        status::{Facts, Reporter, Status},
    },
    shipping::spool::Spool,
};
use tempfile::TempDir;

use crate::{
    command::sidecar,
    scripted::{Reply, Scripted},
};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

/// A server, to the end of the test's process.
struct Served {
    directory: TempDir,
    address: SocketAddr,
    state: Arc<State>,
}

impl Served {
    fn start() -> Self {
        Self::on("127.0.0.1:0")
    }

    fn on(address: &str) -> Self {
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
        let listener = http::listen(address.parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        http::serve(listener, reporter).unwrap();
        Self { directory, address, state }
    }

    /// Everything that is answered to these bytes.
    fn exchange(&self, request: &str) -> String {
        exchange(TcpStream::connect(self.address).unwrap(), request)
    }

    fn status(&self, arguments: &[&str]) -> crate::command::Ran {
        let address = self.address.to_string();
        sidecar(&[&["status"], arguments].concat(), &[("HTTP_ADDRESS", &address)])
    }
}

fn exchange(mut stream: TcpStream, request: &str) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
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
fn nonsense_and_long_requests_are_refused() {
    let served = Served::start();
    assert!(served.exchange("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(20_000));
    // Refused, or the connection is closed with a part of the request unread.
    let mut stream = TcpStream::connect(served.address).unwrap();
    stream.write_all(long.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert!(served.exchange(HEALTH).ends_with("ok\n"));
}

/// Opens what the server closes again and again, until it is told to end.
fn besiege(address: SocketAddr, count: usize, sent: &'static str) -> impl FnOnce() {
    let over = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&over);
    let open = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream.write_all(sent.as_bytes()).unwrap();
        stream
    };
    let mut held: Vec<TcpStream> = (0..count).map(|_| open()).collect();
    let thread = thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            for stream in &mut held {
                let is_open = stream
                    .peek(&mut [0])
                    .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
                // A byte at a time, as the slowest clients send.
                if !is_open || !sent.is_empty() && stream.write_all(b"a").is_err() {
                    *stream = open();
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
    });
    move || {
        end.store(true, Ordering::Relaxed);
        thread.join().unwrap();
    }
}

#[test]
fn connections_that_ask_nothing_or_never_end_asking_keep_no_probe_from_its_answer() {
    for sent in ["", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: "] {
        let served = Served::start();
        let end = besiege(served.address, 200, sent);
        for _ in 0..50 {
            assert!(served.exchange(HEALTH).ends_with("ok\n"));
        }
        end();
    }
}

#[test]
fn clients_that_do_not_read_their_answer_keep_no_probe_from_its_answer() {
    let served = Served::start();
    let silent: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(served.address).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        assert!(served.exchange(HEALTH).ends_with("ok\n"));
    }
    drop(silent);
}

#[test]
fn a_connection_that_asks_nothing_is_closed_also_when_there_is_room() {
    let served = Served::start();
    for sent in ["", "GET /healthz HTTP/1.1\r\nHost: x\r\n"] {
        assert_eq!(served.exchange(sent), "", "{sent:?}");
    }
}

#[test]
fn thousands_of_short_connections_leave_room_for_probes() {
    let served = Served::start();
    let address = served.address;
    let floods: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                for _ in 0..2000 {
                    drop(TcpStream::connect(address));
                }
            })
        })
        .collect();
    while floods.iter().any(|flood| !flood.is_finished()) {
        assert!(served.exchange(HEALTH).ends_with("ok\n"));
    }
}

#[test]
fn the_first_of_two_requests_at_once_is_answered_whole() {
    let served = Served::start();
    let answer = served.exchange(&[HEALTH, HEALTH].concat());
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1, "{answer}");
    assert!(answer.ends_with("ok\n"), "{answer}");
}

#[test]
fn every_address_means_those_of_both_families() {
    let served = Served::on("[::]:0");
    let port = served.address.port();
    for ip in ["127.0.0.1", "::1"] {
        let address = SocketAddr::new(ip.parse().unwrap(), port);
        // A machine without IPv6 has no such address to ask from.
        if let Ok(stream) = TcpStream::connect(address) {
            assert!(exchange(stream, HEALTH).ends_with("ok\n"), "{address}");
        } else {
            assert!(ip == "::1" && !std::path::Path::new("/proc/net/if_inet6").exists(), "{ip}");
        }
    }
    served.state.enter(Phase::Recording);
    let setting = format!("[::]:{port}");
    for setting in [setting, format!("0.0.0.0:{port}")] {
        let ran = sidecar(&["status"], &[("HTTP_ADDRESS", &setting)]);
        assert_eq!(ran.code, 0, "{setting}: {}", ran.stderr);
    }
}

/// Connects as a mesh does that delivers what comes from outside.
fn connect_from(source: &str, address: SocketAddr) -> TcpStream {
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&stream, &SocketAddr::new(source.parse::<IpAddr>().unwrap(), 0)).unwrap();
    connect(&stream, &address).unwrap();
    stream.into()
}

#[test]
fn command_lines_are_for_the_pod_itself_not_for_a_mesh_and_not_for_a_web_page() {
    let served = Served::start();
    let ask = |host: &str| format!("GET /status HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let local = ask(&format!("localhost:{}", served.address.port()));
    assert!(served.exchange(&local).starts_with("HTTP/1.1 200 "));
    for (source, request, reason) in [
        ("127.0.0.6", local.clone(), "this request comes from 127.0.0.6"),
        ("127.0.0.1", ask("evil.example"), "this request is for the host \"evil.example\""),
        ("127.0.0.1", "GET /status HTTP/1.0\r\n\r\n".to_owned(), "no Host"),
    ] {
        let answer = exchange(connect_from(source, served.address), &request);
        assert!(
            answer.starts_with("HTTP/1.1 403 ") || answer.starts_with("HTTP/1.0 403 "),
            "{answer}"
        );
        assert!(answer.contains(reason) && answer.contains("kubectl exec"), "{answer}");
    }
    let health = exchange(connect_from("127.0.0.6", served.address), HEALTH);
    assert!(health.ends_with("ok\n"), "the kubelet may come through a mesh");
}

#[test]
fn nothing_that_a_process_calls_itself_reaches_the_terminal_as_a_command() {
    const EVIL: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\r\nprocesses  0";
    let served = Served::start();
    let name = served.directory.path().join(EVIL);
    std::fs::copy("/bin/sleep", &name).unwrap();
    let mut child = std::process::Command::new(&name).arg("600").spawn().unwrap();
    let mut processes = processes::process::Processes::new("owned");
    let known = processes.known(child.id());
    served.state.callers().note(child.id(), &known, Evidence::Call);
    served.state.uploads().failing(EVIL.to_owned());
    served.state.publish(sidecar::reporting::state::Recorded {
        tally: sidecar::recording::accounting::Tally {
            functions: [(format!("cu{EVIL}"), 1)].into(),
            ..Default::default()
        },
        ..Default::default()
    });
    let metrics = served.exchange("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (_, metrics) = metrics.split_once("\r\n\r\n").unwrap();
    let local = served.exchange("GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (_, json) = local.split_once("\r\n\r\n").unwrap();
    for shown in [served.status(&[]), served.status(&["--json"])]
        .iter()
        .map(|ran| ran.stdout.as_str())
        .chain([metrics, json])
    {
        assert!(shown.contains("\\u001b[2J"), "{shown:?}");
        assert!(!shown.replace('\n', "").contains(char::is_control), "{shown:?}");
    }
    let text = served.status(&[]).stdout;
    assert_eq!(text.matches("\nprocesses  ").count(), 1, "no line is forged: {text}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_port_that_is_taken_is_named_with_the_way_out() {
    let served = Served::start();
    let error = http::listen(served.address).unwrap_err();
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
        (Reply::new(403).body("not for\u{1b}[2J you\n"), "not for\\u001b[2J you"),
    ] {
        let server = Scripted::start(move |_| reply.clone());
        let address = server.endpoint.strip_prefix("http://").unwrap().to_owned();
        let ran = sidecar(&["status", "--json", "--http-address", &address], &[]);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains(expected), "no {expected:?} in {}", ran.stderr);
        assert!(ran.stdout.is_empty());
    }
}
