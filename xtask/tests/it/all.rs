//! `all` against a scripted cluster: the order of the steps, and the stop at the first failure.

use serde_json::json;

use crate::{
    scripted::{Machine, namespace, objects, pod_with_vllm, ready_pod, status},
    verify::write_trace,
};

const ALL: [&str; 7] = ["all", "--timeout", "2", "--verify-timeout", "0", "--s3-bucket", "traces"];

/// Nothing is deployed; applying makes a pod that is ready at once.
fn machine() -> Machine {
    let machine = Machine::node();
    machine.state("after_apply-namespace.json", &namespace("Active").to_string());
    machine.state("after_apply-objects.json", &objects(&ready_pod(), true).to_string());
    machine.state("after_apply-status.json", &status().to_string());
    machine.state("after_apply-configmap.json", r#"{"data":{"S3_BUCKET":"traces"}}"#);
    write_trace(&machine.path("state"), 2);
    machine
}

/// The steps that were begun, by the commands that only they run.
fn steps(machine: &Machine) -> Vec<&'static str> {
    let marks = [
        ("cargo build", "build"),
        ("images import", "import"),
        ("apply --server-side", "deploy"),
        ("get deployments,pods", "wait"),
        ("-- single", "single"),
        ("-- batch --host localhost --port 30800 --count 15", "batch"),
        ("status --json", "verify"),
        ("fetch", "fetch"),
    ];
    let mut steps = Vec::new();
    for call in machine.calls() {
        let found = marks.iter().find(|(mark, _)| call.contains(mark));
        let Some((_, step)) = found else { continue };
        if !steps.contains(step) {
            steps.push(step);
        }
    }
    steps
}

#[test]
fn steps_run_in_order() {
    let machine = machine();
    let run = machine.run(&ALL);
    run.succeeds();
    assert_eq!(
        steps(&machine),
        ["build", "import", "deploy", "wait", "single", "batch", "verify", "fetch"]
    );
    let (image, results) = run.stdout.split_once('\n').unwrap();
    assert!(image.starts_with("docker.io/littleboy/ebpf-cuda-tracer:"), "{image}");
    assert_eq!(results, "single_prompt_result_1.json\nbatch_prompts_result_1.json\n");
    let render = machine.calls().into_iter().find(|call| call.contains("--package manifests"));
    assert!(render.unwrap().contains(&format!("--tracer-image {image} --s3-bucket traces")));
    assert!(
        run.stderr.contains("ok      traces in S3 are whole: 1 files, 2 calls, 0 dropped"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_second_time_nothing_is_built_imported_or_applied_again() {
    let machine = machine();
    machine.run(&ALL).succeeds();
    machine.forget_calls();
    machine.run(&ALL).succeeds();
    let calls = machine.calls();
    for change in ["podman build", "images import", "images label", "kubectl apply"] {
        assert!(!calls.iter().any(|call| call.contains(change)), "{change} in {calls:?}");
    }
}

#[test]
fn the_first_failure_ends_it_with_exit_code_1() {
    let crashed = pod_with_vllm(json!({
        "restartCount": 1, "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "reason": "Error", "exitCode": 1 } },
    }));
    let crashed = objects(&crashed, false).to_string();
    let failing = status().to_string().replace("\"stored\":1", "\"stored\":0");
    for (file, content, expected, last) in [
        ("build_error", "error[E0425]: cannot find value", "cargo build", "build"),
        ("engine_error", "Error: no space left on device", "a disk is full", "build"),
        ("import_error", "ctr: content digest sha256:12: not found", "attestations", "import"),
        ("apply_error", "error: something", "apply", "deploy"),
        ("after_apply-objects.json", &crashed, "vllm ended (Error, exit code 1)", "wait"),
        ("single_error", "error: connection refused", "`single` failed", "single"),
        ("batch_error", "error: 3 of 15 requests failed", "`batch` failed", "batch"),
        ("after_apply-status.json", &failing, "traces are not captured", "verify"),
    ] {
        let machine = machine();
        machine.state(file, content);
        if file == "after_apply-objects.json" {
            machine.state("log-vllm", "403 Client Error: gated repo\n");
        }
        machine.run(&ALL).fails_with(&[expected]);
        let steps = steps(&machine);
        // Looking at the cluster is part of asking why the load test failed.
        let begun = steps.iter().rfind(|step| **step != "fetch").unwrap();
        assert_eq!(*begun, last, "{file}: {steps:?}");
    }
}

#[test]
fn a_missing_cluster_is_said_before_anything_is_built() {
    let machine = Machine::node();
    machine.remove_tool("k3s");
    machine
        .run(&ALL)
        .fails_with(&["neither `k3s` nor `kubectl` is on PATH", "cargo xtask install"]);
    assert_eq!(steps(&machine), [""; 0]);
}
