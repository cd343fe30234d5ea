//! `status` and `logs`: what is there, how it does, and what is wrong.

use serde_json::{Value, json};

use crate::{objects::status, scripted::Machine};

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
    run.succeeds();
    let expected = "  cause: the credentials may not write there\n  next:  grant s3:PutObject";
    assert!(run.stdout.contains(error) && run.stdout.contains(expected), "{}", run.stdout);
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
