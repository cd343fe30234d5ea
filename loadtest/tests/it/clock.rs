//! Times against a server that stamps what it does itself.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    command::{Ran, command, with_port},
    reply::{MODEL, finish, text, usage},
};

/// Reads a request to its end.
fn read_request(stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
}

/// Sends an event as one chunk; when that began and ended.
fn send(mut stream: &TcpStream, data: &str) -> (Instant, Instant) {
    let event = format!("data: {data}\n\n");
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    let began = Instant::now();
    stream.write_all(chunk.as_bytes()).unwrap();
    (began, Instant::now())
}

fn signal(name: &str, process: u32) {
    let kill = format!("kill -{name} {process}");
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

#[test]
fn a_token_has_the_time_it_came_at_also_if_the_client_was_kept_from_running() {
    let stopped = Duration::from_millis(500);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let directory = tempfile::tempdir().unwrap();
    let child =
        command(&directory, &with_port(&["single", "--model", MODEL], &port)).spawn().unwrap();

    let (mut stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    read_request(&stream);
    let asked = Instant::now();
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n")
        .unwrap();
    // The kernel begins to stamp a little after it is asked to.
    thread::sleep(Duration::from_millis(200));
    let first = send(&stream, &text("a"));
    thread::sleep(Duration::from_millis(100));
    signal("STOP", child.id());
    let second = send(&stream, &text("b"));
    thread::sleep(stopped);
    signal("CONT", child.id());
    thread::sleep(Duration::from_millis(100));
    let third = send(&stream, &text("c"));
    send(&stream, &finish("stop"));
    send(&stream, &usage(4, 3));
    send(&stream, "[DONE]");
    stream.write_all(b"0\r\n\r\n").unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap(), directory);
    assert_eq!(ran.code, 0, "{}", ran.stderr);

    let request = ran.request();
    let [a, b, c] = request.chunk_offsets_ms[..] else { panic!("{:?}", request.chunk_offsets_ms) };
    // From the outside: the request left before it was read, and a chunk came while it was sent. Two clocks are
    // compared on the way, which costs some microseconds; a millisecond is more than that.
    let milliseconds = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1e3;
    let (shortest, longest) = (-1.0, 100.0);
    assert!(a > milliseconds(asked, first.0) + shortest, "{a} {request:?}");
    let gap_is = |gap: f64, from: (Instant, Instant), to: (Instant, Instant)| {
        gap > milliseconds(from.1, to.0) + shortest && gap < milliseconds(from.0, to.1) + longest
    };
    assert!(gap_is(b - a, first, second), "{a} {b} {first:?} {second:?}");
    assert!(gap_is(c - b, second, third), "{b} {c} {second:?} {third:?}");
}
