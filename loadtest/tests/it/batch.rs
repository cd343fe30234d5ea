//! Many requests: their order, how many are in flight, and what becomes of failures.

use std::{
    collections::HashSet,
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Barrier;

use crate::{
    command::{Ran, command, run_at, with_port},
    reply::{MODEL, Reply, Step, error, healthy},
    server::Server,
};

#[test]
fn sequential_by_default_over_one_connection() {
    let server = Server::start(healthy);
    let ran = run_at(server.port, &["batch"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let result = ran.result();
    assert_eq!(result.requests.len(), 15);
    // The other one was for the list of models.
    assert_eq!((server.most_in_flight(), server.connections()), (1, 2));
    assert_eq!((result.summary.input_tokens, result.summary.output_tokens), (Some(60), Some(75)));
    assert_eq!(result.summary.itl_ms.unwrap().count, 30);
    assert!(result.summary.requests_per_second > 0.0);
    // Each begins after the one before has ended, also by the wall clock in the records.
    assert!(result.requests.windows(2).all(|pair| pair[0].start_unix_ns < pair[1].start_unix_ns));
    let prompts: HashSet<_> = result.requests.iter().map(|request| &request.prompt).collect();
    let ids: HashSet<_> = result.requests.iter().map(|request| &request.request_id).collect();
    assert_eq!((prompts.len(), ids.len()), (15, 15));
    assert!(ran.stderr.contains("[15/15] request 15 done in"), "{}", ran.stderr);
    assert!(ran.stderr.contains("requests    15 of 15 succeeded, one at a time"), "{}", ran.stderr);
}

#[test]
fn as_many_in_flight_as_there_are_workers() {
    for workers in [3, 4] {
        // No request gets its answer before as many as there are workers have come.
        let barrier = Arc::new(Barrier::new(workers));
        let server = Server::start(move |seen| {
            let mut reply = healthy(seen);
            // The pause gives a request too many the time to come.
            reply.steps.splice(
                0..0,
                [Step::Meet(Arc::clone(&barrier)), Step::Pause(Duration::from_millis(30))],
            );
            reply
        });
        let workers_text = workers.to_string();
        let arguments =
            ["batch", "--model", MODEL, "--count", "12", "--parallel", "--workers", &workers_text];
        let ran = run_at(server.port, &[&arguments[..], &["--timeout", "60"]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(server.most_in_flight(), workers);
        let result = ran.result();
        assert_eq!(result.settings.workers as usize, workers);
        let indices: Vec<u32> = result.requests.iter().map(|request| request.index).collect();
        assert_eq!(indices, (1..=12).collect::<Vec<_>>());
    }
}

#[test]
fn prompts_of_a_file_repeat_when_the_count_is_larger() {
    let server = Server::start(healthy);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "red\n\nblue\n").unwrap();
    let path = file.path().to_str().unwrap();
    let ran = run_at(server.port, &["batch", "--model", MODEL, "--count", "5", "--prompts", path]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let prompts: Vec<String> = server.seen().iter().map(|seen| seen.prompt().to_owned()).collect();
    assert_eq!(prompts, ["red", "blue", "red", "blue", "red"]);
    assert!(ran.stderr.contains("note: 2 distinct prompts for 5 requests"), "{}", ran.stderr);
}

#[test]
fn one_prompt_can_be_sent_many_times() {
    let server = Server::start(healthy);
    let ran =
        run_at(server.port, &["batch", "--model", MODEL, "--count", "3", "--prompt", "again"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(server.seen().iter().all(|seen| seen.prompt() == "again"));
}

#[test]
fn failures_do_not_stop_the_batch_and_are_grouped() {
    let server = Server::start(|seen| {
        match seen.header("x-request-id").and_then(|id| id.rsplit('-').next()) {
            Some("2" | "5") => error(500, "engine died"),
            Some("3") => error(429, "slow down"),
            _ => healthy(seen),
        }
    });
    let ran = run_at(
        server.port,
        &["batch", "--model", MODEL, "--count", "6", "--parallel", "--workers", "2"],
    );
    assert_eq!(ran.code, 1);
    let summary = ran.result().summary;
    assert_eq!((summary.requests, summary.succeeded, summary.failed), (6, 3, 3));
    assert_eq!(summary.output_tokens, Some(15));
    let groups: Vec<_> = summary
        .failures
        .iter()
        .map(|group| (group.failure.message.as_str(), group.requests.clone()))
        .collect();
    let expected = [
        ("the server answered 500: engine died", vec![2, 5]),
        ("the server answered 429: slow down", vec![3]),
    ];
    assert_eq!(groups, expected);
    assert!(
        ran.stderr.contains("2 requests (2, 5) failed: the server answered 500: engine died"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("request 3 failed: the server answered 429: slow down\n  try: "),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_connection_closed_while_it_waited_costs_no_request() {
    let closed = AtomicBool::new(false);
    let server = Server::start(move |seen| {
        let is_second = seen.header("x-request-id").is_some_and(|id| id.ends_with("-2"));
        if is_second && !closed.swap(true, Ordering::SeqCst) {
            return Reply::raw([Step::Cut]);
        }
        healthy(seen)
    });
    let ran = run_at(server.port, &["batch", "--model", MODEL, "--count", "3"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let result = ran.result();
    let retried: Vec<bool> = result.requests.iter().map(|request| request.retried).collect();
    assert_eq!((retried, result.summary.retried), (vec![false, true, false], 1));
    assert_eq!((server.seen().len(), server.connections()), (4, 2));
    assert!(ran.stderr.contains("note: 1 of 3 requests were sent twice"), "{}", ran.stderr);
    // Connecting is told apart: the first had to, the third did not.
    let connects: Vec<bool> =
        result.requests.iter().map(|request| request.connect_ms.is_some()).collect();
    assert_eq!(connects, [true, true, false]);
}

#[test]
fn an_interrupted_batch_keeps_what_is_done() {
    let server = Server::start(|seen| match seen.header("x-request-id") {
        Some(id) if id.ends_with("-3") => Reply::stream([Step::Hang]),
        _ => healthy(seen),
    });
    let directory = tempfile::tempdir().unwrap();
    let port = server.port.to_string();
    let mut child =
        command(&directory, &with_port(&["batch", "--model", MODEL, "--count", "9"], &port))
            .spawn()
            .unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    while server.seen().len() < 3 {
        assert!(
            Instant::now() < deadline && child.try_wait().unwrap().is_none(),
            "the third request never came"
        );
        thread::sleep(Duration::from_millis(5));
    }
    let kill = format!("kill -INT {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    let ran = Ran::of(child.wait_with_output().unwrap(), directory);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let result = ran.result();
    assert_eq!((result.requests.len(), result.summary.succeeded), (2, 2));
    assert!(
        result.notes.contains(&"interrupted after 2 of 9 requests".to_owned()),
        "{:?}",
        result.notes
    );
}
