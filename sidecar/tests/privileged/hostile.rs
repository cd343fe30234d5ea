//! Targets whose files and memory are traps for whoever looks at them.

use std::{os::unix::process::CommandExt as _, process::Command, time::Duration};

use rustix::{
    fs::{CWD, Mode, mkfifoat},
    path::Arg as _,
};
use testbed::libraries::Driver;

use crate::{
    fuse::Hanging,
    harness::{Scene, Waiting, assert_lines, run, standin_caller},
    http::{get, status_when},
};

/// Puts one file in the place of another, for the processes of the mount namespace of `pid`.
fn replace(pid: u32, original: &str, by: &str) {
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid.to_string(), "--mount", "mount", "--bind", by, original]);
    run(command);
}

/// A target in a mount namespace of its own, which waits before it calls.
fn waiting(scene: &Scene, program: &str) -> Waiting {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", program, "--function", "cuCtxSynchronize", "--calls", "10"])
        .arg("--wait-stdin")
        .env("LD_LIBRARY_PATH", scene.libraries())
        .env("CUDA_STANDIN_COUNTS", scene.counts_directory());
    Waiting::start(command)
}

#[test]
fn a_fifo_in_the_place_of_the_cache_or_the_executable_holds_nobody_up() {
    let scene = Scene::new(Driver::R550);
    let fifo = scene.path("fifo");
    mkfifoat(CWD, &fifo, Mode::RUSR).unwrap();
    let program = scene.path("standin-copy");
    std::fs::copy(standin_caller(), &program).unwrap();
    let (fifo, program) = (fifo.as_str().unwrap(), program.as_str().unwrap());

    // Looked at by the first scan, and by events.
    let before = waiting(&scene, program);
    replace(before.pid(), program, fifo);
    // Last, because no other program can be started there then.
    replace(before.pid(), "/etc/ld.so.cache", fifo);
    let sidecar = scene.sidecar(&[]);
    let after = waiting(&scene, program);
    replace(after.pid(), program, fifo);
    // Last, because no other program can be started there then.
    replace(after.pid(), "/etc/ld.so.cache", fifo);
    before.go_and_end();
    after.go_and_end();
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "10"]));
    sidecar.stop();
    let report = scene.whole_report();
    assert_eq!(report.functions["cuCtxSynchronize"].lines, 30);
    assert_lines(&report, &scene.counts());
}

#[test]
fn long_command_lines_and_environments_fill_neither_the_trace_nor_keep_it_from_the_library() {
    let scene = Scene::new(Driver::R550);
    let mut sidecar = scene.sidecar(&[]);
    let start = |child: u32| {
        // The kernel lets no argument be longer than 128 KiB.
        let padding = child.to_string().repeat(120_000);
        let mut command =
            scene.caller(&["--function", "cuCtxSynchronize", "--calls", "3", "--wait-stdin"]);
        // A name is an argument too, and nobody reads it.
        command.arg0(format!("standin{padding}"));
        for variable in 0..8 {
            command.env(format!("A_PADDING_{variable}"), &padding);
        }
        Waiting::start(command)
    };
    let children: Vec<Waiting> = (0..10).map(start).collect();
    let address = sidecar.address();
    // Each is looked at once its turn has come.
    status_when(&address, "every command line is known", |status| {
        let known = status.processes.iter().filter(|process| process.caller.command.is_some());
        known.count() >= children.len()
    });
    let pids: Vec<u32> = children.iter().map(Waiting::pid).collect();
    children.into_iter().for_each(Waiting::go_and_end);
    sidecar.stop();
    assert_lines(&scene.whole_report(), &scene.counts());
    let mut lines = scene.process_lines();
    lines.retain(|(pid, _)| pids.contains(pid));
    assert_eq!(lines.len(), 10);
    for (_, process) in lines {
        let command = process.command.unwrap();
        assert!(command.starts_with("standin") && command.ends_with("..."), "{command}");
        assert!(command.len() <= 4096);
    }
}

/// Each of its events would take a look at 20 000 mappings.
#[test]
fn a_target_that_maps_without_end_keeps_nobody_from_the_probes_of_another() {
    let scene = Scene::new(Driver::R580);
    let mut sidecar = scene.sidecar(&[]);
    let hostile = testbed::hostile::install(&scene.libraries()).unwrap();
    let mut command = scene.program(&hostile, &["mappings", "20000"]);
    command.arg(scene.path("plain"));
    let hostile = Waiting::start(command);
    std::thread::sleep(Duration::from_secs(2));
    // No search leads there, and its name says nothing.
    let library = scene.path("plugin");
    std::fs::copy(scene.libraries().join("libcuda.so.1"), &library).unwrap();
    let mut command =
        scene.caller(&["--function", "cuCtxSynchronize", "--calls", "100", "--library"]);
    command.arg(&library).arg("--wait-stdin");
    let target = Waiting::start(command);
    sidecar.wait_for("plugin");
    target.go_and_end();
    hostile.go_and_end();
    sidecar.stop();
    let report = scene.whole_report();
    assert_lines(&report, &scene.counts());
    assert!(report.functions["cuCtxSynchronize"].lines >= 100);
}

/// First the sidecar itself waits for the code, then the thread that attaches does.
#[test]
fn a_library_whose_code_does_not_come_holds_nobody_up_and_gets_its_probes_when_it_comes() {
    for reads_of_a_page in [0, 1] {
        let scene = Scene::new(Driver::R580);
        let driver = std::fs::canonicalize(scene.libraries().join("libcuda.so.1")).unwrap();
        let fuse = Hanging::mount(&driver, &scene.path("fuse"));
        let mut command =
            scene.caller(&["--function", "cuCtxSynchronize", "--calls", "100", "--library"]);
        command.arg(fuse.library()).arg("--wait-stdin");
        let target = Waiting::start(command);
        fuse.hang_after(reads_of_a_page);
        let mut sidecar = scene.sidecar(&[]);
        assert!(fuse.is_asked(), "nothing waits for the file system");
        run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "10"]));
        let address = sidecar.address();
        assert_eq!(get(&address, "/healthz").0, 200);
        let status = status_when(&address, "the library has no probes", |status| {
            status.coverage.counts.unseen > 0
        });
        assert!(status.discovery.milliseconds < 10_000, "{:?}", status.discovery);
        assert!(fuse.is_hanging(), "the machine is too busy to tell");
        fuse.answer();
        sidecar.wait_for("attached to a CUDA library");
        target.go_and_end();
        sidecar.stop();
        let report = scene.whole_report();
        assert_eq!(report.functions["cuCtxSynchronize"].lines, 110, "{reads_of_a_page}");
        assert_lines(&report, &scene.counts());
    }
}
