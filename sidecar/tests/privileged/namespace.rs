//! A pid namespace of its own, as containers of a pod that share one have it, and a time namespace.

use std::{process::Command, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use testbed::libraries::Driver;

use crate::harness::{Scene, assert_lines, run, standin_caller};

/// Starts the sidecar and a target inside, waits for both, and leaves the target's output.
const INSIDE: &str = r#"
    "$SIDECAR" 2> "$SCENE/log" &
    sidecar=$!
    for attempt in $(seq 200); do
        grep -q "ready: tracing" "$SCENE/log" && break
        sleep 0.05
    done
    touch "$SCENE/ready"
    "$CALLER" --function cuCtxSynchronize --seconds 0.5 > "$SCENE/inside.json" || exit 1
    kill -s TERM $sidecar
    wait $sidecar
"#;

#[test]
fn only_processes_of_the_namespace_are_traced_and_under_their_pids_in_it() {
    let scene = Scene::new(Driver::R550);
    let mut inside = Command::new("unshare");
    inside
        .args(["--pid", "--fork", "--mount-proc", "sh", "-c", INSIDE])
        .env("SIDECAR", env!("CARGO_BIN_EXE_ebpf-cuda-tracer"))
        .env("CALLER", standin_caller())
        .env("SCENE", scene.path(""))
        .env("TARGET_PROCESS", "standin")
        .env("TRACE_DIR", scene.traces())
        .env("UPLOAD_ENABLED", "false")
        .env("HTTP_ADDRESS", "")
        .env("CUDA_LIBRARY_DIRS", scene.libraries())
        .env("LD_LIBRARY_PATH", scene.libraries())
        .env("CUDA_STANDIN_COUNTS", scene.counts_directory());
    let mut inside = inside.spawn().unwrap();
    while !scene.path("ready").exists() {
        std::thread::sleep(Duration::from_millis(10));
        assert!(inside.try_wait().unwrap().is_none(), "ended before it was ready");
    }
    // A namesake outside, which hits the same probes but is none of the sidecar's business.
    let mut outside = scene.caller(&["--function", "cuCtxSynchronize", "--calls", "1000"]);
    outside.env_remove("CUDA_STANDIN_COUNTS");
    run(outside);
    assert!(inside.wait().unwrap().success());

    let log = std::fs::read_to_string(scene.path("log")).unwrap();
    assert!(!log.contains("listening"), "an empty HTTP_ADDRESS turns it off: {log}");
    let report = scene.whole_report();
    assert!(report.calls > 0);
    assert_lines(&report, &scene.counts());
    let output = std::fs::read_to_string(scene.path("inside.json")).unwrap();
    let pid = scene.calls()[0].pid;
    assert!(output.contains(&format!("\"pid\":{pid},")), "{pid} is not in {output}");
    assert!(scene.calls().iter().all(|call| call.pid == pid));
}

#[test]
fn timestamps_are_those_of_the_node_although_the_sidecar_is_in_a_time_namespace() {
    let monotonic = || Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap();
    let scene = Scene::new(Driver::R550);
    let start = monotonic();
    let sidecar = scene.sidecar_by("unshare", &["--time", "--monotonic", "1000"]);
    let called = monotonic();
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "10"]));
    let returned = monotonic();
    sidecar.stop();
    assert_lines(&scene.whole_report(), &scene.counts());
    let zero = Duration::from_nanos(scene.start_monotonic_ns());
    assert!((start..called).contains(&zero), "ts 0 is at {zero:?}, not after {start:?}");
    for call in scene.calls() {
        let at = zero + Duration::from_secs_f64(call.ts / 1e3);
        assert!((called..returned).contains(&at), "a call at {at:?}, not after {called:?}");
    }
}
