//! A vLLM server's processes have roles, and its engine goes through its stages, in time.

mod server;

use std::{collections::BTreeSet, ops::ControlFlow, time::Duration};

use server::{Server, now_ns};
use testbed::libraries::Driver;
use trace::line::{Line, Meta, Process};

use crate::{
    harness::Scene,
    http::{process, status_when},
};

/// Who does nothing for so long and then launches may be serving.
const PAUSE: Duration = Duration::from_secs(1);

/// Longer than that.
const IDLE: Duration = Duration::from_millis(1500);

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

/// Starts over when the machine stalled while an engine loaded, which is a pause to whoever sees
/// only its calls. `test` returns before it judges if [`may_have_paused`] says so.
fn unless_it_stalls(test: impl Fn() -> ControlFlow<()>) {
    const TRIALS: u32 = 5;
    let is_judged = (0..TRIALS).any(|_| test().is_break());
    assert!(is_judged, "in {TRIALS} of {TRIALS} trials an engine took {PAUSE:?} to load");
}

/// Who loads in less than a pause has made none.
fn may_have_paused(scene: &Scene, pid: u32, ready_ns: u64) -> bool {
    let first = scene.calls().into_iter().find(|call| call.pid == pid).expect("it calls").ts;
    since_start(scene, ready_ns) - first >= PAUSE.as_secs_f64() * 1e3
}

#[test]
fn a_server_with_graphs_loads_warms_up_and_serves() {
    unless_it_stalls(|| {
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
        if may_have_paused(&scene, engine, ready_ns) {
            return ControlFlow::Continue(());
        }

        assert_eq!(role(&last_line(&scene, pid)), (Some("api_server"), Some("command")));
        assert_eq!(stages(&scene, pid), [], "it launches nothing");
        assert_eq!(role(&last_line(&scene, engine)), (Some("engine_core"), Some("title")));
        let stages = stages(&scene, engine);
        let expected = [("load", "init"), ("warm_up", "capture"), ("serve", "idle")];
        assert_eq!(names(&stages), expected);
        let moments =
            [started_ns, ready_ns, asked_ns, answered_ns].map(|at| since_start(&scene, at));
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
        ControlFlow::Break(())
    });
}

/// Each file with calls of the engine also has its role and its stage.
#[test]
fn every_segment_stands_alone() {
    unless_it_stalls(|| {
        let scene = Scene::new(Driver::R580);
        let sidecar = scene.sidecar(&[("TRACE_SEGMENT_SIZE", "64Ki")]);
        let server = Server::ready(&scene, &[]);
        let (engine, ready_ns) = (server.engine, server.ready_ns);
        server.complete(100);
        server.stop();
        sidecar.stop();
        scene.whole_report();
        if may_have_paused(&scene, engine, ready_ns) {
            return ControlFlow::Continue(());
        }
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
        ControlFlow::Break(())
    });
}

#[test]
fn an_eager_server_loads_and_serves() {
    unless_it_stalls(|| {
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
        if may_have_paused(&scene, engine, ready_ns) {
            return ControlFlow::Continue(());
        }
        let stages = stages(&scene, engine);
        assert_eq!(names(&stages), [("load", "init"), ("serve", "idle")]);
        assert!(stages[0].2 < since_start(&scene, ready_ns), "{stages:?}");
        assert!(stages[1].2 > since_start(&scene, asked_ns), "{stages:?}");
        ControlFlow::Break(())
    });
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
    unless_it_stalls(|| {
        let scene = Scene::new(Driver::R580);
        let sidecar = scene.sidecar(&[]);
        let server = Server::ready(&scene, &["--tensor-parallel-size", "2"]);
        let (engine, ready_ns) = (server.engine, server.ready_ns);
        std::thread::sleep(IDLE);
        server.complete(3);
        server.stop();
        sidecar.stop();
        scene.whole_report();
        let lines = scene.process_lines();
        assert!(lines.iter().all(|(pid, _)| *pid != engine), "it calls nothing");
        let workers: BTreeSet<u32> = lines
            .iter()
            .filter(|(_, line)| line.parent == Some(engine))
            .map(|(pid, _)| *pid)
            .collect();
        if workers.iter().any(|worker| may_have_paused(&scene, *worker, ready_ns)) {
            return ControlFlow::Continue(());
        }
        let mut ranks = BTreeSet::new();
        for worker in &workers {
            let line = last_line(&scene, *worker);
            assert_eq!(role(&line), (Some("worker"), Some("title")));
            ranks.insert(line.ranks);
            let stages = stages(&scene, *worker);
            assert_eq!(
                names(&stages),
                [("load", "init"), ("warm_up", "capture"), ("serve", "idle")]
            );
            // The title with the rank comes after the first call, and begins nothing anew.
            let init = scene.calls().into_iter().find(|call| call.pid == *worker).unwrap();
            assert_eq!((init.func.as_str(), init.ts), ("cuInit", stages[0].2));
        }
        let rank = |rank| [("tp".to_owned(), rank)].into();
        assert_eq!(ranks, BTreeSet::from([rank(0), rank(1)]));
        ControlFlow::Break(())
    });
}
