//! What the sidecar may do: each capability that it asks for is needed, and the others are given back.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use cuda::function::Selection;
use libraries::library::Library;
use perf_event::{Builder, events::Software};
use rustix::{
    process::{Resource, Uid, getrlimit},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities,
        set_thread_res_uid,
    },
};
use settings::{AttachBy, Detail};
use sidecar::probing::{
    probes::{Probes, Settings},
    process_events::ProcessEvents,
};
use sidecar_common::Plan;
use testbed::libraries::Driver;

use crate::harness::{Scene, Sidecar, Waiting, assert_lines, run};

const NOBODY: u32 = 65_534;

// Bits as `capability.h` numbers them.
const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;
const CHECKPOINT_RESTORE: u64 = 1 << 40;
const LEASE: u64 = 1 << 28;
const TRACING: u64 = SYS_PTRACE | LEASE | PERFMON | BPF | CHECKPOINT_RESTORE;

/// What Docker and containerd give a container that asks for nothing, without the right to look into others.
const ORDINARY_CONTAINER: &str = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,\
                                  net_raw,sys_chroot,mknod,audit_write,setfcap";

/// The lines of `/proc/PID/task/TID/status`, by the name of the thread.
fn threads(sidecar: &Sidecar) -> Vec<(String, BTreeMap<String, String>)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", sidecar.pid())).unwrap();
    let status = |path: PathBuf| -> BTreeMap<String, String> {
        let text = fs::read_to_string(path.join("status")).unwrap();
        let field = |line: &str| {
            let (name, value) = line.split_once(":\t")?;
            Some((name.to_owned(), value.to_owned()))
        };
        text.lines().filter_map(field).collect()
    };
    tasks.map(|task| status(task.unwrap().path())).map(|all| (all["Name"].clone(), all)).collect()
}

/// No thread holds more, and none could get more.
#[track_caller]
fn assert_kept(sidecar: &Sidecar, tracing: u64, others: u64) {
    let threads = threads(sidecar);
    let names: Vec<&str> = threads.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["recorder", "discovery", "tokio"] {
        assert!(names.iter().any(|found| found.starts_with(name)), "no {name} in {names:?}");
    }
    for (name, status) in &threads {
        let set = |field: &str| u64::from_str_radix(&status[field], 16).unwrap();
        let keeps_files_only =
            ["tokio", "http", "transcoder"].iter().any(|prefix| name.starts_with(prefix));
        let kept = if keeps_files_only { others } else { tracing };
        // Of threads that begin later the bounding set is that of tracing; no_new_privs keeps it out of reach.
        assert_eq!(set("CapBnd") & !(tracing | others), 0, "CapBnd of {name}");
        for field in ["CapPrm", "CapEff"] {
            assert_eq!(set(field), kept, "{field} of {name}: {:x} instead of {kept:x}", set(field));
        }
        assert_eq!((set("CapInh"), set("CapAmb")), (0, 0), "{name}");
        assert_eq!(status["NoNewPrivs"], "1", "{name}");
    }
}

#[test]
fn root_keeps_only_what_later_libraries_need_and_traces_them() {
    let scene = Scene::new(Driver::R550);
    // Mapped after the start, from a home that is closed to others.
    let home = scene.path("home");
    fs::create_dir(&home).unwrap();
    let library = home.join("libcuda.so.1");
    scene.hide_driver(&library);
    chown(&library, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(&library, Permissions::from_mode(0o600)).unwrap();
    chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(&home, Permissions::from_mode(0o700)).unwrap();

    let mut sidecar = scene.sidecar(&[]);
    assert_kept(&sidecar, TRACING | DAC_READ_SEARCH, DAC_READ_SEARCH);
    let library = library.to_str().unwrap();
    let calls = ["--library", library, "--function", "cuCtxSynchronize", "--calls", "100"];
    let early = Waiting::start(scene.caller(&[&calls[..], &["--wait-stdin"]].concat()));
    sidecar.wait_for("attached to a CUDA library");
    early.go_and_end();
    sidecar.stop();
    assert_lines(&scene.whole_report(), &scene.counts());
}

#[test]
fn perf_events_keep_sys_admin_which_each_probe_needs() {
    let scene = Scene::new(Driver::R550);
    let sidecar = scene.sidecar(&[
        ("ATTACH_BY", "perf-events"),
        ("TRACE_FUNCTIONS", "cuInit,cuCtxSynchronize,cudaMalloc,cuMemAlloc_v2"),
    ]);
    assert_kept(&sidecar, TRACING | SYS_ADMIN | DAC_READ_SEARCH, DAC_READ_SEARCH);
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "100"]));
    sidecar.stop();
    assert_lines(&scene.whole_report(), &scene.counts());
}

#[test]
fn a_trace_directory_of_another_user_is_written_to_the_end() {
    let scene = Scene::new(Driver::R550);
    chown(scene.traces(), Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(scene.traces(), Permissions::from_mode(0o700)).unwrap();
    // So that segments are created after the start.
    let sidecar = scene.sidecar(&[("TRACE_SEGMENT_SIZE", "100000"), ("TRACE_FORMAT", "parquet")]);
    let files = DAC_READ_SEARCH | DAC_OVERRIDE;
    assert_kept(&sidecar, TRACING | files, files);
    assert!(threads(&sidecar).iter().any(|(name, _)| name == "transcoder"));
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "3000"]));
    sidecar.stop();
    assert!(scene.segments().len() > 1, "{:?}", scene.segments());
    assert_lines(&scene.whole_report(), &scene.counts());
}

#[test]
fn of_the_capabilities_of_a_container_none_is_too_many() {
    let all = ["bpf", "perfmon", "sys_ptrace"];
    for missing in all {
        let scene = Scene::new(Driver::R550);
        let others: Vec<&str> = all.into_iter().filter(|name| *name != missing).collect();
        let refused = scene.refused_with_capabilities(&others.join(","));
        for name in all {
            let named = format!("CAP_{} is missing, needed to", name.to_uppercase());
            assert_eq!(refused.contains(&named), name == missing, "{missing}: {refused}");
        }
    }
}

/// What `action` comes to on a thread that lacks these.
fn without<T: Send>(
    missing: CapabilitySet,
    action: impl FnOnce() -> anyhow::Result<T> + Send,
) -> Result<T, String> {
    let on_thread = || {
        let mut sets = capabilities(None).unwrap();
        sets.effective -= missing;
        set_capabilities(None, sets).unwrap();
        action().map_err(|error| format!("{error:#}"))
    };
    std::thread::scope(|scope| scope.spawn(on_thread).join().unwrap())
}

/// The kernel itself, without the check that comes before: SYS_ADMIN stands in for what was split from it.
#[test]
fn the_kernel_refuses_without_each_capability_what_it_is_needed_for() {
    let load = |attach_by| {
        Probes::load(Settings {
            ring_buffer_size: 1 << 16,
            attach_by,
            detail: Detail::Call,
            rate_limit: 0,
        })
    };
    let by_links = || load(AttachBy::Auto).map(|_| ());
    let watch = || ProcessEvents::open().map(|_| ());
    let admin = CapabilitySet::SYS_ADMIN;
    assert_eq!(without(admin, by_links), Ok(()));
    assert_eq!(without(admin, watch), Ok(()));
    without(admin | CapabilitySet::BPF, by_links).unwrap_err();
    without(admin | CapabilitySet::PERFMON, by_links).unwrap_err();
    without(admin | CapabilitySet::PERFMON, watch).unwrap_err();

    let scene = Scene::new(Driver::R550);
    // It has all rights, as one of another container has some that the tracer lacks.
    let target = Waiting::start(scene.caller(&["--function", "cuInit", "--wait-stdin"]));
    let path = PathBuf::from(format!("/proc/{}/root/proc/self/exe", target.pid()));
    let open = || Ok(fs::metadata(&path).map(|_| ())?);
    assert_eq!(without(CapabilitySet::empty(), open), Ok(()));
    without(CapabilitySet::SYS_PTRACE, open).unwrap_err();
    target.go_and_end();

    let file = scene.libraries().join("libcuda.so.1");
    let selection = Selection::parse("cuInit").unwrap();
    let attach = || {
        let library = Library::open(&fs::canonicalize(&file)?, &selection)?.expect("a driver");
        let attacher = load(AttachBy::PerfEvents)?.attacher;
        let (_attachment, refused) = attacher.attach(&library, |_| Ok(Plan::bare(0)))?;
        anyhow::ensure!(refused.is_empty(), "{refused:?}");
        Ok(())
    };
    assert_eq!(without(CapabilitySet::empty(), attach), Ok(()));
    without(admin, attach).unwrap_err();
}

/// A lease holds back who overwrites the file, see `/proc/locks`.
#[test]
fn a_lease_on_a_library_of_another_user_takes_its_capability() {
    for (more, expected) in [(",lease", true), ("", false)] {
        let scene = Scene::new(Driver::R580);
        let library = fs::canonicalize(scene.libraries().join("libcuda.so.1")).unwrap();
        chown(&library, Some(NOBODY), None).unwrap();
        let sidecar = scene.sidecar_with_capabilities(&format!("bpf,perfmon,sys_ptrace{more}"));
        let (pid, inode) = (sidecar.pid().to_string(), fs::metadata(&library).unwrap().ino());
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let is_it = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_of_file = |field: &&str| field.ends_with(&format!(":{inode}"));
            fields.contains(&"LEASE")
                && fields.contains(&pid.as_str())
                && fields.iter().any(is_of_file)
        };
        assert_eq!(locks.lines().any(is_it), expected, "{more:?}: {locks}");
        sidecar.stop();
    }
}

/// Its processor's share and the limit of the process are used up, as perf of the same user does it.
#[test]
fn where_another_profiler_holds_the_locked_memory_the_limits_and_the_way_out_are_named() {
    let user = Uid::from_raw(12_345);
    let limit = getrlimit(Resource::Memlock).current;
    if limit.is_none_or(|bytes| bytes > 64 << 20) {
        eprintln!("left out: RLIMIT_MEMLOCK of this machine is too high to use it up");
        return;
    }
    // Identity and capabilities are those of a thread.
    let open = move || {
        set_keep_capabilities(true).unwrap();
        set_thread_res_uid(user, user, user).unwrap();
        let (only, none) = (CapabilitySet::PERFMON, CapabilitySet::empty());
        let sets = CapabilitySets { effective: only, permitted: only, inheritable: none };
        set_capabilities(None, sets).unwrap();
        let mut held = Vec::new();
        for ring_bytes in [256 << 10, 64 << 10, 4 << 10] {
            let ring = || Builder::new(Software::DUMMY).build().unwrap().sampled(ring_bytes);
            held.extend(std::iter::from_fn(|| ring().ok()));
        }
        assert!(!held.is_empty(), "nothing was locked");
        ProcessEvents::open().map(|_| ()).map_err(|error| format!("{error:#}"))
    };
    let said = std::thread::spawn(open).join().unwrap().unwrap_err();
    for part in ["kernel.perf_event_mlock_kb is ", "RLIMIT_MEMLOCK is ", "add IPC_LOCK to"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_container_beside_it_cannot_look_into_the_sidecar_whose_environment_holds_keys() {
    let scene = Scene::new(Driver::R550);
    let sidecar = scene.sidecar(&[("AWS_SECRET_ACCESS_KEY", "planted")]);
    let tasks = fs::read_dir(format!("/proc/{}/task", sidecar.pid())).unwrap();
    let looked_at = tasks.map(|task| task.unwrap().path().join("environ"));
    let only = format!("-all,+{}", ORDINARY_CONTAINER.replace(',', ",+"));
    let can_read = |path: &Path| {
        let mut cat = Command::new("setpriv");
        cat.args(["--inh-caps", &only, "--bounding-set", &only, "cat"]).arg(path);
        cat.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(can_read(Path::new("/proc/self/environ")), "it can read its own");
    for path in looked_at {
        let environment = match fs::read(&path) {
            Ok(environment) => environment,
            // A thread that attached, and has ended.
            Err(_) if !path.exists() => continue,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        assert!(environment.windows(7).any(|window| window == b"planted"));
        assert!(!can_read(&path), "{} can be read by another container", path.display());
    }
    sidecar.stop();
}
