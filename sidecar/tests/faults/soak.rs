//! Hours of use in less: segments, uploads, an outage now and then, and processes that come and go.
//! Memory, descriptors and threads of the sidecar must not grow.

use std::{
    fs,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use testbed::s3::Fault;

use crate::{
    case::{Ended, Outcome},
    harness::run as run_target,
    load::Load,
    proof::{Allowed, prove},
    stage::{Stage, of_status, unhealthy},
    table::{self, Row},
};

const SAMPLE_PERIOD: Duration = Duration::from_secs(5);

/// More than this between the second quarter and the last is growth: allocators keep some.
const MAX_GROWTH: [(&str, u64); 3] =
    [("resident KiB", 8 << 10), ("descriptors", 4), ("threads", 2)];

/// Every so many samples the store is gone for one.
const OUTAGE_EVERY: usize = 12;

pub(crate) fn run(minutes: u64) -> ExitCode {
    let started = Instant::now();
    let ended = run_for(minutes);
    let row = Row { name: "soak", ended, seconds: started.elapsed().as_secs() };
    let is_failure = row.is_failure();
    println!("\n{}", table::text(&[row]));
    if is_failure { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run_for(minutes: u64) -> Ended {
    let mut stage = Stage::new();
    let mut sidecar = stage.start();
    let (address, pid) = (sidecar.address(), sidecar.pid());
    let load = Load::start(&stage, 3000);
    let mut outcome = Outcome::default();
    let (started, mut samples) = (Instant::now(), Vec::new());
    while started.elapsed() < Duration::from_secs(60 * minutes) {
        let next = Instant::now() + SAMPLE_PERIOD;
        // Processes with threads and children: all of them end.
        run_target(stage.scene.caller(&[
            "--function",
            "cuCtxSynchronize",
            "--calls",
            "50",
            "--threads",
            "4",
            "--fork",
        ]));
        run_target(stage.scene.caller(&["--sequence"]));
        let is_gone = samples.len() % OUTAGE_EVERY == OUTAGE_EVERY - 1;
        stage.server.faults().set(if is_gone { Fault::Refuse } else { Fault::None }).unwrap();
        outcome.injected += u64::from(is_gone);
        outcome.problems.extend(unhealthy(&address, "in the soak"));
        thread::sleep(next.saturating_duration_since(Instant::now()));
        samples.push(sample(pid));
        eprintln!("{:>5} s {:?}", started.elapsed().as_secs(), samples.last().unwrap());
    }
    outcome.survived = outcome.injected;
    stage.server.faults().clear().unwrap();
    outcome.problems.extend(growth(&samples));
    outcome.problems.extend(load.stop());
    stage.stop_well(sidecar, &mut outcome.problems);
    prove(&stage, Allowed::default(), outcome)
}

/// Resident KiB, descriptors, threads.
fn sample(pid: u32) -> [u64; 3] {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    [
        of_status(pid, "VmRSS").unwrap_or(0),
        descriptors as u64,
        of_status(pid, "Threads").unwrap_or(0),
    ]
}

/// The first quarter is for caches to fill.
fn growth(samples: &[[u64; 3]]) -> Vec<String> {
    let quarter = samples.len() / 4;
    if quarter == 0 {
        return vec!["too few samples: let it run for longer".to_owned()];
    }
    let median = |samples: &[[u64; 3]], column: usize| {
        let mut values: Vec<u64> = samples.iter().map(|sample| sample[column]).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    let (early, late) = (&samples[quarter..2 * quarter], &samples[3 * quarter..]);
    let grown = MAX_GROWTH.iter().enumerate().filter_map(|(column, &(what, most))| {
        let (early, late) = (median(early, column), median(late, column));
        (late > early + most).then(|| format!("{what} grew from {early} to {late}"))
    });
    grown.collect()
}
