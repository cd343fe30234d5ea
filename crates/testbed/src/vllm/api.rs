//! The API process: binds its port, starts the engine, and serves until it is told to stop.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response, Sse};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::answer::Answer;
use super::error::ApiError;
use super::link::{Engine, Link};
use super::metrics::Metrics;
use super::options::Options;
use super::request::{Kind, Plan};

/// How long clients may take for the rest of their answers once the server stops, and how long the engine.
const TIMEOUT: Duration = Duration::from_secs(3);
const LARGEST_BODY: usize = 64 << 20;

pub(super) fn serve(options: Options) -> Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the server's runtime")?;
    let outcome = runtime.block_on(run(options));
    // Nothing that a client still holds open may keep the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

async fn run(options: Options) -> Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    tokio::time::sleep(options.startup_delay).await;
    let (runtime_library, _driver_library) = super::load_libraries()?;
    let devices = super::count_devices(&runtime_library)?;
    ensure!(devices > 0, "there is no device");

    let address = format!("{}:{}", options.host, options.port);
    let listener =
        TcpListener::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr().context("cannot read the port of the server")?;
    say(&format!("Starting vLLM API server on http://{address}"))?;
    let metrics = Arc::new(Metrics::new(&options.served_names[0]));
    let mut engine = Engine::spawn(&options, Arc::clone(&metrics))?;
    say(&format!("Started engine process {}", engine.pid().unwrap_or_default()))?;

    let server = Server { options, metrics, link: engine.link.clone(), answers: AtomicU64::new(0) };
    let (stop, stopped) = oneshot::channel::<()>();
    // As Python's asyncio does: a token must not wait for the client to confirm the one before.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    let serving =
        axum::serve(listener, router(server)).with_graceful_shutdown(async { drop(stopped.await) });
    let serving = tokio::spawn(serving.into_future());

    tokio::spawn(announce(engine.link.clone()));
    tokio::select! {
        // Where the signal goes to all processes of a container, the engine may have heeded it first.
        status = engine.wait() => {
            let status = status?;
            let told = status.success() || status.signal() == Some(libc::SIGTERM);
            ensure!(told, "the engine process ended by itself: {status}");
        }
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    say("Shutting down")?;
    // Running answers end with what they have.
    engine.link.stop();
    drop(stop);
    if tokio::time::timeout(TIMEOUT, serving).await.is_err() {
        eprintln!("WARNING clients still hold connections: leaving them");
    }
    let status = engine.finish(TIMEOUT).await?;
    // One that was told to stop before it could heed the signal ends by it.
    let stopped = status.success() || status.signal() == Some(libc::SIGTERM);
    ensure!(stopped, "the engine process ended badly: {status}");
    Ok(ExitCode::SUCCESS)
}

async fn announce(mut link: Link) {
    if link.ready().await {
        // A closed stdout is no reason to stop serving.
        drop(say("Application startup complete."));
    }
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "INFO {line}").and_then(|()| out.flush()).context("cannot print to stdout")
}

struct Server {
    options: Options,
    metrics: Arc<Metrics>,
    link: Link,
    answers: AtomicU64,
}

fn router(server: Server) -> Router {
    Router::new()
        .route(
            "/v1/completions",
            post(|state, headers, body| generate(Kind::Completion, state, headers, body)),
        )
        .route(
            "/v1/chat/completions",
            post(|state, headers, body| generate(Kind::Chat, state, headers, body)),
        )
        .route("/v1/models", get(models))
        .route("/health", get(health))
        .route("/ping", get(health).post(health))
        .route("/metrics", get(metrics))
        .route(
            "/version",
            get(|| async {
                Json(json!({"version": concat!(env!("CARGO_PKG_VERSION"), "+standin")}))
            }),
        )
        .fallback(|| async { (StatusCode::NOT_FOUND, Json(json!({"detail": "Not Found"}))) })
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(Arc::new(server))
}

async fn generate(
    kind: Kind,
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let content_type =
        headers.get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes).unwrap_or_default();
    if !content_type.to_ascii_lowercase().starts_with(b"application/json") {
        return Err(ApiError::bad_request(
            None,
            "Unsupported Media Type: Only 'application/json' is allowed",
        ));
    }
    if !server.link.is_ready() {
        return Err(ApiError::not_ready());
    }
    let plan = Plan::of(kind, &body, &server.options)?;
    let stream = plan.stream;
    let number = server.answers.fetch_add(1, Ordering::Relaxed);
    let answer = Answer::begin(plan, number, &server.link, &server.metrics);
    if stream {
        Ok(Sse::new(answer.events()).into_response())
    } else {
        Ok(Json(answer.whole().await).into_response())
    }
}

async fn health(State(server): State<Arc<Server>>) -> StatusCode {
    if server.link.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn metrics(State(server): State<Arc<Server>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], server.metrics.render())
}

async fn models(State(server): State<Arc<Server>>) -> impl IntoResponse {
    let Options { model, served_names, max_model_len, .. } = &server.options;
    let card = |name: &String| {
        json!({
            "id": name, "object": "model", "created": 0, "owned_by": "vllm", "root": model, "parent": null,
            "max_model_len": max_model_len, "permission": [],
        })
    };
    Json(json!({"object": "list", "data": served_names.iter().map(card).collect::<Vec<_>>()}))
}
