//! Calls that do not return: left by a jump, ended with their thread or process, nested too deep
//! to be kept, open when the sidecar stops. Each is one line, and those around it stay right.

use std::{fs, os::unix::process::ExitStatusExt as _, path::PathBuf};

use testbed::{leaver, libraries::Driver};
use trace::line::{Call, Detail, ENTRY_PHASE};

use crate::harness::{Scene, Waiting, assert_lines, run};

/// What a program that ended well counted is what the lines are.
fn lines_of(driver: Driver, arguments: &[&str]) -> Vec<String> {
    let (scene, program) = scene(driver);
    let sidecar = scene.sidecar(&[]);
    run(scene.program(&program, arguments));
    sidecar.stop();
    assert_lines(&scene.whole_report(), &scene.counts());
    shapes(&scene.calls())
}

fn scene(driver: Driver) -> (Scene, PathBuf) {
    let scene = Scene::new(driver);
    let program = leaver::install(&scene.libraries()).unwrap();
    (scene, program)
}

/// Function, depth and parent, or that the call is known by its entry.
fn shapes(calls: &[Call]) -> Vec<String> {
    assert_possible(calls);
    let shape = |call: &Call| match (&call.detail.depth, &call.detail.parent) {
        (None, _) => format!("{} began", call.func),
        (Some(depth), None) => format!("{} at {depth}", call.func),
        (Some(depth), Some(parent)) => format!("{} at {depth} in {parent}", call.func),
    };
    calls.iter().map(shape).collect()
}

/// Nothing is said of a call that only began, and each other one lies within its parent and
/// beside its siblings.
fn assert_possible(calls: &[Call]) {
    let end = |call: &Call| call.ts + call.detail.dur_us.unwrap() / 1e3;
    let is_entry = |call: &Call| call.phase == ENTRY_PHASE;
    for call in calls {
        if is_entry(call) {
            assert_eq!(*call.detail, Detail::default(), "{call:?}");
            continue;
        }
        let depth = call.detail.depth.unwrap();
        assert_eq!(call.detail.parent.is_some(), depth > 0, "{call:?}");
        let of_thread = || calls.iter().filter(|other| other.tid == call.tid);
        let parent = of_thread().find(|other| {
            Some(&other.func) == call.detail.parent.as_ref()
                && other.ts <= call.ts
                && (is_entry(other)
                    || other.detail.depth == Some(depth - 1) && end(call) <= end(other) + 1e-6)
        });
        assert!(depth == 0 || parent.is_some(), "nothing around {call:?}");
        let overlaps = |other: &&Call| {
            other.detail.depth == Some(depth) && other.ts < call.ts && end(other) > call.ts + 1e-6
        };
        let overlapping = of_thread().find(overlaps);
        assert!(overlapping.is_none(), "{call:?} began in {overlapping:?}");
    }
}

#[test]
fn calls_that_a_jump_leaves_are_known_by_their_entries_and_later_ones_are_whole() {
    for driver in [Driver::R550, Driver::R580] {
        for times in 1..4_usize {
            let lines = lines_of(driver, &["jump", &times.to_string(), "4096", "0"]);
            let mut expected = vec!["cuInit at 0"];
            for _ in 0..times {
                expected.extend([
                    "cuCtxSynchronize at 2 in cuStreamAddCallback",
                    // Known when the thread calls again, from further up.
                    "cuStreamAddCallback began",
                    "cuLaunchHostFunc began",
                ]);
            }
            expected.extend(["cuCtxSynchronize at 0"; 2]);
            assert_eq!(lines, expected, "{driver:?}");
        }
    }
}

#[test]
fn a_call_that_ends_with_its_thread_is_known_by_its_entry_while_the_process_runs() {
    let (scene, program) = scene(Driver::R580);
    let sidecar = scene.sidecar(&[]);
    let target = Waiting::start(scene.program(&program, &["threads"]));
    // The last of them is booked when it is seen that its thread has ended.
    scene.wait_for_lines(5);
    target.go_and_end();
    sidecar.stop();
    assert_lines(&scene.whole_report(), &scene.counts());
    let calls = scene.calls();
    let expected = [
        "cuInit at 0",
        "cuCtxSynchronize at 1 in cuLaunchHostFunc",
        "cuCtxSynchronize at 1 in cuLaunchHostFunc",
        "cuLaunchHostFunc at 0",
        "cuLaunchHostFunc began",
    ];
    assert_eq!(shapes(&calls), expected);
    let threads = [1, 4, 2, 3].map(|line| calls[line].tid.unwrap());
    let [first, left, second, returned] = threads;
    assert_eq!((first, second), (left, returned));
    assert_ne!(first, second);
}

/// The number that was given last: the next process gets the one behind it, unless another one is
/// faster.
const LAST_NUMBER: &str = "/proc/sys/kernel/ns_last_pid";

#[test]
fn a_call_that_ends_with_its_process_is_no_parent_in_another_one_of_the_same_number() {
    const TRIES: u32 = 1000;
    let (scene, program) = scene(Driver::R550);
    let sidecar = scene.sidecar(&[]);
    let mut killed = scene.program(&program, &["kill"]).spawn().unwrap();
    let pid = killed.id();
    assert_eq!(killed.wait().unwrap().signal(), Some(9));
    let before = fs::read_to_string(LAST_NUMBER).unwrap();
    let second = (0..TRIES).find_map(|_| {
        fs::write(LAST_NUMBER, (pid - 1).to_string()).unwrap();
        let waiting = Waiting::start(scene.program(&program, &["wait"]));
        if waiting.pid() == pid {
            return Some(waiting);
        }
        waiting.go_and_end();
        None
    });
    // Numbers of processes that end now are not given to others at once.
    fs::write(LAST_NUMBER, before.trim()).unwrap();
    second.expect("a process of the same number").go_and_end();
    sidecar.stop();
    scene.whole_report();
    let calls: Vec<Call> = scene.calls().into_iter().filter(|call| call.pid == pid).collect();
    let expected = [
        "cuInit at 0",
        "cuCtxSynchronize at 1 in cuLaunchHostFunc",
        "cuLaunchHostFunc began",
        "cuInit at 0",
        "cuLaunchHostFunc at 1 in cuLaunchHostFunc",
        "cuLaunchHostFunc at 0",
        "cuCtxSynchronize at 0",
    ];
    assert_eq!(shapes(&calls), expected);
}

#[test]
fn calls_nested_deeper_than_is_kept_are_known_by_their_entries() {
    const LEVELS: usize = 12;
    const KEPT: usize = sidecar_common::MAX_DEPTH;
    for driver in [Driver::R550, Driver::R580] {
        let lines = lines_of(driver, &["nest", &LEVELS.to_string()]);
        // On each level the call that leads deeper, then one that returns at once; after all of
        // them one more.
        let whole = |name: &str, depth: usize| match depth {
            0 => format!("{name} at 0"),
            _ => format!("{name} at {depth} in cuLaunchHostFunc"),
        };
        let mut expected = vec!["cuInit at 0".to_owned()];
        expected.extend(vec!["cuLaunchHostFunc began".to_owned(); LEVELS - KEPT]);
        expected.extend(vec!["cuCtxSynchronize began".to_owned(); LEVELS - KEPT + 1]);
        for depth in (0..KEPT).rev() {
            expected.push(whole("cuLaunchHostFunc", depth));
            expected.push(whole("cuCtxSynchronize", depth));
        }
        assert_eq!(lines, expected, "{driver:?}");
    }
}

#[test]
fn calls_that_are_open_when_the_sidecar_stops_are_known_by_their_entries() {
    let (scene, program) = scene(Driver::R580);
    let sidecar = scene.sidecar(&[]);
    let target = Waiting::start(scene.program(&program, &["wait"]));
    sidecar.stop();
    target.go_and_end();
    scene.whole_report();
    let expected = ["cuInit at 0", "cuLaunchHostFunc began", "cuLaunchHostFunc began"];
    assert_eq!(shapes(&scene.calls()), expected);
}
