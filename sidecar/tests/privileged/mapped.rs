//! Libraries that processes map in unusual ways: their calls are traced, or said not to be, and no
//! process is harmed.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, chown},
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use testbed::libraries::Driver;
use trace::{
    check::{CoverageReport, Problem, Report, check},
    line::{Coverage, CoverageCounts, CoverageKind, Line, Meta},
};

use crate::{
    fuse::Hanging,
    harness::{Scene, Waiting, assert_lines, run, standin_caller},
    http::status_when,
};

const FUNCTION: &str = "cuCtxSynchronize";
const NOBODY: u32 = 65_534;
const TIMEOUT: Duration = Duration::from_secs(20);

/// A driver at a path that no search leads to.
fn hidden(scene: &Scene, name: impl AsRef<OsStr>) -> PathBuf {
    let directory = scene.path("hidden");
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name.as_ref());
    scene.hide_driver(&path);
    path
}

/// Calls the function of a library a hundred times, as more arguments say.
fn calls(scene: &Scene, library: &Path, more: &[&str]) -> Command {
    let mut command = scene.caller(&["--function", FUNCTION, "--calls", "100", "--library"]);
    command.arg(library).args(more);
    command
}

fn coverage_lines(scene: &Scene) -> Vec<(u32, Coverage)> {
    let coverage = |line| match line {
        Line::Meta(line) => match line.meta {
            Meta::Coverage(coverage) => Some((line.pid, coverage)),
            _ => None,
        },
        Line::Call(_) => None,
    };
    scene.lines().into_iter().filter_map(coverage).collect()
}

fn report(scene: &Scene) -> (Report, CoverageReport) {
    let mut report = check(&scene.segments());
    let coverage = report.coverage.take().expect("every run states its coverage");
    (report, coverage)
}

/// The latest statement about a process; waits for nothing.
fn covered(scene: &Scene, pid: u32) -> Option<CoverageKind> {
    let lines = coverage_lines(scene);
    lines.iter().rfind(|(of, _)| *of == pid).map(|(_, coverage)| coverage.coverage)
}

#[track_caller]
fn assert_traced_from_a_moment_on(scene: &Scene, pid: u32) {
    let report = scene.whole_report();
    assert_eq!(report.functions[FUNCTION].lines, 100);
    assert_lines(&report, &scene.counts());
    assert_eq!(covered(scene, pid), Some(CoverageKind::From));
    assert!(scene.library_lines().iter().any(|library| library.attached_late));
}

#[test]
fn a_library_that_is_deleted_once_it_is_loaded_is_traced() {
    for name in ["libcuda.so.1", "plugin.so", "no suffix"] {
        let scene = Scene::new(Driver::R580);
        let library = hidden(&scene, name);
        let mut sidecar = scene.sidecar(&[]);
        let target =
            Waiting::start(calls(&scene, &library, &["--load-as", "deleted", "--wait-stdin"]));
        let pid = target.pid();
        sidecar.wait_for("hidden");
        target.go_and_end();
        sidecar.stop();
        assert_traced_from_a_moment_on(&scene, pid);
    }
}

/// They end long before anybody can look at them.
#[test]
fn what_short_lived_targets_delete_is_told_as_a_doubt_or_as_unseen() {
    const TARGETS: usize = 20;
    for (name, is_doubt) in [("plugin", true), ("libcuda.so.1", false)] {
        let scene = Scene::new(Driver::R580);
        let driver = hidden(&scene, "driver");
        let sidecar = scene.sidecar(&[]);
        for target in 0..TARGETS {
            let library = scene.path(&format!("hidden-{target}")).join(name);
            fs::create_dir(library.parent().unwrap()).unwrap();
            fs::copy(&driver, &library).unwrap();
            run(calls(&scene, &library, &["--load-as", "deleted"]));
        }
        sidecar.stop();
        let (_, coverage) = report(&scene);
        let CoverageCounts { exact, from, unseen, unexamined, .. } = coverage.counts;
        // One that was caught just in time may be told twice.
        assert!(from + unseen + unexamined >= TARGETS as u64, "{:?}", coverage.counts);
        assert_eq!((unexamined > 0, exact), (is_doubt, 0), "{:?}", coverage.counts);
    }
}

#[test]
fn a_library_whose_mount_was_taken_away_is_traced() {
    let scene = Scene::new(Driver::R580);
    let mount = Mount::new("tmpfs", "size=16m", &scene.path("mounted"));
    let library = mount.0.join("libcuda.so.1");
    scene.hide_driver(&scene.path("driver"));
    fs::copy(scene.path("driver"), &library).unwrap();
    let target = Waiting::start(calls(&scene, &library, &["--wait-stdin"]));
    let pid = target.pid();
    // It lives on without a place as long as somebody has a file of it mapped.
    drop(mount);
    assert!(!library.exists());
    let sidecar = scene.sidecar(&[]);
    target.go_and_end();
    sidecar.stop();
    assert_traced_from_a_moment_on(&scene, pid);
}

/// Not even root may open its files.
#[test]
fn a_library_in_a_file_system_that_a_user_serves_for_himself_is_said_to_be_unseen() {
    const MOUNT: &str = "exec 3<>\"$1\"; \
        mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 standin \"$2\"; \
        shift 2; exec \"$@\"";
    let scene = Scene::new(Driver::R580);
    let driver = hidden(&scene, "libcuda.so.1");
    let (program, mounted) = (scene.path("standin-copy"), scene.path("mounted"));
    fs::copy(standin_caller(), &program).unwrap();
    fs::create_dir(&mounted).unwrap();
    // That of the machine may be for root alone.
    let device = scene.path("fuse");
    mknodat(CWD, &device, FileType::CharacterDevice, Mode::RWXO, makedev(10, 229)).unwrap();
    fs::set_permissions(&device, fs::Permissions::from_mode(0o666)).unwrap();
    for open in [scene.path("."), scene.counts_directory()] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "12345", "--regid", "12345", "--clear-groups"]);
    command.args(["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", MOUNT, "sh"]);
    command.args([&device, &mounted, &program]);
    command.args(["--function", FUNCTION, "--calls", "100", "--wait-stdin", "--library"]);
    command.arg(mounted.join("libcuda.so.1"));
    command.env("CUDA_STANDIN_COUNTS", scene.counts_directory());
    let sidecar = scene.sidecar(&[]);
    let (mut served, mut pid) = (None, 0);
    let target = Waiting::start_with(command, |child| {
        pid = child;
        served = Some(Hanging::for_process(child, &driver, &mounted));
    });
    target.go_and_end();
    sidecar.stop();
    assert_eq!(scene.counts()[FUNCTION], 100);
    assert_eq!(covered(&scene, pid), Some(CoverageKind::Unseen));
}

/// Nobody sees such a process alive, but its file is still there.
#[test]
fn a_library_without_wanted_functions_is_not_said_to_be_unseen_in_a_short_lived_target() {
    let scene = Scene::new(Driver::R580);
    let runtime = scene.path("plain").join("libcudart.so.13");
    fs::create_dir(runtime.parent().unwrap()).unwrap();
    fs::copy(scene.libraries().join("libcudart.so.13"), &runtime).unwrap();
    let sidecar = scene.sidecar(&[("TRACE_FUNCTIONS", FUNCTION)]);
    for _ in 0..5 {
        let mut command = scene.caller(&["--function", FUNCTION, "--calls", "100"]);
        command.arg("--library").arg(scene.libraries().join("libcuda.so.1"));
        command.arg("--library").arg(&runtime);
        run(command);
    }
    sidecar.stop();
    let (_, coverage) = report(&scene);
    let expected = CoverageCounts { exact: 5, ..CoverageCounts::default() };
    assert_eq!(coverage.counts, expected);
}

/// As in the deployment, whose default profile leaves that capability out.
#[test]
fn a_deleted_library_is_traced_with_checkpoint_restore_and_said_to_be_unseen_without() {
    for (more, expected, lines) in
        [(",checkpoint_restore", CoverageKind::From, 100), ("", CoverageKind::Unseen, 0)]
    {
        let scene = Scene::new(Driver::R580);
        let library = hidden(&scene, "libcuda.so.1");
        let target =
            Waiting::start(calls(&scene, &library, &["--load-as", "deleted", "--wait-stdin"]));
        let pid = target.pid();
        let sidecar = scene.sidecar_with_capabilities(&format!("bpf,perfmon,sys_ptrace{more}"));
        target.go_and_end();
        sidecar.stop();
        let (report, _) = report(&scene);
        let seen = report.functions.get(FUNCTION).map_or(0, |total| total.lines);
        assert_eq!((covered(&scene, pid), seen), (Some(expected), lines), "{more:?}");
        assert_eq!(scene.counts()[FUNCTION], 100);
    }
}

#[test]
fn a_library_in_a_closed_home_needs_dac_read_search_which_is_asked_for_by_name() {
    let scene = Scene::new(Driver::R580);
    let library = hidden(&scene, "libcuda.so.1");
    let home = library.parent().unwrap();
    chown(home, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(home, fs::Permissions::from_mode(0o700)).unwrap();
    let target = Waiting::start(calls(&scene, &library, &["--wait-stdin"]));
    let pid = target.pid();
    let sidecar = scene.sidecar_with_capabilities("bpf,perfmon,sys_ptrace");
    target.go_and_end();
    sidecar.stop();
    assert_eq!(covered(&scene, pid), Some(CoverageKind::Unseen));
    let lines = coverage_lines(&scene);
    let reason = lines.iter().find_map(|(of, line)| line.reason.clone().filter(|_| *of == pid));
    assert!(reason.clone().unwrap().contains("add DAC_READ_SEARCH"), "{reason:?}");
}

#[test]
fn a_library_that_was_replaced_before_the_sidecar_started_is_traced() {
    let scene = Scene::new(Driver::R550);
    let library = hidden(&scene, "libcuda.so.1");
    let target = Waiting::start(calls(&scene, &library, &["--wait-stdin"]));
    let pid = target.pid();
    let copy = library.with_extension("new");
    fs::copy(&library, &copy).unwrap();
    fs::rename(&copy, &library).unwrap();
    let sidecar = scene.sidecar(&[]);
    target.go_and_end();
    sidecar.stop();
    assert_traced_from_a_moment_on(&scene, pid);
}

#[test]
fn a_library_in_memory_without_a_file_is_traced() {
    let scene = Scene::new(Driver::R580);
    let library = hidden(&scene, "libcuda.so.1");
    let mut sidecar = scene.sidecar(&[]);
    let target = Waiting::start(calls(&scene, &library, &["--load-as", "memfd", "--wait-stdin"]));
    let pid = target.pid();
    sidecar.wait_for("memfd");
    target.go_and_end();
    sidecar.stop();
    assert_traced_from_a_moment_on(&scene, pid);
}

#[test]
fn a_name_that_is_no_utf_8_hides_neither_its_library_nor_others() {
    let scene = Scene::new(Driver::R580);
    let library = hidden(&scene, OsStr::from_bytes(b"lib\xff\xfe.so"));
    let target = Waiting::start(calls(&scene, &library, &["--wait-stdin"]));
    let pid = target.pid();
    let mut sidecar = scene.sidecar(&[]);
    sidecar.wait_for("hidden");
    target.go_and_end();
    sidecar.stop();
    assert_traced_from_a_moment_on(&scene, pid);
}

#[test]
fn a_process_in_a_root_of_its_own_that_calls_at_once_is_said_to_be_covered_late() {
    let scene = Scene::new(Driver::R580);
    let library = hidden(&scene, "libcuda.so.1");
    let root = library.parent().unwrap().to_owned();
    let sidecar = scene.sidecar(&[]);
    let mut command = scene.caller(&["--function", FUNCTION, "--calls", "100", "--root"]);
    command.arg(&root).args(["--library", "/libcuda.so.1"]);
    // Its library counts where it cannot write any more.
    command.env("CUDA_STANDIN_COUNTS", "/");
    run(command);
    sidecar.stop();
    let lines = report(&scene).0.functions.get(FUNCTION).map_or(0, |total| total.lines);
    let counts = report(&scene).1.counts;
    assert!(lines == 100 || counts.from + counts.unseen == 1, "{lines} {counts:?}");
}

#[test]
fn children_that_call_while_probes_are_being_attached_are_said_to_be_covered_late() {
    let scene = Scene::new(Driver::R580);
    let library = hidden(&scene, "libcuda.so.1");
    let sidecar = scene.sidecar(&[]);
    run(calls(&scene, &library, &["--fork"]));
    sidecar.stop();
    let (report, CoverageReport { counts, .. }) = report(&scene);
    let lines = report.functions.get(FUNCTION).map_or(0, |total| total.lines);
    let made = scene.counts()[FUNCTION];
    assert!(lines == made || counts.from + counts.unseen == 2, "{lines} of {made}: {counts:?}");
    let libraries = scene.library_lines();
    let mut hidden = libraries.iter().filter(|library| library.path.contains("hidden"));
    assert!(hidden.all(|library| library.attached_late));
}

#[test]
fn a_function_that_a_process_has_hooked_gets_no_probe_and_the_process_goes_on() {
    let scene = Scene::new(Driver::R580);
    let hooked = ["--change-code", "hook", "--wait-stdin"];
    let mut command = scene.caller(&["--function", FUNCTION, "--calls", "100"]);
    command.args(hooked);
    let target = Waiting::start(command);
    let sidecar = scene.sidecar(&[]);
    // Ends well although a breakpoint in the middle of the hook would kill it.
    target.go_and_end();
    sidecar.stop();
    let libraries = scene.library_lines();
    let driver = libraries.iter().find(|library| library.path.contains("libcuda.so")).unwrap();
    assert!(driver.failed[FUNCTION].contains("inline hook"), "{:?}", driver.failed);
    assert_eq!(driver.failed.len(), 1, "the other functions have their probes");
    assert!(!report(&scene).0.functions.contains_key(FUNCTION));
}

#[test]
fn code_that_was_moved_away_from_its_file_is_said_to_be_unseen() {
    let scene = Scene::new(Driver::R580);
    let mut command = scene.caller(&["--function", FUNCTION, "--calls", "100"]);
    command.args(["--change-code", "move", "--wait-stdin"]);
    let target = Waiting::start(command);
    let pid = target.pid();
    let sidecar = scene.sidecar(&[]);
    target.go_and_end();
    sidecar.stop();
    let (report, CoverageReport { counts, .. }) = report(&scene);
    assert_eq!(counts.unseen, 1, "{:?}", coverage_lines(&scene));
    let is_said = |problem: &Problem| {
        matches!(problem, Problem::Unseen { pid: of, reason, .. }
            if *of == pid && reason.contains("moved"))
    };
    assert!(report.problems.iter().any(is_said), "{:?}", report.problems);
    assert!(!report.is_whole());
}

#[test]
fn code_that_was_moved_away_in_part_is_said_to_have_no_probes_there() {
    let scene = Scene::new(Driver::R580);
    let mut command = scene.caller(&["--function", FUNCTION, "--calls", "100"]);
    command.args(["--change-code", "move-part", "--wait-stdin"]);
    let target = Waiting::start(command);
    let pid = target.pid();
    let sidecar = scene.sidecar(&[]);
    target.go_and_end();
    sidecar.stop();
    let (report, _) = report(&scene);
    assert!(!report.functions.contains_key(FUNCTION), "its code is not that of the file");
    let lines = coverage_lines(&scene);
    let is_said = |(of, line): &(u32, Coverage)| *of == pid && line.unprobed > 0;
    assert!(lines.iter().any(is_said), "{lines:?}");
    assert!(!report.is_whole());
}

#[test]
fn a_hook_that_takes_a_probe_away_later_is_said() {
    let scene = Scene::new(Driver::R580);
    let mut sidecar = scene.sidecar(&[]);
    let address = sidecar.address();
    let mut command = scene.caller(&["--function", FUNCTION, "--calls", "100"]);
    command.args(["--change-code", "hook", "--wait-stdin"]);
    let target = Waiting::start(command);
    let pid = target.pid();
    status_when(&address, "a probe is missing", |status| {
        let of_it = |gap: &&sidecar::reporting::state::Gap| gap.pid == pid;
        status
            .coverage
            .gaps
            .iter()
            .filter(of_it)
            .any(|gap| gap.reason.as_deref().is_some_and(|reason| reason.contains("1 of its")))
    });
    target.go_and_end();
    sidecar.stop();
    let (report, CoverageReport { counts, .. }) = report(&scene);
    assert_eq!((counts.exact, counts.from), (0, 1), "{:?}", coverage_lines(&scene));
    let is_said = |problem: &Problem| {
        matches!(problem, Problem::Unseen { pid: of, reason, .. }
            if *of == pid && reason.contains("1 of its"))
    };
    assert!(report.problems.iter().any(is_said), "{:?}", report.problems);
}

#[test]
fn a_copy_of_a_library_that_only_another_tracer_has_probes_on_gets_its_own() {
    let scene = Scene::new(Driver::R580);
    let copies = scene.path("copies");
    let traces = scene.path("traces of another");
    fs::create_dir(&copies).unwrap();
    fs::create_dir(&traces).unwrap();
    let copy = copies.join("libcuda.so.1");
    fs::copy(fs::canonicalize(scene.libraries().join("libcuda.so.1")).unwrap(), &copy).unwrap();
    let other = scene.sidecar(&[
        ("TARGET_PROCESS", "somebody else"),
        ("TRACE_DIR", traces.to_str().unwrap()),
        ("CUDA_LIBRARY_DIRS", copies.to_str().unwrap()),
    ]);
    let mut sidecar = scene.sidecar(&[]);
    let target = Waiting::start(calls(&scene, &copy, &["--wait-stdin"]));
    let pid = target.pid();
    sidecar.wait_for("copies/libcuda.so.1");
    target.go_and_end();
    sidecar.stop();
    other.stop();
    assert_traced_from_a_moment_on(&scene, pid);
}

#[test]
fn a_library_that_is_overwritten_in_place_kills_nobody_and_is_traced_again() {
    let scene = Scene::new(Driver::R580);
    let other = Scene::new(Driver::R550);
    let library = fs::canonicalize(scene.libraries().join("libcuda.so.1")).unwrap();
    let mut sidecar = scene.sidecar(&[]);
    let command = || scene.caller(&["--function", FUNCTION, "--calls", "100"]);
    run(command());
    // As `cp` does it: the same inode, other code at the old offsets.
    let content = fs::read(fs::canonicalize(other.libraries().join("libcuda.so.1")).unwrap());
    fs::write(&library, content.unwrap()).unwrap();
    sidecar.wait_for("overwritten in place");
    // Whoever maps it now leads the sidecar to it again; two libraries were attached before.
    let deadline = Instant::now() + TIMEOUT;
    while sidecar.log_lines_with("attached to a CUDA library") < 3 {
        run(command());
        assert!(Instant::now() < deadline, "never attached again");
    }
    // Attached again: nothing is missing any more.
    let before = scene.counts()[FUNCTION];
    run(command());
    sidecar.stop();
    let (report, coverage) = report(&scene);
    assert_eq!(scene.counts()[FUNCTION], before + 100);
    let lines = report.functions[FUNCTION].lines;
    assert!(lines >= 200, "{lines} of {before} and 100, {coverage:?}");
    assert!(lines == before + 100 || coverage.counts.from + coverage.counts.unseen > 0);
}

#[test]
fn a_library_whose_code_is_mapped_writable_is_said_to_be_unseen_and_works() {
    let scene = Scene::new(Driver::R580);
    let library = fs::canonicalize(scene.libraries().join("libcuda.so.1")).unwrap();
    let mut bytes = fs::read(&library).unwrap();
    make_code_writable(&mut bytes);
    fs::remove_file(&library).unwrap();
    fs::write(&library, bytes).unwrap();
    fs::set_permissions(&library, fs::Permissions::from_mode(0o755)).unwrap();
    let sidecar = scene.sidecar(&[]);
    run(scene.caller(&["--function", FUNCTION, "--calls", "100"]));
    sidecar.stop();
    let (report, CoverageReport { counts, .. }) = report(&scene);
    let lines = report.functions.get(FUNCTION).map_or(0, |total| total.lines);
    assert_eq!((lines, counts.unseen), (0, 1), "{:?}", coverage_lines(&scene));
    assert_eq!(scene.counts()[FUNCTION], 100);
}

/// As packers and `ld -N` do: every executable segment may be written.
fn make_code_writable(elf: &mut [u8]) {
    let word = |elf: &[u8], at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().unwrap());
    let start = usize::try_from(word(elf, 32)).unwrap();
    let count = usize::from(u16::from_le_bytes([elf[56], elf[57]]));
    for header in (0..count).map(|index| start + 56 * index) {
        let (is_load, flags) = (elf[header] == 1, elf[header + 4]);
        if is_load && flags & 1 != 0 {
            elf[header + 4] = flags | 2;
        }
    }
}

#[test]
fn a_shortage_of_descriptors_passes_and_the_library_is_attached_to() {
    let scene = Scene::new(Driver::R580);
    let library = hidden(&scene, "libcuda.so.1");
    let mut sidecar = scene.sidecar(&[]);
    let pid = sidecar.pid().to_string();
    let limit = |limit: &str| {
        let mut command = Command::new("prlimit");
        assert!(command.args(["--pid", &pid, limit]).status().unwrap().success());
    };
    // No more than the sidecar has open.
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    limit(&format!("--nofile={open}:"));
    let target = Waiting::start(calls(&scene, &library, &["--wait-stdin"]));
    sidecar.wait_for("cannot attach to a CUDA library yet");
    limit("--nofile=1024:");
    sidecar.wait_for("attached to a CUDA library");
    target.go_and_end();
    sidecar.stop();
    assert_eq!(scene.whole_report().functions[FUNCTION].lines, 100);
}

#[test]
fn a_stranger_that_called_cuda_and_executes_a_target_is_traced_from_its_first_call_on() {
    let scene = Scene::new(Driver::R580);
    let stranger = scene.path("stranger");
    fs::copy(standin_caller(), &stranger).unwrap();
    let target = scene.path("wanted");
    fs::copy(standin_caller(), &target).unwrap();
    let sidecar = scene.sidecar(&[("TARGET_PROCESS", "/wanted")]);
    // Long enough to be found to be no target.
    let mut command = scene.program(&stranger, &["--function", FUNCTION, "--seconds", "0.5"]);
    let argument = target.to_str().unwrap();
    command.args(["--then-exec", argument]);
    run(command);
    sidecar.stop();
    let report = scene.whole_report();
    let calls = scene.calls();
    assert!(calls.iter().filter(|call| call.func == "cuInit").count() >= 1);
    // The target's own count is the last of the two files.
    let counts = testbed::counts::read(&scene.counts_directory()).unwrap();
    let least = counts.iter().filter_map(|counts| counts.functions.get(FUNCTION)).min().unwrap();
    assert!(report.functions[FUNCTION].lines >= *least, "{report:?}");
}

/// A mount that ends with the test.
struct Mount(PathBuf);

impl Mount {
    fn new(kind: &str, options: &str, at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let status =
            Command::new("mount").args(["-t", kind, kind, "-o", options]).arg(at).status().unwrap();
        assert!(status.success(), "mount -t {kind} -o {options} {}", at.display());
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Also when it is in use.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// An overlay over a file system in memory of its own, which numbers its inodes as every other does.
fn overlay(scene: &Scene, name: &str) -> (Mount, Mount, PathBuf) {
    let base = scene.path(name);
    let memory = Mount::new("tmpfs", "size=64m", &base);
    for directory in ["lower", "upper", "work"] {
        fs::create_dir(base.join(directory)).unwrap();
    }
    let library = fs::canonicalize(scene.libraries().join("libcuda.so.1")).unwrap();
    fs::copy(library, base.join("lower/libcuda.so.1")).unwrap();
    let (mount, library) = merged(scene, &base, ["lower", "upper", "work"], name);
    (mount, memory, library)
}

/// An overlay of these directories of `base`.
fn merged(scene: &Scene, base: &Path, directories: [&str; 3], name: &str) -> (Mount, PathBuf) {
    let [lower, upper, work] = directories.map(|name| base.join(name).display().to_string());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let merged = scene.path(&format!("{name}-merged"));
    let mount = Mount::new("overlay", &options, &merged);
    (mount, merged.join("libcuda.so.1"))
}

#[test]
fn a_function_that_was_hooked_through_another_overlay_of_the_file_gets_no_probe() {
    let scene = Scene::new(Driver::R580);
    let (_first, _memory, library) = overlay(&scene, "first");
    let base = scene.path("first");
    fs::create_dir(base.join("upper2")).unwrap();
    fs::create_dir(base.join("work2")).unwrap();
    let (_second, other) = merged(&scene, &base, ["lower", "upper2", "work2"], "second");
    let hooked = ["--change-code", "hook", "--wait-stdin"];
    let target = Waiting::start(calls(&scene, &other, &hooked));
    // It comes to the file by the first overlay, and the probes are in the memory of both.
    let directory = library.parent().unwrap().to_str().unwrap();
    let sidecar = scene.sidecar(&[("CUDA_LIBRARY_DIRS", directory)]);
    // Ends well although a breakpoint in the middle of the hook would kill it.
    target.go_and_end();
    sidecar.stop();
    let libraries = scene.library_lines();
    assert!(!libraries.is_empty());
    for library in libraries.iter().filter(|library| library.path.contains("merged")) {
        let reason = library.failed.get(FUNCTION);
        assert!(reason.is_some_and(|reason| reason.contains("inline hook")), "{library:?}");
    }
}

#[test]
fn two_overlays_with_equal_inode_numbers_are_both_traced() {
    let scene = Scene::new(Driver::R580);
    let first = overlay(&scene, "first");
    let second = overlay(&scene, "second");
    let mut sidecar = scene.sidecar(&[]);
    for (.., library) in [&first, &second] {
        let target = Waiting::start(calls(&scene, library, &["--wait-stdin"]));
        sidecar.wait_for("merged/libcuda.so.1");
        target.go_and_end();
    }
    sidecar.stop();
    let report = scene.whole_report();
    assert_eq!(report.functions[FUNCTION].lines, 200, "{:?}", coverage_lines(&scene));
}

#[test]
fn a_library_that_an_overlay_copied_up_while_it_was_mapped_is_traced_or_said_to_be_unseen() {
    let scene = Scene::new(Driver::R580);
    let (_overlay, _memory, library) = overlay(&scene, "only");
    let target = Waiting::start(calls(&scene, &library, &["--wait-stdin"]));
    let pid = target.pid();
    // Opened for writing, it becomes another file in the upper directory.
    drop(fs::OpenOptions::new().append(true).open(&library).unwrap());
    let sidecar = scene.sidecar(&[]);
    target.go_and_end();
    sidecar.stop();
    let (report, _) = report(&scene);
    let lines = report.functions.get(FUNCTION).map_or(0, |total| total.lines);
    let said = covered(&scene, pid);
    assert!(lines == 100 || said == Some(CoverageKind::Unseen), "{lines} {said:?}");
    assert!(said.is_some());
}

#[test]
fn a_library_whose_mount_was_covered_by_another_is_traced() {
    let scene = Scene::new(Driver::R580);
    let library = hidden(&scene, "libcuda.so.1");
    let target = Waiting::start(calls(&scene, &library, &["--wait-stdin"]));
    let pid = target.pid();
    let _covering = Mount::new("tmpfs", "size=1m", library.parent().unwrap());
    let sidecar = scene.sidecar(&[]);
    target.go_and_end();
    sidecar.stop();
    assert_traced_from_a_moment_on(&scene, pid);
}
