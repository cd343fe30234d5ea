//! What a running sidecar answers: ready or not, numbers that balance, and who is traced or why not.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use sidecar::reporting::{
    state::Phase,
    status::{Process, Status},
};
use testbed::{
    libraries::Driver,
    s3::{Fault, Server},
};

use crate::harness::{Scene, Waiting, assert_lines, run, standin_caller};

/// The code and the body.
pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The sum of the samples of a family.
fn sum(metrics: &str, family: &str) -> u64 {
    let of_family = |line: &&str| line.split(['{', ' ']).next() == Some(family);
    let values = metrics.lines().filter(of_family).map(|line| line.rsplit(' ').next().unwrap());
    values.map(|value| value.parse::<u64>().unwrap()).sum()
}

/// By the command, as a person asks.
fn status(address: &str) -> Status {
    let output = Command::new(env!("CARGO_BIN_EXE_ebpf-cuda-tracer"))
        .args(["status", "--json", "--http-address", address])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Published once a second.
pub(crate) fn status_when(
    address: &str,
    what: &str,
    condition: impl Fn(&Status) -> bool,
) -> Status {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let status = status(address);
        if condition(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "never: {what}: {status:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub(crate) fn process(status: &Status, pid: u32) -> &Process {
    let of_pid = |process: &&Process| process.caller.pid == pid;
    status.processes.iter().find(of_pid).unwrap_or_else(|| panic!("no {pid} in {status:#?}"))
}

/// A caller under a name that does not match.
fn stranger(scene: &Scene) -> Command {
    let path = scene.path("stranger");
    if !path.exists() {
        fs::copy(standin_caller(), &path).unwrap();
    }
    scene.program(Path::new(&path), &["--function", "cuCtxSynchronize", "--wait-stdin"])
}

#[test]
fn numbers_balance_and_agree_with_the_trace_and_the_callee() {
    let scene = Scene::new(Driver::R550);
    let mut sidecar = scene.sidecar(&[("TRACE_SEGMENT_SIZE", "64Ki")]);
    let address = sidecar.address();
    assert_eq!(get(&address, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(&address, "/readyz"), (200, "ok\n".to_owned()));
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "20000"]));
    let status = status_when(&address, "all is recorded", |status| status.calls.recorded == 20_001);
    assert_eq!((status.calls.hits, status.functions["cuCtxSynchronize"]), (20_001, 20_000));
    assert!(status.segments.closed > 2 && status.uploads.is_none(), "{status:#?}");
    assert_eq!(status.segments.closed, status.segments.waiting as u64);

    let (code, metrics) = get(&address, "/metrics");
    assert_eq!(code, 200);
    let total = |name: &str| sum(&metrics, &format!("ebpf_cuda_tracer_{name}"));
    assert_eq!(total("hits_total"), 20_001);
    assert_eq!(total("events_total") + total("drops_total"), 20_001);
    assert_eq!(total("closed_segments_total"), status.segments.closed);
    assert_eq!(total("attached_libraries"), 2);
    assert!(total("attached_probes") > 200, "{metrics}");
    assert_eq!(total("attached_probes"), status.probes());
    let on_disk: u64 = fs::read_dir(scene.traces())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("trace_"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    assert_eq!(total("written_bytes_total"), on_disk);
    sidecar.stop();
    assert_lines(&scene.whole_report(), &scene.counts());
}

#[test]
fn who_has_to_do_with_cuda_is_listed_with_the_reason_for_the_verdict() {
    let scene = Scene::new(Driver::R550);
    let early = Waiting::start(stranger(&scene));
    let mut sidecar = scene.sidecar(&[]);
    let address = sidecar.address();
    // It has mapped the libraries, before the sidecar, and called nothing since.
    let early_pid = early.pid();
    let seen =
        status_when(&address, "the early one is seen", |status| !status.processes.is_empty());
    let Process { caller, reason } = process(&seen, early_pid);
    assert!(caller.matched_by.is_none() && caller.has_mapped && !caller.has_called, "{caller:?}");
    assert!(reason.contains("neither its executable, comm nor command line contains \"standin\""));

    let late = Waiting::start(stranger(&scene));
    let target = Waiting::start(scene.caller(&["--function", "cuInit", "--wait-stdin"]));
    let (late_pid, target_pid) = (late.pid(), target.pid());
    status_when(&address, "all three are seen", |status| status.processes.len() == 3);
    late.go_and_end();
    target.go_and_end();
    // The recorder may learn of the last call after the end.
    let both_ended = |status: &Status| {
        (status.running(true), status.running(false)) == (0, 1)
            && process(status, target_pid).caller.has_called
    };
    let seen = status_when(&address, "two have ended", both_ended);
    let Process { caller, reason } = process(&seen, target_pid);
    assert_eq!(caller.matched_by.as_deref(), Some("executable"));
    assert!(caller.has_mapped && caller.has_called && !caller.is_running, "{caller:?}");
    assert_eq!(reason, "its executable contains \"standin\"");
    let late = &process(&seen, late_pid).caller;
    assert!(late.matched_by.is_none() && late.has_mapped && !late.is_running, "{late:?}");
    assert!(late.executable.as_ref().unwrap().ends_with("/stranger"), "{late:?}");
    let library = seen.libraries.iter().find(|library| library.path.contains("libcuda.so"));
    assert!(library.unwrap().functions > 100);
    early.go_and_end();
    sidecar.stop();
}

#[test]
fn an_outage_of_the_store_shows_and_the_end_of_the_trace_can_be_watched() {
    let scene = Scene::new(Driver::R550);
    let root = scene.path("s3");
    fs::create_dir(&root).unwrap();
    let server = Server::start(&root, "traces").unwrap();
    let endpoint = server.endpoint();
    let mut sidecar = scene.sidecar(&[
        ("UPLOAD_ENABLED", "true"),
        ("S3_BUCKET", "traces"),
        ("S3_ENDPOINT", &endpoint),
        ("TRACE_INTERVAL", "0.2"),
        ("UPLOAD_INTERVAL", "0.3"),
        ("AWS_ACCESS_KEY_ID", testbed::s3::ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", testbed::s3::SECRET_KEY),
    ]);
    let address = sidecar.address();
    let uploads = |status: &Status| status.uploads.clone().unwrap().uploads;
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "10"]));
    let status = status_when(&address, "stored", |status| uploads(status).stored == 1);
    assert_eq!(status.uploads.as_ref().unwrap().destination, "s3://traces/k3s-vllm/");
    assert!(uploads(&status).stored_bytes > 500 && uploads(&status).failing.is_none());

    server.faults().set(Fault::Refuse).unwrap();
    run(scene.caller(&["--function", "cuCtxSynchronize", "--calls", "10"]));
    let status = status_when(&address, "failing", |status| uploads(status).failing.is_some());
    assert!(uploads(&status).store_failures > 0);
    assert!(uploads(&status).failing.unwrap().error.contains("Connection refused"));
    assert_eq!(status.segments.waiting, 1);
    let (_, metrics) = get(&address, "/metrics");
    assert!(metrics.contains("ebpf_cuda_tracer_upload_failing 1\n"), "{metrics}");
    assert!(!metrics.contains("ebpf_cuda_tracer_upload_lag_seconds 0.000\n"), "{metrics}");

    sidecar.terminate();
    let stopping = status_when(&address, "stopping", |status| status.phase == Phase::Stopping);
    assert_eq!(stopping.failed_thread, None);
    let (code, text) = get(&address, "/readyz");
    assert!(code == 503 && text.starts_with("stopping"), "{code} {text}");
    assert_eq!(get(&address, "/healthz").0, 200, "it must be let to upload");
    server.faults().set(Fault::None).unwrap();
    sidecar.wait();
    let report = trace::check::check(&crate::harness::segments_in(&root.join("traces/k3s-vllm")));
    assert!(report.is_whole(), "{:?}", report.problems);
    assert_eq!(report.functions["cuCtxSynchronize"].lines, 20);
}

#[test]
fn an_address_that_is_taken_is_named_with_the_way_out() {
    let scene = Scene::new(Driver::R550);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = scene.refused(&[("HTTP_ADDRESS", &address)]);
    assert!(refused.contains(&format!("cannot listen on HTTP_ADDRESS {address}")), "{refused}");
    assert!(refused.contains("or set it to nothing to do without"), "{refused}");
    assert_eq!(crate::harness::segments_in(&scene.traces()).len(), 0);
}
