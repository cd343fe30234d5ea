//! `/healthz`, `/readyz`, `/metrics` and `/status`, for probes, Prometheus and `status`.
//!
//! Whoever can reach the port may ask whether it works and for numbers; command lines may hold
//! secrets, so only who is in the pod already is told of processes.

mod access;
mod server;

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
};
use tokio::{sync::Semaphore, task::spawn_blocking};

pub use access::WAY_OUT;
pub use server::{listen, serve};

use crate::{
    escape::{escape, escape_json},
    reporting::{
        metrics,
        state::{Phase, State},
        status::Reporter,
    },
};

/// Every address of both families.
pub(crate) const ANY_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The longest path that an answer repeats.
const MAX_QUOTED_CHARACTERS: usize = 100;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

const INDEX: &str = "\
/healthz  200 while both tracing threads run and answer
/readyz   200 while all libraries that can be found are attached and calls are recorded
/metrics  numbers for Prometheus
/status   all that is known, as JSON; to 127.0.0.1 and ::1 only
";

/// Answers probes at once; of those who ask for more, one after the other.
async fn answer<B>(
    request: Request<B>,
    peer: IpAddr,
    reporter: Arc<Reporter>,
    reports: Arc<Semaphore>,
) -> Result<Response<String>, Infallible> {
    let report = match route(&request, peer, &reporter) {
        Route::Answer(answer) => return Ok(answer),
        Route::Report(report) => report,
    };
    let place = reports.acquire_owned().await.expect("it is never closed");
    let answer = spawn_blocking(move || {
        let answer = report(&reporter);
        drop(place);
        answer
    });
    Ok(answer.await.unwrap_or_else(cannot_answer))
}

enum Route {
    Answer(Response<String>),
    /// It lists directories, so it may take a moment.
    Report(fn(&Reporter) -> Response<String>),
}

fn route<B>(request: &Request<B>, peer: IpAddr, reporter: &Reporter) -> Route {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Route::Answer(refused);
    }
    Route::Answer(match request.uri().path() {
        "/" => reply(StatusCode::OK, TEXT, INDEX),
        "/healthz" => health(reporter.state()),
        "/readyz" => readiness(reporter.state().phase()),
        "/metrics" => return Route::Report(report_metrics),
        "/status" => match access::may_see_processes(peer, request) {
            Ok(()) => return Route::Report(report_status),
            Err(reason) => reply(
                StatusCode::FORBIDDEN,
                TEXT,
                format!(
                    "/status answers only 127.0.0.1 and ::1, because command lines may hold \
                     secrets, and {reason}: {WAY_OUT}\n"
                ),
            ),
        },
        path => {
            let quoted: String = path.chars().take(MAX_QUOTED_CHARACTERS).collect();
            reply(StatusCode::NOT_FOUND, TEXT, format!("no {} here, but\n{INDEX}", escape(&quoted)))
        }
    })
}

fn report_metrics(reporter: &Reporter) -> Response<String> {
    reply(StatusCode::OK, metrics::CONTENT_TYPE, metrics::text(&reporter.status()))
}

fn report_status(reporter: &Reporter) -> Response<String> {
    match serde_json::to_string(&reporter.status()) {
        Ok(json) => reply(StatusCode::OK, JSON, escape_json(&json) + "\n"),
        Err(error) => cannot_answer(error),
    }
}

fn cannot_answer(error: impl std::fmt::Display) -> Response<String> {
    reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("cannot answer: {error}\n"))
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
    use super::*;
    use crate::reporting::status::tests::{busy, reporter};

    const HERE: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn asked(method: Method, path: &str, peer: IpAddr, reporter: &Reporter) -> Response<String> {
        let request = Request::builder().method(method).uri(path).header("host", "localhost:9420");
        match route(&request.body(()).unwrap(), peer, reporter) {
            Route::Answer(answer) => answer,
            Route::Report(report) => report(reporter),
        }
    }

    fn get(path: &str, reporter: &Reporter) -> (u16, String) {
        let response = asked(Method::GET, path, HERE, reporter);
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
    fn only_the_pod_is_told_of_processes_and_others_are_told_why_not() {
        let (_directory, reporter) = busy();
        let mesh = IpAddr::from([127, 0, 0, 6]);
        let answered = |path, peer| asked(Method::GET, path, peer, &reporter);
        assert_eq!(answered("/status", HERE).status(), StatusCode::OK);
        let refused = answered("/status", mesh);
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        let text = refused.into_body();
        assert!(text.contains("comes from 127.0.0.6") && text.contains("kubectl exec"), "{text}");
        let metrics = answered("/metrics", mesh).into_body();
        for process in &reporter.status().processes {
            let command = process.caller.command.as_ref().unwrap();
            assert!(!metrics.contains(command.as_str()), "{command} is in {metrics}");
        }
    }

    #[test]
    fn what_is_not_there_says_what_is() {
        let (_directory, reporter) = reporter(None);
        let (code, body) = get("/health", &reporter);
        assert!(code == 404 && body.contains("no /health here") && body.contains("/healthz"));
        assert!(get(&format!("/{}", "x".repeat(5000)), &reporter).1.len() < 1000);
        assert_eq!(get("/", &reporter), (200, INDEX.to_owned()));
        let refused = asked(Method::POST, "/healthz", HERE, &reporter);
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()[ALLOW]),
            (405, &HeaderValue::from_static("GET, HEAD"))
        );
    }
}
