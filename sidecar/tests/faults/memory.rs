//! Under the manifest's limit of memory nothing gets the sidecar killed.

use std::{
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

/// Of one command line: no single argument may be longer.
const ARGUMENT_BYTES: usize = 120 << 10;

pub(crate) const CASES: &[Case] = &[Case {
    name: "memory-limit",
    about: "512 MiB, full load, a store that is gone, long command lines, many processes",
    run: limited,
}];

fn limited(size: Size) -> Ended {
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
    stage.server.faults().set(Fault::BlackHole).unwrap();
    let load = Load::full(&stage, 4);
    let mut outcome = Outcome { injected: 1, ..Outcome::default() };
    let crowd = crowd(&stage, size.of(400, 50));
    for _ in 0..size.of(20, 4) {
        thread::sleep(Duration::from_secs(1));
        outcome.problems.extend(unhealthy(&address, "at the limit of memory"));
    }
    stage.server.faults().clear().unwrap();
    outcome.problems.extend(load.stop());
    for mut child in crowd {
        drop(child.stdin.take());
        let status = child.wait().unwrap();
        if !status.success() {
            outcome.problems.push(format!("a traced program ended with {status}"));
        }
    }
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
    let long = "x".repeat(ARGUMENT_BYTES);
    let program = testbed::contexts::install(&stage.scene.libraries()).unwrap();
    let start = |_| {
        // It takes no notice of the last argument.
        let mut command = stage.scene.program(&program, &["waiting", "1", &long]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    };
    (0..count).map(start).collect()
}
