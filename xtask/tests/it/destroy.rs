//! `destroy`: what goes, in which order, and what stays.

use serde_json::{Value, json};

use crate::{
    objects::{namespace, ready_pod, status},
    scripted::Machine,
};

fn deletions(machine: &Machine) -> Vec<String> {
    let calls = machine.calls().into_iter();
    calls.filter(|call| call.contains(" delete ") || call.contains("images rm")).collect()
}

#[test]
fn the_pod_goes_first_and_data_stays() {
    let machine = Machine::deployed();
    machine.run(&["destroy"]).succeeds();
    let deletions = deletions(&machine);
    assert!(
        deletions[0].contains(
            "delete deployment/vllm --ignore-not-found --cascade=foreground --wait=false"
        )
    );
    for kept in ["pvc", "persistentvolumeclaim", "secret", "namespace"] {
        assert!(
            !deletions.iter().any(|call| call.contains(&format!("delete {kept}"))),
            "{deletions:?}"
        );
    }
}

#[test]
fn what_is_gone_is_not_deleted_again() {
    let machine = Machine::node();
    machine.run(&["destroy"]).succeeds();
    assert_eq!(deletions(&machine), [""; 0]);
}

#[test]
fn purging_asks_and_without_a_terminal_wants_to_be_told() {
    let machine = Machine::deployed();
    let mut behind = status();
    behind["segments"]["waiting"] = json!(3);
    behind["uploads"]["failing"] = json!({ "since": "x", "error": "403 AccessDenied" });
    machine.state("status.json", &behind.to_string());
    machine.run(&["destroy", "--purge"]).fails_with(&[
        "nothing was deleted",
        "model cache",
        "(3 files now, and uploads fail: 403 AccessDenied)",
        "--yes",
    ]);
    machine.state("status.json", &status().to_string());
    assert_eq!(deletions(&machine), [""; 0]);
    machine.run(&["build"]).succeeds();
    let image = machine.read("pinned");
    let run = machine.run(&["destroy", "--purge", "--yes"]);
    run.succeeds();
    assert!(run.stderr.contains("traces that were not uploaded (0 files now)"), "{}", run.stderr);
    let order = [
        "delete deployment/vllm",
        "delete service/vllm-api",
        "delete namespace vllm-tracing",
        &format!("images rm {}", image.trim()),
    ];
    let deletions = deletions(&machine);
    assert_eq!(deletions.len(), order.len(), "{deletions:?}");
    for (call, part) in deletions.iter().zip(order) {
        assert!(call.contains(part), "{part} in {deletions:?}");
    }
}

/// On its way out, with the tracer at work for so long as vLLM has ended.
fn stopping() -> Value {
    let mut pod = ready_pod();
    pod["metadata"]["deletionTimestamp"] = json!("2026-11-24T04:30:00Z");
    pod["metadata"]["deletionGracePeriodSeconds"] = json!(100);
    pod["status"]["containerStatuses"][0]["state"] = json!({ "terminated": {} });
    json!({ "items": [pod] })
}

fn behind() -> String {
    let mut behind = status();
    behind["segments"]["waiting"] = json!(3);
    behind["segments"]["waiting_bytes"] = json!(34_000_000);
    behind["uploads"]["failing"] = json!({ "since": "x", "error": "cannot reach the store" });
    behind.to_string()
}

#[test]
fn a_pod_that_does_not_go_keeps_the_rest_and_says_what_it_does() {
    let machine = Machine::deployed();
    machine.state("after_delete-objects.json", &stopping().to_string());
    machine.state("status.json", &behind());
    machine.run(&["destroy", "--purge", "--yes", "--timeout", "1"]).fails_with(&[
        "step `remove the deployment` failed",
        "3 trace files (34.0 MB) wait for upload, which fails: cannot reach the store",
        "a pod that uploads its last traces takes its time",
        "cargo xtask logs tracer",
    ]);
    assert_eq!(deletions(&machine).len(), 1);
}

#[test]
fn what_is_awaited_and_what_is_left_is_said() {
    let machine = Machine::deployed();
    machine.state("after_delete-objects.json", &stopping().to_string());
    machine.state("status.json", &behind());
    machine.state("after_delete-after_look-objects.json", r#"{"items":[]}"#);
    let run = machine.run(&["destroy"]);
    run.succeeds();
    for part in [
        "wait    vllm-7d4b9c-xk2lp: stopping since ",
        "past its grace period: 3 trace files (34.0 MB) wait for upload, which fails: cannot reach",
        "note    when it was asked last, 3 trace files (34.0 MB)",
        "lies in the claim vllm-traces: the next deployment uploads it",
    ] {
        assert!(run.stderr.contains(part), "no {part:?} in {}", run.stderr);
    }
}

#[test]
fn a_namespace_that_stays_is_explained() {
    let machine = Machine::deployed();
    let mut stuck = namespace("Terminating");
    stuck["status"]["conditions"] = json!([{
        "type": "NamespaceFinalizersRemaining", "status": "True", "reason": "SomeFinalizersRemain",
        "message": "Some content in the namespace has finalizers remaining: example.com/x in 1 resource instances",
    }]);
    machine.state("namespace.json", &stuck.to_string());
    machine.state("delete_namespace_error", "error: timed out waiting for the condition\n");
    machine
        .run(&["destroy", "--purge", "--yes"])
        .fails_with(&["finalizers remaining", "kubectl get all,pvc"]);
}
