//! The processes of the server: their titles, and how they end.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use testbed::libraries::Driver;

use super::{PROGRAM, Vllm, until};
use crate::http;
use crate::{Bench, terminate};

#[test]
fn engine_retitles_itself_and_both_processes_map_the_libraries() {
    let vllm = Vllm::start(&["--startup-delay", "400"]);
    let file = |pid: u32, name: &str| {
        fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default()
    };
    assert_eq!(http::get(&vllm.address, "/health").unwrap().status, 503);
    let body = r#"{"model":"org/model","prompt":"p"}"#;
    assert_eq!(vllm.post("/v1/completions", body).status, 503);
    let before = file(vllm.engine, "cmdline");
    assert!(before.starts_with("python3\0-c\0from multiprocessing.spawn"), "{before:?}");

    until("the engine is ready", || http::get(&vllm.address, "/health").unwrap().status == 200);
    let after = file(vllm.engine, "cmdline");
    assert_eq!((after.trim_end_matches('\0'), after.len()), ("VLLM::EngineCore", before.len()));
    assert_eq!(file(vllm.engine, "comm"), "VLLM::EngineCor\n");
    assert!(
        !file(vllm.engine, "environ").contains("LD_LIBRARY_PATH"),
        "the environment is overwritten too"
    );
    let server = vllm.child.id();
    assert!(file(server, "cmdline").starts_with("python3\0-m\0vllm.entrypoints.openai.api_server"));
    for pid in [server, vllm.engine] {
        let maps = file(pid, "maps");
        assert!(
            maps.contains("/libcuda.so.580.159.04") && maps.contains("/libcudart.so.13"),
            "{maps}"
        );
    }
    let engine = vllm.engine;
    let (runtime, driver) = vllm.stop();
    assert_eq!(
        (runtime.first.as_str(), driver.first.as_str()),
        ("__cudaRegisterFatBinary", "cuInit")
    );
    assert_eq!(driver.pid, engine);
}

#[test]
fn sigterm_ends_running_answers_and_both_processes() {
    let mut vllm = Vllm::ready(&[]);
    let mut stream = TcpStream::connect(&vllm.address).unwrap();
    let body =
        r#"{"model":"org/model","prompt":"p","max_tokens":2000,"ignore_eos":true,"stream":true}"#;
    stream.write_all(http::post_text(&vllm.address, "/v1/completions", body).as_bytes()).unwrap();
    let mut first = [0; 400];
    stream.read_exact(&mut first).unwrap();
    until("it runs", || vllm.metric("vllm:num_requests_running") > 0);
    terminate(&vllm.child);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains(r#""finish_reason":"abort""#) && rest.contains("[DONE]"), "{rest}");
    assert!(vllm.child.wait().unwrap().success());
    let mut reported: Vec<_> = vllm.bench.counts().iter().map(|counts| counts.pid).collect();
    reported.dedup();
    assert_eq!(reported.len(), 2, "the server and the engine");
}

#[test]
fn a_client_that_leaves_frees_its_place() {
    let vllm = Vllm::ready(&["--step-ms", "5"]);
    let mut stream = TcpStream::connect(&vllm.address).unwrap();
    let body =
        r#"{"model":"org/model","prompt":"p","max_tokens":2000,"ignore_eos":true,"stream":true}"#;
    stream.write_all(http::post_text(&vllm.address, "/v1/completions", body).as_bytes()).unwrap();
    until("it runs", || vllm.metric("vllm:num_requests_running") > 0);
    drop(stream);
    until("it is aborted", || vllm.metric("vllm:request_success_total") > 0);
    // The next step of the engine tells that nothing else runs.
    vllm.post("/v1/completions", r#"{"model":"org/model","prompt":"p","max_tokens":2}"#);
    assert_eq!(vllm.metric("vllm:num_requests_running"), 0);
}

#[test]
fn engine_does_not_outlive_its_server() {
    let mut vllm = Vllm::ready(&[]);
    vllm.child.kill().unwrap();
    vllm.child.wait().unwrap();
    until("the engine has reported", || {
        vllm.bench.counts().iter().any(|counts| counts.pid == vllm.engine)
    });
}

#[test]
fn server_does_not_outlive_its_engine() {
    let mut vllm = Vllm::ready(&[]);
    // SAFETY: the engine is a child of our child, which has not waited for it.
    assert_eq!(unsafe { libc::kill(vllm.engine.cast_signed(), libc::SIGKILL) }, 0);
    assert_eq!(vllm.child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_signal_that_reaches_the_engine_first_is_a_stop() {
    // A container without a process namespace of its own is stopped so: all its processes get the signal.
    let mut vllm = Vllm::ready(&[]);
    // SAFETY: the engine is a child of our child, which has not waited for it.
    assert_eq!(unsafe { libc::kill(vllm.engine.cast_signed(), libc::SIGTERM) }, 0);
    assert_eq!(vllm.child.wait().unwrap().code(), Some(0));
}

#[test]
fn missing_libraries_are_named() {
    let bench = Bench::new(Driver::R550);
    let mut command = bench.command(PROGRAM);
    command.env("LD_LIBRARY_PATH", "/none").args(["serve", "--startup-delay", "0", "--port", "0"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        message.contains("libcudart.so.13") && message.contains("LD_LIBRARY_PATH"),
        "{message}"
    );
}
