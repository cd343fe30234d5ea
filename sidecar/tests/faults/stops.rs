//! The sidecar is killed, stopped, told to end in a bad moment, or too slow for its ring buffer.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use testbed::s3::Fault;
use trace::segment_name::PART_SUFFIX;

use crate::{
    case::{Case, Ended, Outcome, Random, Size},
    harness::Sidecar,
    load::Load,
    proof::{Allowed, prove},
    stage::{Stage, is_running, last, unhealthy},
};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "sidecar-killed",
        about: "SIGKILL at random moments under load, and a new start",
        run: killed,
    },
    Case {
        name: "sidecar-term-slow-store",
        about: "SIGTERM under full load while the store is slow",
        run: terminated,
    },
    Case { name: "sidecar-frozen", about: "SIGSTOP for 20 s under load", run: frozen },
    Case {
        name: "ring-overflow",
        about: "a small ring buffer, full load, and a frozen sidecar",
        run: overflow,
    },
];

const CRASHES: Allowed = Allowed {
    crashes: true,
    uncounted_calls: false,
    drops: true,
    waiting: false,
    deletions: false,
};

/// The longest time between a start and a kill: some come before it traces, most while it does.
const MAX_LIFE_MS: u64 = 1500;

fn killed(size: Size) -> Ended {
    let mut stage = Stage::new();
    stage.set("TRACE_INTERVAL", "0.1");
    stage.set("UPLOAD_INTERVAL", "0.1");
    stage.set("TRACE_SEGMENT_SIZE", "64Ki");
    let mut random = Random::new(size.seed);
    let mut outcome = Outcome::default();
    let load = Load::start(&stage, 5000);
    let mut left = BTreeMap::new();
    let mut most_left = 0;
    for _ in 0..size.of(200, 10) {
        let sidecar = Sidecar::spawn(stage.command());
        thread::sleep(Duration::from_millis(random.below(MAX_LIFE_MS)));
        stage.note_peak(&sidecar);
        if !is_running(sidecar.pid()) {
            let (status, log) = sidecar.end();
            outcome.problems.push(format!("it ended by itself with {status}: {}", last(&log)));
            break;
        }
        sidecar.kill();
        outcome.injected += 1;
        let now = remains(&stage);
        most_left = most_left.max(now.len());
        // The last content of a file that was open counts, and the first of one that was closed.
        left.extend(now);
        outcome.survived += u64::from(is_running(load.pid()));
    }
    let sidecar = stage.start();
    outcome.problems.extend(load.stop());
    stage.stop_well(sidecar, &mut outcome.problems);
    outcome.notes.push(format!("at most {most_left} segments were left by a kill"));
    for (name, content) in left {
        let Ok(stored) = fs::read(stage.stored().join(&name)) else {
            // Nothing was in it.
            if content.contains(&b'\n') {
                outcome.lost += 1;
                outcome.problems.push(format!("{name} was left by a kill, and is not stored"));
            }
            continue;
        };
        let lines = content.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        if !stored.starts_with(&content[..lines]) {
            outcome.lost += 1;
            outcome.problems.push(format!("{name} has lost lines that were written before a kill"));
        }
    }
    prove(&stage, CRASHES, outcome)
}

/// What lies in TRACE_DIR, by the names that it gets.
fn remains(stage: &Stage) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(stage.traces())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("trace_"))
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let name = name.strip_suffix(PART_SUFFIX).unwrap_or(&name).to_owned();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn terminated(size: Size) -> Ended {
    let mut stage = Stage::new();
    stage.set("TRACE_SEGMENT_SIZE", "1Mi");
    stage.set("SHUTDOWN_TIMEOUT", "5");
    let mut outcome = Outcome::default();
    let load = Load::full(&stage, 2);
    for _ in 0..size.of(4, 1) {
        stage.server.faults().set(Fault::Slow(Duration::from_millis(500))).unwrap();
        let sidecar = stage.start();
        thread::sleep(Duration::from_secs(2));
        outcome.injected += 1;
        let (status, log) = stage.stop(sidecar);
        // With the load that this machine makes in 2 s it may come to an end or not.
        let is_told = last(&log).contains("SHUTDOWN_TIMEOUT passed");
        if status.success() || is_told {
            outcome.survived += 1;
        } else {
            outcome.problems.push(format!("it ended with {status}: {}", last(&log)));
        }
    }
    outcome.problems.extend(load.stop());
    stage.server.faults().clear().unwrap();
    stage.set("SHUTDOWN_TIMEOUT", "60");
    let sidecar = stage.start();
    stage.stop_well(sidecar, &mut outcome.problems);
    // Calls between the runs are in none of them.
    prove(&stage, Allowed { uncounted_calls: true, drops: true, ..Allowed::default() }, outcome)
}

fn frozen(size: Size) -> Ended {
    let mut stage = Stage::new();
    let mut sidecar = stage.start();
    let address = sidecar.address();
    let load = Load::start(&stage, 5000);
    let mut outcome = Outcome::default();
    stage.wait_for_objects(0);
    sidecar.signal("STOP");
    outcome.injected += 1;
    thread::sleep(Duration::from_secs(size.of(20, 3)));
    sidecar.signal("CONT");
    stage.wait_for_objects(stage.objects());
    outcome.problems.extend(unhealthy(&address, "after it was frozen"));
    outcome.survived += 1;
    outcome.problems.extend(load.stop());
    stage.stop_well(sidecar, &mut outcome.problems);
    prove(&stage, Allowed { drops: true, ..Allowed::default() }, outcome)
}

fn overflow(size: Size) -> Ended {
    let mut stage = Stage::new();
    stage.set("RING_BUFFER_SIZE", "256Ki");
    stage.set("TRACE_SEGMENT_SIZE", "16Mi");
    let sidecar = stage.start();
    let load = Load::full(&stage, 2);
    let mut outcome = Outcome::default();
    for _ in 0..size.of(5, 2) {
        sidecar.signal("STOP");
        outcome.injected += 1;
        thread::sleep(Duration::from_millis(500));
        sidecar.signal("CONT");
        thread::sleep(Duration::from_millis(200));
        outcome.survived += u64::from(is_running(sidecar.pid()));
    }
    outcome.problems.extend(load.stop());
    stage.stop_well(sidecar, &mut outcome.problems);
    let ended = prove(&stage, Allowed { drops: true, ..Allowed::default() }, outcome);
    match ended {
        Ended::Proved(outcome) if !outcome.notes.iter().any(|note| note.contains("dropped")) => {
            Ended::Failed("the ring buffer did not overflow: nothing was dropped".to_owned())
        }
        ended => ended,
    }
}
