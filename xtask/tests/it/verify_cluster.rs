//! `verify` on the cluster: four checks, and the trace in S3.

use serde_json::{Value, json};

use crate::{
    objects::{objects, ready_pod, status},
    scripted::Machine,
    verify::write_trace,
};

const VERIFY: [&str; 4] = ["verify", "--json", "--timeout", "0"];

/// Names and outcomes of the checks.
fn checks(stdout: &str) -> Vec<(String, bool, String)> {
    let result: Value = serde_json::from_str(stdout).unwrap();
    let checks = result["checks"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    checks
        .map(|check| (text(&check["name"]), check["passed"] == true, text(&check["detail"])))
        .collect()
}

#[track_caller]
fn fails_at(machine: &Machine, name: &str, detail: &str) {
    let run = machine.run(&VERIFY);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let checks = checks(&run.stdout);
    let (_, passed, found) = checks.iter().find(|(found, ..)| found == name).unwrap();
    assert!(!passed && found.contains(detail), "{checks:?}");
}

#[test]
fn all_five_pass_and_the_result_has_them() {
    let machine = Machine::deployed();
    write_trace(&machine.path("state"), 2);
    let run = machine.run(&VERIFY);
    run.succeeds();
    let names: Vec<String> = checks(&run.stdout).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(
        names,
        [
            "sidecar is running",
            "vLLM process is discovered",
            "trace files are created",
            "S3 uploads work",
            "traces in S3 are whole",
        ]
    );
    let result: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        result["trace"],
        json!({ "files": 1, "calls": 2, "dropped": 0, "ignored": 0, "problems": [] })
    );
    assert_eq!(result["tracer"]["run"], "node_20261124T042800.642Z");
}

#[test]
fn nothing_deployed_fails_every_check() {
    let machine = Machine::node();
    // At once, as nothing comes by waiting.
    let run = machine.run(&["verify", "--json", "--timeout", "600"]);
    assert_eq!(run.code, Some(1));
    assert!(checks(&run.stdout).iter().all(|(_, passed, _)| !passed));
    fails_at(&machine, "sidecar is running", "cargo xtask deploy");
}

#[test]
fn a_process_that_is_not_traced_is_named() {
    let machine = Machine::deployed();
    let mut status = status();
    status["processes"][0]["matched_by"] = Value::Null;
    machine.state("status.json", &status.to_string());
    fails_at(&machine, "vLLM process is discovered", "TARGET_PROCESS");
}

/// In the words of the sidecar.
#[test]
fn a_bucket_that_refuses_is_explained() {
    for (error, expected) in [
        ("S3 in us-east-1 answers 403 AccessDenied", "s3:PutObject"),
        ("S3 in us-east-1 answers 404 NoSuchBucket", "correct S3_BUCKET"),
        (
            "S3 in us-east-1 answers 301 PermanentRedirect (set AWS_REGION to eu-west-1)",
            "AWS_REGION",
        ),
    ] {
        let machine = Machine::deployed();
        let mut status = status();
        status["uploads"]["failing"] = json!({ "since": "2026-11-24T04:30:00Z", "error": error });
        machine.state("status.json", &status.to_string());
        fails_at(&machine, "S3 uploads work", error);
        fails_at(&machine, "S3 uploads work", expected);
    }
}

#[test]
fn a_trace_that_is_not_whole_fails() {
    let machine = Machine::deployed();
    fails_at(
        &machine,
        "traces in S3 are whole",
        "nothing of the run node_20261124T042800.642Z yet",
    );
    write_trace(&machine.path("state"), 5);
    fails_at(&machine, "traces in S3 are whole", "3 dropped");
    machine.state("fetch_error", "ERROR cannot list s3://traces/k3s-vllm/: AccessDenied");
    fails_at(&machine, "traces in S3 are whole", "fetch");
}

#[test]
fn uploads_are_waited_for() {
    let machine = Machine::deployed();
    write_trace(&machine.path("state"), 2);
    let early = status().to_string().replace("\"stored\":1", "\"stored\":0");
    machine.state("status.json", &early);
    machine.state("after_status-status.json", &status().to_string());
    let run = machine.run(&["verify", "--timeout", "1"]);
    run.succeeds();
    assert!(run.stderr.contains("wait    not yet: S3 uploads work"), "{}", run.stderr);
}

/// Earlier runs may have uploaded, and this one not yet; and what `status` names is not waited for.
#[test]
fn a_run_without_a_file_yet_is_waited_for_and_a_final_cause_is_not() {
    let machine = Machine::deployed();
    let run = machine.run(&["verify", "--timeout", "1"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("wait    not yet: traces in S3 are whole"), "{}", run.stderr);
    let mut pod = ready_pod();
    pod["status"]["initContainerStatuses"][0] = json!({
        "name": "ebpf-tracer", "restartCount": 4,
        "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "reason": "OOMKilled", "exitCode": 137 } },
    });
    machine.state("objects.json", &objects(&pod, false).to_string());
    let started = std::time::Instant::now();
    let run = machine.run(&["verify", "--timeout", "600"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("TRACER_MEMORY_LIMIT"), "{}", run.stderr);
    assert!(started.elapsed().as_secs() < 500);
}

#[test]
fn keys_of_the_cluster_serve_where_this_machine_has_none() {
    let machine = Machine::deployed();
    write_trace(&machine.path("state"), 2);
    let keys = "AWS_ACCESS_KEY_ID=\"AKIA1\"\nAWS_SECRET_ACCESS_KEY=\"shhh\"\n";
    machine.state("stored-aws-credentials", keys);
    let run = machine.run(&["fetch", "--out", "here"]);
    run.succeeds();
    assert!(!machine.has_called("--release"), "{:?}", machine.calls());
    let from = std::fs::read_to_string(machine.path("state").join("fetched_from")).unwrap();
    assert_eq!(from, "traces k3s-vllm/ AKIA1\n");
    assert!(!run.stderr.contains("shhh"), "{}", run.stderr);
    assert!(
        machine.path("work").join("here/trace_node_20261124T042800.642Z_000001.jsonl").exists()
    );
}

#[test]
fn a_bucket_that_nobody_names_is_asked_for() {
    let machine = Machine::node();
    machine.run(&["fetch"]).fails_with(&["nothing says where the traces are", "S3_BUCKET=..."]);
    machine.state("kubectl_error", "The connection to the server localhost:8080 was refused\n");
    machine.run(&["fetch"]).fails_with(&[
        "S3_BUCKET=...",
        "cluster cannot be asked",
        "localhost:8080",
    ]);
    // One that is named needs no cluster.
    machine.run_with(&["fetch"], &[("S3_BUCKET", "mine")]).succeeds();
    assert_eq!(machine.read("fetched_from"), "mine  \n");
}

#[test]
fn a_sidecar_that_does_not_run_says_in_which_state_it_is() {
    let machine = Machine::deployed();
    let mut pod = ready_pod();
    pod["status"]["initContainerStatuses"][0]["state"] =
        json!({ "waiting": { "reason": "CrashLoopBackOff" } });
    machine.state("objects.json", &objects(&pod, false).to_string());
    fails_at(&machine, "sidecar is running", "ebpf-tracer waiting (CrashLoopBackOff)");
}
