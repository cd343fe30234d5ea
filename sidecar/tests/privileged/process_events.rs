//! What the kernel tells of processes bears the time at which it happened.

use std::{
    io::{Read as _, Write as _},
    ops::Range,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use sidecar::probing::process_events::{ProcessEvent, ProcessEvents};

const TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn a_fork_an_exec_and_an_exit_are_told_with_the_monotonic_time_of_each() {
    let mut process_events = ProcessEvents::open().unwrap();
    let before_start = monotonic_ns();
    let mut child =
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    stdin.write_all(b"x").unwrap();
    // It answers, so it has been executed.
    stdout.read_exact(&mut [0]).unwrap();
    let running = monotonic_ns();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    let after_end = monotonic_ns();

    let start = before_start..running;
    let mut expected: Vec<(&str, Range<u64>)> =
        vec![("forked", start.clone()), ("executed", start), ("exited", running..after_end)];
    let deadline = Instant::now() + TIMEOUT;
    while !expected.is_empty() {
        assert!(Instant::now() < deadline, "never told: {expected:?}");
        let mut events = Vec::new();
        process_events.wait(Duration::from_millis(100), &mut events).unwrap();
        for event in events {
            let (pid, what, at_ns) = match event {
                ProcessEvent::Forked { pid, parent, at_ns } if parent == std::process::id() => {
                    (pid, "forked", at_ns)
                }
                ProcessEvent::Executed { pid, comm, is_replaced: true, at_ns } if comm == "cat" => {
                    (pid, "executed", at_ns)
                }
                ProcessEvent::Exited { pid, at_ns } => (pid, "exited", at_ns),
                _ => continue,
            };
            if pid == child.id() {
                let (next, range) = expected.remove(0);
                assert_eq!(what, next, "the order of events");
                assert!(range.contains(&at_ns), "{what} at {at_ns}, not in {range:?}");
            }
        }
    }
}

/// Brings the CPU back also when a test fails.
struct Offline(&'static str);

impl Drop for Offline {
    fn drop(&mut self) {
        std::fs::write(self.0, "1").unwrap();
    }
}

/// Takes a CPU of this machine away for a moment.
#[test]
fn a_cpu_that_was_offline_is_watched_again_and_everything_is_looked_at() {
    const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";
    let mut process_events = ProcessEvents::open().unwrap();
    if let Err(error) = std::fs::write(ONLINE, "0") {
        println!("left out: this machine has no second CPU that can be taken away: {error}");
        return;
    }
    // Away for less time than there is between two looks.
    drop(Offline(ONLINE));
    let mut events = Vec::new();
    let deadline = Instant::now() + TIMEOUT;
    while !events.contains(&ProcessEvent::Lost) {
        assert!(Instant::now() < deadline, "nobody has noticed");
        process_events.wait(Duration::from_millis(50), &mut events).unwrap();
    }
    let mut child = Command::new("taskset").args(["--cpu-list", "1", "true"]).spawn().unwrap();
    let pid = child.id();
    assert!(child.wait().unwrap().success());
    // The second program, which it executes on that CPU.
    let is_told = |event: &ProcessEvent| match event {
        ProcessEvent::Executed { pid: of, comm, is_replaced: true, .. } => {
            *of == pid && comm == "true"
        }
        _ => false,
    };
    while !events.iter().any(is_told) {
        assert!(Instant::now() < deadline, "it is not told: {events:?}");
        process_events.wait(Duration::from_millis(50), &mut events).unwrap();
    }
}

/// Its first thread ends at once, and another one when it is given a line.
const LEADERLESS: &str = r#"
#include <pthread.h>
#include <stdio.h>
static void *other(void *unused) { puts("runs"); fflush(stdout); getchar(); return unused; }
int main(void) {
    pthread_t thread;
    pthread_create(&thread, 0, other, 0);
    pthread_detach(thread);
    pthread_exit(0);
}
"#;

#[test]
fn a_process_has_ended_when_its_last_thread_has_and_not_with_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let (source, program) =
        (directory.path().join("source.c"), directory.path().join("leaderless"));
    std::fs::write(&source, LEADERLESS).unwrap();
    let built = Command::new("cc").args(["-pthread", "-o"]).args([&program, &source]).status();
    assert!(built.unwrap().success());
    let mut process_events = ProcessEvents::open().unwrap();
    let mut child =
        Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).unwrap();
    let is_zombie =
        || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z ");
    let deadline = Instant::now() + TIMEOUT;
    while !is_zombie() {
        assert!(Instant::now() < deadline, "the first thread does not end");
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut events = Vec::new();
    let mut ends = |process_events: &mut ProcessEvents| {
        events.clear();
        process_events.wait(Duration::from_millis(100), &mut events).unwrap();
        events.iter().find_map(|event| match event {
            ProcessEvent::Exited { pid: ended, at_ns } if *ended == pid => Some(*at_ns),
            _ => None,
        })
    };
    // Looks that are taken now and then are among these.
    let living_until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < living_until {
        assert_eq!(ends(&mut process_events), None, "another thread lives");
    }
    let before_end = monotonic_ns();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
    let after_end = monotonic_ns();
    let deadline = Instant::now() + TIMEOUT;
    let at_ns = loop {
        assert!(Instant::now() < deadline, "its end is never told");
        if let Some(at_ns) = ends(&mut process_events) {
            break at_ns;
        }
    };
    assert!((before_end..after_end).contains(&at_ns), "{at_ns}");
}

/// `CLOCK_MONOTONIC`.
fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(Duration::try_from(time).unwrap().as_nanos()).unwrap()
}
