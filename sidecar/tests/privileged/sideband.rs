//! What the kernel tells of processes bears the time at which it happened.

use std::{
    io::{Read as _, Write as _},
    ops::Range,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use sidecar::sideband::{ProcessEvent, Sideband};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_fork_an_exec_and_an_exit_are_told_with_the_monotonic_time_of_each() {
    let mut sideband = Sideband::open().unwrap();
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
    let deadline = Instant::now() + PATIENCE;
    while !expected.is_empty() {
        assert!(Instant::now() < deadline, "never told: {expected:?}");
        let mut events = Vec::new();
        sideband.wait(Duration::from_millis(100), &mut events).unwrap();
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

/// `CLOCK_MONOTONIC`.
fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(Duration::try_from(time).unwrap().as_nanos()).unwrap()
}
