use std::fs;

use processes::process::Processes;
use trace::line::{CoverageCounts, CoverageKind};

use super::*;

use crate::reporting::state::Evidence;

/// A sidecar's reporter without a sidecar.
pub(crate) fn reporter(destination: Option<&str>) -> (tempfile::TempDir, Reporter) {
    let directory = tempfile::tempdir().unwrap();
    let facts = Facts {
        host: "node".to_owned(),
        kernel: "6.18.0".to_owned(),
        run: "node_20261124T032105.123Z".to_owned(),
        started: "2026-11-24T03:21:05.5Z".parse().unwrap(),
        target_process: "python".to_owned(),
        trace_dir: directory.path().to_owned(),
        trace_dir_limit: 1 << 30,
        destination: destination.map(str::to_owned),
    };
    let spool = Spool::open(directory.path()).unwrap();
    (directory, Reporter::new(facts, spool, Arc::default()))
}

/// Of a sidecar that has seen one of everything.
pub(crate) fn busy() -> (tempfile::TempDir, Reporter) {
    let (directory, reporter) = reporter(Some("s3://traces/k3s-vllm/"));
    let state = reporter.state();
    state.enter(Phase::Recording);
    state.let_a_turn_take(7, Duration::from_millis(1250));
    state.publish(Recorded {
        tally: Tally {
            calls: Calls {
                hits: 12,
                recorded: 6,
                ignored: 2,
                dropped_at_ring: 3,
                dropped_at_disk: 1,
                suppressed: 0,
            },
            functions: [("cuInit".to_owned(), 2), ("cuMemAlloc_v2".to_owned(), 10)].into(),
        },
        written_bytes: 4096,
        closed_segments: 2,
        is_paused: false,
    });
    state.attached(Library {
        path: "/usr/lib/libcuda.so.1".to_owned(),
        device: 1,
        inode: 2,
        found_by: "mapping".to_owned(),
        attached_late: true,
        functions: 400,
        single_stepped: 3,
        failed: [("cuOdd".to_owned(), "no".to_owned())].into(),
    });
    let unseen = trace::line::Coverage {
        coverage: CoverageKind::Unseen,
        path: "/opt/libcuda.so.1".to_owned(),
        device: 1,
        inode: 3,
        unprobed: 0,
        reason: Some("its file was overwritten in place".to_owned()),
    };
    let counts = CoverageCounts { exact: 5, from: 4, unseen: 3, events_lost: 2, unexamined: 1 };
    state.covered(9, Some(&unseen), counts);
    state.unprobed(6);
    let own = std::process::id();
    let executable = std::env::current_exe().unwrap();
    let name = executable.file_name().unwrap().to_str().unwrap();
    let (mut targets, mut strangers) = (Processes::new(name), Processes::new("\u{0}"));
    state.callers().note(own, &targets.known(own), Evidence::Call);
    let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
    let parent = u32::try_from(parent).unwrap();
    state.callers().note(parent, &strangers.known(parent), Evidence::Mapping);
    {
        let mut uploads = state.uploads();
        uploads.stored(2048);
        uploads.store_failures = 5;
        uploads.failing("cannot reach http://minio:9000: Connection refused".to_owned());
    }
    fs::write(directory.path().join("trace_h_s_000001.jsonl"), "{}\n").unwrap();
    (directory, reporter)
}

#[test]
fn a_status_has_what_the_threads_published_and_what_lies_in_the_directory() {
    let (directory, reporter) = busy();
    let status = reporter.status();
    assert_eq!(status.phase, Phase::Recording);
    assert_eq!((status.calls.hits, status.calls.dropped_at_ring), (12, 3));
    assert_eq!(status.discovery, LongestTurn { milliseconds: 1250, pid: Some(7) });
    assert_eq!((status.probes(), status.running(true), status.running(false)), (400, 1, 1));
    assert_eq!((status.segments.waiting, status.segments.waiting_bytes), (1, 3));
    assert!(status.segments.oldest_waiting_ms.unwrap() < 60_000);
    assert_eq!(status.segments.directory, directory.path());
    assert!(status.visible_processes > 0);
    let uploads = status.uploads.clone().unwrap();
    assert_eq!((uploads.uploads.stored, uploads.uploads.store_failures), (1, 5));
    let again: Status = serde_json::from_str(&serde_json::to_string(&status).unwrap()).unwrap();
    assert_eq!(again, status);
}

#[test]
fn a_status_is_flat_where_people_query_it() {
    let (_directory, reporter) = busy();
    let json = serde_json::to_value(reporter.status()).unwrap();
    assert_eq!(json["phase"], "recording");
    assert_eq!(json["started"], "2026-11-24T03:21:05.5Z");
    assert_eq!(json["processes"][0]["matched_by"], "executable");
    assert_eq!(json["processes"][1]["matched_by"], serde_json::Value::Null);
    assert_eq!(json["uploads"]["stored"], 1);
    assert_eq!(json["uploads"]["destination"], "s3://traces/k3s-vllm/");
    assert_eq!(json["libraries"][0]["attached_late"], true);
    assert_eq!(json["discovery"]["longest_turn_ms"], 1250);
}

#[test]
fn what_is_not_seen_is_told_with_its_reason() {
    let (_directory, reporter) = busy();
    let text = text::of(&reporter.status());
    let at = text.find("coverage").expect("a line of its own");
    let lines: Vec<&str> = text[at..].lines().take(4).map(str::trim).collect();
    assert!(lines[0].contains("5 from the first call on, 4 from a later moment on, 3 NOT SEEN"));
    assert_eq!(lines[1], "9  NOT SEEN: /opt/libcuda.so.1: its file was overwritten in place");
    assert!(lines[2].starts_with("the kernel lost process events 2 times"), "{lines:?}");
    assert!(lines[3].starts_with("mapped files not examined: 1;"), "{lines:?}");
}

#[test]
fn running_targets_come_first_and_ended_strangers_last() {
    // Pids of processes that exist count as running; no process has these.
    const GONE: [u32; 2] = [4_000_001, 4_000_002];
    let (_directory, reporter) = reporter(None);
    let executable = std::env::current_exe().unwrap();
    let name = executable.file_name().unwrap().to_str().unwrap();
    let (mut targets, mut strangers) = (Processes::new(name), Processes::new("\u{0}"));
    let own = std::process::id();
    let [target, stranger] = [targets.known(own), strangers.known(own)];
    let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
    let parent = u32::try_from(parent).unwrap();
    for (pid, known) in
        [(GONE[0], &stranger), (parent, &stranger), (GONE[1], &target), (own, &target)]
    {
        reporter.state().callers().note(pid, known, Evidence::Call);
    }
    let pids: Vec<u32> =
        reporter.status().processes.iter().map(|process| process.caller.pid).collect();
    assert_eq!(pids, [own, GONE[1], parent, GONE[0]]);
}

#[test]
fn each_verdict_has_its_reason() {
    for (matched_by, expected) in [
        (None, "neither its executable, comm nor command line contains \"vllm\""),
        (Some("executable"), "its executable contains \"vllm\""),
        (Some("comm"), "its comm contains \"vllm\""),
        (Some("command"), "its command line contains \"vllm\""),
        (Some("ancestor"), "a target started it"),
        (Some("unexamined"), "it had ended before it could be examined"),
        (Some("unread"), "its command line does not come"),
    ] {
        assert!(reason(matched_by, "vllm").starts_with(expected), "{matched_by:?}");
    }
}

#[test]
fn without_uploads_there_is_nothing_to_tell_of_them() {
    let (_directory, reporter) = reporter(None);
    assert_eq!(reporter.status().uploads, None);
}
