//! No call is lost, none is invented, and the trace proves it.

use sidecar_common::MAX_THREADS;
use testbed::libraries::Driver;
use trace::segment_name::Format;

use crate::harness::{Scene, assert_lines, default_set, run, segments_in};

/// Every exported function of both libraries, called with known arguments.
fn tour_is_traced_completely(driver: Driver) {
    let scene = Scene::new(driver);
    let sidecar = scene.sidecar(&[]);
    run(scene.caller(&["--sequence"]));
    sidecar.stop();
    let report = scene.whole_report();
    let counts = default_set(scene.counts());
    assert!(counts.len() > 150, "the tour is too short to prove anything: {counts:?}");
    assert_lines(&report, &counts);
}

#[test]
fn every_default_function_is_traced_with_550_style_stubs() {
    tour_is_traced_completely(Driver::R550);
}

#[test]
fn every_default_function_is_traced_with_580_style_stubs() {
    tour_is_traced_completely(Driver::R580);
}

#[test]
fn all_functions_are_traced_when_asked_for() {
    let scene = Scene::new(Driver::R550);
    let sidecar = scene.sidecar(&[("TRACE_FUNCTIONS", "all")]);
    run(scene.caller(&["--sequence"]));
    sidecar.stop();
    assert_lines(&scene.whole_report(), &scene.counts());
}

#[test]
fn kernels_without_links_trace_as_completely_by_perf_events() {
    let scene = Scene::new(Driver::R550);
    // Few functions: each perf event takes a grace period of the kernel to close.
    let sidecar = scene.sidecar(&[
        ("ATTACH_BY", "perf-events"),
        ("TRACE_FUNCTIONS", "cuInit,cuCtxSynchronize,cudaMalloc,cuMemAlloc_v2"),
    ]);
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "10000", "--threads", "2"]));
    sidecar.stop();
    let report = scene.whole_report();
    assert_eq!(report.functions["cuCtxSynchronize"].lines, 20_000);
    assert_lines(&report, &scene.counts());
}

#[test]
fn three_capabilities_are_enough_and_a_missing_one_is_named() {
    let scene = Scene::new(Driver::R550);
    let sidecar = scene.sidecar_with_capabilities("bpf,perfmon,sys_ptrace");
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "100"]));
    sidecar.stop();
    assert_lines(&scene.whole_report(), &scene.counts());

    let refused = scene.refused_with_capabilities("bpf,perfmon");
    assert!(refused.contains("CAP_SYS_PTRACE"), "{refused}");
    assert!(!refused.contains("CAP_BPF"), "{refused}");
}

#[test]
fn the_first_line_of_a_process_is_its_first_call() {
    let scene = Scene::new(Driver::R550);
    let sidecar = scene.sidecar(&[]);
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "3"]));
    sidecar.stop();
    let calls: Vec<String> = scene.calls().into_iter().map(|call| call.func).collect();
    assert_eq!(calls, ["cuInit", "cuCtxSynchronize", "cuCtxSynchronize", "cuCtxSynchronize"]);
    assert!(scene.library_lines().iter().all(|library| !library.attached_late));
}

#[test]
fn more_threads_than_there_is_room_for_lose_no_call() {
    let scene = Scene::new(Driver::R550);
    let sidecar = scene.sidecar(&[]);
    let threads = MAX_THREADS + 1000;
    run(scene.caller(&["--function", "cuCtxSynchronize", "--threads", &threads.to_string()]));
    sidecar.stop();
    let report = scene.whole_report();
    assert_eq!(report.functions["cuCtxSynchronize"].lines, u64::from(threads));
    assert_lines(&report, &scene.counts());
    let calls = scene.calls();
    let without_room = calls.iter().filter(|call| call.phase == "entry").count();
    assert!(without_room >= 1000, "{without_room} of {threads} threads found no room");
}

/// `segment_size` is that of the files: several of them, however small lines become.
fn threads_at_full_speed_lose_nothing(format: Format, segment_size: &str) {
    let scene = Scene::new(Driver::R550);
    let sidecar = scene.sidecar(&[
        ("TRACE_FORMAT", format.extension()),
        ("TRACE_SEGMENT_SIZE", segment_size),
        ("SHUTDOWN_TIMEOUT", "600"),
    ]);
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "30000", "--threads", "4"]));
    sidecar.stop();
    let report = scene.whole_report();
    assert_eq!(report.functions["cuCtxSynchronize"].lines, 120_000);
    assert_lines(&report, &scene.counts());
    assert!(report.runs[0].segments > 5, "{:?}", report.runs);
    let formats = scene.segments().into_iter().map(|path| format_of(&path));
    assert!(formats.eq(std::iter::repeat_n(format, report.files)), "{:?}", scene.segments());
    let threads: std::collections::BTreeSet<_> =
        scene.calls().into_iter().map(|call| call.tid).collect();
    assert!(threads.len() >= 4);
}

/// By the first bytes of the file.
fn format_of(path: &std::path::Path) -> Format {
    let content = std::fs::read(path).unwrap();
    match &content[..] {
        content if trace::frames::is_compressed(content) => Format::JsonlZst,
        content if trace::reader::is_parquet(content) => Format::Parquet,
        _ => Format::Jsonl,
    }
}

#[test]
fn threads_at_full_speed_lose_nothing_across_rotations() {
    threads_at_full_speed_lose_nothing(Format::Jsonl, "1Mi");
}

#[test]
fn threads_at_full_speed_lose_nothing_across_rotations_of_compressed_segments() {
    threads_at_full_speed_lose_nothing(Format::JsonlZst, "64Ki");
}

/// The sidecar has the time that it needs to make a table of the last segment, too.
#[test]
fn threads_at_full_speed_lose_nothing_across_rotations_of_segments_that_become_tables() {
    threads_at_full_speed_lose_nothing(Format::Parquet, "1Mi");
}

#[test]
fn what_does_not_fit_is_counted_and_balances() {
    let scene = Scene::new(Driver::R550);
    let sidecar = scene.sidecar(&[
        ("RING_BUFFER_SIZE", "256Ki"),
        ("TRACE_SEGMENT_SIZE", "64Ki"),
        ("TRACE_DIR_LIMIT", "1Mi"),
    ]);
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "200000"]));
    sidecar.stop();
    let report = trace::check::check(&segments_in(&scene.traces()));
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let total = report.functions["cuCtxSynchronize"];
    assert!(total.dropped > 0, "{total:?}");
    assert_eq!(total.lines + total.dropped, 200_000);
}

/// A file system of its own, gone with the test.
struct SmallDisk {
    path: std::path::PathBuf,
}

impl SmallDisk {
    fn mount(path: std::path::PathBuf) -> Self {
        run(mount(&["-t", "tmpfs", "-o", "size=512k", "small", path.to_str().unwrap()]));
        Self { path }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut unmount = std::process::Command::new("umount");
        unmount.arg(&self.path);
        run(unmount);
    }
}

fn mount(arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new("mount");
    command.args(arguments);
    command
}

/// `calls` are more than the disk takes.
fn a_full_disk_costs_counted_calls(format: Format, calls: u64) {
    let scene = Scene::new(Driver::R550);
    let disk = SmallDisk::mount(scene.traces());
    let filler = disk.path.join("filler");
    std::fs::write(&filler, vec![0; 400 << 10]).unwrap();
    let mut sidecar = scene.sidecar(&[("TRACE_FORMAT", format.extension())]);
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", &calls.to_string()]));
    sidecar.wait_for("cannot write trace lines");
    std::fs::remove_file(&filler).unwrap();
    sidecar.wait_for("trace lines can be written again");
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "100"]));
    sidecar.stop();
    let report = trace::check::check(&segments_in(&scene.traces()));
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let total = report.functions["cuCtxSynchronize"];
    assert!(total.dropped > 0 && total.lines >= 100, "{total:?}");
    assert_eq!(total.lines + total.dropped, calls + 100);
}

#[test]
fn a_full_disk_costs_counted_calls_and_recording_goes_on_when_there_is_space() {
    a_full_disk_costs_counted_calls(Format::Jsonl, 5000);
}

#[test]
fn a_full_disk_costs_counted_calls_of_compressed_segments_too() {
    a_full_disk_costs_counted_calls(Format::JsonlZst, 200_000);
}

#[test]
fn while_no_segment_can_be_created_calls_are_written_to_the_open_one() {
    let scene = Scene::new(Driver::R550);
    let mut sidecar = scene.sidecar(&[("TRACE_INTERVAL", "1")]);
    let calls = || run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "100"]));
    let away = scene.traces().with_file_name("away");
    std::fs::rename(scene.traces(), &away).unwrap();
    calls();
    sidecar.wait_for("cannot create the next segment");
    calls();
    std::fs::rename(&away, scene.traces()).unwrap();
    sidecar.wait_for("segments can be finished again");
    calls();
    assert_eq!(sidecar.log_lines_with("cannot create the next segment"), 1);
    assert_eq!(sidecar.log_lines_with("segments can be finished again"), 1);
    sidecar.stop();
    let total = scene.whole_report().functions["cuCtxSynchronize"];
    assert_eq!((total.lines, total.dropped), (300, 0));
}

#[test]
fn a_deleted_segment_is_told_of_and_calls_are_counted_until_there_is_another_one() {
    let scene = Scene::new(Driver::R550);
    let mut sidecar = scene.sidecar(&[("TRACE_INTERVAL", "1")]);
    let calls = || run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "100"]));
    std::fs::remove_dir_all(scene.traces()).unwrap();
    calls();
    sidecar.wait_for("somebody has deleted the open segment");
    calls();
    std::fs::create_dir(scene.traces()).unwrap();
    sidecar.wait_for("segments can be finished again");
    calls();
    sidecar.stop();
    let report = trace::check::check(&segments_in(&scene.traces()));
    let total = report.functions["cuCtxSynchronize"];
    assert_eq!(total.hits, 300);
    // The deletion may be noticed within the first calls already.
    assert!((100..=200).contains(&total.dropped), "{total:?}");
    assert_eq!(total.lines, 100, "those of the deleted segment are in no other one");
}
