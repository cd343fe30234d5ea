//! When requests leave, which of them count, and what is said of a client that cannot keep up.

use std::{
    io::{Read as _, Write as _, pipe},
    thread,
    time::{Duration, Instant},
};

use crate::{
    command::{Ran, command, run_at, with_port},
    reply::{MODEL, Reply, Step, finish, healthy, text, usage},
    server::Server,
};

#[test]
fn an_open_loop_does_not_wait_for_answers() {
    // No answer comes before all requests have: a closed loop would send one.
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(12));
    let server = Server::start(move |seen| {
        let mut reply = healthy(seen);
        reply.steps.insert(0, Step::Meet(std::sync::Arc::clone(&barrier)));
        reply
    });
    let arguments =
        ["batch", "--model", MODEL, "--count", "12", "--rate", "100", "--timeout", "60"];
    let before = Instant::now();
    let ran = run_at(server.port, &[&arguments[..], &["--arrivals", "constant"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let result = ran.result();
    assert_eq!(
        (result.settings.rate, result.settings.arrivals.as_deref()),
        (Some(100.0), Some("constant"))
    );
    // None before it is due: the last one 110 ms after the first.
    assert!(*server.arrivals().iter().max().unwrap() > before + Duration::from_millis(110));
    // How late each left is told, and is part of the time that a user would see.
    let client = result.client.unwrap();
    assert_eq!(client.schedule_lag_ms.unwrap().count, 12);
    let (ttft, from_due) =
        (result.summary.ttft_ms.unwrap(), result.summary.ttft_from_due_ms.unwrap());
    assert!(from_due.mean >= ttft.mean, "{from_due:?} {ttft:?}");
    assert!(ran.stderr.contains("12 of 12 succeeded, 100 a second"), "{}", ran.stderr);
}

#[test]
fn a_wait_for_a_slot_is_told_apart_from_being_late() {
    let server = Server::start(|seen| {
        let mut reply = healthy(seen);
        reply.steps.insert(0, Step::Pause(Duration::from_millis(50)));
        reply
    });
    let arguments =
        ["batch", "--model", MODEL, "--count", "5", "--rate", "1000", "--max-concurrency", "1"];
    let ran = run_at(server.port, &arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(server.most_in_flight(), 1);
    let last = &ran.result().requests[4];
    // Four answers came before it, of 50 ms each; it was due at once.
    assert!(last.queue_ms > 150.0, "{last:?}");
    assert!(last.schedule_lag_ms.unwrap() < last.queue_ms / 2.0, "{last:?}");
}

#[test]
fn a_run_may_be_as_long_as_a_time() {
    let server = Server::start(healthy);
    let ran = run_at(server.port, &["batch", "--model", MODEL, "--duration", "0.5"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let result = ran.result();
    assert_eq!(result.settings.count as usize, result.requests.len());
    assert!(result.summary.wall_seconds < 30.0 && !result.requests.is_empty());
    let open =
        ["batch", "--model", MODEL, "--duration", "0.5", "--rate", "20", "--arrivals", "constant"];
    assert_eq!(run_at(server.port, &open).result().requests.len(), 10);
}

#[test]
fn a_warm_up_is_sent_and_left_out() {
    let server = Server::start(healthy);
    let arguments = ["batch", "--model", MODEL, "--count", "3", "--warmup", "2"];
    let ran = run_at(server.port, &arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(server.seen().len(), 5);
    let result = ran.result();
    let warm: Vec<bool> = result.requests.iter().map(|request| request.warmup).collect();
    assert_eq!(warm, [true, true, false, false, false]);
    assert_eq!((result.summary.requests, result.summary.output_tokens), (3, Some(15)));
    assert_eq!(result.settings.count, 3);
    assert!(ran.stderr.contains("warm-up     2 requests"), "{}", ran.stderr);
}

#[test]
fn nobody_needs_to_read_stderr_while_it_measures() {
    let server = Server::start(healthy);
    let (mut reader, mut writer) = pipe().unwrap();
    // As large as the pipe is: the first line of progress has no place.
    writer.write_all(&vec![b'\n'; 64 << 10]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let port = server.port.to_string();
    let arguments = with_port(&["batch", "--model", MODEL, "--count", "40"], &port);
    let mut command = command(&directory, &arguments);
    let child = command.stderr(writer).spawn().unwrap();
    // It keeps a copy of the writing end.
    drop(command);
    let deadline = Instant::now() + Duration::from_mins(1);
    let has_result = || {
        let names = std::fs::read_dir(directory.path()).unwrap();
        names.flatten().any(|entry| entry.path().extension().is_some_and(|end| end == "json"))
    };
    while !has_result() {
        assert!(Instant::now() < deadline, "{} requests came", server.seen().len());
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.seen().len(), 40);
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    assert!(read.contains("40 of 40 succeeded"), "{read}");
    assert_eq!(Ran::of(child.wait_with_output().unwrap(), directory).code, 0);
}

#[test]
fn a_client_that_is_the_bottleneck_says_so() {
    const CHUNKS: u64 = 100_000;
    let server = Server::start(|_| {
        let chunk = format!("data: {}\n\n", text("x"));
        let flood = (0..100).map(move |_| Step::Chunk(chunk.repeat(1000).into_bytes()));
        let end = [finish("stop"), usage(4, CHUNKS), "[DONE]".to_owned()];
        Reply::stream(flood.chain(end.map(|data| crate::reply::event(&data))))
    });
    let arguments = ["batch", "--model", MODEL, "--count", "8", "--strict"];
    let ran = run_at(server.port, &arguments);
    let client = ran.result().client.unwrap();
    assert!(client.busy_share > 0.0 && client.cpu_share <= client.busy_share, "{client:?}");
    // A server that shares its core with the client may be the slower one.
    let is_bottleneck = client.busy_share >= 0.8;
    assert_eq!(
        ran.stderr.contains("MARKED: the client was the bottleneck"),
        is_bottleneck,
        "{}",
        ran.stderr
    );
    assert_eq!(ran.code, if client.marks.is_empty() { 0 } else { 3 }, "{}", ran.stderr);
    assert!(ran.stderr.contains("of the chunks came together"), "{}", ran.stderr);
}

#[test]
fn random_prompts_and_answers_have_their_lengths() {
    let server = Server::start(healthy);
    let arguments = ["batch", "--model", MODEL, "--count", "8", "--seed", "3"];
    let lengths = ["--input-tokens", "20..30", "--output-tokens", "5..6", "--ignore-eos"];
    let ran = run_at(server.port, &[&arguments[..], &lengths].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for seen in server.seen() {
        let words = seen.prompt().split(' ').count();
        assert!((20..=30).contains(&words), "{}", seen.prompt());
        assert!((5..=6).contains(&seen.body["max_tokens"].as_u64().unwrap()), "{}", seen.body);
    }
    assert!(!ran.stderr.contains("distinct prompts"), "{}", ran.stderr);
    let settings = ran.result().settings;
    assert_eq!((settings.input_tokens.as_deref(), settings.seed), (Some("20..30"), 3));
}

#[test]
fn goodput_and_percentiles_are_given_when_asked_for() {
    let server = Server::start(healthy);
    let arguments = ["batch", "--model", MODEL, "--count", "4", "--slo", "ttft=60s,e2e=0.000001"];
    let ran = run_at(server.port, &[&arguments[..], &["--percentiles", "75,99.9"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let summary = ran.result().summary;
    assert_eq!(summary.goodput.unwrap().good_requests, 0);
    assert!(summary.percentiles["ttft_ms"]["p99.9"] >= summary.ttft_ms.unwrap().max);
    assert!(ran.stderr.contains("goodput     0.00 requests/s, 0 of 4"), "{}", ran.stderr);
}
