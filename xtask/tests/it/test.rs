//! `test`: what `loadtest` is told, and what is said when it fails.

use serde_json::json;

use crate::{
    objects::{objects, pod_with_vllm, ready_pod},
    scripted::Machine,
};

fn sent(machine: &Machine) -> Vec<String> {
    let calls = machine.calls().into_iter().filter(|call| call.contains("loadtest"));
    calls.filter_map(|call| Some(call.split_once("loadtest -- ")?.1.to_owned())).collect()
}

#[test]
fn one_prompt_and_then_a_batch_of_15_to_the_port_of_the_service() {
    let machine = Machine::deployed();
    let objects = objects(&pod_with_vllm(json!({ "ready": true })), true).to_string();
    machine.state("objects.json", &objects.replace("30800", "31234"));
    let run = machine.run(&["test"]);
    run.succeeds();
    let expected =
        ["single --host localhost --port 31234", "batch --host localhost --port 31234 --count 15"];
    assert_eq!(sent(&machine), expected);
    assert_eq!(run.stdout, "single_prompt_result_1.json\nbatch_prompts_result_1.json\n");
}

#[test]
fn flags_of_the_seed_are_passed_on_and_no_cluster_is_needed() {
    let machine = Machine::node();
    machine.remove_tool("k3s");
    let arguments = "test batch --host gpu --port 8000 --count 20 --parallel --workers 8 -- --chat";
    machine.run(&arguments.split(' ').collect::<Vec<_>>()).succeeds();
    let expected = "batch --host gpu --port 8000 --count 20 --parallel --workers 8 --chat";
    assert_eq!(sent(&machine), [expected]);
}

#[test]
fn a_failure_is_explained_by_the_state_of_the_pod() {
    let machine = Machine::deployed();
    let waiting = json!({ "reason": "CreateContainerConfigError", "message": "secret \"hf-token\" not found" });
    let pod = pod_with_vllm(json!({ "state": { "waiting": waiting } }));
    machine.state("objects.json", &objects(&pod, false).to_string());
    machine.state("single_error", "error: cannot connect to localhost:30800: connection refused\n");
    let run = machine.run(&["test", "single"]);
    run.fails_with(&["did not answer as it should", "next:  cargo xtask secrets"]);
    assert!(run.stderr.contains("connection refused"), "{}", run.stderr);
    // The pod is ready, so it is something between.
    machine.state("objects.json", &objects(&ready_pod(), true).to_string());
    machine.run(&["test", "single"]).fails_with(&["a firewall is in the way", "ufw status"]);
}
