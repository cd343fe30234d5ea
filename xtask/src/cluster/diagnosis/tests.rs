//! States as the API server tells them, and what is said about them.

use serde_json::{Value, json};

use super::*;
use crate::cluster::objects::{Deployment, Event, Involved, ReplicaSet};

/// A pod that is scheduled, with the tracer ready and vLLM as given.
fn with_vllm(vllm: Value) -> Snapshot {
    let mut vllm = vllm;
    vllm["name"] = json!("vllm");
    let pod = json!({
        "metadata": { "name": "vllm-5d8f-abcde" },
        "status": {
            "phase": "Pending",
            "conditions": [{ "type": "PodScheduled", "status": "True" }],
            "initContainerStatuses": [
                { "name": "ebpf-tracer", "ready": true, "state": { "running": {} } }
            ],
            "containerStatuses": [vllm],
        },
    });
    with_pod(pod)
}

fn with_pod(pod: Value) -> Snapshot {
    Snapshot {
        deployment: Some(deployment(1)),
        pods: vec![serde_json::from_value(pod).unwrap()],
        ..Snapshot::default()
    }
}

/// One that the controller has seen, with so many pods of its last spec.
fn deployment(pods: u32) -> Deployment {
    let json = json!({
        "metadata": { "name": "vllm", "generation": 3 },
        "status": { "observedGeneration": 3, "updatedReplicas": pods },
    });
    serde_json::from_value(json).unwrap()
}

fn unschedulable(message: &str) -> Snapshot {
    with_pod(json!({
        "metadata": { "name": "vllm-5d8f-abcde" },
        "status": { "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message }
        ]},
    }))
}

fn event(reason: &str, kind: &str, name: &str, message: &str) -> Event {
    serde_json::from_value(json!({
        "reason": reason, "message": message, "involvedObject": { "kind": kind, "name": name },
    }))
    .unwrap()
}

fn only(snapshot: &Snapshot) -> Finding {
    let findings = diagnose(snapshot);
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    finding.clone()
}

#[test]
fn ready_or_just_starting_is_no_finding() {
    let ready = with_vllm(json!({ "ready": true, "state": { "running": {} } }));
    assert_eq!(diagnose(&ready), []);
    let starting = with_vllm(json!({ "ready": false, "state": { "running": {} } }));
    assert_eq!(diagnose(&starting), []);
    let creating = with_vllm(json!({ "state": { "waiting": { "reason": "ContainerCreating" } } }));
    assert_eq!(diagnose(&creating), []);
}

#[test]
fn nothing_deployed_is_said() {
    assert_eq!(only(&Snapshot::default()).next, "cargo xtask deploy");
}

#[test]
fn an_image_that_is_not_there_will_not_come_by_waiting() {
    let mut snapshot = with_vllm(json!({ "ready": true }));
    let message = "Container image \"docker.io/littleboy/ebpf-cuda-tracer:abc\" is not present with pull policy of Never";
    snapshot.pods[0].status.init_container_statuses[0] = serde_json::from_value(json!({
        "name": "ebpf-tracer",
        "state": { "waiting": { "reason": "ErrImageNeverPull", "message": message } },
    }))
    .unwrap();
    insta::assert_snapshot!(only(&snapshot), @r#"
    ebpf-tracer waits (ErrImageNeverPull): Container image "docker.io/littleboy/ebpf-cuda-tracer:abc" is not present with pull policy of Never
      cause: the image is not in K3s's containerd, and may not be pulled
      next:  cargo xtask build, then cargo xtask deploy
    "#);
    assert_eq!(only(&snapshot).grace, AT_ONCE);
}

#[test]
fn a_registry_that_does_not_answer_is_waited_for_and_one_that_says_no_is_not() {
    let waits = |message: &str| {
        let waiting = json!({ "reason": "ImagePullBackOff", "message": message });
        only(&with_vllm(json!({ "state": { "waiting": waiting } }))).grace
    };
    assert_eq!(waits("failed to resolve reference: dial tcp: i/o timeout"), LONG);
    assert_eq!(waits("docker.io/vllm/vllm-openai:v9: not found"), AT_ONCE);
    assert_eq!(waits("pull access denied, repository does not exist"), AT_ONCE);
}

#[test]
fn a_missing_secret_names_the_task_that_makes_it() {
    let message = "secret \"hf-token\" not found";
    let waiting = json!({ "reason": "CreateContainerConfigError", "message": message });
    let finding = only(&with_vllm(json!({ "state": { "waiting": waiting } })));
    assert_eq!((finding.next.as_str(), finding.grace), ("cargo xtask secrets", SHORT));
}

#[test]
fn a_gated_model_is_told_by_the_log_of_the_life_that_ended() {
    let mut snapshot = with_vllm(json!({
        "restartCount": 1,
        "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" } },
        "lastState": { "terminated": { "reason": "Error", "exitCode": 1 } },
    }));
    let log = "Traceback\nhuggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: Root=1)\n\nCannot access gated repo for url https://huggingface.co/meta-llama/Llama-2-7b-hf/resolve/main/config.json.\n";
    snapshot.logs.insert("vllm".to_owned(), log.to_owned());
    let finding = only(&snapshot);
    insta::assert_snapshot!(finding, @"
    vllm ended (Error, exit code 1): huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: Root=1)
      cause: the model is gated, and the account of the token has not been granted access
      next:  accept the licence on the model's page, or `cargo xtask secrets` with the token of an account that has; then `cargo xtask deploy --restart`
    ");
    assert_eq!(finding.grace, AT_ONCE);
    // The same in a container that still runs may be tried again.
    let mut running = with_vllm(json!({ "state": { "running": {} } }));
    running.logs = snapshot.logs;
    assert_eq!(only(&running).grace, None);
}

#[test]
fn what_runs_again_is_given_time_and_what_waits_for_another_life_is_not() {
    let ended = json!({ "terminated": { "reason": "OOMKilled", "exitCode": 137 } });
    let again = with_vllm(json!({
        "restartCount": 1, "state": { "running": {} }, "lastState": ended.clone(),
    }));
    assert_eq!(only(&again).grace, None);
    let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
    let waits = with_vllm(json!({ "restartCount": 1, "state": waiting, "lastState": ended }));
    assert_eq!(only(&waits).grace, AT_ONCE);
}

#[test]
fn a_pod_of_an_earlier_spec_explains_nothing() {
    let mut snapshot = with_vllm(json!({
        "restartCount": 4, "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "reason": "Error", "exitCode": 1 } },
    }));
    assert_eq!(diagnose(&snapshot).len(), 1);
    snapshot.deployment = Some(deployment(0));
    assert_eq!(diagnose(&snapshot), []);
    let mut unseen = deployment(1);
    unseen.metadata.generation = 4;
    snapshot.deployment = Some(unseen);
    assert_eq!(diagnose(&snapshot), []);
}

#[test]
fn unknown_ends_are_tolerated_a_few_times() {
    let after = |restarts: u32| {
        let mut snapshot = with_vllm(json!({
            "restartCount": restarts,
            "state": { "waiting": { "reason": "CrashLoopBackOff" } },
            "lastState": { "terminated": { "reason": "Error", "exitCode": 1 } },
        }));
        snapshot.logs.insert("vllm".to_owned(), "RuntimeError: odd\n".to_owned());
        only(&snapshot)
    };
    assert_eq!(after(1).what, "vllm ended (Error, exit code 1): RuntimeError: odd");
    assert_eq!(after(1).next, "cargo xtask logs vllm --previous");
    assert_eq!((after(1).grace, after(3).grace), (None, AT_ONCE));
}

#[test]
fn memory_is_named_before_the_log_is_asked() {
    let finding = only(&with_vllm(json!({
        "restartCount": 1,
        "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "reason": "OOMKilled", "exitCode": 137 } },
    })));
    assert!(finding.cause.contains("more memory than its limit"), "{finding}");
}

#[test]
fn missing_gpus_are_told_from_other_shortages() {
    let gpu = only(&unschedulable(
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available.",
    ));
    assert!(gpu.next.contains("device plugin"), "{gpu}");
    let memory = only(&unschedulable("0/1 nodes are available: 1 Insufficient memory."));
    assert!(memory.next.contains("smaller VLLM_MEMORY"), "{memory}");
    let disk = only(&unschedulable(
        "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }.",
    ));
    assert!(disk.next.contains("df -h"), "{disk}");
    assert_eq!(gpu.grace, LONG);
}

#[test]
fn a_runtime_that_k3s_has_not_found_asks_for_a_restart() {
    let mut snapshot =
        with_vllm(json!({ "state": { "waiting": { "reason": "ContainerCreating" } } }));
    snapshot.pods[0].status.init_container_statuses.clear();
    snapshot.events.push(event(
        "FailedCreatePodSandBox",
        "Pod",
        "vllm-5d8f-abcde",
        "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for \"nvidia\" is configured",
    ));
    let finding = only(&snapshot);
    assert!(finding.next.starts_with("sudo systemctl restart k3s"), "{finding}");
}

#[test]
fn a_pod_that_is_not_made_is_explained_by_the_replica_set() {
    let mut snapshot = unschedulable("");
    snapshot.pods.clear();
    snapshot.deployment = Some(deployment(0));
    snapshot.replica_set = Some(failing_set());
    snapshot.events.push(event(
        "FailedCreate",
        "ReplicaSet",
        "vllm-5d8f",
        "Error creating: pods \"vllm-5d8f-x\" is forbidden: violates PodSecurity \"baseline:latest\": non-default capabilities (container \"ebpf-tracer\" must not include \"BPF\")",
    ));
    assert!(only(&snapshot).next.contains("enforce=privileged"));
}

/// As the controller leaves it while it cannot make a pod.
fn failing_set() -> ReplicaSet {
    let failure = json!({ "type": "ReplicaFailure", "status": "True", "message": "quota" });
    let set = json!({ "metadata": { "name": "vllm-5d8f" }, "status": { "conditions": [failure] } });
    serde_json::from_value(set).unwrap()
}

fn at(event: Event, time: &str) -> Event {
    let Involved { kind, name, uid } = &event.involved_object;
    serde_json::from_value(json!({
        "reason": event.reason, "message": event.message, "lastTimestamp": time,
        "involvedObject": { "kind": kind, "name": name, "uid": uid },
    }))
    .unwrap()
}

#[test]
fn what_failed_before_a_success_explains_nothing() {
    let set = |reason: &str, time: &str| {
        at(event(reason, "ReplicaSet", "vllm-5d8f", "exceeded quota: gpus"), time)
    };
    let mut snapshot = Snapshot {
        deployment: Some(deployment(0)),
        replica_set: Some(failing_set()),
        events: vec![set("FailedCreate", "2026-11-24T04:28:00Z")],
        ..Snapshot::default()
    };
    assert_eq!(only(&snapshot).what, "the pod is not created: exceeded quota: gpus");
    // A pod was made later, and has gone: what the condition says now counts.
    snapshot.events.push(set("SuccessfulCreate", "2026-11-24T04:28:01Z"));
    assert_eq!(only(&snapshot).what, "the pod is not created: quota");
    snapshot.replica_set.as_mut().unwrap().status.conditions.clear();
    assert_eq!(diagnose(&snapshot), []);
    // The controller has not looked yet.
    let mut unseen = deployment(0);
    unseen.metadata.generation = 4;
    snapshot.replica_set = Some(failing_set());
    snapshot.deployment = Some(unseen);
    assert_eq!(diagnose(&snapshot), []);
}

#[test]
fn a_volume_that_was_late_is_no_trouble_while_the_image_is_pulled() {
    let mut snapshot =
        with_vllm(json!({ "state": { "waiting": { "reason": "PodInitializing" } } }));
    snapshot.pods[0].status.init_container_statuses.clear();
    let of_pod = |reason: &str, time: &str| {
        at(event(reason, "Pod", "vllm-5d8f-abcde", "timed out waiting for the cache"), time)
    };
    snapshot.events = vec![of_pod("FailedMount", "2026-11-24T04:28:00Z")];
    assert!(only(&snapshot).what.starts_with("a volume is not mounted"));
    snapshot.events.push(of_pod("Pulling", "2026-11-24T04:28:00Z"));
    assert_eq!(diagnose(&snapshot), []);
    snapshot.events.push(of_pod("FailedMount", "2026-11-24T04:28:09Z"));
    assert!(only(&snapshot).what.starts_with("a volume is not mounted"));
}

#[test]
fn events_of_objects_that_are_gone_are_forgotten() {
    let mut snapshot = with_vllm(json!({ "state": { "running": {} } }));
    snapshot.pods[0].metadata.uid = "new".to_owned();
    let with_uid = |uid: &str| {
        let mut event = event("Unhealthy", "Pod", "vllm-5d8f-abcde", "Startup probe failed");
        event.involved_object.uid = uid.to_owned();
        event
    };
    snapshot.events = vec![with_uid("old"), with_uid("new")];
    snapshot.keep_events_of_what_is_there();
    assert_eq!(snapshot.events.len(), 1);
}

#[test]
fn a_signal_is_named_and_lines_of_progress_are_no_reasons() {
    let ended = |exit_code: i32| {
        json!({
            "restartCount": 1, "state": { "waiting": { "reason": "CrashLoopBackOff" } },
            "lastState": { "terminated": { "reason": "Error", "exitCode": exit_code } },
        })
    };
    let info = "INFO 11-24 04:28:00 [api_server.py:1] Starting\n";
    let mut snapshot = with_vllm(ended(137));
    snapshot.logs.insert("vllm".to_owned(), info.to_owned());
    let finding = only(&snapshot);
    assert_eq!(finding.what, "vllm ended (Error, exit code 137), by signal SIGKILL");
    assert!(finding.cause.contains("killed it"), "{finding}");
    let message = "Container vllm failed liveness probe, will be restarted";
    snapshot.events.push(event("Killing", "Pod", "vllm-5d8f-abcde", message));
    assert!(only(&snapshot).cause.contains("liveness probe"), "{}", only(&snapshot));
    snapshot = with_vllm(ended(1));
    snapshot.logs.insert("vllm".to_owned(), info.to_owned());
    let finding = only(&snapshot);
    assert_eq!(finding.what, "vllm ended (Error, exit code 1)");
    assert!(finding.cause.contains("no line of its log"), "{finding}");
}

#[test]
fn a_claim_that_waits_for_its_consumer_is_fine_and_one_that_failed_is_not() {
    let mut snapshot = with_vllm(json!({ "state": { "running": {} } }));
    snapshot.claims = vec![
        serde_json::from_value(
            json!({ "metadata": { "name": "vllm-traces" }, "status": { "phase": "Pending" } }),
        )
        .unwrap(),
    ];
    let of_claim = |reason: &str, message: &str| {
        event(reason, "PersistentVolumeClaim", "vllm-traces", message)
    };
    snapshot.events.push(of_claim(
        "WaitForFirstConsumer",
        "waiting for first consumer to be created before binding",
    ));
    assert_eq!(diagnose(&snapshot), []);
    snapshot.events.push(of_claim(
        "ProvisioningFailed",
        "storageclass.storage.k8s.io \"local-path\" not found",
    ));
    assert!(only(&snapshot).next.starts_with("kubectl get storageclass"));
}

#[test]
fn a_tracer_without_a_capability_names_the_profile() {
    let mut snapshot = with_vllm(json!({ "ready": true }));
    snapshot.pods[0].status.init_container_statuses[0] = serde_json::from_value(json!({
        "name": "ebpf-tracer",
        "restartCount": 1,
        "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "reason": "Error", "exitCode": 1 } },
    }))
    .unwrap();
    let log = "ERROR this machine cannot trace yet:\n  CAP_PERFMON is missing, needed to load tracing programs and watch process events: run as root, or add PERFMON to the container's securityContext.capabilities\n";
    snapshot.logs.insert("ebpf-tracer".to_owned(), log.to_owned());
    let finding = only(&snapshot);
    assert!(finding.what.contains("CAP_PERFMON"), "{finding}");
    assert!(finding.next.contains("privileged"), "{finding}");
}
