//! No connection, no answer in time, or an answer that says no.

use std::{
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use serde_json::json;
use tokio::net::TcpSocket;

use crate::{
    command::{assert_fails, run, run_at, single},
    reply::{MODEL, Reply, Step, error, event, healthy, models, text},
    server::{Seen, Server},
};

/// A port that is taken but not listened on: nobody else can get it meanwhile.
fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

#[test]
fn connection_refused() {
    let (_socket, port) = closed_port();
    let ran = run_at(port, &["batch", "--model", MODEL, "--count", "3"]);
    assert_eq!(ran.code, 1);
    let expected = format!(
        "3 requests (1, 2, 3) failed: cannot connect to 127.0.0.1:{port}: connection refused\n  try: "
    );
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
    assert!(ran.stderr.contains("kubectl get pods,svc -n vllm-tracing"), "{}", ran.stderr);
    assert_eq!(ran.result().summary.failures[0].failure.kind, "connection_refused");

    // Where the model has to be asked for, nothing can run, and no result is left.
    let ran = run_at(port, &["single"]);
    assert_eq!(ran.code, 1);
    let expected =
        format!("error: cannot connect to 127.0.0.1:{port}: connection refused\n  try: ");
    assert!(ran.stderr.starts_with(&expected), "{}", ran.stderr);
    assert!(ran.files().is_empty());
}

#[test]
fn host_name_unknown() {
    // A label of 64 characters is refused by the resolver itself: nothing is sent to a name server.
    let host = "a".repeat(64);
    let ran = run(&["single", "--host", &host]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.starts_with(&format!("error: cannot resolve the host name {host}: ")),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("try: check --host"), "{}", ran.stderr);
}

#[test]
fn timeouts_say_what_was_awaited() {
    // Long enough for a busy machine to get to where the server hangs.
    let limit = ["--timeout", "4"];
    let whole = ["--timeout", "4", "--no-stream"];
    let hangs = |script: fn(&Seen) -> Reply, arguments, phase| {
        let message = format!("timed out after 4 s while waiting for {phase}");
        assert_fails(script, arguments, "timeout", &message)
    };
    thread::scope(|scope| {
        scope.spawn(|| hangs(|_| Reply::raw([Step::Hang]), &limit, "response headers"));
        scope.spawn(|| hangs(|_| Reply::stream([Step::Hang]), &limit, "the first token"));
        scope.spawn(|| hangs(|_| Reply::stream([Step::Hang]), &whole, "the response body"));
        let script = |_: &Seen| Reply::stream([event(&text("a")), event(&text("b")), Step::Hang]);
        let ran = hangs(script, &limit, "the next token");
        // What came before is kept.
        assert_eq!(
            (ran.request().output_text.as_str(), ran.request().chunk_offsets_ms.len()),
            ("ab", 2)
        );
        assert!(ran.stderr.contains("try: raise --timeout"), "{}", ran.stderr);
    });
}

#[test]
fn a_connection_that_is_never_accepted() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    // Once the queue of the listener is full, the kernel leaves further connections without an answer.
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queued.push(stream);
        assert!(queued.len() < 100, "the queue never fills");
    }
    let ran = run_at(address.port(), &["single", "--model", MODEL, "--timeout", "1"]);
    let failure = ran.failure();
    assert_eq!(failure.message, "timed out after 0.9 s while waiting for the connection");
    assert!(failure.advice.unwrap().contains("firewall"));
}

#[test]
fn other_statuses_repeat_the_servers_message() {
    let kind = "http_status";
    assert_fails(|_| error(500, "engine died"), &[], kind, "the server answered 500: engine died");
    assert_fails(
        |_| Reply::json(404, &json!({ "detail": "Not Found" })),
        &[],
        kind,
        "the server answered 404: Not Found",
    );
    assert_fails(
        |_| Reply::text(502, "text/html", "<h1>Bad\nGateway</h1>"),
        &["--no-stream"],
        kind,
        "the server answered 502: <h1>Bad Gateway</h1>",
    );
    assert_fails(
        |_| Reply::text(503, "text/plain", ""),
        &[],
        kind,
        "the server answered 503: (no message)",
    );
    assert_eq!(single(|_| error(500, "engine died"), &[]).request().http_status, Some(500));
}

#[test]
fn a_status_with_a_known_way_out() {
    let ran = single(|_| Reply::json(401, &json!({ "error": "Unauthorized" })), &[]);
    assert_eq!(ran.failure().message, "the server answered 401: Unauthorized");
    assert!(ran.stderr.contains("try: give the server's key in VLLM_API_KEY"), "{}", ran.stderr);
    let ran = single(|_| error(400, "you must provide a chat template"), &["--chat"]);
    assert!(
        ran.stderr.contains("try: a base model has no chat template: leave --chat out"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_redirect_is_not_followed() {
    let script = |seen: &Seen| {
        let mut reply = healthy(seen);
        (reply.status, reply.steps) = (Some(307), vec![]);
        reply.headers.push(("location", "/v1/completions".to_owned()));
        reply
    };
    assert_fails(script, &[], "http_status", "the server answered 307: (no message)");
}

#[test]
fn an_unknown_model_lists_those_the_server_has() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/v1/models" => models(&["a/b", "c"]),
        _ => error(404, "The model `nope` does not exist."),
    });
    let ran = run_at(server.port, &["batch", "--model", "nope", "--count", "4", "--parallel"]);
    assert_eq!(ran.code, 1);
    let expected =
        "4 requests (1, 2, 3, 4) failed: the server has no model nope; it has: a/b, c\n  try: ";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    // The list is asked for once.
    assert_eq!(server.seen().iter().filter(|seen| seen.path == "/v1/models").count(), 1);
}

#[test]
fn the_list_of_models_may_be_of_no_use() {
    for (reply, expected) in [
        (
            models as fn(&[&str]) -> Reply,
            "error: the server lists no model at /v1/models\n  try: wait until",
        ),
        (|_| error(401, "Unauthorized"), "error: the server answered 401: Unauthorized\n  try: "),
        (
            |_| Reply::text(200, "text/html", "<html>"),
            "error: the response is malformed: not a list of models (",
        ),
        (
            |_| Reply::raw([Step::Cut]),
            "error: the connection failed while waiting for response headers: ",
        ),
    ] {
        let server = Server::start(move |_| reply(&[]));
        let ran = run_at(server.port, &["single"]);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.starts_with(expected), "{}", ran.stderr);
        assert!(ran.files().is_empty());
    }
}
