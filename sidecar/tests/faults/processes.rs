//! What traced programs do: each must do the same, print the same and end the same as without a tracer.

use std::{process::Command, thread, time::Duration};

use testbed::contexts;

use crate::{
    case::{Case, Ended, Outcome, Random, Size},
    load::Load,
    proof::{Allowed, prove},
    stage::Stage,
    target::{run_alone, run_traced},
};

macro_rules! context {
    ($name:literal, $about:literal, $context:literal, $times:expr) => {
        Case { name: $name, about: $about, run: |size| same(size, $context, $times) }
    };
}

pub(crate) const CASES: &[Case] = &[
    Case { name: "process-killed", about: "targets are killed amid their calls", run: killed },
    Case {
        name: "process-fork-exec",
        about: "targets fork, and execute themselves again",
        run: fork_exec,
    },
    context!("process-forked", "children of fork that call and end", "forked", (200, 50)),
    context!("process-vforked", "children of vfork that execute", "vforked", (100, 20)),
    context!("process-short-lived", "thousands of short-lived children", "forked", (3000, 300)),
    context!("process-signals", "calls on a signal stack, amid calls", "signals", (2000, 200)),
    context!("process-recursion", "calls that nest deeper than is kept", "recursion", (1000, 100)),
    context!("process-cancelled", "threads that are cancelled", "cancelled", (500, 50)),
    context!("process-coroutines", "calls from coroutines", "coroutines", (2000, 200)),
    Case {
        name: "process-coroutines-within",
        about: "another coroutine takes over amid a call, with TRACE_DETAIL=entry",
        run: coroutines_within,
    },
];

/// No return probe bears another stack amid a call; docs/security.md names the setting that avoids it.
fn coroutines_within(size: Size) -> Ended {
    same_with(size, "coroutines-within", (2000, 200), &[("TRACE_DETAIL", "entry")])
}

/// `times` in full and in short.
fn same(size: Size, context: &str, times: (u64, u64)) -> Ended {
    same_with(size, context, times, &[])
}

fn same_with(
    size: Size,
    context: &str,
    (full, short): (u64, u64),
    variables: &[(&'static str, &str)],
) -> Ended {
    let mut stage = Stage::new();
    for (variable, value) in variables {
        stage.set(variable, value);
    }
    let program = contexts::install(&stage.scene.libraries()).unwrap();
    let times = size.of(full, short);
    let number = times.to_string();
    let command = stage.scene.program(&program, &[context, &number]);
    compared(&mut stage, times, &[(context, command)])
}

fn fork_exec(size: Size) -> Ended {
    let mut stage = Stage::new();
    let calls = size.of(20_000, 2000).to_string();
    let ways = ["--fork", "--exec", "--threads=8"];
    let commands = ways.map(|way| {
        let arguments = ["--function", "cuCtxSynchronize", "--calls", &calls, way];
        (way, stage.scene.caller(&arguments))
    });
    compared(&mut stage, 3, &commands)
}

/// Each program without a tracer and with one; `times` tells how often that was a fault.
fn compared(stage: &mut Stage, times: u64, commands: &[(&str, Command)]) -> Ended {
    let mut outcome = Outcome { injected: times, survived: times, ..Outcome::default() };
    let expected: Vec<_> = commands
        .iter()
        .map(|(name, command)| run_alone(&stage.scene, &format!("{name}-alone"), copy(command)))
        .collect();
    let sidecar = stage.start();
    for ((name, command), expected) in commands.iter().zip(&expected) {
        let seen = run_traced(stage, name, copy(command));
        if seen != *expected {
            outcome.survived = 0;
            outcome.problems.push(format!("{name}: alone {expected:?}, traced {seen:?}"));
        }
    }
    stage.stop_well(sidecar, &mut outcome.problems);
    prove(stage, Allowed::default(), outcome)
}

fn copy(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    copy.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    copy
}

fn killed(size: Size) -> Ended {
    let mut stage = Stage::new();
    let mut random = Random::new(size.seed);
    let mut outcome = Outcome::default();
    let sidecar = stage.start();
    for _ in 0..size.of(50, 10) {
        let load = Load::start(&stage, 20_000);
        thread::sleep(Duration::from_millis(random.below(150)));
        load.kill();
        outcome.injected += 1;
        outcome.survived += u64::from(crate::stage::is_running(sidecar.pid()));
    }
    stage.stop_well(sidecar, &mut outcome.problems);
    prove(&stage, Allowed { uncounted_calls: true, ..Allowed::default() }, outcome)
}
