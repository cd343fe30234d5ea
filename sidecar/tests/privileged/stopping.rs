//! How it ends where the kernel takes its time to close probes.

use std::{
    fs,
    time::{Duration, Instant},
};

use testbed::libraries::Driver;

use crate::harness::{Scene, Sidecar, assert_lines, run};

/// Each is closed on its own, which takes the kernel up to 0.2 s.
const PERF_EVENTS: [(&str, &str); 2] = [
    ("ATTACH_BY", "perf-events"),
    ("TRACE_FUNCTIONS", "cuMemAlloc*,cuMemcpy*,cuInit,cuCtxSynchronize"),
];

/// All there could be, at the slowest that was seen.
const TIMEOUT: Duration = Duration::from_secs(120);

fn traced(scene: &Scene) -> Sidecar {
    let sidecar = scene.sidecar(&PERF_EVENTS);
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "1000"]));
    sidecar
}

/// Processes that close probes: those of other tests have been waited for.
fn closers() -> Vec<u32> {
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str().and_then(|name| name.parse().ok()));
    pids.filter(|pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // One that has ended stays in the list until somebody waits for it.
        stat.contains("(closing-probes)") && !stat.contains(") Z ")
    })
    .collect()
}

fn wait_for_closers() {
    let deadline = Instant::now() + TIMEOUT;
    while !closers().is_empty() {
        assert!(Instant::now() < deadline, "{:?} never end", closers());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_sidecar_ends_before_its_perf_events_are_closed_one_by_one() {
    let scene = Scene::new(Driver::R550);
    let sidecar = traced(&scene);
    sidecar.stop();
    let closers = closers();
    assert_eq!(closers.len(), 1, "closing them took so long that the sidecar's end waited for it");
    // Nothing of the sidecar's is left in its hands: the next one gets the directory at once.
    let next = scene.sidecar(&[]);
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "500"]));
    next.stop();
    assert_lines(&scene.whole_report(), &scene.counts());
    wait_for_closers();
}

#[test]
fn a_kill_while_probes_are_closed_leaves_a_whole_trace() {
    let scene = Scene::new(Driver::R550);
    let sidecar = traced(&scene);
    sidecar.terminate();
    let deadline = Instant::now() + TIMEOUT;
    while scene.segments().is_empty() {
        assert!(Instant::now() < deadline, "the trace is not closed");
        std::thread::sleep(Duration::from_millis(1));
    }
    sidecar.kill();
    assert_lines(&scene.whole_report(), &scene.counts());
    wait_for_closers();
}

/// The grace period of Kubernetes, less what uploads may take.
const GRACE: Duration = Duration::from_secs(10);

#[test]
fn a_stop_while_probes_are_still_being_attached_one_by_one_waits_for_none() {
    let scene = Scene::new(Driver::R550);
    let mut command = scene.sidecar_command();
    command.envs([("ATTACH_BY", "perf-events"), ("TRACE_FUNCTIONS", "cuMem*,cuStream*,cuInit")]);
    let mut sidecar = Sidecar::spawn(command);
    sidecar.wait_for("probes are attached one by one");
    // A fast machine may have attached all of them by now; then the end has to be as quick.
    let begun = Instant::now();
    sidecar.terminate();
    let (status, log) = sidecar.end();
    assert!(status.success() && begun.elapsed() < GRACE, "{:?}, {log:#?}", begun.elapsed());
    wait_for_closers();
}

#[test]
fn discovery_goes_on_while_probes_of_an_overwritten_library_are_closed_one_by_one() {
    let scene = Scene::new(Driver::R550);
    let library = fs::canonicalize(scene.libraries().join("libcuda.so.1")).unwrap();
    let mut sidecar = traced(&scene);
    let content = fs::read(&library).unwrap();
    let writer = std::thread::spawn(move || fs::write(library, content).unwrap());
    sidecar.wait_for("overwritten in place");
    // A thread has the name of the one that made it until it runs.
    let begun = Instant::now();
    loop {
        let threads = fs::read_dir(format!("/proc/{}/task", sidecar.pid())).unwrap();
        let name = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("comm"));
        let names: Vec<String> = threads.filter_map(|thread| name(thread.ok()?).ok()).collect();
        if names.iter().any(|name| name == "detach\n") {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "it has waited: {names:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    writer.join().unwrap();
    sidecar.stop();
    wait_for_closers();
}
