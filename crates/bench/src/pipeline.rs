//! `cargo xtask bench pipeline`: callers as fast as they can, from the probe to lines on disk: does
//! the sidecar keep up, and at what cost?

mod proof;
mod results;
mod usage;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use trace::segments::segments;

use super::{
    place::{self, Calls, Place, Work, bytes},
    sidecar::{self, Detail, RING_BUFFER_BYTES, WRITTEN},
};
use tasks::{background::Interrupt, ctx::Ctx};

use proof::Proof;
use results::Results;
use usage::Usage;

/// Callers as fast as they can: events per second, drops, the sidecar's processor time and memory
///
/// One, two and four threads in turn, a minute each. After each of these rounds the trace is read
/// and must be whole, and the hits of each function must be the calls that the library itself
/// counted: if not, the task fails. All results go to target/bench/pipeline.json. A minute at full
/// speed leaves up to 15 GB in target/bench, which are removed before the next one; to read them
/// takes a few minutes more.
#[derive(Debug, Args)]
pub(crate) struct Pipeline {
    /// Length of each round
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// Calling threads of each round
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', default_values_t = [1, 2, 4],
          value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: Vec<u32>,

    /// What is called
    #[arg(long, value_enum, default_value_t = Calling::Mix)]
    calls: Calling,

    /// TRACE_DETAIL of the sidecar
    #[arg(long, value_enum, default_value_t = Detail::Call)]
    detail: Detail,

    /// Print the results as JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Calling {
    /// Launches of both libraries, copies, a graph and synchronisations
    Mix,
    /// The cheapest call alone, without arguments
    Bare,
}

impl Calling {
    /// Called in turn. The mix is that of inference without much batching: mostly launches of the
    /// runtime, each of which calls the driver, a few of the driver alone, as Triton makes them.
    fn functions(self) -> &'static [&'static str] {
        match self {
            Self::Mix => &[
                "cudaMemcpyAsync",
                "cudaLaunchKernel",
                "cudaLaunchKernel",
                "cudaLaunchKernel",
                "cuLaunchKernelEx",
                "cudaLaunchKernel",
                "cudaLaunchKernel",
                "cudaLaunchKernelExC",
                "cuLaunchKernelEx",
                "cudaLaunchKernel",
                "cudaGraphLaunch",
                "cuMemcpyDtoHAsync_v2",
                "cudaStreamSynchronize",
            ],
            Self::Bare => &["cuCtxSynchronize"],
        }
    }
}

/// So many threads for so long.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Round {
    threads: u32,
    seconds: f64,
    /// Calls of both libraries that the kernel counted.
    events: u64,
    dropped: u64,
    events_per_second: f64,
    /// The sidecar's own processor time per line, from the ring buffer to lines on disk.
    cpu_us_per_line: f64,
    /// The sidecar's largest resident size, of which the ring buffer is a part.
    resident_mib: f64,
    bytes_per_line: f64,
}

pub(crate) fn run(ctx: &Ctx, task: &Pipeline) -> Result<()> {
    let interrupt = Interrupt::watch()?;
    ctx.step("build", || place::build(ctx))?;
    let place = Place::create(&ctx.sh, "pipeline", "r550")?;
    let mut rounds = Vec::new();
    for &threads in &task.threads {
        let name = format!("{threads} calling threads for {} s", task.seconds);
        rounds.push(ctx.step(&name, || measure(&place, task, threads, &interrupt))?);
        // Gigabytes, of no use any more; those of a round that failed stay, to be looked at.
        place.clear()?;
    }
    let results = Results::new(task, rounds);
    let path = place::write_results("pipeline", &results)?;
    if task.json {
        println!("{}", serde_json::to_string_pretty(&results)?);
    } else {
        println!("\n{}\n{}", results.text(), path.display());
    }
    Ok(())
}

fn measure(place: &Place, task: &Pipeline, threads: u32, interrupt: &Interrupt) -> Result<Round> {
    place.clear()?;
    let sidecar = sidecar::start(place, task.detail, interrupt)?;
    let before = Usage::of(sidecar.pid())?;
    let work = Work {
        functions: task.calls.functions(),
        valid: true,
        seconds: f64::from(task.seconds),
        threads,
    };
    let Calls { made, seconds, .. } = place.call(work)?;
    interrupt.sleep(WRITTEN)?;
    let after = Usage::of(sidecar.pid())?;
    sidecar.stop(Duration::from_secs(60))?;
    let files = segments(&place.traces())?;
    let bytes = bytes(&files);
    eprintln!("{made} calls made; reading {} MiB of trace", bytes >> 20);
    let Proof { events, lines, dropped } = Proof::of(&files, &place.counts())?;
    ensure!(events >= made, "{made} calls were made, but only {events} were counted");
    Ok(Round {
        threads,
        seconds,
        events,
        dropped,
        events_per_second: events as f64 / seconds,
        cpu_us_per_line: (after.cpu_seconds - before.cpu_seconds) * 1e6 / lines as f64,
        resident_mib: after.resident_mib,
        bytes_per_line: bytes as f64 / lines as f64,
    })
}
