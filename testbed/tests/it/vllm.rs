//! `standin-vllm`: its processes, its protocol, and the CUDA calls behind it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::counts::Counts;
use testbed::libraries::{DRIVER, Driver, RUNTIME};

use crate::http::{self, Answer};
use crate::{Bench, terminate};

/// A running server; stopped with the test if it has not ended before.
struct Vllm {
    bench: Bench,
    child: Child,
    address: String,
    engine: u32,
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_standin-vllm");
const PATIENCE: Duration = Duration::from_mins(1);

impl Vllm {
    fn start(options: &[&str]) -> Self {
        let bench = Bench::new(Driver::R580);
        let mut command = bench.command(PROGRAM);
        // As a container runs it.
        command.arg0("python3").args([
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            "org/model",
            "--port",
            "0",
        ]);
        command
            .args(["--startup-delay", "20", "--step-ms", "1", "--max-model-len", "2048"])
            .args(options);
        Self::spawn(bench, command)
    }

    fn spawn(bench: Bench, mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let address = lines.next().unwrap().rsplit_once("http://").unwrap().1.to_owned();
        let engine = lines.next().unwrap().rsplit_once(' ').unwrap().1.parse().unwrap();
        // Whoever reads nothing more must not close the pipe either.
        thread::spawn(move || lines.count());
        Self { bench, child, address, engine }
    }

    fn ready(options: &[&str]) -> Self {
        let vllm = Self::start(options);
        until("the engine is ready", || {
            http::get(&vllm.address, "/health").is_ok_and(|answer| answer.status == 200)
        });
        vllm
    }

    fn post(&self, path: &str, body: &str) -> Answer {
        http::post(&self.address, path, body).unwrap()
    }

    fn metric(&self, name: &str) -> u64 {
        let page = http::get(&self.address, "/metrics").unwrap().body;
        let line = page.lines().find(|line| line.starts_with(name) && !line.starts_with('#'));
        line.unwrap_or_else(|| panic!("{name} in {page}"))
            .rsplit_once(' ')
            .unwrap()
            .1
            .parse()
            .unwrap()
    }

    /// Stops the server and gives what the engine called in each library.
    fn stop(mut self) -> (Counts, Counts) {
        terminate(&self.child);
        assert!(self.child.wait().unwrap().success());
        let of = |library: &str| {
            let all = self.bench.counts();
            let found = all
                .into_iter()
                .find(|counts| counts.pid == self.engine && counts.library == library);
            found.unwrap_or_else(|| panic!("the engine reported its calls of {library}"))
        };
        (of(RUNTIME), of(DRIVER))
    }
}

impl Drop for Vllm {
    fn drop(&mut self) {
        // The engine reports its calls before it ends, and the place for them goes with the bench.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            terminate(&self.child);
            drop(self.child.wait());
        }
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn usage(prompt: u64, completion: u64) -> Value {
    serde_json::json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}

fn words(text: &Value) -> usize {
    text.as_str().unwrap().split_whitespace().count()
}

#[test]
fn whole_answers_carry_their_usage() {
    let vllm = Vllm::ready(&["--served-model-name", "first", "second"]);
    let models = http::get(&vllm.address, "/v1/models").unwrap().json();
    assert_eq!(
        (&models["data"][0]["id"], &models["data"][1]["id"]),
        (&"first".into(), &"second".into())
    );
    assert_eq!(
        (&models["data"][0]["root"], &models["data"][0]["max_model_len"]),
        (&"org/model".into(), &2048.into())
    );

    let answer = vllm
        .post("/v1/completions", r#"{"model":"second","prompt":"one two three","max_tokens":20}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    assert_eq!(
        (&answer["object"], &answer["model"]),
        (&"text_completion".into(), &"second".into())
    );
    assert_eq!(answer["usage"], usage(3, 20));
    assert_eq!(
        (words(&answer["choices"][0]["text"]), &answer["choices"][0]["finish_reason"]),
        (20, &"length".into())
    );

    let chat = r#"{"model":"first","messages":[{"role":"user","content":"hello you"}],"n":2,"max_completion_tokens":7}"#;
    let answer = vllm.post("/v1/chat/completions", chat).json();
    assert_eq!(answer["usage"], usage(2, 14));
    assert_eq!(answer["choices"][1]["message"]["role"], "assistant");
    assert_eq!(words(&answer["choices"][1]["message"]["content"]), 7);

    assert_eq!(vllm.metric("vllm:generation_tokens_total"), 34);
    assert_eq!(vllm.metric("vllm:time_to_first_token_seconds_count"), 3);
    assert_eq!(vllm.metric("vllm:num_requests_running"), 0);
}

#[test]
fn streams_end_with_usage_and_done() {
    let vllm = Vllm::ready(&[]);
    let body = r#"{"model":"org/model","prompt":["one two","three"],"max_tokens":9,"stream":true,"stream_options":{"include_usage":true}}"#;
    let answer = vllm.post("/v1/completions", body);
    let events = answer.events();
    // Nine tokens for each of two prompts, the usage, the end.
    assert_eq!((events.len(), events.last()), (20, Some(&"[DONE]")), "{answer:?}");
    let events: Vec<Value> =
        events[..19].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert_eq!(
        (&events[18]["usage"], &events[18]["choices"]),
        (&usage(3, 18), &Value::Array(Vec::new()))
    );
    let ends =
        events.iter().filter(|event| event["choices"][0]["finish_reason"] == "length").count();
    assert_eq!(ends, 2);
    assert!(events[..18].iter().all(|event| event.get("usage").is_none()));

    let body = r#"{"model":"org/model","messages":[{"role":"user","content":"hi"}],"max_tokens":4,"stream":true}"#;
    let answer = vllm.post("/v1/chat/completions", body);
    let events = answer.events();
    assert_eq!((events.len(), events[5]), (6, "[DONE]"), "{answer:?}");
    let first: Value = serde_json::from_str(events[0]).unwrap();
    assert_eq!(
        (&first["object"], &first["choices"][0]["delta"]["role"]),
        (&"chat.completion.chunk".into(), &"assistant".into())
    );
    let whole = vllm
        .post("/v1/chat/completions", &body.replace("\"stream\":true", "\"stream\":false"))
        .json();
    let said: String = events[..5]
        .iter()
        .map(|event| {
            serde_json::from_str::<Value>(event).unwrap()["choices"][0]["delta"]["content"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        whole["choices"][0]["message"]["content"], said,
        "streamed or whole, the words are the same"
    );
}

#[test]
fn errors_are_those_of_openai() {
    let vllm = Vllm::ready(&[]);
    for (body, status, word) in [
        (r#"{"model":"other","prompt":"p"}"#.to_owned(), 404, "`other`"),
        ("{not json".to_owned(), 400, "cannot understand"),
        (
            format!(r#"{{"model":"org/model","prompt":"{}"}}"#, "word ".repeat(3000)),
            400,
            "maximum context length is 2048",
        ),
    ] {
        let answer = vllm.post("/v1/completions", &body);
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["code"]), (status, &status.into()), "{answer:?}");
        assert!(error["message"].as_str().unwrap().contains(word), "{answer:?}");
    }
    assert_eq!(http::get(&vllm.address, "/none").unwrap().status, 404);
}

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
fn decoding_launches_graphs_and_the_driver_agrees_with_the_runtime() {
    let vllm = Vllm::ready(&[]);
    vllm.post(
        "/v1/completions",
        r#"{"model":"org/model","prompt":"one two three","max_tokens":50}"#,
    );
    let (runtime, driver) = vllm.stop();
    // The first token comes with the prompt, the others from a graph each.
    assert_eq!((runtime.of("cudaGraphLaunch"), driver.of("cuGraphLaunch")), (49, 49));
    assert_eq!(
        (runtime.of("cudaStreamBeginCapture"), driver.of("cuGraphInstantiateWithFlags")),
        (7, 7)
    );
    assert_agreement(&runtime, &driver);
}

#[test]
fn eager_decoding_launches_every_kernel() {
    let vllm = Vllm::ready(&["--enforce-eager"]);
    vllm.post(
        "/v1/completions",
        r#"{"model":"org/model","prompt":"one two three","max_tokens":50}"#,
    );
    let (runtime, driver) = vllm.stop();
    assert_eq!((runtime.of("cudaGraphLaunch"), driver.of("cuStreamBeginCapture_v2")), (0, 0));
    assert!(runtime.of("cudaLaunchKernel") > 50 * 100, "{runtime:?}");
    assert!(runtime.of("cudaGetDevice") > 50 * 1000, "{runtime:?}");
    assert_agreement(&runtime, &driver);
}

#[test]
fn workers_compute_for_their_engine_and_say_their_rank() {
    let mut vllm = Vllm::ready(&["--tensor-parallel-size", "2"]);
    let answer = vllm.post(
        "/v1/completions",
        r#"{"model":"org/model","prompt":"one two three","max_tokens":50}"#,
    );
    assert_eq!(answer.json()["usage"], usage(3, 50));
    let of_engine = format!("/proc/{0}/task/{0}/children", vllm.engine);
    let workers = fs::read_to_string(of_engine).unwrap();
    let mut titles: Vec<String> = workers
        .split_whitespace()
        .map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap())
        .collect();
    titles.sort();
    let titles: Vec<&str> = titles.iter().map(|title| title.trim_end_matches('\0')).collect();
    assert_eq!(titles, ["VLLM::Worker_TP0", "VLLM::Worker_TP1"]);
    terminate(&vllm.child);
    assert!(vllm.child.wait().unwrap().success());
    let counts = vllm.bench.counts();
    let launches: Vec<u64> =
        counts.iter().map(|counts| counts.of("cuGraphLaunch")).filter(|count| *count > 0).collect();
    assert_eq!(launches, [49, 49], "each computes every step");
    assert!(counts.iter().all(|counts| counts.pid != vllm.engine), "and the engine none");
}

fn assert_agreement(runtime: &Counts, driver: &Counts) {
    assert_eq!(runtime.of("cudaLaunchKernel"), driver.of("cuLaunchKernel"));
    assert_eq!(runtime.of("cudaGetDevice"), driver.of("cuCtxGetDevice_v2"));
    assert_eq!(runtime.of("cudaMalloc"), driver.of("cuMemAlloc_v2"));
    assert_eq!(runtime.of("cudaFree"), driver.of("cuMemFree_v2"));
    assert_eq!(runtime.of("cudaMalloc"), runtime.of("cudaFree"), "everything is freed");
    let copies = ["cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemcpyDtoDAsync_v2"];
    assert_eq!(
        runtime.of("cudaMemcpyAsync"),
        copies.iter().map(|name| driver.of(name)).sum::<u64>()
    );
    assert!(
        driver.of("cuLaunchKernelEx") > runtime.of("cudaLaunchKernelExC"),
        "Triton and cuBLAS launch directly"
    );
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
