//! Who is traced, from when on, and who is not.

use std::fs;

use testbed::libraries::Driver;
use trace::check::{Problem, check};

use crate::harness::{Scene, Waiting, assert_lines, run, standin_caller};

#[test]
fn a_library_at_an_unusual_path_is_attached_when_it_is_mapped_and_stays_attached() {
    let scene = Scene::new(Driver::R580);
    let hidden = scene.path("an odd place");
    fs::create_dir(&hidden).unwrap();
    let library = hidden.join("libcuda.so.1");
    scene.hide_driver(&library);
    let library = library.to_str().unwrap();
    let mut sidecar = scene.sidecar(&[]);
    let arguments = ["--library", library, "--function", "cuCtxSynchronize", "--calls", "10"];

    let early = Waiting::start(scene.caller(&[&arguments[..], &["--wait-stdin"]].concat()));
    sidecar.wait_for("attached to a CUDA library");
    early.go_and_end();
    run(scene.caller(&arguments));
    sidecar.stop();

    let report = scene.whole_report();
    assert_eq!(report.functions["cuCtxSynchronize"].lines, 20);
    assert_lines(&report, &scene.counts());
    let lines = scene.library_lines();
    let line = lines.iter().find(|line| line.path == library).expect("the driver has a line");
    assert_eq!(line.found_by, "mapping");
    assert!(line.attached_late, "the first process had mapped it already");
}

#[test]
fn a_library_with_a_meaningless_name_is_found_by_its_exports() {
    let scene = Scene::new(Driver::R580);
    let library = scene.path("libaccelerator.so");
    scene.hide_driver(&library);
    let mut sidecar = scene.sidecar(&[]);
    let waiting = Waiting::start(scene.caller(&[
        "--library",
        library.to_str().unwrap(),
        "--function",
        "cuCtxSynchronize",
        "--wait-stdin",
    ]));
    sidecar.wait_for("attached to a CUDA library");
    waiting.go_and_end();
    sidecar.stop();
    assert_eq!(scene.whole_report().functions["cuCtxSynchronize"].lines, 1);
}

#[test]
fn a_library_of_which_nothing_is_wanted_is_not_missed() {
    let scene = Scene::new(Driver::R580);
    let sidecar = scene.sidecar(&[("TRACE_FUNCTIONS", "cudaMalloc")]);
    // It lives long enough for its files to be opened.
    run(scene.caller(&["--function", "cudaMalloc", "--seconds", "1"]));
    sidecar.stop();
    assert!(scene.whole_report().functions["cudaMalloc"].lines > 0);
    let lines = scene.library_lines();
    assert!(lines.iter().all(|line| !line.path.contains("libcuda.so")), "{lines:?}");
}

#[test]
fn a_library_without_a_name_that_somebody_writes_is_said_to_be_unseen() {
    let scene = Scene::new(Driver::R580);
    let library = scene.path("libaccelerator.so");
    scene.hide_driver(&library);
    let library = library.to_str().unwrap();
    let mut sidecar = scene.sidecar(&[]);
    let writer = fs::File::options().write(true).open(library).unwrap();
    let arguments = ["--library", library, "--function", "cuCtxSynchronize", "--wait-stdin"];
    let waiting = Waiting::start(scene.caller(&arguments));
    sidecar.wait_for("cannot attach to a CUDA library yet: somebody has it open for writing");
    waiting.go_and_end();
    drop(writer);
    sidecar.stop();
    let problems = check(&scene.segments()).problems;
    let is_said =
        |problem: &Problem| matches!(problem, Problem::Unseen { path, .. } if path == library);
    assert!(problems.iter().any(is_said), "{problems:?}");
}

#[test]
fn a_process_that_ran_before_the_sidecar_is_traced_from_then_on() {
    let scene = Scene::new(Driver::R550);
    let waiting = Waiting::start(scene.caller(&[
        "--function",
        "cuCtxSynchronize",
        "--calls",
        "7",
        "--wait-stdin",
    ]));
    let pid = waiting.pid();
    let sidecar = scene.sidecar(&[]);
    waiting.go_and_end();
    sidecar.stop();
    let calls = scene.calls();
    assert_eq!(calls.iter().filter(|call| call.func == "cuCtxSynchronize").count(), 7);
    assert!(calls.iter().all(|call| call.pid == pid));
    let lines = scene.library_lines();
    let driver = lines.iter().find(|line| line.path.contains("libcuda.so")).unwrap();
    assert!(driver.attached_late, "it was mapped before: earlier calls are missing, {driver:?}");
}

#[test]
fn a_forked_child_is_traced_as_a_process_of_its_own() {
    let scene = Scene::new(Driver::R550);
    let sidecar = scene.sidecar(&[]);
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "5", "--fork"]));
    sidecar.stop();
    let report = scene.whole_report();
    assert_eq!(report.functions["cuCtxSynchronize"].lines, 10);
    assert_lines(&report, &scene.counts());
    let processes = scene.process_lines();
    assert_eq!(processes.len(), 2, "{processes:?}");
}

#[test]
fn what_a_target_starts_is_a_target_whatever_its_name() {
    let scene = Scene::new(Driver::R550);
    let other = scene.path("renamed");
    fs::copy(standin_caller(), &other).unwrap();
    let other = other.to_str().unwrap();
    // A shell whose command line names the target starts a program that does not.
    let script = format!("{other} --function cuCtxSynchronize --seconds 0.3; exit $?  # vllm-like");
    let sidecar = scene.sidecar(&[("TARGET_PROCESS", "vllm-like")]);
    run(scene.program(std::path::Path::new("/bin/sh"), &["-c", &script]));
    sidecar.stop();
    let report = scene.whole_report();
    assert_lines(&report, &scene.counts());
    assert!(report.functions["cuCtxSynchronize"].lines > 0);
    let processes = scene.process_lines();
    let [(_, process)] = &processes[..] else { panic!("{processes:?}") };
    assert_eq!(process.matched_by, "ancestor");
    assert_eq!(process.executable.as_deref(), Some(other));
}

#[test]
fn a_foreign_process_leaves_no_line_and_the_books_still_balance() {
    let scene = Scene::new(Driver::R550);
    let sidecar = scene.sidecar(&[("TARGET_PROCESS", "somebody else")]);
    // It lives long enough to be examined; one that ended before would be kept as a doubtful one.
    run(scene.caller(&["--function", "cuCtxSynchronize", "--seconds", "0.5"]));
    sidecar.stop();
    assert_eq!(scene.whole_report().calls, 0);
}
