//! `ebpf-cuda-tracer check-s3`: a line for each step, the cause and the way out, nothing left.

use std::{fs, path::Path, time::Duration};

use testbed::s3::{Fault, Server};

use crate::{
    command::{BUCKET, Ran, binary, clean, run},
    scripted::{FLOOD, Reply, Request, Scripted},
};

fn check(endpoint: &str, variables: &[(&str, &str)]) -> Ran {
    let mut command = clean(&binary());
    command
        .arg("check-s3")
        .env("S3_BUCKET", BUCKET)
        .env("S3_ENDPOINT", endpoint)
        .env("AWS_ACCESS_KEY_ID", testbed::s3::ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", testbed::s3::SECRET_KEY)
        .envs(variables.iter().copied());
    run(command)
}

/// The mark and the step of each line.
fn steps(ran: &Ran) -> Vec<(&str, &str)> {
    ran.stdout
        .lines()
        .map(|line| {
            let (mark, rest) = line.split_once(' ').unwrap();
            (mark, rest.trim_start().split_once(": ").unwrap().0)
        })
        .collect()
}

fn objects(root: &Path) -> usize {
    fs::read_dir(root.join(BUCKET).join("k3s-vllm")).map_or(0, Iterator::count)
}

#[test]
fn a_store_that_works_passes_every_step_and_keeps_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), BUCKET).unwrap();
    let ran = check(&server.endpoint(), &[]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let all = ["settings", "credentials", "bucket", "write", "confirm", "read back", "remove"];
    assert_eq!(steps(&ran), all.map(|step| ("ok", step)));
    let endpoint = server.endpoint();
    for expected in [
        format!("settings: s3://traces/k3s-vllm/ at {endpoint}\n"),
        "credentials: from the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (".to_owned(),
        "write: s3://traces/k3s-vllm/check-s3_".to_owned(),
    ] {
        assert!(ran.stdout.contains(&expected), "no {expected:?} in {}", ran.stdout);
    }
    assert!(!ran.stdout.contains(testbed::s3::SECRET_KEY) && ran.stderr.is_empty());
    let methods: Vec<String> = server
        .requests()
        .into_iter()
        .filter(|request| request.key.starts_with("k3s-vllm/check-s3_"))
        .map(|request| request.method)
        .collect();
    assert_eq!(methods, ["PUT", "HEAD", "GET", "DELETE"]);
    assert_eq!(objects(directory.path()), 0);
}

#[test]
fn credentials_of_a_profile_are_told_from_those_of_variables() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path().join("s3"), BUCKET).unwrap();
    let file = directory.path().join("credentials");
    let (id, secret) = (testbed::s3::ACCESS_KEY, testbed::s3::SECRET_KEY);
    let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    fs::write(&file, text).unwrap();
    let variables = [
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()),
    ];
    let ran = check(&server.endpoint(), &variables);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("credentials: from a profile in ~/.aws"), "{}", ran.stdout);
}

/// What fails, and everything before it passes.
#[track_caller]
fn fails_at(ran: &Ran, step: &str, expected: &str) {
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    let steps = steps(ran);
    let (last, before) = steps.split_last().unwrap();
    assert_eq!(*last, ("FAILED", step), "{}", ran.stdout);
    assert!(before.iter().all(|(mark, _)| *mark == "ok"), "{}", ran.stdout);
    assert!(ran.stdout.contains(expected), "no {expected:?} in {}", ran.stdout);
    assert!(ran.stderr.contains(&format!("the step `{step}` failed")), "{}", ran.stderr);
}

#[test]
fn each_wrong_setting_fails_at_its_step_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), BUCKET).unwrap();
    let none = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
    let retry = "(check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN";
    for (variables, step, expected) in [
        (&none[..], "credentials", retry),
        (&[("AWS_ACCESS_KEY_ID", "other")], "bucket", "NotSignedUp"),
        (
            &[("AWS_SECRET_ACCESS_KEY", "other")],
            "bucket",
            "SignatureDoesNotMatch (HTTP 403; check AWS_ACCESS_KEY_ID",
        ),
        (&[("S3_BUCKET", "absent")], "bucket", "NoSuchBucket (HTTP 404; check S3_BUCKET"),
    ] {
        fails_at(&check(&server.endpoint(), variables), step, expected);
    }
    assert_eq!(objects(directory.path()), 0);
}

#[test]
fn each_fault_of_the_store_fails_with_its_cause() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), BUCKET).unwrap();
    for (fault, step, expected) in [
        (Fault::Refuse, "bucket", "(os error 111) (check S3_ENDPOINT or AWS_REGION"),
        (Fault::Status(503), "bucket", "HTTP 503; the store is at fault: try again later"),
        // It may be that listing is not permitted: writing tells.
        (Fault::Status(403), "write", "HTTP 403; the credentials need s3:PutObject on traces"),
        (Fault::Cut, "bucket", "cannot reach http://127.0.0.1"),
        (Fault::Slow(Duration::from_secs(60)), "bucket", "does not answer in time"),
    ] {
        server.faults().set(fault).unwrap();
        fails_at(&check(&server.endpoint(), &[]), step, expected);
    }
    server.faults().clear().unwrap();
    assert_eq!(objects(directory.path()), 0);
}

#[test]
fn an_object_that_was_changed_on_the_way_fails_and_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), BUCKET).unwrap();
    server.faults().set(Fault::Corrupt).unwrap();
    let ran = check(&server.endpoint(), &[]);
    assert_eq!(ran.code, 1);
    assert_eq!(steps(&ran)[4..], [("FAILED", "confirm"), ("ok", "remove")], "{}", ran.stdout);
    assert!(ran.stdout.contains("such as a proxy or gateway"), "{}", ran.stdout);
    assert_eq!(objects(directory.path()), 0);
}

/// A store that answers some requests in its own way, and otherwise has what was last written.
fn store(odd: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Scripted {
    let written = std::sync::Mutex::new(Vec::new());
    Scripted::start(move |request| {
        if let Some(reply) = odd(request) {
            return reply;
        }
        let mut written = written.lock().unwrap();
        match request.method.as_str() {
            "PUT" => {
                written.clone_from(&request.body);
                Reply::new(200)
            }
            "HEAD" => Reply::new(200).header("Content-Length", written.len().to_string()),
            "DELETE" => Reply::new(204),
            _ if is_listing(request) => Reply::listing(&[]),
            _ => Reply::new(200).body(written.clone()),
        }
    })
}

fn is_listing(request: &Request) -> bool {
    request.path.contains("list-type=2")
}

fn denied() -> Reply {
    Reply::error(403, "AccessDenied", "Access Denied")
}

#[test]
fn permissions_that_uploads_do_without_are_noted_only() {
    let server = store(|request| (request.method == "DELETE" || is_listing(request)).then(denied));
    let ran = check(&server.endpoint, &[]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("bucket: listing it is not permitted, which uploads do without"));
    assert_eq!(steps(&ran).last(), Some(&("note", "remove")), "{}", ran.stdout);
    let last = ran.stdout.lines().last().unwrap();
    assert!(last.contains("check-s3_") && last.contains("remove it by other means"), "{last}");
}

#[test]
fn permissions_that_uploads_need_are_named() {
    let reads = |request: &Request| request.method == "GET" && !is_listing(request);
    let server = store(move |request| (request.method == "HEAD" || reads(request)).then(denied));
    let ran = check(&server.endpoint, &[]);
    assert_eq!(ran.code, 1);
    assert_eq!(steps(&ran)[4..], [("FAILED", "confirm"), ("ok", "remove")], "{}", ran.stdout);
    assert!(ran.stdout.contains("the credentials need s3:GetObject on traces"), "{}", ran.stdout);
}

#[test]
fn a_store_that_gives_back_something_else_fails() {
    let server = store(|request| {
        let is_download = request.method == "GET" && !is_listing(request);
        is_download.then(|| Reply::new(200).body("something else"))
    });
    let ran = check(&server.endpoint, &[]);
    assert_eq!(ran.code, 1);
    assert_eq!(steps(&ran)[4..], [("ok", "confirm"), ("FAILED", "read back"), ("ok", "remove")]);
    assert!(ran.stdout.contains("gives back something else than was sent"), "{}", ran.stdout);
}

#[test]
fn an_answer_that_floods_is_not_read_whole() {
    for method in ["PUT", "HEAD", "GET", "DELETE"] {
        let server = store(move |request| (request.method == method).then(Reply::flood));
        let ran = check(&server.endpoint, &[]);
        assert!(!ran.stdout.is_empty(), "{}", ran.stderr);
        // Beside what is read, the kernel holds some.
        assert!(server.flooded() < FLOOD / 4, "{method}: {} bytes", server.flooded());
    }
}

#[test]
fn an_object_that_cannot_be_removed_fails_and_is_named() {
    let server = store(|request| (request.method == "DELETE").then(|| Reply::new(500)));
    let ran = check(&server.endpoint, &[]);
    fails_at(&ran, "remove", "may be left behind: the store refuses (HTTP 500");
    assert!(ran.stdout.contains("s3://traces/k3s-vllm/check-s3_"), "{}", ran.stdout);
}
