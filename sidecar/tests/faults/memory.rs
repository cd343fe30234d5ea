//! Under the manifest's limit of memory nothing gets the sidecar killed.

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
    harness::Sidecar,
    load::Load,
    proof::{Allowed, prove},
    stage::{Stage, is_running, unhealthy},
};

/// `TRACER_MEMORY_LIMIT` of the manifests.
const LIMIT: u64 = 512 << 20;

/// No single argument may be longer than 128 KiB, and all of them no longer than 2 MiB.
const ARGUMENT_BYTES: usize = 120 << 10;
const ARGUMENTS: usize = 12;

/// Each claims a command line of 1 GiB.
const GIANTS: usize = 4;

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
];

fn limited(size: Size) -> Ended {
    under_limit(|stage, address, outcome| {
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
    under_limit(|stage, address, outcome| {
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

/// What is done to a sidecar that has no more than the manifest's memory, which must survive it.
fn under_limit(act: impl FnOnce(&Stage, &str, &mut Outcome)) -> Ended {
    let cgroup = match Cgroup::with_memory(LIMIT) {
        Ok(cgroup) => cgroup,
        Err(reason) => return Ended::Skipped(format!("no cgroup with a limit: {reason}")),
    };
    let mut stage = Stage::new();
    stage.set("TRACE_DIR_LIMIT", "256Mi");
    stage.set("TRACE_SEGMENT_SIZE", "16Mi");
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(cgroup.procs());
    let plain = stage.command();
    command.arg(plain.get_program());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut sidecar = Sidecar::start(command);
    let address = sidecar.address();
    let mut outcome = Outcome { injected: 1, ..Outcome::default() };
    act(&stage, &address, &mut outcome);
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
