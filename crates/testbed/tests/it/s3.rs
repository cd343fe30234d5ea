//! The S3 server: objects, checksums, and each fault.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testbed::s3::{ACCESS_KEY, Fault, Quirk, SECRET_KEY, Server};

use crate::signed::{Client, sha256_base64};

const TIMEOUT: Duration = Duration::from_secs(30);

fn start() -> (TempDir, Server, Client) {
    let root = TempDir::new().unwrap();
    let server = Server::start(root.path(), "traces").unwrap();
    let client = Client::new(&server.endpoint());
    (root, server, client)
}

#[test]
fn objects_are_stored_described_read_and_listed() {
    let (root, server, client) = start();
    let sum = sha256_base64(b"one line\n");
    let headers = [("x-amz-checksum-sha256", sum.as_str())];
    let put = client.send("PUT", "/traces/k3s-vllm/a.jsonl", "", &headers, b"one line\n").unwrap();
    assert_eq!(put.status, 200, "{put:?}");
    assert_eq!(fs::read(root.path().join("traces/k3s-vllm/a.jsonl")).unwrap(), b"one line\n");

    let head = client
        .send("HEAD", "/traces/k3s-vllm/a.jsonl", "", &[("x-amz-checksum-mode", "ENABLED")], b"")
        .unwrap();
    assert_eq!((head.status, head.headers["content-length"].as_str()), (200, "9"));
    assert_eq!(head.headers["x-amz-checksum-sha256"], sum);
    let head = client.send("HEAD", "/traces/k3s-vllm/a.jsonl", "", &[], b"").unwrap();
    assert!(
        !head.headers.contains_key("x-amz-checksum-sha256"),
        "only told to those who ask: {head:?}"
    );

    let get = client.send("GET", "/traces/k3s-vllm/a.jsonl", "", &[], b"").unwrap();
    assert_eq!(get.body, b"one line\n");
    let list = client.send("GET", "/traces", "list-type=2&prefix=k3s-vllm%2F", &[], b"").unwrap();
    assert!(
        String::from_utf8_lossy(&list.body).contains("<Key>k3s-vllm/a.jsonl</Key>"),
        "{list:?}"
    );
    assert_eq!(client.send("HEAD", "/traces/none", "", &[], b"").unwrap().status, 404);

    assert_eq!(server.put_count("k3s-vllm/a.jsonl"), 1);
    assert_eq!(server.put_count("none"), 0);
    let methods: Vec<_> = server.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["PUT", "HEAD", "HEAD", "GET", "GET", "HEAD"]);
}

#[test]
fn a_wrong_secret_or_checksum_is_rejected() {
    let (_root, server, mut client) = start();
    let wrong = sha256_base64(b"other");
    let put = client
        .send("PUT", "/traces/a", "", &[("x-amz-checksum-sha256", wrong.as_str())], b"data")
        .unwrap();
    assert_eq!(put.status, 400, "{put:?}");
    client.secret_key = "wrong".to_owned();
    let put = client.send("PUT", "/traces/b", "", &[], b"data").unwrap();
    assert_eq!(put.status, 403, "{put:?}");
    assert_eq!(server.put_count("a") + server.put_count("b"), 0);
}

#[test]
fn refuse_closes_the_port_and_opens_the_same_one_again() {
    let (_root, server, client) = start();
    let address = server.endpoint().trim_start_matches("http://").to_owned();
    for _ in 0..3 {
        server.faults().set(Fault::Refuse).unwrap();
        let error = TcpStream::connect(&address).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        assert_eq!(server.faults().now(), Fault::Refuse);
        server.faults().clear().unwrap();
        assert_eq!(client.send("PUT", "/traces/a", "", &[], b"data").unwrap().status, 200);
    }
    assert_eq!(server.put_count("a"), 3);
}

#[test]
fn refuse_ends_connections_that_exist() {
    let (_root, server, _client) = start();
    let mut open = TcpStream::connect(server.endpoint().trim_start_matches("http://")).unwrap();
    open.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    server.faults().set(Fault::Refuse).unwrap();
    // Either end of the connection is an end.
    assert_eq!(std::io::Read::read(&mut open, &mut [0]).unwrap_or(0), 0);
}

#[test]
fn slow_holds_each_request_back() {
    let (_root, server, client) = start();
    server.faults().set(Fault::Slow(Duration::from_millis(200))).unwrap();
    let started = Instant::now();
    assert_eq!(client.send("PUT", "/traces/a", "", &[], b"data").unwrap().status, 200);
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[test]
fn status_answers_every_request_with_it() {
    let (root, server, client) = start();
    server.faults().set(Fault::Status(503)).unwrap();
    let put = client.send("PUT", "/traces/a", "", &[], &vec![7; 1 << 20]).unwrap();
    assert_eq!(put.status, 503);
    assert!(String::from_utf8_lossy(&put.body).contains("<Code>SlowDown</Code>"), "{put:?}");
    assert!(!root.path().join("traces/a").exists());
    assert_eq!(server.put_count("a"), 0);
    assert_eq!(server.requests()[0].status, Some(503));
}

#[test]
fn cut_ends_the_connection_without_answer_or_object() {
    let (root, server, client) = start();
    server.faults().set(Fault::Cut).unwrap();
    client.send("PUT", "/traces/a", "", &[], &vec![7; 1 << 20]).unwrap_err();
    assert!(!root.path().join("traces/a").exists());
    assert_eq!(server.requests()[0].status, None);
    server.faults().clear().unwrap();
    assert_eq!(client.send("PUT", "/traces/a", "", &[], b"data").unwrap().status, 200);
}

#[test]
fn corrupt_stores_another_object_and_describes_that() {
    let (root, server, client) = start();
    server.faults().set(Fault::Corrupt).unwrap();
    let sum = sha256_base64(b"data");
    let put = client
        .send("PUT", "/traces/a", "", &[("x-amz-checksum-sha256", sum.as_str())], b"data")
        .unwrap();
    assert_eq!(put.status, 200, "{put:?}");
    assert_eq!(fs::read(root.path().join("traces/a")).unwrap(), b"eata");
    let head =
        client.send("HEAD", "/traces/a", "", &[("x-amz-checksum-mode", "ENABLED")], b"").unwrap();
    assert_eq!(head.headers["content-length"], "4");
    assert_eq!(head.headers["x-amz-checksum-sha256"], sha256_base64(b"eata"));
}

#[test]
fn a_taken_port_is_named() {
    let (root, server, _client) = start();
    let port = server.endpoint().rsplit(':').next().unwrap().to_owned();
    let output = Command::new(env!("CARGO_BIN_EXE_standin-s3"))
        .arg("--root")
        .arg(root.path())
        .args(["--bucket", "traces", "--port", &port])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("127.0.0.1:{port}")));
}

#[test]
fn binary_prints_its_endpoint_and_ends_on_sigterm() {
    let root = TempDir::new().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_standin-s3"))
        .arg("--root")
        .arg(root.path().join("new"))
        .args(["--bucket", "traces"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut endpoint = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut endpoint).unwrap();
    let client = Client::new(endpoint.trim());
    assert_eq!(client.send("PUT", "/traces/a", "", &[], b"data").unwrap().status, 200);
    crate::terminate(&child);
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_upload_whose_answer_is_lost_is_stored() {
    let (root, server, client) = start();
    server.faults().set(Fault::LoseAnswer).unwrap();
    assert!(client.send("PUT", "/traces/a", "", &[], b"one").is_err());
    assert_eq!(fs::read(root.path().join("traces/a")).unwrap(), b"one");
    let head = client.send("HEAD", "/traces/a", "", &[], b"").unwrap();
    assert_eq!((head.status, server.put_count("a")), (200, 1));
}

#[test]
fn refusals_have_the_codes_of_a_store_and_a_slow_one_stores_what_was_sent() {
    let (root, server, client) = start();
    for (fault, status, code) in [
        (Fault::ClockSkew, 403, "RequestTimeTooSkewed"),
        (Fault::NoBucket, 404, "NoSuchBucket"),
        (Fault::Status(503), 503, "SlowDown"),
    ] {
        server.faults().set(fault).unwrap();
        let put = client.send("PUT", "/traces/a", "", &[], b"one").unwrap();
        assert_eq!(put.status, status, "{put:?}");
        assert!(String::from_utf8_lossy(&put.body).contains(&format!("<Code>{code}</Code>")));
    }
    server.faults().set(Fault::Throttle(1 << 20)).unwrap();
    assert_eq!(client.send("PUT", "/traces/a", "", &[], b"two").unwrap().status, 200);
    assert_eq!(fs::read(root.path().join("traces/a")).unwrap(), b"two");
}

#[test]
fn a_black_hole_answers_nothing_also_when_it_ends() {
    let (root, server, client) = start();
    server.faults().set(Fault::BlackHole).unwrap();
    let put = std::thread::spawn(move || client.send("PUT", "/traces/a", "", &[], b"one").is_err());
    let deadline = Instant::now() + TIMEOUT;
    while server.requests().is_empty() {
        assert!(Instant::now() < deadline, "nothing is asked for");
        std::thread::sleep(Duration::from_millis(5));
    }
    server.faults().clear().unwrap();
    assert!(put.join().unwrap());
    assert!(!root.path().join("traces/a").exists());
}

#[test]
fn a_held_answer_comes_when_the_fault_ends_and_the_object_before_it() {
    let (root, server, client) = start();
    server.faults().set(Fault::HoldAnswer).unwrap();
    let put = std::thread::spawn(move || client.send("PUT", "/traces/a", "", &[], b"one").unwrap());
    let deadline = Instant::now() + TIMEOUT;
    while server.put_count("a") == 0 {
        assert!(Instant::now() < deadline, "it is not stored");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Longer than an answer takes that is not held.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(fs::read(root.path().join("traces/a")).unwrap(), b"one");
    assert!(!put.is_finished());
    server.faults().clear().unwrap();
    assert_eq!(put.join().unwrap().status, 200);
}

#[test]
fn keys_that_were_replaced_are_refused() {
    let (_root, server, client) = start();
    let put = || client.send("PUT", "/traces/a", "", &[], b"one").unwrap().status;
    server.set_keys("other-access-key", SECRET_KEY);
    assert_eq!(put(), 403);
    server.set_keys(ACCESS_KEY, "other-secret-key");
    assert_eq!(put(), 403);
    server.set_keys(ACCESS_KEY, SECRET_KEY);
    assert_eq!(put(), 200);
}

#[test]
fn each_quirk_refuses_or_leaves_out_what_its_name_says_and_nothing_else() {
    let with = |quirk: Quirk| {
        let (root, server, client) = start();
        server.add_quirk(quirk);
        (root, server, client)
    };
    let sum = sha256_base64(b"one");
    let sum = [("x-amz-checksum-sha256", sum.as_str())];
    let put = |client: &Client, key: &str, headers: &[(&str, &str)]| {
        client.send("PUT", &format!("/traces/{key}"), "", headers, b"one").unwrap()
    };

    let (_root, _server, client) = with(Quirk::NoChecksums);
    assert_eq!((put(&client, "a", &sum).status, put(&client, "a", &[]).status), (400, 200));
    let told = client.send("HEAD", "/traces/a", "", &[("x-amz-checksum-mode", "ENABLED")], b"");
    assert!(!told.unwrap().headers.contains_key("x-amz-checksum-sha256"));

    let (_root, _server, client) = with(Quirk::BareHead);
    assert_eq!(put(&client, "a", &sum).status, 200);
    let head = client.send("HEAD", "/traces/a", "", &[("x-amz-checksum-mode", "ENABLED")], b"");
    let head = head.unwrap();
    assert_eq!(head.status, 200);
    for name in ["content-length", "etag", "x-amz-checksum-sha256"] {
        assert_eq!(head.headers.get(name), None);
    }
    let get = client.send("GET", "/traces/a", "", &[], b"").unwrap();
    assert_eq!((&*get.headers["content-length"], &*get.body), ("3", &b"one"[..]));

    let (root, _server, client) = with(Quirk::WriteOnce(409));
    assert_eq!((put(&client, "a", &sum).status, put(&client, "a", &sum).status), (200, 409));
    assert_eq!(put(&client, "b", &sum).status, 200);
    assert_eq!(fs::read(root.path().join("traces/a")).unwrap(), b"one");

    let (_root, _server, client) = with(Quirk::RefusesKeys("_000001.", 403));
    assert_eq!(put(&client, "trace_000001.jsonl", &sum).status, 403);
    assert_eq!(put(&client, "trace_000002.jsonl", &sum).status, 200);

    let (_root, _server, client) = with(Quirk::OldListings);
    let list = |query: &str| client.send("GET", "/traces", query, &[], b"").unwrap().status;
    assert_eq!((list("list-type=2"), list("max-keys=1")), (501, 200));

    // This client signs for another region.
    let (_root, _server, client) = with(Quirk::OtherRegion);
    let answer = put(&client, "a", &sum);
    assert_eq!((answer.status, &*answer.headers["x-amz-bucket-region"]), (307, "eu-west-3"));

    let (root, server, mut client) = with(Quirk::BucketInHost);
    assert_eq!(put(&client, "a", &sum).status, 403);
    client.host_header = Some("traces.store.invalid".to_owned());
    assert_eq!(client.send("PUT", "/a", "", &sum, b"one").unwrap().status, 200);
    assert_eq!(fs::read(root.path().join("traces/a")).unwrap(), b"one");
    assert_eq!(server.put_count("a"), 1);
}
