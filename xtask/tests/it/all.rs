//! `all` against a scripted cluster: the order of the steps, and the stop at the first failure.

use serde_json::json;

use crate::{
    objects::{namespace, objects, pod_with_vllm, ready_pod, status},
    scripted::{Machine, Run},
    verify::write_trace,
};

const ALL: [&str; 7] = ["all", "--timeout", "9", "--verify-timeout", "0", "--s3-bucket", "traces"];

/// Headings, in order.
const STEPS: [&str; 9] = [
    "look at settings and cluster",
    "build the image",
    "import the image into K3s",
    "deploy",
    "wait",
    "single",
    "batch",
    "verify",
    "what the traces say",
];

/// What each step does and no other, in order. Waiting shows in that prompts before its end would fail.
const MARKS: [&str; 11] = [
    "manifests -- --only app --check",
    "cargo build",
    "podman build",
    "images import",
    "apply --server-side",
    "status --json",
    "-- single",
    "-- batch --host localhost --port 30800 --count 15",
    "status --json",
    "-- fetch",
    "-- report",
];

/// Nothing is deployed; what is applied becomes ready at the third look, so that one look in passing
/// is no wait.
fn machine() -> Machine {
    let machine = Machine::node();
    let starting = pod_with_vllm(json!({ "ready": false, "state": { "running": {} } }));
    machine.state("after_apply-namespace.json", &namespace("Active").to_string());
    machine.state("after_apply-objects.json", &objects(&starting, false).to_string());
    machine.state("after_look-objects.json", &objects(&starting, false).to_string());
    machine.state("then_look-objects.json", &objects(&ready_pod(), true).to_string());
    machine.state("is_strict", "");
    machine.state("after_apply-status.json", &status().to_string());
    machine.state("after_apply-configmap.json", r#"{"data":{"S3_BUCKET":"traces"}}"#);
    write_trace(&machine.path("state"), 2);
    machine
}

/// Steps with their ends: `build the image: done`.
fn ends(run: &Run) -> Vec<String> {
    let lines = run.stderr.lines().filter_map(|line| line.strip_prefix("== "));
    lines.filter_map(|line| Some(line.split_once(" in ")?.0.to_owned())).collect()
}

fn begun(run: &Run) -> Vec<&str> {
    let lines = run.stderr.lines().filter_map(|line| line.strip_prefix("== "));
    lines.filter(|line| !line.contains(": ")).collect()
}

/// Marks of the calls, in the order of the calls.
fn marks(machine: &Machine) -> Vec<&'static str> {
    let calls = machine.calls();
    let marks = calls.iter().filter_map(|call| MARKS.into_iter().find(|mark| call.contains(mark)));
    marks.collect()
}

#[test]
fn steps_run_in_order_and_prompts_only_when_vllm_is_ready() {
    let machine = machine();
    let run = machine.run(&ALL);
    run.succeeds();
    assert_eq!(begun(&run), STEPS);
    assert_eq!(ends(&run), STEPS.map(|step| format!("{step}: done")));
    assert_eq!(marks(&machine), MARKS);
    let (image, results) = run.stdout.split_once('\n').unwrap();
    assert!(image.starts_with("docker.io/littleboy/ebpf-cuda-tracer:"), "{image}");
    let results: Vec<&str> = results.lines().collect();
    assert_eq!(results[..2], ["single_prompt_result_1.json", "batch_prompts_result_1.json"]);
    // Of what lies in the bucket of this deployment, the run that `verify` has looked at.
    assert!(results[2].ends_with("xtask/traces/traces/k3s-vllm/report.html"), "{results:?}");
    assert!(machine.has_called("traces/traces/k3s-vllm --last --out"), "{:?}", machine.calls());
    assert!(machine.has_called(&format!("--tracer-image {image} --s3-bucket traces")));
    let verified = "ok      traces in S3 are whole: 1 files, 2 calls, 0 dropped";
    assert!(run.stderr.contains(verified), "{}", run.stderr);
}

#[test]
fn a_second_time_nothing_is_built_imported_or_applied_again() {
    let machine = machine();
    machine.run(&ALL).succeeds();
    machine.forget_calls();
    machine.run(&ALL).succeeds();
    for change in ["podman build", "images import", "images label", "kubectl apply"] {
        assert!(!machine.has_called(change), "{change} in {:?}", machine.calls());
    }
    // A setting that differs is applied.
    machine.run(&[&ALL[..], &["--model", "other"]].concat()).succeeds();
    assert!(machine.has_called("kubectl apply"));
}

#[test]
fn settings_come_from_the_environment_too() {
    let machine = machine();
    let run = machine.run_with(&ALL[..5], &[("S3_BUCKET", "traces"), ("S3_PREFIX", "mine/")]);
    run.succeeds();
    // So that what is shown can be pasted.
    let render =
        "$ S3_BUCKET=traces S3_PREFIX=mine/ cargo run --locked --package manifests -- --only app";
    assert!(run.stderr.contains(render), "{}", run.stderr);
    assert_eq!(machine.read("fetched_from"), "traces mine/ \n");
}

#[test]
fn the_first_failure_ends_it_with_exit_code_1() {
    let crashed = pod_with_vllm(json!({
        "restartCount": 1, "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "reason": "Error", "exitCode": 1 } },
    }));
    let crashed = objects(&crashed, false).to_string();
    let failing = status().to_string().replace("\"stored\":1", "\"stored\":0");
    for (files, expected, last_step, last_mark) in [
        (
            &[("kubectl_error", "The connection to the server 127.0.0.1:6443 was refused")][..],
            "127.0.0.1:6443 was refused",
            0,
            0,
        ),
        (&[("build_error", "error[E0425]: cannot find value")], "cargo build", 1, 1),
        (&[("engine_error", "Error: no space left on device")], "a disk is full", 1, 2),
        (
            &[("import_error", "ctr: content digest sha256:12: not found")],
            "cause: the archive names layers it does not hold",
            2,
            3,
        ),
        (&[("apply_error", "error: something")], "error: something", 3, 4),
        (
            &[
                ("after_apply-objects.json", &crashed),
                ("after_look-objects.json", &crashed),
                ("log-vllm", "403 Client Error: gated repo"),
            ],
            "vllm ended (Error, exit code 1): 403 Client Error",
            4,
            4,
        ),
        (&[("single_error", "error: connection refused")], "step `single` failed", 5, 6),
        (&[("batch_error", "error: 3 of 15 requests failed")], "step `batch` failed", 6, 7),
        (
            &[("after_apply-status.json", &failing)],
            "traces are not captured and uploaded as they should",
            7,
            // What lies in S3 is not looked at then.
            8,
        ),
        (&[("report_error", "error: no call")], "the report could not be written", 8, 10),
    ] {
        let machine = machine();
        for (file, content) in files {
            machine.state(file, &format!("{content}\n"));
        }
        let run = machine.run(&ALL);
        run.fails_with(&[expected, &format!("step `{}` failed", STEPS[last_step])]);
        assert_eq!(begun(&run), STEPS[..=last_step], "{files:?}");
        assert_eq!(ends(&run).pop().unwrap(), format!("{}: failed", STEPS[last_step]));
        assert_eq!(marks(&machine), MARKS[..=last_mark], "{files:?}");
    }
}

#[test]
fn what_is_wrong_from_the_beginning_is_said_before_anything_is_built() {
    let machine = machine();
    machine.run(&ALL[..5]).fails_with(&["look at settings and cluster", "manifests"]);
    assert!(!machine.has_called("cargo build"));
    // The task's own flags, wherever they stand.
    machine.run(&["all", "--s3-bucket", "traces", "--dry-run"]).succeeds();
    assert!(!machine.has_called("cargo build"));
    machine.remove_tool("k3s");
    machine.forget_calls();
    machine
        .run(&ALL)
        .fails_with(&["neither `k3s` nor `kubectl` is on PATH", "cargo xtask install"]);
    assert_eq!(machine.calls(), [""; 0]);
}
