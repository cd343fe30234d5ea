//! The store fails while programs are traced, and works again.

use std::{thread, time::Duration};

use testbed::s3::Fault;

use crate::{
    case::{Case, Ended, Outcome, Size},
    load::Load,
    proof::{Allowed, prove},
    stage::{Stage, last, unhealthy},
};

const CALLS_PER_SECOND: u64 = 2000;

macro_rules! outage {
    ($name:literal, $about:literal, $fault:expr) => {
        Case { name: $name, about: $about, run: |size| outage(size, $fault) }
    };
}

pub(crate) const CASES: &[Case] = &[
    outage!("s3-refused", "the store refuses connections, and works again", Fault::Refuse),
    outage!("s3-black-hole", "the store takes connections and never answers", Fault::BlackHole),
    outage!("s3-500", "the store answers 500", Fault::Status(500)),
    outage!("s3-503-slow-down", "the store answers 503 SlowDown", Fault::Status(503)),
    outage!("s3-403-heals", "the store denies access for a while", Fault::Status(403)),
    outage!("s3-body-cut", "the store closes connections amid the body", Fault::Cut),
    outage!("s3-lost-answer", "the store stores, and its answer is lost", Fault::LoseAnswer),
    outage!("s3-corrupt", "the store keeps another byte than was sent", Fault::Corrupt),
    outage!("s3-clock-skew", "the store says RequestTimeTooSkewed", Fault::ClockSkew),
    outage!("s3-slow-answers", "each answer takes 1 s", Fault::Slow(Duration::from_secs(1))),
    Case {
        name: "s3-10-kib-per-second",
        about: "the store is slower than traces grow",
        run: throttled,
    },
    Case {
        name: "s3-bucket-later",
        about: "the bucket is made after the sidecar",
        run: bucket_later,
    },
];

fn outage(size: Size, fault: Fault) -> Ended {
    let mut stage = Stage::new();
    let mut sidecar = stage.start();
    let address = sidecar.address();
    let load = Load::start(&stage, CALLS_PER_SECOND);
    let mut outcome = Outcome::default();
    for round in 0..size.of(5, 1) {
        stage.wait_for_objects(stage.objects());
        stage.server.faults().set(fault).unwrap();
        // Rounds of other lengths meet other moments of a retry.
        thread::sleep(Duration::from_millis(1500 + 700 * round));
        outcome.injected += 1;
        outcome.problems.extend(unhealthy(&address, "while the store fails"));
        stage.server.faults().clear().unwrap();
        // Retries wait up to 30 s.
        stage.wait_for_objects(stage.objects());
        outcome.survived += 1;
    }
    outcome.problems.extend(load.stop());
    stage.stop_well(sidecar, &mut outcome.problems);
    prove(&stage, Allowed::default(), outcome)
}

/// The grace period ends before everything is sent; the next start sends it.
fn throttled(size: Size) -> Ended {
    let mut stage = Stage::new();
    stage.set("SHUTDOWN_TIMEOUT", "3");
    let sidecar = stage.start();
    stage.server.faults().set(Fault::Throttle(10 << 10)).unwrap();
    let load = Load::start(&stage, 5 * CALLS_PER_SECOND);
    thread::sleep(Duration::from_secs(size.of(20, 5)));
    let mut outcome = Outcome { injected: 1, ..Outcome::default() };
    outcome.problems.extend(load.stop());
    let (status, log) = stage.stop(sidecar);
    if status.success() || !last(&log).contains("SHUTDOWN_TIMEOUT passed") {
        outcome
            .problems
            .push(format!("it does not say that segments are left: {status}: {}", last(&log)));
    }
    stage.server.faults().clear().unwrap();
    stage.set("SHUTDOWN_TIMEOUT", "60");
    let sidecar = stage.start();
    stage.stop_well(sidecar, &mut outcome.problems);
    outcome.survived = 1;
    prove(&stage, Allowed::default(), outcome)
}

fn bucket_later(size: Size) -> Ended {
    let mut stage = Stage::new();
    stage.server.faults().set(Fault::NoBucket).unwrap();
    let sidecar = stage.start();
    let load = Load::start(&stage, CALLS_PER_SECOND);
    thread::sleep(Duration::from_secs(size.of(8, 2)));
    stage.server.faults().clear().unwrap();
    stage.wait_for_objects(0);
    let mut outcome = Outcome { injected: 1, survived: 1, ..Outcome::default() };
    outcome.problems.extend(load.stop());
    stage.stop_well(sidecar, &mut outcome.problems);
    prove(&stage, Allowed::default(), outcome)
}
