//! Segments that become tables on their way to a bucket: the lines there are those that were written.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use cuda::function::Api;
use sidecar::{
    reporting::state::State,
    shipping::{segment::Segment, spool::Spool, transcode::Transcoder, upload::Uploader},
};
use trace::{
    check::check_opened,
    line::{Clock, CloseReason, FORMAT_VERSION, FunctionCounts, Meta, SegmentClose, SegmentOpen},
    segment_name::{Format, Run},
    writer::{CallText, Returned, push_call, push_meta},
};

use crate::{store::Scene, uploads::Broken};

const SEGMENTS: u64 = 12;
const CALLS: u64 = 20_000;
const START: &str = "20261124T042800.642Z";

/// One of a run: whole, with the counts that balance it.
fn lines(sequence: u64, is_last: bool) -> Vec<u8> {
    let clock = Clock { start_monotonic_ns: 5, monotonic_ns: 7, realtime_ns: 1_795_494_480 << 30 };
    let mut out = Vec::new();
    let open = SegmentOpen {
        format_version: FORMAT_VERSION,
        sequence,
        host: "h".to_owned(),
        kernel: "6.18".to_owned(),
        sidecar_version: "0.1.0".to_owned(),
        clock,
        options: std::collections::BTreeMap::new(),
    };
    push_meta(&mut out, sequence * 1000, 1, &Meta::SegmentOpen(open));
    let text = CallText::new("cudaLaunchKernel", Api::Runtime);
    for number in 0..CALLS {
        let since_start_ns = sequence * 1_000_000_000 + number * 40_000;
        let call = Returned {
            since_start_ns,
            pid: 7,
            tid: 8,
            duration_ns: 4000 + number % 977,
            result: u64::from(number % 1000 == 999),
            depth: 0,
            parent: None,
            kernel: None,
        };
        // One argument in a hundred cannot be read.
        push_call(&mut out, &text, &call, |_| (number % 100 > 0).then_some(number % 64));
    }
    let run_lines = sequence * CALLS;
    let counts =
        FunctionCounts { lines: CALLS, run_hits: run_lines, run_lines, ..Default::default() };
    let close = SegmentClose {
        sequence,
        reason: if is_last { CloseReason::Shutdown } else { CloseReason::Size },
        r#final: is_last,
        calls: CALLS,
        clock,
        functions: [("cudaLaunchKernel".to_owned(), counts)].into(),
        coverage: None,
        cost: None,
    };
    push_meta(&mut out, (sequence + 1) * 1_000_000_000, 1, &Meta::SegmentClose(close));
    out
}

/// Writes a run as the recorder does, and hands over what is closed.
fn record(directory: &Path, transcoder: &Transcoder) {
    for sequence in 1..=SEGMENTS {
        let run = Run::new("h", START);
        let mut segment =
            Segment::create(directory.to_owned(), run, sequence, Format::Jsonl).unwrap();
        for part in lines(sequence, sequence == SEGMENTS).chunks(256 << 10) {
            segment.buffer().extend_from_slice(part);
            segment.flush().unwrap();
        }
        transcoder.push(segment.part(), segment.name().clone(), segment.written());
    }
}

fn stored(scene: &Scene) -> Vec<PathBuf> {
    let mut stored: Vec<_> = fs::read_dir(scene.stored("k3s-vllm"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    stored.sort();
    stored
}

/// Records, uploads beside it, and stops with so much time for tables.
async fn run(scene: &Scene, within: Duration) {
    fs::remove_file(scene.segment()).unwrap();
    let traces = scene.path("traces");
    let transcoder = Transcoder::start(u64::MAX, &traces).unwrap();
    let spool = Spool::open(&traces).unwrap().with_transcoder(transcoder.clone());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let state = Arc::new(State::default());
    let store = Arc::new(Broken { bucket: scene.bucket().await, unreadable: None });
    let uploader = Uploader::new(spool.clone(), store, Arc::clone(&state));
    // Uploads all the time.
    let uploader = tokio::spawn(uploader.run(Duration::from_millis(20), stopped));
    let recorder = {
        let transcoder = transcoder.clone();
        thread::spawn(move || record(&traces, &transcoder))
    };
    tokio::task::spawn_blocking(move || {
        recorder.join().unwrap();
        transcoder.stop(within);
    })
    .await
    .unwrap();
    stop.send(true).unwrap();
    uploader.await.unwrap();
    assert_eq!(state.uploads().stored, SEGMENTS);
    assert_eq!(spool.waiting().unwrap().segments, 0);
}

/// Every segment once, and each line of it.
fn assert_all_there(stored: &[PathBuf]) {
    assert_eq!(stored.len() as u64, SEGMENTS, "{stored:?}");
    for (sequence, file) in (1..).zip(stored) {
        let mut text = Vec::new();
        tables::lines::open(file).unwrap().read_to_end(&mut text).unwrap();
        assert!(text == lines(sequence, sequence == SEGMENTS), "{}", file.display());
    }
    let report = check_opened(stored, tables::lines::open);
    assert!(report.is_whole(), "{:?}", report.problems);
    assert_eq!(report.calls, SEGMENTS * CALLS);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_the_bucket_gets_tables_with_every_line() {
    let scene = Scene::new(b"");
    run(&scene, Duration::from_secs(600)).await;
    let stored = stored(&scene);
    assert!(stored.iter().all(|file| file.extension().unwrap() == "parquet"), "{stored:?}");
    assert_all_there(&stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_time_for_tables_the_bucket_gets_lines_and_no_segment_twice() {
    let scene = Scene::new(b"");
    run(&scene, Duration::ZERO).await;
    assert_all_there(&stored(&scene));
}
