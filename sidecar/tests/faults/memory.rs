//! Under the manifest's limit of memory nothing gets the sidecar killed, or holds discovery.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use testbed::s3::Fault;

use crate::{
    case::{Case, Ended, Outcome, Size},
    cgroup::Cgroup,
    harness::{Sidecar, run},
    load::Load,
    proof::{Allowed, prove},
    stage::{Stage, is_running, metric, unhealthy},
    traps::Traps,
};

/// `TRACER_MEMORY_LIMIT` of the manifests.
const LIMIT: u64 = 512 << 20;

/// No single argument may be longer than 128 KiB, and all of them no longer than 2 MiB.
const ARGUMENT_BYTES: usize = 120 << 10;
const ARGUMENTS: usize = 12;

/// Each claims a command line of 1 GiB.
const GIANTS: usize = 4;

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// A variable may have 128 KiB.
const MAX_VARIABLE_BYTES: usize = 126 << 10;

/// What one process may keep discovery from others by design, and how much longer a machine may take
/// that does other things too.
const TURN_SECONDS: f64 = 2.0;
const BUSY_MACHINE: f64 = 5.0;

/// More than the sidecar serves.
const IDLE_CONNECTIONS: usize = 200;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "memory-limit",
        about: "512 MiB, full load, no store, command lines of 1.4 MiB and 1 GiB, 200 idle connections",
        run: limited,
    },
    Case {
        name: "memory-hostile",
        about: "512 MiB, kernels with long names and without, children with thousands of mappings",
        run: hostile,
    },
    Case {
        name: "memory-traps",
        about: "512 MiB, FIFOs, libraries of 4 GiB and with 20 000 exports, 60 000 files searched 6 000 times, kernel names that double",
        run: trapped,
    },
];

fn limited(size: Size) -> Ended {
    under_limit(&[], |stage, address, outcome| {
        stage.server.faults().set(Fault::BlackHole).unwrap();
        let load = Load::full(stage, 4);
        let crowd = crowd(stage, size.of(400, 50));
        let idle: Vec<_> = (0..IDLE_CONNECTIONS).map(|_| TcpStream::connect(address)).collect();
        for _ in 0..size.of(20, 4) {
            thread::sleep(Duration::from_secs(1));
            outcome.problems.extend(unhealthy(address, "at the limit of memory"));
        }
        drop(idle);
        stage.server.faults().clear().unwrap();
        outcome.problems.extend(load.stop());
        for mut child in crowd {
            drop(child.stdin.take());
            let status = child.wait().unwrap();
            if !status.success() {
                outcome.problems.push(format!("a traced program ended with {status}"));
            }
        }
    })
}

fn hostile(size: Size) -> Ended {
    under_limit(&[], |stage, address, outcome| {
        let program = testbed::hostile::install(&stage.scene.libraries()).unwrap();
        let files = stage.scene.path("mapped");
        fs::create_dir(&files).unwrap();
        let start = |what: &str, times: u64| {
            let mut command = stage.scene.program(&program, &[what, &times.to_string()]);
            command.arg(&files).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
        };
        let mut running = vec![
            start("names", size.of(250_000, 20_000)),
            start("handles", size.of(2_000_000, 100_000)),
            start("mapped-forks", size.of(4000, 400)),
        ];
        while !running.is_empty() {
            thread::sleep(Duration::from_millis(500));
            outcome.problems.extend(unhealthy(address, "beside hostile programs"));
            running.retain_mut(|child| match child.try_wait().unwrap() {
                Some(status) if !status.success() => {
                    outcome.problems.push(format!("a hostile program ended with {status}"));
                    false
                }
                ended => ended.is_none(),
            });
        }
    })
}

fn trapped(size: Size) -> Ended {
    under_limit(&[("TRACE_FUNCTIONS", "default,cuT*")], |stage, address, outcome| {
        let traps = Traps::set(&stage.scene.path(""), size.of(60_000, 6_000), size.of(16, 4));
        let giants = crowd(stage, 0);
        let hostile = stage.scene.libraries().join("standin-hostile");
        let program = testbed::contexts::install(&stage.scene.libraries()).unwrap();
        let (own, crowded) = (stage.scene.libraries(), traps.crowded_directory.display());
        let mut path = format!("{}:{}", own.display(), traps.libraries.display());
        let again = format!(":{crowded}");
        path += &again.repeat((MAX_VARIABLE_BYTES - path.len()) / again.len());
        let start = |number: u64| {
            // A FIFO where its cache was. The loader is told to leave it alone.
            let script = "mount --bind \"$0\" /etc/ld.so.cache && exec \"$@\"";
            let mut command =
                stage.scene.program(Path::new("unshare"), &["--mount", "sh", "-c", script]);
            command.arg(&traps.fifo).args([LOADER, "--inhibit-cache"]).arg(&program);
            command.args(["waiting", "1", &number.to_string()]).env("LD_LIBRARY_PATH", &path);
            command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
        };
        let call = |what: &str, times: u64| {
            let mut command = stage.scene.program(&hostile, &[what, &times.to_string()]);
            command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
        };
        let mut trapped: Vec<Child> = (0..size.of(20, 4)).map(start).collect();
        trapped.push(call("doubling-names", size.of(20_000, 2_000)));
        trapped.push(call("handles", size.of(1_000_000, 100_000)));
        for _ in 0..size.of(20, 5) {
            thread::sleep(Duration::from_secs(1));
            outcome.problems.extend(unhealthy(address, "beside traps"));
            // One that looks like any other is traced all the same.
            run(stage.scene.caller(&["--function", "cuCtxSynchronize", "--calls", "10"]));
        }
        for mut child in trapped.into_iter().chain(giants) {
            drop(child.stdin.take());
            let status = child.wait().unwrap();
            if !status.success() {
                outcome.problems.push(format!("a trapped program ended with {status}"));
            }
        }
    })
}

/// What is done to a sidecar that has no more than the manifest's memory, which must survive it.
fn under_limit(
    settings: &[(&'static str, &str)],
    act: impl FnOnce(&Stage, &str, &mut Outcome),
) -> Ended {
    let cgroup = match Cgroup::with_memory(LIMIT) {
        Ok(cgroup) => cgroup,
        Err(reason) => return Ended::Skipped(format!("no cgroup with a limit: {reason}")),
    };
    let mut stage = Stage::new();
    stage.set("TRACE_DIR_LIMIT", "256Mi");
    stage.set("TRACE_SEGMENT_SIZE", "16Mi");
    for (variable, value) in settings {
        stage.set(variable, value);
    }
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(cgroup.procs());
    let plain = stage.command();
    command.arg(plain.get_program());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut sidecar = Sidecar::start(command);
    let address = sidecar.address();
    let mut outcome = Outcome { injected: 1, ..Outcome::default() };
    act(&stage, &address, &mut outcome);
    note_turn(&address, &mut outcome);
    outcome.survived = u64::from(is_running(sidecar.pid()) && cgroup.kills() == 0);
    stage.stop_well(sidecar, &mut outcome.problems);
    outcome.notes.push(format!(
        "cgroup v{}: {} MiB at the peak with the page cache, {} killed",
        cgroup.version(),
        cgroup.peak_bytes() >> 20,
        cgroup.kills()
    ));
    prove(&stage, Allowed { drops: true, ..Allowed::default() }, outcome)
}

/// How long discovery was kept by one process; the table has it.
fn note_turn(address: &str, outcome: &mut Outcome) {
    let Some(seconds) = metric(address, "ebpf_cuda_tracer_discovery_longest_turn_seconds") else {
        outcome.problems.push("no metric tells how long discovery was held".to_owned());
        return;
    };
    let text = format!("one process kept discovery for {seconds} s at most");
    if seconds > TURN_SECONDS * BUSY_MACHINE {
        outcome.problems.push(text);
    } else {
        outcome.notes.push(text);
    }
}

/// Targets with long command lines that have mapped the library, and call when they are let go.
fn crowd(stage: &Stage, count: u64) -> Vec<Child> {
    let patient = testbed::contexts::install(&stage.scene.libraries()).unwrap();
    let giant = testbed::hostile::install(&stage.scene.libraries()).unwrap();
    let start = |program: &Path, context: &str, padding: &[String]| {
        // It takes no notice of the arguments behind the second.
        let mut command = stage.scene.program(program, &[context, "1"]);
        command.args(padding);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    };
    let padding = vec!["x".repeat(ARGUMENT_BYTES); ARGUMENTS];
    let many = (0..count).map(|_| start(&patient, "waiting", &padding));
    many.chain((0..GIANTS).map(|_| start(&giant, "long-command", &[]))).collect()
}
