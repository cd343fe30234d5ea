//! The processes of a vLLM server have their roles in the trace, in each segment and in the status.

mod server;

use std::collections::BTreeSet;

use server::Server;
use testbed::libraries::Driver;
use trace::{
    line::{Line, Meta, Process},
    reader::Reader,
};

use crate::{
    harness::Scene,
    http::{process, status_when},
};

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
fn a_server_and_its_engine_have_roles() {
    let scene = Scene::new(Driver::R580);
    let mut sidecar = scene.sidecar(&[("TRACE_INTERVAL", "0.2")]);
    let address = sidecar.address();
    let server = Server::ready(&scene, &[]);
    let (pid, engine) = (server.child.id(), server.engine);
    server.complete(40);
    let status = status_when(&address, "the engine has its role", |status| {
        let mut callers = status.processes.iter().map(|process| &process.caller);
        callers.any(|caller| caller.pid == engine && caller.role.is_some())
    });
    let role_in_status = |pid| process(&status, pid).caller.role.as_deref();
    assert_eq!(role_in_status(engine), Some("engine_core"));
    assert_eq!(role_in_status(pid), Some("api_server"));
    server.stop();
    sidecar.stop();
    scene.whole_report();
    assert_eq!(role(&last_line(&scene, pid)), (Some("api_server"), Some("command")));
    assert_eq!(role(&last_line(&scene, engine)), (Some("engine_core"), Some("title")));
}

/// Each file with launches of the engine also has its role.
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
    let segments = scene.segments();
    assert!(segments.len() > 1);
    let mut with_launches = 0;
    for segment in segments {
        let (mut has_role, mut has_launch) = (false, false);
        for line in Reader::open(&segment).unwrap() {
            match line.unwrap() {
                Line::Meta(line) if line.pid == engine => match line.meta {
                    Meta::Process(process) => has_role |= process.role.is_some(),
                    Meta::Stage(stage) => panic!("{stage:?} in {}", segment.display()),
                    _ => {}
                },
                Line::Call(call) if call.pid == engine && call.func.contains("Launch") => {
                    assert!(has_role, "{call:?} in {}", segment.display());
                    has_launch = true;
                }
                _ => {}
            }
        }
        with_launches += u32::from(has_launch);
    }
    assert!(with_launches > 1);
}

#[test]
fn a_server_that_was_met_late_has_its_role() {
    let scene = Scene::new(Driver::R580);
    let server = Server::ready(&scene, &["--enforce-eager"]);
    let engine = server.engine;
    let sidecar = scene.sidecar(&[]);
    server.complete(3);
    server.stop();
    sidecar.stop();
    scene.whole_report();
    assert_eq!(role(&last_line(&scene, engine)), (Some("engine_core"), Some("title")));
}

#[test]
fn workers_have_their_ranks_and_their_engine_core_calls_nothing() {
    let scene = Scene::new(Driver::R580);
    let sidecar = scene.sidecar(&[]);
    let server = Server::ready(&scene, &["--tensor-parallel-size", "2"]);
    let engine = server.engine;
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
    }
    let rank = |rank| [("tp".to_owned(), rank)].into();
    assert_eq!(ranks, BTreeSet::from([rank(0), rank(1)]));
}
