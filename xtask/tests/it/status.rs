//! `status` and `logs`: what is there, how it does, and what is wrong.

use serde_json::{Value, json};

use crate::{
    objects::{objects, ready_pod, status},
    scripted::Machine,
};

#[test]
fn status_shows_all_of_it_and_says_by_its_exit_code_whether_vllm_is_ready() {
    let machine = Machine::deployed();
    let run = machine.run(&["status"]);
    run.succeeds();
    insta::assert_snapshot!(run.stdout, @r#"
    node        gpu-node: Ready, v1.36.2+k3s1, 1 of 1 GPUs usable
    deployment  vllm: ready
    image       docker.io/vllm/vllm-openai:v0.20.2
    image       docker.io/littleboy/ebpf-cuda-tracer:1
    pod         vllm-7d4b9c-xk2lp: Running, ready: ebpf-tracer ready; vllm ready
    service     vllm-api: http://localhost:30800 on the node
    tracer      recording: 1 processes traced, 2 calls, 0 dropped, 1 segments closed, 1 objects in s3://traces/k3s-vllm/

    ready: cargo xtask test, cargo xtask verify
    "#);
    let json: Value = serde_json::from_str(&machine.run(&["status", "--json"]).stdout).unwrap();
    assert_eq!((&json["ready"], &json["tracer"]["phase"]), (&json!(true), &json!("recording")));
    let empty = Machine::node().run(&["status"]);
    assert_eq!(empty.code, Some(1));
    assert!(empty.stdout.contains("nothing is deployed"), "{}", empty.stdout);
}

#[test]
fn status_explains_uploads_that_fail() {
    let machine = Machine::deployed();
    let mut status = status();
    let error = "cannot put s3://traces/k: S3 in us-east-1 answers 403 AccessDenied";
    status["uploads"]["failing"] = json!({ "since": "2026-11-24T04:30:00Z", "error": error });
    machine.state("status.json", &status.to_string());
    let run = machine.run(&["status"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stdout.contains("vLLM is ready, and not all is as it should be"), "{}", run.stdout);
    let expected = "  cause: the credentials may not write there\n  next:  grant s3:PutObject";
    assert!(run.stdout.contains(error) && run.stdout.contains(expected), "{}", run.stdout);
}

/// What is wrong with tracing while vLLM serves, in the words of the tracer's status.
#[test]
fn tracing_that_has_stopped_is_no_success_of_status_nor_of_deploy() {
    let full = |status: &mut Value| {
        status["segments"]["is_paused"] = json!(true);
        status["segments"]["waiting"] = json!(32);
        status["calls"]["dropped_at_disk"] = json!(8);
    };
    let change = |change: &dyn Fn(&mut Value)| {
        let mut status = status();
        change(&mut status);
        status.to_string()
    };
    for (answer, what, next) in [
        (change(&full), "calls are dropped now, 8 of 10 so far: 32 trace files", "TRACE_DIR_LIMIT"),
        (
            change(&|status| status["phase"] = json!("failed")),
            "the tracer has failed",
            "logs tracer",
        ),
        (
            change(&|status| status["calls"]["dropped_at_ring"] = json!(2)),
            "2 of 4 calls",
            "RING_BUFFER_SIZE",
        ),
        (String::new(), "the tracer does not answer", "deploy --restart"),
    ] {
        let machine = Machine::deployed();
        machine.state("status.json", &answer);
        let run = machine.run(&["status"]);
        assert_eq!(run.code, Some(1), "{}", run.stdout);
        assert!(run.stdout.contains(what) && run.stdout.contains(next), "{}", run.stdout);
        machine.run(&["deploy", "--tracer-image", "a/b:1", "--s3-bucket", "traces"]).fails_with(&[
            "vLLM is ready, and its calls are not traced as they should be",
            what,
            next,
        ]);
    }
}

#[test]
fn a_tracer_that_crashes_beside_a_vllm_that_serves_is_told_apart() {
    let machine = Machine::deployed();
    let mut pod = ready_pod();
    pod["status"]["conditions"][0]["status"] = json!("False");
    pod["status"]["initContainerStatuses"][0] = json!({
        "name": "ebpf-tracer", "restartCount": 4,
        "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "reason": "Error", "exitCode": 1 } },
    });
    machine.state("objects.json", &objects(&pod, false).to_string());
    machine.state("log-tracer", "ERROR no BTF\n");
    let run = machine.run(&["status"]);
    assert_eq!(run.code, Some(1));
    for part in
        ["ebpf-tracer ended (Error, exit code 1): ERROR no BTF", "vLLM is ready, and not all"]
    {
        assert!(run.stdout.contains(part), "{}", run.stdout);
    }
    let deploy = ["deploy", "--tracer-image", "a/b:1", "--s3-bucket", "traces"];
    machine.run(&deploy).fails_with(&["vLLM is ready, and its tracer is not: ebpf-tracer ended"]);
}

/// The pod has the digest of what it was started with.
#[test]
fn secrets_that_changed_since_the_pod_was_made_are_noticed() {
    let machine = Machine::deployed();
    machine.run(&["deploy", "--tracer-image", "a/b:1", "--s3-bucket", "traces"]).succeeds();
    let calls = machine.calls().join("\n");
    let digest = calls.split("--secrets-digest ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(digest.len() == 16 && digest.chars().all(|c| c.is_ascii_hexdigit()), "{digest}");
    let mut pod = ready_pod();
    pod["metadata"]["annotations"] = json!({ "vllm-tracing/secrets": digest });
    machine.state("objects.json", &objects(&pod, true).to_string());
    machine.run(&["status"]).succeeds();
    machine.state("stored-hf-token", "token=\"hf_later\"\n");
    let run = machine.run(&["status"]);
    assert_eq!(run.code, Some(1));
    assert!(
        run.stdout.contains("the secrets have changed since the pod was made"),
        "{}",
        run.stdout
    );
    assert!(!calls.contains("hf_e") && !run.stdout.contains("hf_l"), "no secret shows");
}

/// Of the nodes of others one need not know.
#[test]
fn status_of_one_namespace_needs_no_right_to_see_nodes() {
    let machine = Machine::deployed();
    machine.state("nodes_error", "Error from server (Forbidden): nodes is forbidden\n");
    let run = machine.run(&["status"]);
    run.succeeds();
    assert!(!run.stdout.contains("node  "), "{}", run.stdout);
}

#[test]
fn logs_are_those_of_the_container_that_is_asked_for() {
    let machine = Machine::deployed();
    let run = machine.run(&["logs"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "the logs\n"));
    for (arguments, expected) in [
        (&["logs", "tracer"][..], "logs -l app=vllm --tail=200 -c ebpf-tracer"),
        (&["logs", "-f", "vllm", "--tail", "-1"], "logs -l app=vllm --tail=-1 -c vllm --follow"),
    ] {
        machine.run(arguments);
        let call = machine.calls().pop().unwrap();
        assert!(call.ends_with(expected), "{call}");
    }
    machine.state("logs_error", "The connection to the server localhost:8080 was refused\n");
    machine.run(&["logs"]).fails_with(&["kubectl has no kubeconfig", "cargo xtask install"]);
}
