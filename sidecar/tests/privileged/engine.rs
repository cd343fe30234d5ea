//! A vLLM server's processes have roles, and its engine goes through its stages, in time.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::process::CommandExt as _,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use testbed::libraries::Driver;
use trace::line::{Line, Meta, Process};

use crate::{
    harness::{Scene, standin_caller},
    http::{process, status_when},
};

/// Longer than an engine pauses while it loads.
const IDLE: Duration = Duration::from_millis(1500);

/// The stand-in for vLLM, killed when dropped.
struct Server {
    child: Child,
    /// The process that was started for the engine.
    engine: u32,
    address: String,
    /// `CLOCK_MONOTONIC` when it was started, and when it was ready.
    started_ns: u64,
    ready_ns: u64,
}

impl Server {
    fn ready(scene: &Scene, options: &[&str]) -> Self {
        let started_ns = now_ns();
        let mut command = scene.program(&standin_caller().with_file_name("standin-vllm"), &[]);
        command
            .arg0("python3")
            .args(["-m", "vllm.entrypoints.openai.api_server", "--port", "0", "--step-ms", "1"])
            .args(options);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut line_with = |text: &str| lines.find(|line| line.contains(text)).unwrap();
        let address = line_with("http://").rsplit_once("http://").unwrap().1.to_owned();
        let engine = line_with("engine process ").rsplit_once(' ').unwrap().1.parse().unwrap();
        line_with("startup complete");
        std::thread::spawn(move || lines.count());
        Self { child, engine, address, started_ns, ready_ns: now_ns() }
    }

    /// Generates tokens, each in a step of the engine.
    fn complete(&self, tokens: u32) {
        let body = format!("{{\"prompt\":\"a b c\",\"max_tokens\":{tokens},\"ignore_eos\":true}}");
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `stop`; the engine ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// Milliseconds since the start of the run.
fn since_start(scene: &Scene, at_ns: u64) -> f64 {
    at_ns.saturating_sub(scene.start_monotonic_ns()) as f64 / 1e6
}

/// Stage, what told it, and when; each once, however many segments say it.
fn stages(scene: &Scene, pid: u32) -> Vec<(String, String, f64)> {
    let mut stages = Vec::new();
    for line in scene.lines() {
        if let Line::Meta(line) = line
            && let Meta::Stage(stage) = line.meta
            && line.pid == pid
        {
            let stage = (stage.stage, stage.stage_by, line.ts);
            if !stages.contains(&stage) {
                stages.push(stage);
            }
        }
    }
    stages
}

fn names(stages: &[(String, String, f64)]) -> Vec<(&str, &str)> {
    stages.iter().map(|(stage, by, _)| (stage.as_str(), by.as_str())).collect()
}

/// What the process lines say last.
fn last_line(scene: &Scene, pid: u32) -> Process {
    let lines = scene.process_lines();
    let line = lines.into_iter().rfind(|(other, _)| *other == pid);
    line.unwrap_or_else(|| panic!("no line of {pid}")).1
}

fn role(process: &Process) -> (Option<&str>, Option<&str>) {
    (process.role.as_deref(), process.role_by.as_deref())
}

#[test]
fn a_server_with_graphs_loads_warms_up_and_serves() {
    let scene = Scene::new(Driver::R580);
    let mut sidecar = scene.sidecar(&[("TRACE_INTERVAL", "0.2")]);
    let address = sidecar.address();
    let server = Server::ready(&scene, &[]);
    let (pid, engine) = (server.child.id(), server.engine);
    std::thread::sleep(IDLE);
    let asked_ns = now_ns();
    server.complete(40);
    let answered_ns = now_ns();
    let status = status_when(&address, "it serves", |status| {
        let caller = status.processes.iter().map(|process| &process.caller);
        caller.filter(|caller| caller.stage.as_deref() == Some("serve")).count() == 1
    });
    let caller = &process(&status, engine).caller;
    assert_eq!(caller.role.as_deref(), Some("engine_core"));
    assert_eq!(caller.stage.as_deref(), Some("serve"));
    let caller = &process(&status, pid).caller;
    assert_eq!((caller.role.as_deref(), &caller.stage), (Some("api_server"), &None));
    let (started_ns, ready_ns) = (server.started_ns, server.ready_ns);
    server.stop();
    sidecar.stop();
    scene.whole_report();

    assert_eq!(role(&last_line(&scene, pid)), (Some("api_server"), Some("command")));
    assert_eq!(stages(&scene, pid), [], "it launches nothing");
    assert_eq!(role(&last_line(&scene, engine)), (Some("engine_core"), Some("title")));
    let stages = stages(&scene, engine);
    let expected = [("load", "init"), ("warm_up", "capture"), ("serve", "idle")];
    assert_eq!(names(&stages), expected);
    let moments = [started_ns, ready_ns, asked_ns, answered_ns].map(|at| since_start(&scene, at));
    let [started, ready, asked, answered] = moments;
    let [load, warm_up, serve] = [0, 1, 2].map(|index| stages[index].2);
    assert!(started < load && load < warm_up && warm_up < ready, "{stages:?} {moments:?}");
    assert!(asked < serve && serve < answered, "{stages:?} {moments:?}");

    // The same moments by the calls: the first of their kind.
    let calls = scene.calls();
    let first = |name: &str, after: f64| {
        let found = calls.iter().filter(|call| call.pid == engine && call.ts >= after);
        found.filter(|call| call.func.starts_with(name)).map(|call| call.ts).reduce(f64::min)
    };
    assert_eq!(first("cuInit", 0.0), Some(load));
    assert_eq!(first("cuStreamBeginCapture", 0.0), Some(warm_up));
    assert_eq!(first("cuLaunchKernel", asked), Some(serve));
}

/// Each file with calls of the engine also has its role and its stage.
#[test]
fn every_segment_stands_alone() {
    let scene = Scene::new(Driver::R580);
    let sidecar = scene.sidecar(&[("TRACE_SEGMENT_SIZE", "64Ki")]);
    let server = Server::ready(&scene, &[]);
    let engine = server.engine;
    server.complete(100);
    server.stop();
    sidecar.stop();
    scene.whole_report();
    let mut told = BTreeSet::new();
    for segment in scene.segments() {
        let (mut has_role, mut stage) = (false, None);
        for line in trace::reader::Reader::open(&segment).unwrap() {
            match line.unwrap() {
                Line::Meta(line) if line.pid == engine => match line.meta {
                    Meta::Process(process) => has_role |= process.role.is_some(),
                    Meta::Stage(line) => stage = Some(line.stage),
                    _ => {}
                },
                // Before it takes memory it may be anything.
                Line::Call(call) if call.pid == engine && call.func.contains("Launch") => {
                    assert!(has_role && stage.is_some(), "{call:?} in {}", segment.display());
                    told.insert(stage.clone().unwrap());
                }
                _ => {}
            }
        }
    }
    // Without a pause before its first request, the steps tell.
    assert_eq!(told.into_iter().collect::<Vec<_>>(), ["load", "serve", "warm_up"]);
}

#[test]
fn an_eager_server_loads_and_serves() {
    let scene = Scene::new(Driver::R550);
    let sidecar = scene.sidecar(&[("TRACE_DETAIL", "entry")]);
    let server = Server::ready(&scene, &["--enforce-eager"]);
    let (engine, ready_ns) = (server.engine, server.ready_ns);
    std::thread::sleep(IDLE);
    let asked_ns = now_ns();
    server.complete(3);
    server.stop();
    sidecar.stop();
    scene.whole_report();
    let stages = stages(&scene, engine);
    assert_eq!(names(&stages), [("load", "init"), ("serve", "idle")]);
    assert!(stages[0].2 < since_start(&scene, ready_ns), "{stages:?}");
    assert!(stages[1].2 > since_start(&scene, asked_ns), "{stages:?}");
}

#[test]
fn of_a_server_that_was_met_late_the_steps_tell() {
    let scene = Scene::new(Driver::R580);
    let server = Server::ready(&scene, &["--enforce-eager"]);
    let engine = server.engine;
    let sidecar = scene.sidecar(&[]);
    server.complete(3);
    std::thread::sleep(IDLE);
    let asked_ns = now_ns();
    server.complete(60);
    server.stop();
    sidecar.stop();
    scene.whole_report();
    assert_eq!(role(&last_line(&scene, engine)), (Some("engine_core"), Some("title")));
    let stages = stages(&scene, engine);
    assert_eq!(names(&stages), [("serve", "steps")]);
    assert!(stages[0].2 > since_start(&scene, asked_ns), "three steps tell nothing: {stages:?}");
}

#[test]
fn workers_have_their_ranks_and_stages_and_their_engine_core_has_none() {
    let scene = Scene::new(Driver::R580);
    let sidecar = scene.sidecar(&[]);
    let server = Server::ready(&scene, &["--tensor-parallel-size", "2"]);
    let engine = server.engine;
    std::thread::sleep(IDLE);
    server.complete(3);
    server.stop();
    sidecar.stop();
    scene.whole_report();
    let lines = scene.process_lines();
    assert!(lines.iter().all(|(pid, _)| *pid != engine), "it calls nothing");
    let workers: BTreeSet<u32> =
        lines.iter().filter(|(_, line)| line.parent == Some(engine)).map(|(pid, _)| *pid).collect();
    let mut ranks = BTreeSet::new();
    for worker in &workers {
        let line = last_line(&scene, *worker);
        assert_eq!(role(&line), (Some("worker"), Some("title")));
        ranks.insert(line.ranks);
        let stages = stages(&scene, *worker);
        assert_eq!(names(&stages), [("load", "init"), ("warm_up", "capture"), ("serve", "idle")]);
        // The title with the rank comes after the first call, and begins nothing anew.
        let init = scene.calls().into_iter().find(|call| call.pid == *worker).unwrap();
        assert_eq!((init.func.as_str(), init.ts), ("cuInit", stages[0].2));
    }
    let rank = |rank| [("tp".to_owned(), rank)].into();
    assert_eq!(ranks, BTreeSet::from([rank(0), rank(1)]));
}
