//! `ebpf-cuda-tracer fetch`: paths on stdout, whole files only, nothing outside the directory.

use std::{fs, path::Path};

use testbed::s3::Server;

use crate::{
    command::{BUCKET, Ran, fetch},
    scripted::{Reply, Scripted},
    store::{NAME, Scene},
};

fn store_with(root: &Path, objects: &[(&str, &str)]) -> Server {
    let server = Server::start(root, BUCKET).unwrap();
    for (key, content) in objects {
        let path = root.join(BUCKET).join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    server
}

fn paths_of(ran: &Ran) -> Vec<&str> {
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout.lines().collect()
}

/// Every file below a directory, also hidden ones.
fn files_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<String> = entries
        .map(|entry| entry.unwrap().path())
        .flat_map(
            |path| if path.is_dir() { files_in(&path) } else { vec![path.display().to_string()] },
        )
        .collect();
    files.sort();
    files
}

#[test]
fn keys_below_the_prefix_become_paths_below_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let server = store_with(
        &directory.path().join("s3"),
        &[
            ("k3s-vllm/2026-11-23/a.jsonl", "one\n"),
            ("k3s-vllm/2026-11-24/a.jsonl", "two\n"),
            ("k3s-vllm/a.jsonl", "three\n"),
            ("k3s-vllm-other/b.jsonl", "not ours\n"),
        ],
    );
    let out = directory.path().join("out");
    let ran = fetch(&server.endpoint(), &out, &[]);
    let expected: Vec<String> = ["2026-11-23/a.jsonl", "2026-11-24/a.jsonl", "a.jsonl"]
        .map(|name| out.join(name).display().to_string())
        .into();
    assert_eq!(paths_of(&ran), expected);
    assert_eq!(files_in(&out), expected);
    let contents: Vec<String> =
        expected.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert_eq!(contents, ["one\n", "two\n", "three\n"]);
    assert!(ran.stderr.contains("objects=3 downloaded=3"), "{}", ran.stderr);
}

#[tokio::test]
async fn what_is_there_already_is_printed_but_not_downloaded() {
    let scene = Scene::new(b"{}\n");
    scene.bucket().await.put(&scene.segment(), NAME).await.unwrap();
    let (endpoint, out) = (scene.server.endpoint(), scene.path("out"));
    let downloads = || {
        let of_object =
            |request: &&testbed::s3::Request| request.method == "GET" && !request.key.is_empty();
        scene.server.requests().iter().filter(of_object).count()
    };
    for _ in 0..2 {
        let ran = fetch(&endpoint, &out, &[]);
        assert_eq!(paths_of(&ran), [out.join(NAME).to_str().unwrap()]);
        assert_eq!(downloads(), 1);
    }
}

#[test]
fn the_endpoint_may_come_from_the_variables_of_the_sdk() {
    let directory = tempfile::tempdir().unwrap();
    let server = store_with(&directory.path().join("s3"), &[("k3s-vllm/a.jsonl", "{}\n")]);
    let endpoint = server.endpoint();
    for (variable, other) in
        [("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")]
    {
        let out = directory.path().join(variable);
        let empty = ["AWS_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN", "S3_PREFIX", other];
        let mut variables: Vec<_> = empty.into_iter().map(|name| (name, "")).collect();
        variables.push((variable, &endpoint));
        let ran = fetch("", &out, &variables);
        assert_eq!(paths_of(&ran), [out.join("a.jsonl").to_str().unwrap()]);
    }
}

#[test]
fn an_empty_prefix_of_the_store_is_an_error_that_says_what_was_looked_for() {
    let directory = tempfile::tempdir().unwrap();
    let server = store_with(&directory.path().join("s3"), &[("k3s-vllm/a.jsonl", "{}\n")]);
    let out = directory.path().join("out");
    let ran = fetch(&server.endpoint(), &out, &[("S3_PREFIX", "other")]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.is_empty());
    let expected =
        format!("nothing is stored under s3://traces/other/ in {}: check S3", server.endpoint());
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
    let ran = fetch(&server.endpoint(), &out, &[("S3_PREFIX", "/")]);
    assert_eq!(paths_of(&ran), [out.join("k3s-vllm/a.jsonl").to_str().unwrap()]);
}

#[test]
fn keys_that_would_leave_the_directory_are_left_out_and_named() {
    let objects = [
        ("k3s-vllm/../../escaped", 1),
        ("k3s-vllm//rooted", 1),
        ("k3s-vllm/folder/", 0),
        ("k3s-vllm/good", 1),
    ];
    let server = Scripted::start(move |request| {
        if request.path.contains("list-type=2") {
            Reply::listing(&objects)
        } else {
            Reply::new(200).body("x")
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("a/b");
    let ran = fetch(&server.endpoint, &out, &[]);
    assert_eq!(ran.code, 1);
    assert_eq!(files_in(directory.path()), [out.join("good").to_str().unwrap()]);
    assert_eq!(ran.stdout.trim_end(), out.join("good").to_str().unwrap());
    for text in [
        "cannot save s3://traces/k3s-vllm/../../escaped: \"..\" cannot be the name",
        "cannot save s3://traces/k3s-vllm//rooted: \"\" cannot be the name",
        "2 of 3 objects were left out",
    ] {
        assert!(ran.stderr.contains(text), "no {text:?} in {}", ran.stderr);
    }
}

#[test]
fn half_a_download_leaves_nothing() {
    let part = |reply: Reply| Reply::header(reply, "Content-Length", "1000");
    let other_sum = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    for (reply, cause) in [
        (part(Reply::new(200)).body("x"), "the transfer failed"),
        (Reply::new(200).body("xy"), "got 2 bytes, but the listing says 1000"),
        (
            Reply::new(200).body([b'x'; 1000]).header("x-amz-checksum-sha256", other_sum),
            "body checksum mismatch",
        ),
        (Reply::error(403, "AccessDenied", "Access Denied"), "need s3:GetObject on traces"),
    ] {
        let server = Scripted::start(move |request| {
            if request.path.contains("list-type=2") {
                Reply::listing(&[("k3s-vllm/a.jsonl", 1000)])
            } else {
                reply.clone()
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let ran = fetch(&server.endpoint, directory.path(), &[]);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains(cause), "no {cause:?} in {}", ran.stderr);
        assert!(ran.stdout.is_empty());
        assert_eq!(files_in(directory.path()), [""; 0]);
    }
}

#[test]
fn a_store_that_cannot_be_used_is_named_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let server = store_with(&directory.path().join("s3"), &[]);
    let endpoint = server.endpoint();
    // A port that was free a moment ago.
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let refused =
        format!("cannot list s3://traces/k3s-vllm/: cannot reach {closed}: Connection refused");
    for (endpoint, variables, expected) in [
        (&closed, &[][..], refused.as_str()),
        (&endpoint, &[("S3_BUCKET", "absent")], "NoSuchBucket (HTTP 404; check S3_BUCKET"),
        (
            &endpoint,
            &[("AWS_SECRET_ACCESS_KEY", "x")],
            "SignatureDoesNotMatch (HTTP 403; check AWS_",
        ),
        (
            &endpoint,
            &[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")],
            "no credentials for http://127.0.0.1",
        ),
    ] {
        let out = directory.path().join("out");
        let ran = fetch(endpoint, &out, variables);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains(expected), "no {expected:?} in {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        assert!(ran.stdout.is_empty() && !out.exists());
    }
}
