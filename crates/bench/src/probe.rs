//! `cargo xtask bench probe`: nanoseconds that one traced call costs the caller.

mod recorded;
mod results;
mod tracer;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use xshell::cmd;

use super::place::{self, Calls, Place, Work};
use tasks::{background::Interrupt, ctx::Ctx};

pub(super) use recorded::Recorded;
use results::{Results, Row, Sample};
use tracer::Tracer;

/// Compare the caller's time per call: no probe, empty programs, our events, bpftrace
///
/// For both kinds of driver prologue, of a call without arguments and of a launch, whose arguments
/// are copied. All tracers take turns in each round; a round counts only if the tracer recorded its
/// calls. Tables of medians, and whether the goals are met; all samples go to
/// target/bench/probe.json. It takes about two minutes.
#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// Rounds over all tracers
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Length of one measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 0.8)]
    seconds: f64,

    /// Print the results as JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Call {
    /// Cheap by itself, without arguments, and in the default set.
    Bare,
    /// Registers and stack are copied.
    Launch,
}

impl Call {
    const ALL: [Self; 2] = [Self::Bare, Self::Launch];

    fn function(self) -> &'static str {
        self.functions()[0]
    }

    /// The one that it calls.
    fn functions(self) -> &'static [&'static str; 1] {
        match self {
            Self::Bare => &["cuCtxSynchronize"],
            Self::Launch => &["cuLaunchKernel"],
        }
    }

    /// Arguments matter to whoever copies them.
    fn tracers(self) -> &'static [Tracer] {
        match self {
            Self::Bare => &Tracer::ALL,
            Self::Launch => &[Tracer::None, Tracer::TwoEmpty, Tracer::Call],
        }
    }

    fn work(self, seconds: f64) -> Work<'static> {
        Work { functions: self.functions(), valid: self == Self::Launch, seconds, threads: 1 }
    }
}

pub(crate) fn run(ctx: &Ctx, task: &Probe) -> Result<()> {
    let interrupt = Interrupt::watch()?;
    ctx.step("build", || place::build(ctx))?;
    let has_bpftrace = cmd!(ctx.sh, "bpftrace --version").quiet().ignore_stderr().read().is_ok();
    if !has_bpftrace {
        eprintln!("bpftrace is not installed (Debian: apt-get install bpftrace): left out");
    }
    let mut rows = Vec::new();
    for driver in ["r550", "r580"] {
        let place = Place::create(&ctx.sh, "probe", driver)?;
        for call in Call::ALL {
            let name = format!("driver {driver}, {}", call.function());
            let samples =
                ctx.step(&name, || measure(&place, call, task, has_bpftrace, &interrupt))?;
            rows.push(Row::new(driver, call.function(), samples));
        }
        place.clear()?;
    }
    let results = Results::new(task.rounds, task.seconds, rows);
    let path = place::write_results("probe", &results)?;
    if task.json {
        println!("{}", serde_json::to_string_pretty(&results)?);
    } else {
        println!("\n{}\n{}", results.text(), path.display());
    }
    Ok(())
}

fn measure(
    place: &Place,
    call: Call,
    task: &Probe,
    has_bpftrace: bool,
    interrupt: &Interrupt,
) -> Result<Vec<Sample>> {
    let tracers = call.tracers().iter().filter(|tracer| has_bpftrace || !tracer.is_bpftrace());
    let work = call.work(task.seconds);
    let mut samples = Vec::new();
    for round in 1..=task.rounds {
        for &tracer in tracers.clone() {
            interrupt.check()?;
            let running = tracer.start(place, call, interrupt)?;
            let Calls { ns_per_call, made: calls, .. } = place.call(work)?;
            let lost = running.stop(place, calls)?;
            eprintln!("round {round}  {}: {ns_per_call:.0} ns per call", tracer.title());
            samples.push(Sample { tracer, ns_per_call, calls, lost });
        }
    }
    Ok(samples)
}
