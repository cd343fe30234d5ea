//! The sidecar is killed, the store is down: nothing that was closed is lost or stored twice.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use testbed::{
    libraries::Driver,
    s3::{Fault, Server},
};
use trace::{
    check::{Problem, check},
    line::{CloseReason, Line, Meta},
    reader::Reader,
    segment_name::Format,
};

use crate::harness::{Scene, run, segments_in};

const BUCKET: &str = "traces";

fn s3_variables(server: &Server) -> Vec<(&'static str, String)> {
    vec![
        ("UPLOAD_ENABLED", "true".to_owned()),
        ("S3_BUCKET", BUCKET.to_owned()),
        ("S3_ENDPOINT", server.endpoint()),
        ("UPLOAD_INTERVAL", "0.3".to_owned()),
        ("AWS_ACCESS_KEY_ID", testbed::s3::ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", testbed::s3::SECRET_KEY.to_owned()),
    ]
}

fn borrowed<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    variables.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// Contents of the bucket, by file name.
fn stored(root: &Path) -> BTreeMap<String, Vec<u8>> {
    segments_in(&root.join(BUCKET).join("k3s-vllm"))
        .into_iter()
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
        })
        .collect()
}

/// `calls` fill several segments of `segment_size`.
fn kill_9_and_restart(format: Format, segment_size: &str, calls: usize) {
    let scene = Scene::new(Driver::R550);
    let root = scene.path("s3");
    fs::create_dir(&root).unwrap();
    let server = Server::start(&root, BUCKET).unwrap();
    let variables = s3_variables(&server);
    let mut first = borrowed(&variables);
    // Closed segments must wait on disk when the kill comes. A long interval would not do: the
    // first upload comes as soon as the store answers, which on a busy machine is after they were
    // closed.
    first.push(("TRACE_FORMAT", format.extension()));
    first.extend([("UPLOAD_ENABLED", "false"), ("TRACE_SEGMENT_SIZE", segment_size)]);
    let sidecar = scene.sidecar(&first);
    let number = calls.to_string();
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", &number]));
    // And cuInit.
    scene.wait_for_lines(calls + 1);
    let closed: BTreeMap<String, Vec<u8>> = scene
        .segments()
        .into_iter()
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
        })
        .collect();
    sidecar.kill();
    assert!(closed.len() > 2, "{closed:?}");

    // In the usual format, whatever the first wrote.
    scene.sidecar(&borrowed(&variables)).stop();

    let stored = stored(&root);
    for (name, content) in &closed {
        assert_eq!(stored.get(name), Some(content), "{name}");
        assert_eq!(server.put_count(&format!("k3s-vllm/{name}")), 1, "{name}");
    }
    assert!(segments_in(&scene.traces()).is_empty(), "uploaded segments are deleted");

    let files = segments_in(&root.join(BUCKET).join("k3s-vllm"));
    let report = check(&files);
    let truncated = |problem: &&Problem| matches!(problem, Problem::Truncated { .. });
    assert_eq!(report.problems.iter().filter(truncated).count(), 1, "{:?}", report.problems);
    let marked = files
        .iter()
        .filter(|file| {
            Reader::open(file).unwrap().any(|line| match line.unwrap() {
                Line::Meta(line) => matches!(line.meta, Meta::SegmentClose(close) if close.reason == CloseReason::Truncated),
                Line::Call(_) => false,
            })
        })
        .count();
    assert_eq!(marked, 1);
    // What had been written of the open segment is kept.
    assert_eq!(report.calls, calls as u64 + 1);
}

#[test]
fn after_kill_9_and_restart_every_closed_segment_is_stored_once_and_the_open_one_is_marked() {
    kill_9_and_restart(Format::Jsonl, "256Ki", 20_000);
}

#[test]
fn after_kill_9_and_restart_compressed_segments_are_whole_too() {
    kill_9_and_restart(Format::JsonlZst, "64Ki", 100_000);
}

#[test]
fn while_the_store_refuses_connections_nothing_is_lost_and_the_log_says_so_once() {
    let scene = Scene::new(Driver::R550);
    let root = scene.path("s3");
    fs::create_dir(&root).unwrap();
    let server = Server::start(&root, BUCKET).unwrap();
    let variables = s3_variables(&server);
    let mut settings = borrowed(&variables);
    settings.push(("TRACE_INTERVAL", "0.2"));
    let mut sidecar = scene.sidecar(&settings);
    server.faults().set(Fault::Refuse).unwrap();
    for _ in 0..3 {
        run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "100"]));
        std::thread::sleep(Duration::from_millis(400));
    }
    sidecar.wait_for("uploads fail");
    std::thread::sleep(Duration::from_secs(3));
    server.faults().set(Fault::None).unwrap();
    sidecar.wait_for("uploads work again");
    assert_eq!(sidecar.log_lines_with("uploads fail"), 1);
    assert_eq!(sidecar.log_lines_with("uploads work again"), 1);
    sidecar.stop();
    let report = check(&segments_in(&root.join(BUCKET).join("k3s-vllm")));
    assert!(report.is_whole(), "{:?}", report.problems);
    assert_eq!(report.functions["cuCtxSynchronize"].lines, 300);
}

#[test]
fn a_cut_upload_is_never_taken_for_a_stored_one() {
    let scene = Scene::new(Driver::R550);
    let root = scene.path("s3");
    fs::create_dir(&root).unwrap();
    let server = Server::start(&root, BUCKET).unwrap();
    let variables = s3_variables(&server);
    let mut settings = borrowed(&variables);
    settings.push(("TRACE_SEGMENT_SIZE", "256Ki"));
    server.faults().set(Fault::Cut).unwrap();
    let mut sidecar = scene.sidecar(&settings);
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "20000"]));
    sidecar.wait_for("uploads fail");
    assert!(!segments_in(&scene.traces()).is_empty(), "kept until confirmed");
    server.faults().set(Fault::None).unwrap();
    sidecar.stop();
    let report = check(&segments_in(&root.join(BUCKET).join("k3s-vllm")));
    assert!(report.is_whole(), "{:?}", report.problems);
    assert_eq!(report.functions["cuCtxSynchronize"].lines, 20_000);
}
