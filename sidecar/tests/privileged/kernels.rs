//! What differs between kernels, or may: `cargo xtask test-kernels` runs these on each that the
//! README names, in guests.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::CommandExt as _,
    time::{Duration, Instant},
};

use cuda::function::calls_back;
use rustix::{
    process::Pid,
    thread::{CpuSet, sched_setaffinity},
};
use testbed::libraries::Driver;
use trace::line::Call;

use crate::harness::{Scene, assert_lines, run};

/// What Kubernetes grants by default.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// Major and minor.
fn kernel() -> (u32, u32) {
    let system = rustix::system::uname();
    let release = system.release().to_str().unwrap();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn has_links() -> bool {
    kernel() >= (6, 6)
}

fn tour(variables: &[(&str, &str)]) {
    let scene = Scene::new(Driver::R580);
    let sidecar = scene.sidecar(&[variables, &[("TRACE_FUNCTIONS", "all")]].concat());
    run(scene.caller(&["--sequence"]));
    let told = Instant::now();
    sidecar.stop();
    assert!(told.elapsed() < GRACE_PERIOD, "it ended {:?} after SIGTERM", told.elapsed());
    assert_lines(&scene.whole_report(), &scene.counts());
    let phase = if variables.contains(&("TRACE_DETAIL", "entry")) { "entry" } else { "call" };
    // Functions that call back have no return probe.
    let is_right = |call: &Call| call.phase == phase || calls_back(&call.func).is_some();
    assert!(scene.calls().iter().all(is_right));
}

/// One thread may run the programs while another one's run is interrupted.
#[test]
fn threads_that_share_a_processor_do_not_share_their_calls() {
    for attach_by in ["auto", "perf-events"] {
        let scene = Scene::new(Driver::R580);
        let functions = ("TRACE_FUNCTIONS", "cuInit,cuCtxSynchronize");
        let sidecar = scene.sidecar(&[("ATTACH_BY", attach_by), functions]);
        let arguments = ["--function", "cuCtxSynchronize", "--calls", "20000", "--threads", "2"];
        run(scene.caller(&arguments));
        sidecar.stop();
        assert_lines(&scene.whole_report(), &scene.counts());
        let mut by_thread = BTreeMap::<_, usize>::new();
        for call in scene.calls().iter().filter(|call| call.func == "cuCtxSynchronize") {
            assert_eq!(call.phase, "call", "{attach_by}: {call:?}");
            *by_thread.entry(call.tid).or_default() += 1;
        }
        assert_eq!(by_thread.into_values().collect::<Vec<_>>(), [20_000, 20_000], "{attach_by}");
    }
}

#[test]
fn entries_of_every_function_are_recorded() {
    tour(&[("TRACE_DETAIL", "entry")]);
}

#[test]
fn compressed_segments_hold_every_call() {
    tour(&[("TRACE_FORMAT", "jsonl.zst")]);
}

#[test]
fn what_the_kernel_cannot_do_is_said_and_what_it_asks_for_is_named() {
    let scene = Scene::new(Driver::R550);
    let mut sidecar = scene.sidecar(&[]);
    let without_links = sidecar.log_lines_with("this kernel has no links for many probes");
    assert_eq!(without_links, usize::from(!has_links()), "on Linux {:?}", kernel());
    sidecar.stop();

    // Beyond 2, which only some distributions know, PERFMON does not do.
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap();
    if has_links() && paranoid.trim().parse::<i32>().unwrap() <= 2 {
        scene.sidecar_with_capabilities("bpf,perfmon,sys_ptrace").stop();
    } else {
        let refused = scene.refused_with_capabilities("bpf,perfmon,sys_ptrace");
        assert!(refused.contains("CAP_SYS_ADMIN is missing"), "{refused}");
    }
}

/// A processor that is taken away and brought back.
struct Processor(usize);

impl Processor {
    fn set_online(&self, online: bool) {
        let path = format!("/sys/devices/system/cpu/cpu{}/online", self.0);
        fs::write(&path, if online { "1" } else { "0" }).unwrap();
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        self.set_online(true);
    }
}

#[test]
#[ignore = "takes a processor away from the whole machine: `cargo xtask test-kernels` does, in a guest"]
fn what_is_mapped_on_a_processor_that_was_away_is_seen() {
    let scene = Scene::new(Driver::R580);
    // Found by its mapping alone.
    let library = scene.path("libcuda-elsewhere.so.1");
    scene.hide_driver(&library);
    let mut sidecar = scene.sidecar(&[]);
    let processor = Processor(1);
    processor.set_online(false);
    processor.set_online(true);
    // The tracer looks for processors now and then.
    std::thread::sleep(Duration::from_secs(2));
    let mut caller = scene.caller(&[
        "--library",
        library.to_str().unwrap(),
        "--function",
        "cuCtxSynchronize",
        "--calls",
        "1000",
        "--wait-stdin",
    ]);
    let mut only = CpuSet::new();
    only.set(processor.0);
    // SAFETY: between fork and exec only one system call is made.
    unsafe { caller.pre_exec(move || Ok(sched_setaffinity(None::<Pid>, &only)?)) };
    let waiting = crate::harness::Waiting::start(caller);
    sidecar.wait_for("attached to a CUDA library");
    waiting.go_and_end();
    sidecar.stop();
    assert_lines(&scene.whole_report(), &scene.counts());
}
