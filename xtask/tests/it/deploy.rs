//! `deploy`, `status` and `logs` on clusters that are not as they should be.

use serde_json::{Value, json};

use crate::{
    objects::{namespace, objects, pod_with_vllm, ready_pod},
    scripted::{Machine, Run},
};

const DEPLOY: [&str; 7] =
    ["deploy", "--timeout", "1", "--tracer-image", "a/b:1", "--s3-bucket", "traces"];

/// The cluster as it is after applying.
fn deploy_to(pod: &Value, extra: &[(&str, &str)]) -> Run {
    let machine = Machine::node();
    machine.state("after_apply-objects.json", &objects(pod, false).to_string());
    for (name, content) in extra {
        machine.state(name, content);
    }
    machine.run(&DEPLOY)
}

fn waiting(reason: &str, message: &str) -> Value {
    pod_with_vllm(json!({ "state": { "waiting": { "reason": reason, "message": message } } }))
}

fn unschedulable(message: &str) -> Value {
    let mut pod = pod_with_vllm(json!({}));
    pod["status"] = json!({ "phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
    }]});
    pod
}

#[test]
fn a_ready_pod_ends_the_wait_and_a_missing_token_is_noted() {
    let machine = Machine::node();
    machine.state("after_apply-objects.json", &objects(&ready_pod(), true).to_string());
    let run = machine.run(&DEPLOY);
    run.succeeds();
    assert!(run.stderr.contains("done    vLLM is ready after "), "{}", run.stderr);
    assert!(run.stderr.contains("note    there is no secret hf-token"), "{}", run.stderr);
}

#[test]
fn no_gpu_capacity() {
    deploy_to(&unschedulable("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."), &[])
        .fails_with(&["Insufficient nvidia.com/gpu", "no GPU is free", "cargo xtask install"]);
}

#[test]
fn an_image_that_was_not_imported() {
    let message = "Container image \"a/b:1\" is not present with pull policy of Never";
    let mut pod = ready_pod();
    pod["status"]["initContainerStatuses"] = json!([
        { "name": "ebpf-tracer", "state": { "waiting": { "reason": "ErrImageNeverPull", "message": message } } }
    ]);
    deploy_to(&pod, &[]).fails_with(&["is not present with pull policy", "cargo xtask build"]);
}

#[test]
fn an_image_that_cannot_be_pulled() {
    for (reason, message) in [
        (
            "ErrImagePull",
            "rpc error: code = NotFound desc = failed to pull and unpack image \"docker.io/vllm/vllm-openai:v9\": failed to resolve reference \"docker.io/vllm/vllm-openai:v9\": docker.io/vllm/vllm-openai:v9: not found",
        ),
        (
            "ImagePullBackOff",
            "Back-off pulling image \"docker.io/vllm/vllm-openai:v9\": ErrImagePull: failed to resolve reference: pull access denied, repository does not exist or may require authorization",
        ),
    ] {
        let run = deploy_to(&waiting(reason, message), &[]);
        run.fails_with(&[message, "the image cannot be pulled", "k3s crictl pull"]);
        assert!(run.stderr.contains("vLLM will not become ready"), "{}", run.stderr);
    }
}

#[test]
fn a_driver_that_is_too_old_for_the_image() {
    let pod = pod_with_vllm(json!({
        "restartCount": 1, "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "reason": "Error", "exitCode": 1 } },
    }));
    let log = "RuntimeError: The NVIDIA driver on your system is too old (found version 12020).";
    deploy_to(&pod, &[("log-vllm", log)]).fails_with(&[log, "later NVIDIA driver", "VLLM_IMAGE"]);
    // With the toolkit's legacy mode the container is not even created.
    let message = "failed to create containerd task: nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0, please update your driver to a newer version";
    deploy_to(&waiting("RunContainerError", message), &[]).fails_with(&[
        message,
        "later NVIDIA driver",
        "VLLM_IMAGE",
    ]);
}

#[test]
fn a_token_without_access_to_the_model() {
    let pod = pod_with_vllm(json!({
        "restartCount": 1, "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "reason": "Error", "exitCode": 1 } },
    }));
    for (log, cause) in [
        ("huggingface_hub.errors.GatedRepoError: 403 Client Error.", "has not been granted access"),
        (
            "requests.exceptions.HTTPError: 401 Client Error: Unauthorized",
            "does not accept the token",
        ),
    ] {
        let next = ["cargo xtask secrets", "cargo xtask deploy --restart"];
        deploy_to(&pod, &[("log-vllm", log)]).fails_with(&[log, cause, next[0], next[1]]);
    }
}

#[test]
fn a_missing_secret() {
    let pod = waiting("CreateContainerConfigError", "secret \"hf-token\" not found");
    deploy_to(&pod, &[]).fails_with(&["secret \"hf-token\" not found", "cargo xtask secrets"]);
}

#[test]
fn a_claim_that_stays_pending() {
    let mut all = objects(
        &unschedulable(
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
        ),
        false,
    );
    all["items"].as_array_mut().unwrap().push(json!({
        "kind": "PersistentVolumeClaim", "metadata": { "name": "vllm-traces" },
        "status": { "phase": "Pending" },
    }));
    let event = json!({ "items": [{
        "reason": "ProvisioningFailed", "message": "storageclass.storage.k8s.io \"local-path\" not found",
        "involvedObject": { "kind": "PersistentVolumeClaim", "name": "vllm-traces" },
    }]});
    let machine = Machine::node();
    machine.state("after_apply-objects.json", &all.to_string());
    machine.state("events.json", &event.to_string());
    machine.run(&DEPLOY).fails_with(&[
        "the claim vllm-traces is pending",
        "no such storage class",
        "kubectl get storageclass",
    ]);
}

#[test]
fn a_node_port_that_is_taken() {
    let error = "The Service \"vllm-api\" is invalid: spec.ports[0].nodePort: Invalid value: 30800: provided port is already allocated";
    deploy_to(&ready_pod(), &[("apply_error", error)]).fails_with(&[
        error,
        "another service has the node port",
        "NODE_PORT",
    ]);
}

#[test]
fn a_namespace_that_does_not_go() {
    let mut stuck = namespace("Terminating");
    stuck["status"]["conditions"] = json!([{
        "type": "NamespaceDeletionDiscoveryFailure", "status": "True", "reason": "DiscoveryFailed",
        "message": "unable to retrieve the complete list of server APIs: metrics.k8s.io/v1beta1",
    }]);
    let machine = Machine::node();
    machine.state("namespace.json", &stuck.to_string());
    machine.run(&DEPLOY).fails_with(&[
        "still being deleted",
        "metrics.k8s.io",
        "kubectl get apiservices",
    ]);
    assert!(!machine.has_called("kubectl apply"));
}

#[test]
fn a_namespace_that_goes_is_waited_for() {
    let machine = Machine::node();
    machine.state("namespace.json", &namespace("Terminating").to_string());
    machine.state("after_apply-objects.json", &objects(&ready_pod(), true).to_string());
    machine.state("after_namespace-namespace.json", "");
    let run = machine.run(&DEPLOY);
    run.succeeds();
    assert!(run.stderr.contains("wait    the namespace vllm-tracing is being deleted"));
}

/// Kubernetes deletes it a moment after it has seen the new spec.
#[test]
fn a_pod_of_the_spec_before_is_not_what_is_waited_for() {
    let crashed = pod_with_vllm(json!({
        "restartCount": 5, "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "reason": "Error", "exitCode": 1 } },
    }));
    let mut old = objects(&crashed, false);
    old["items"][0]["metadata"]["generation"] = json!(2);
    let mut replaced = old.clone();
    replaced["items"][0]["status"] = json!({ "observedGeneration": 2 });
    for before in [old, replaced] {
        let machine = Machine::deployed();
        machine.state("log-vllm", "401 Client Error: Unauthorized\n");
        machine.state("after_restart-objects.json", &before.to_string());
        machine.state("after_look-objects.json", &objects(&ready_pod(), true).to_string());
        let run = machine.run(&[&["deploy", "--restart"], &DEPLOY[1..]].concat());
        run.succeeds();
        assert!(!run.stderr.contains("401"), "{}", run.stderr);
        assert!(machine.has_called("rollout restart deployment/vllm"));
    }
}

/// Of an hour ago; a pod was made after it, and more than one has gone since.
#[test]
fn what_went_wrong_earlier_ends_no_wait() {
    let mut starting = objects(&pod_with_vllm(json!({ "state": { "running": {} } })), false);
    starting["items"][0]["status"] = json!({ "observedGeneration": 1 });
    let mut old = ready_pod();
    old["metadata"]["deletionTimestamp"] = json!("2026-11-24T04:30:00Z");
    old["metadata"]["deletionGracePeriodSeconds"] = json!(100);
    old["status"]["containerStatuses"][0]["state"] = json!({ "terminated": {} });
    let set = json!({
        "kind": "ReplicaSet",
        "metadata": { "name": "vllm-7d4b9c", "uid": "set",
                      "annotations": { "deployment.kubernetes.io/revision": "1" } },
    });
    let event = |reason: &str, time: &str| {
        json!({ "reason": reason, "message": "Error creating: exceeded quota: gpus",
                "lastTimestamp": time,
                "involvedObject": { "kind": "ReplicaSet", "name": "vllm-7d4b9c", "uid": "set" } })
    };
    let events = json!({ "items": [
        event("FailedCreate", "2026-11-24T03:28:00Z"),
        event("SuccessfulCreate", "2026-11-24T03:28:20Z"),
    ]});
    // While the old pod goes, and when it is gone and the new one is not there yet.
    for pods in [json!([old, set]), json!([set])] {
        let mut before = starting.clone();
        before["items"].as_array_mut().unwrap().truncate(1);
        before["items"].as_array_mut().unwrap().extend(pods.as_array().unwrap().iter().cloned());
        let machine = Machine::deployed();
        machine.state("events.json", &events.to_string());
        machine.state("after_restart-objects.json", &before.to_string());
        machine.state("after_look-objects.json", &objects(&ready_pod(), true).to_string());
        let run = machine.run(&[&["deploy", "--restart"], &DEPLOY[1..]].concat());
        run.succeeds();
        assert!(!run.stderr.contains("quota"), "{}", run.stderr);
        let is_stopping = pods[0]["kind"] == "Pod";
        let stopping = "wait    the pod before has to go first: vllm-7d4b9c-xk2lp: stopping since ";
        assert_eq!(run.stderr.contains(stopping), is_stopping, "{}", run.stderr);
        let upload = ": 0 trace files (0.0 MB) wait for upload";
        assert_eq!(run.stderr.contains(upload), is_stopping, "{}", run.stderr);
    }
}

#[test]
fn nothing_is_applied_of_what_the_server_or_the_nodes_would_not_take() {
    let pod = json!({ "containers": [{ "resources": { "requests": { "nvidia.com/gpu": "2" } } }] });
    let deployment = json!({ "kind": "Deployment", "spec": { "template": { "spec": pod } } });
    let two_gpus = json!({ "items": [deployment] }).to_string();
    let forbidden = "Error from server (Forbidden): namespaces \"vllm-tracing\" is forbidden";
    for (file, content, what) in [
        ("dry_run.json", &two_gpus[..], "the pod asks for 2 GPUs, and the largest node has 1 GPUs"),
        ("dry_run_error", forbidden, "may not do this"),
    ] {
        let machine = Machine::deployed();
        machine.state(file, content);
        machine.run(&DEPLOY).fails_with(&["nothing was applied", what]);
        let applied = machine.calls();
        let applied = applied.iter().filter(|call| call.contains(" apply "));
        assert_eq!(applied.filter(|call| !call.contains("--dry-run=server")).count(), 0);
    }
}

#[test]
fn a_stricter_level_of_the_namespace_is_not_lowered_in_silence() {
    let machine = Machine::deployed();
    let mut strict = namespace("Active");
    strict["metadata"] =
        json!({ "labels": { "pod-security.kubernetes.io/enforce": "restricted" } });
    machine.state("namespace.json", &strict.to_string());
    let run = machine.run(&DEPLOY);
    run.succeeds();
    let said =
        "change  namespace vllm-tracing: it enforces pod security restricted, and privileged";
    assert!(run.stderr.contains(said), "{}", run.stderr);
}

/// Another diff may say that nothing differs; a kuberc may make `delete` ask.
#[test]
fn what_kubectl_s_user_has_set_changes_no_task() {
    let machine = Machine::deployed();
    let settings =
        "printf '%s\\n' \"$KUBECTL_EXTERNAL_DIFF $KUBERC $KUBECTL_KUBERC\" >>\"$STATE/settings\"";
    machine.tool("k3s", &format!("{settings}\n{}", include_str!("scripted/k3s.sh")));
    let variables = [
        ("KUBECTL_EXTERNAL_DIFF", "true"),
        ("KUBERC", "/home/me/kuberc"),
        ("KUBECTL_KUBERC", "true"),
    ];
    machine.run_with(&[&["deploy", "--no-wait"], &DEPLOY[1..]].concat(), &variables).succeeds();
    machine.run_with(&["status"], &variables).succeeds();
    machine.run_with(&["destroy"], &variables).succeeds();
    let seen = machine.read("settings");
    assert!(seen.lines().count() > 5 && seen.lines().all(|line| line == " off false"), "{seen}");
}

#[test]
fn an_api_server_that_is_restarted_in_between_ends_no_wait() {
    let machine = Machine::node();
    let starting = pod_with_vllm(json!({ "state": { "running": {} } }));
    machine.state("after_apply-objects.json", &objects(&starting, false).to_string());
    let refused = "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?";
    machine.state("after_look-objects_error", refused);
    machine.state("then_look-objects_error", "");
    machine.state("then_look-objects.json", &objects(&ready_pod(), true).to_string());
    let run = machine.run(&[&["deploy", "--timeout", "60"], &DEPLOY[3..]].concat());
    run.succeeds();
    assert!(run.stderr.contains(&format!("wait    the cluster does not answer: {refused}")));
}

#[test]
fn a_kubeconfig_that_cannot_be_read() {
    let machine = Machine::deployed();
    machine.state(
        "kubectl_error",
        "error: error loading config file \"/etc/rancher/k3s/k3s.yaml\": open /etc/rancher/k3s/k3s.yaml: permission denied\n",
    );
    for task in [&DEPLOY[..], &["status"], &["destroy"]] {
        machine.run(task).fails_with(&["readable by root only", "~/.kube/config"]);
    }
    machine
        .run(&["status", "--kubeconfig", "/no/such/file"])
        .fails_with(&["cannot read the kubeconfig /no/such/file", "--kubeconfig"]);
}

#[test]
fn an_api_server_that_is_down() {
    let machine = Machine::deployed();
    machine.state(
        "kubectl_error",
        "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?\n",
    );
    machine
        .run(&["status"])
        .fails_with(&["the API server of the kubeconfig does not run", "systemctl status k3s"]);
}

#[test]
fn kubectl_is_missing_or_another_one_serves() {
    let machine = Machine::deployed();
    machine.remove_tool("k3s");
    machine
        .run(&["status"])
        .fails_with(&["neither `k3s` nor `kubectl` is on PATH", "cargo xtask install"]);
    machine.tool("kubectl", &format!("set -- kubectl \"$@\"\n{}", include_str!("scripted/k3s.sh")));
    machine.run(&["status"]).succeeds();
    assert!(machine.has_called("kubectl get nodes"));
    // K3s's own comes first, and a file that is named goes with every command.
    machine.tool("k3s", include_str!("scripted/k3s.sh"));
    machine.state("kubeconfig", "");
    let file = machine.path("state").join("kubeconfig");
    machine.forget_calls();
    machine.run(&["status", "--kubeconfig", file.to_str().unwrap()]).succeeds();
    let named = format!("k3s kubectl --kubeconfig {} ", file.display());
    let calls = machine.calls();
    assert!(!calls.is_empty() && calls.iter().all(|call| call.starts_with(&named)), "{calls:?}");
}

#[test]
fn settings_are_checked_by_the_program_that_knows_them() {
    let machine = Machine::node();
    machine.run(&["deploy", "--tracer-image", "a/b:1"]).fails_with(&["--package manifests"]);
    machine
        .run(&["deploy", "--s3-bucket", "traces"])
        .fails_with(&["there is no image of the sidecar to deploy", "cargo xtask build"]);
    // As in `S3_BUCKET=... cargo xtask deploy`.
    machine.state("after_apply-objects.json", &objects(&ready_pod(), true).to_string());
    let variables = [("S3_BUCKET", "traces"), ("TRACER_IMAGE", "a/b:1")];
    machine.run_with(&["deploy"], &variables).succeeds();
}

/// What `manifests` is asked for, by the kernels of the nodes.
fn rights_for(nodes: &Value, variables: &[(&str, &str)]) -> (bool, Run) {
    let machine = Machine::node();
    machine.state("nodes.json", &json!({ "items": nodes }).to_string());
    let deploy = ["deploy", "--no-wait", "--tracer-image", "a/b:1", "--s3-bucket", "traces"];
    let run = machine.run_with(&deploy, variables);
    run.succeeds();
    (machine.has_called("--perf-events=false"), run)
}

#[test]
fn the_tracer_gets_sys_admin_only_where_a_node_needs_it() {
    let node = |kernel: &str, gpus: &str| {
        let mut node = crate::objects::gpu_node(gpus);
        node["status"]["nodeInfo"]["kernelVersion"] = json!(kernel);
        node
    };
    for (nodes, variables, is_least) in [
        (json!([node("6.12.1", "1")]), &[][..], true),
        (json!([node("6.6.0", "1"), node("5.15.0", "0")]), &[], true),
        (json!([node("6.12.1", "1"), node("5.15.0", "1")]), &[], false),
        (json!([node("5.15.0-122-generic", "1")]), &[], false),
        (json!([node("6.12.1", "1")]), &[("PERF_EVENTS", "true")], false),
        (json!([node("6.12.1", "1")]), &[("ATTACH_BY", "perf-events")], false),
        (json!([]), &[], false),
        (json!([crate::objects::gpu_node("1")]), &[], false),
    ] {
        let (least, run) = rights_for(&nodes, variables);
        assert_eq!(least, is_least, "{nodes}: {}", run.stderr);
        let is_said = run.stderr.contains("note    the tracer gets SYS_ADMIN too: ");
        assert_eq!(is_said, !least && variables.is_empty(), "{}", run.stderr);
    }
}
