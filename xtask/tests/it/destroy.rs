//! `destroy`: what goes, in which order, and what stays.

use serde_json::json;

use crate::scripted::{Machine, namespace};

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
    machine.run(&["destroy", "--purge"]).fails_with(&["model cache", "--yes"]);
    assert_eq!(deletions(&machine), [""; 0]);
    machine.run(&["build"]).succeeds();
    machine.state("namespace.json", &namespace("Active").to_string());
    machine.run(&["destroy", "--purge", "--yes"]).succeeds();
    let deletions = deletions(&machine);
    let position = |text: &str| deletions.iter().position(|call| call.contains(text)).unwrap();
    assert!(position("deployment/vllm") < position("images rm"), "{deletions:?}");
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
    let script = include_str!("scripted/k3s.sh")
        .replace("*\"delete namespace\"*) rm -f \"$STATE/namespace.json\" ;;", "*\"delete namespace\"*) echo 'error: timed out waiting for the condition' >&2; exit 1 ;;")
        .replace("*\"delete deployment/vllm\"*) rm -f \"$STATE/namespace.json\" ;;", "*\"delete deployment/vllm\"*) touch \"$STATE/gone\" ;;")
        .replace("[ ! -f \"$STATE/namespace.json\" ] || echo", "[ -f \"$STATE/gone\" ] || echo");
    machine.tool("k3s", &script);
    machine
        .run(&["destroy", "--purge", "--yes"])
        .fails_with(&["finalizers remaining", "kubectl get all,pvc"]);
}
