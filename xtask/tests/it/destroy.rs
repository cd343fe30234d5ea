//! `destroy`: what goes, in which order, and what stays.

use serde_json::json;

use crate::{
    objects::{namespace, status},
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
        deletions[0]
            .contains("delete deployment/vllm --ignore-not-found --cascade=foreground --wait")
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

#[test]
fn a_pod_that_does_not_go_keeps_the_rest() {
    let machine = Machine::deployed();
    let error = "error: timed out waiting for the condition on deployments/vllm\n";
    machine.state("delete_deployment_error", error);
    machine.run(&["destroy", "--purge", "--yes"]).fails_with(&[
        "step `remove the deployment` failed",
        "a pod that uploads its last traces takes its time",
        "cargo xtask logs tracer",
    ]);
    assert_eq!(deletions(&machine).len(), 1);
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
