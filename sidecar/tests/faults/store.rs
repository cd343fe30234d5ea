//! The store fails while programs are traced, and works again.

use std::{thread, time::Duration};

use testbed::s3::{DOMAIN, Fault, Quirk};

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

macro_rules! quirk {
    ($name:literal, $about:literal, $quirk:expr) => {
        Case { name: $name, about: $about, run: |size| odd(size, $quirk) }
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
    quirk!("s3-no-checksums", "the store refuses x-amz-checksum-*", Quirk::NoChecksums),
    quirk!(
        "s3-bucket-in-host",
        "the store takes the bucket in the host name only",
        Quirk::BucketInHost
    ),
    quirk!(
        "s3-bare-head",
        "the store answers HEAD without size, tag and checksum",
        Quirk::BareHead
    ),
    quirk!("s3-307-region", "the store sends to another region by 307", Quirk::OtherRegion),
    quirk!("s3-old-listings", "the store knows the first listings only", Quirk::OldListings),
    Case {
        name: "s3-write-once",
        about: "answers are lost, and the store refuses to replace what it has",
        run: write_once,
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

/// A store that does something in its own way gets all there is, as it was closed.
fn odd(size: Size, quirk: Quirk) -> Ended {
    let mut stage = Stage::new();
    stage.server.add_quirk(quirk);
    if quirk == Quirk::BucketInHost {
        // No name leads there; a proxy does.
        let proxy = stage.server.endpoint();
        stage.set("HTTP_PROXY", &proxy);
        stage.set("S3_ENDPOINT", &format!("http://{DOMAIN}"));
    }
    let mut sidecar = stage.start();
    let address = sidecar.address();
    let load = Load::start(&stage, CALLS_PER_SECOND);
    let mut outcome = Outcome::default();
    for _ in 0..size.of(20, 5) {
        stage.wait_for_objects(stage.objects());
        outcome.injected += 1;
        outcome.survived += 1;
    }
    outcome.problems.extend(unhealthy(&address, "at a store of its own kind"));
    outcome.problems.extend(load.stop());
    stage.stop_well(sidecar, &mut outcome.problems);
    let was_met = stage.server.requests().iter().any(|request| match quirk {
        Quirk::NoChecksums => (&*request.method, request.status) == ("PUT", Some(400)),
        Quirk::BucketInHost => request.status == Some(403),
        // What HEAD does not tell, a GET of the object does.
        Quirk::BareHead => request.method == "GET" && !request.key.is_empty(),
        Quirk::OtherRegion => request.status == Some(307),
        Quirk::OldListings => request.status == Some(501),
        Quirk::WriteOnce(status) | Quirk::RefusesKeys(_, status) => request.status == Some(status),
    });
    if !was_met {
        outcome.problems.push("the store was never asked for what it does in its own way".into());
    }
    prove(&stage, Allowed::default(), outcome)
}

/// Each upload whose answer is lost is tried again, and then is there already.
fn write_once(size: Size) -> Ended {
    const REFUSED: u16 = 409;
    let mut stage = Stage::new();
    stage.server.add_quirk(Quirk::WriteOnce(REFUSED));
    let sidecar = stage.start();
    let load = Load::start(&stage, CALLS_PER_SECOND);
    let mut outcome = Outcome::default();
    for _ in 0..size.of(5, 2) {
        stage.server.faults().set(Fault::LoseAnswer).unwrap();
        let before = stage.objects();
        stage.wait_for_objects(before);
        outcome.injected += 1;
        stage.server.faults().clear().unwrap();
        stage.wait_for_objects(stage.objects());
        outcome.survived += 1;
    }
    outcome.problems.extend(load.stop());
    stage.stop_well(sidecar, &mut outcome.problems);
    let refused = |request: &testbed::s3::Request| request.status == Some(REFUSED);
    if !stage.server.requests().iter().any(refused) {
        outcome.problems.push("nothing was sent again, so nothing was refused".into());
    }
    prove(&stage, Allowed::default(), outcome)
}
