//! `/healthz`, `/readyz`, `/metrics` and `/status`, for probes, Prometheus and `status`.
//!
//! Whoever can reach the port may ask whether it works and for numbers; command lines may hold
//! secrets, so only this machine or pod is told of processes.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    metrics,
    state::{Phase, State},
    status::Reporter,
};

/// A connection carries one request, and has this long for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections at a time; others wait to be accepted.
const MOST_CONNECTIONS: usize = 32;

/// hyper reads no less; it bounds the head of a request.
const BUFFER_BYTES: usize = 8 << 10;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

const INDEX: &str = "\
/healthz  200 while both tracing threads run and answer
/readyz   200 while all libraries that can be found are attached and calls are recorded
/metrics  numbers for Prometheus
/status   all that is known, as JSON; from this machine or pod only
";

/// Takes the port, so that a start with a wrong address fails.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on HTTP_ADDRESS {address}: choose another address or port (port 0 takes a \
             free one), or set it to nothing to do without"
        )
    })
}

/// Answers until the process ends.
pub async fn serve(listener: TcpListener, reporter: Arc<Reporter>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
        match listener.accept().await {
            Ok((stream, peer)) => {
                let origin = Origin::of(peer.ip(), stream.local_addr().ok());
                let reporter = Arc::clone(&reporter);
                tokio::spawn(async move {
                    converse(stream, origin, reporter).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Too many open files, most likely: the next attempt would fail at once too.
                warn!("cannot accept a connection: {error}");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// This machine, or a container of the same pod.
    Here,
    Elsewhere,
}

impl Origin {
    fn of(peer: IpAddr, local: Option<SocketAddr>) -> Self {
        // What connects to an address of its own has that address too.
        if peer.to_canonical().is_loopback() || local.is_some_and(|local| local.ip() == peer) {
            Self::Here
        } else {
            Self::Elsewhere
        }
    }
}

async fn converse(stream: TcpStream, origin: Origin, reporter: Arc<Reporter>) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let reporter = Arc::clone(&reporter);
        async move {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            // A listing of a directory must not hold up uploads.
            let answer = move || answer(&method, &path, origin, &reporter);
            let answer = tokio::task::spawn_blocking(answer).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|error| {
                reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("cannot answer: {error}\n"))
            }))
        }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(PATIENCE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(?origin, "a connection failed: {error}"),
        Err(_) => debug!(?origin, "a connection took longer than {PATIENCE:?}"),
    }
}

fn answer(method: &Method, path: &str, origin: Origin, reporter: &Reporter) -> Response<String> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/" => reply(StatusCode::OK, TEXT, INDEX),
        "/healthz" => health(reporter.state()),
        "/readyz" => readiness(reporter.state().phase()),
        "/metrics" => {
            reply(StatusCode::OK, metrics::CONTENT_TYPE, metrics::text(&reporter.status()))
        }
        "/status" if origin == Origin::Elsewhere => reply(
            StatusCode::FORBIDDEN,
            TEXT,
            "from this machine or pod only, because command lines may hold secrets: use \
             `kubectl exec ... -- ebpf-cuda-tracer status`\n",
        ),
        "/status" => match serde_json::to_string(&reporter.status()) {
            Ok(json) => reply(StatusCode::OK, JSON, json + "\n"),
            Err(error) => {
                reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("cannot answer: {error}\n"))
            }
        },
        _ => reply(StatusCode::NOT_FOUND, TEXT, format!("no {path} here, but\n{INDEX}")),
    }
}

/// Healthy while it starts and stops too: killing it would lose what it is doing.
fn health(state: &State) -> Response<String> {
    let ended = state
        .failed_thread()
        .map(|thread| format!("the thread {thread} ended; the log says why\n"));
    let stuck = || state.stuck_discovery().map(|reason| reason + "\n");
    match ended.or_else(stuck) {
        None => reply(StatusCode::OK, TEXT, "ok\n"),
        Some(reason) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, reason),
    }
}

fn readiness(phase: Phase) -> Response<String> {
    let (status, text) = match phase {
        Phase::Recording => (StatusCode::OK, "ok\n"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting: attaching to libraries\n"),
        Phase::Stopping => {
            (StatusCode::SERVICE_UNAVAILABLE, "stopping: closing and uploading the trace\n")
        }
        Phase::Failed => (StatusCode::SERVICE_UNAVAILABLE, "failed: a tracing thread ended\n"),
    };
    reply(status, TEXT, text)
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<String>) -> Response<String> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::status::tests::{busy, reporter};

    fn get(path: &str, reporter: &Reporter) -> (u16, String) {
        let response = answer(&Method::GET, path, Origin::Here, reporter);
        (response.status().as_u16(), response.into_body())
    }

    #[test]
    fn readiness_follows_the_phase_and_health_only_a_failure() {
        let (_directory, reporter) = reporter(None);
        let state = reporter.state();
        for (phase, ready, text) in [
            (Phase::Starting, 503, "starting"),
            (Phase::Recording, 200, "ok"),
            (Phase::Stopping, 503, "stopping"),
        ] {
            state.enter(phase);
            let (code, body) = get("/readyz", &reporter);
            assert!(code == ready && body.starts_with(text), "{phase:?}: {code} {body}");
            assert_eq!(get("/healthz", &reporter), (200, "ok\n".to_owned()));
        }
        state.enter(Phase::Recording);
        state.discovery_steps(Some(42));
        assert_eq!(get("/healthz", &reporter), (200, "ok\n".to_owned()));
        state.let_discovery_hang();
        let (code, body) = get("/healthz", &reporter);
        assert!(code == 503 && body.contains("with process 42"), "{code} {body}");
        state.discovery_steps(None);
        assert_eq!(get("/healthz", &reporter), (200, "ok\n".to_owned()));
        state.thread_failed("discovery");
        assert_eq!(get("/readyz", &reporter).0, 503);
        let (code, body) = get("/healthz", &reporter);
        assert!(code == 503 && body.contains("discovery"), "{code} {body}");
    }

    #[test]
    fn only_this_machine_is_told_of_processes() {
        let (_directory, reporter) = busy();
        let answered = |path, origin| answer(&Method::GET, path, origin, &reporter);
        assert_eq!(answered("/status", Origin::Here).status(), StatusCode::OK);
        assert_eq!(answered("/status", Origin::Elsewhere).status(), StatusCode::FORBIDDEN);
        let metrics = answered("/metrics", Origin::Elsewhere).into_body();
        for process in &reporter.status().processes {
            let command = process.caller.command.as_ref().unwrap();
            assert!(!metrics.contains(command.as_str()), "{command} is in {metrics}");
        }
    }

    #[test]
    fn loopback_and_own_addresses_are_here() {
        let local = |ip| Some(SocketAddr::new(ip, 9420));
        let (pod, node) = (IpAddr::from([10, 42, 0, 7]), IpAddr::from([10, 42, 0, 1]));
        for (peer, local, expected) in [
            (Ipv4Addr::LOCALHOST.into(), local(Ipv4Addr::LOCALHOST.into()), Origin::Here),
            (Ipv6Addr::LOCALHOST.into(), local(Ipv6Addr::LOCALHOST.into()), Origin::Here),
            (Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), None, Origin::Here),
            (pod, local(pod), Origin::Here),
            (node, local(pod), Origin::Elsewhere),
            (node, None, Origin::Elsewhere),
        ] {
            assert_eq!(Origin::of(peer, local), expected, "{peer} to {local:?}");
        }
    }

    #[test]
    fn what_is_not_there_says_what_is() {
        let (_directory, reporter) = reporter(None);
        let (code, body) = get("/health", &reporter);
        assert!(code == 404 && body.contains("no /health here") && body.contains("/healthz"));
        assert_eq!(get("/", &reporter), (200, INDEX.to_owned()));
        let refused = answer(&Method::POST, "/healthz", Origin::Here, &reporter);
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()[ALLOW]),
            (405, &HeaderValue::from_static("GET, HEAD"))
        );
    }
}
