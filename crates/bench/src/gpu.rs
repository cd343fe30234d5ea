//! `cargo xtask bench gpu`: what tracing costs a real vLLM, and that the trace holds all it did.

mod load;
mod pack;
mod proof;
mod report;
mod server;
mod tracer;
mod usage;
mod written;

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tasks::{
    background::Interrupt,
    command::is_on_path,
    ctx::{Ctx, target_directory},
};

use crate::sidecar::Detail;
use load::Load;
use pack::EMPTY_PROBE;
use proof::proof;
use report::{Report, Sample, comparisons, to_markdown, untraced};
use server::Server;
use tracer::{Place, Tracer, start_sidecar};
use usage::{engine, processor_seconds};

/// Loads before anything is measured.
const WARM_UPS: u32 = 2;

/// What is asked before each measurement, so that a tracer's start is over.
const SETTLING_REQUESTS: u32 = 16;
const SETTLING_TOKENS: u32 = 8;

/// Segments of the proof hold so many seconds: small enough to look at one.
const PROOF_INTERVAL: f64 = 2.0;

/// Load vLLM on this machine's GPU with and without tracers by turns, and compare
///
/// vLLM is started under the sidecar, and the trace from its start on must be whole, with as many
/// launches by the runtime as by the driver, less those that were made directly. Then vLLM is
/// loaded in rounds, each with every tracer and with none, in changing order; what is compared is
/// the ratio within a round: its median, and the interval that encloses that with 95 %.
///
/// Needs root, an NVIDIA GPU, vLLM, and bpftrace if that is compared. `--pack DIR` collects this
/// project's programs for a machine without Rust; the README there says how to go on.
#[derive(Debug, Args)]
pub(crate) struct Gpu {
    /// Shell command that runs vLLM's OpenAI server in the foreground
    #[arg(long, value_name = "COMMAND", required_unless_present = "pack")]
    serve: Option<String>,

    /// Where that server listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    address: SocketAddr,

    /// Rounds: each gives one pair for every tracer
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,

    /// Tracers to compare with none
    #[arg(long, value_delimiter = ',', default_value = "call,bpftrace")]
    tracers: Vec<Tracer>,

    /// Requests of one load
    #[arg(long, default_value_t = 192, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,

    /// Requests in flight
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,

    /// Tokens that each request asks for
    #[arg(long, value_name = "TOKENS", default_value_t = 128)]
    output_tokens: u32,

    /// Directory that --pack has filled; without it the programs are built
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// bpftrace, for the tracer of that name
    #[arg(long, value_name = "PROGRAM", default_value = "bpftrace")]
    bpftrace: PathBuf,

    /// Results go to bench/NAME.json and NAME.md in the target directory, the trace beside them
    #[arg(long, value_name = "NAME", default_value = "gpu")]
    name: String,

    /// Results go here instead
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Only build, and collect what another machine needs
    #[arg(long, value_name = "DIR", exclusive = true)]
    pack: Option<PathBuf>,
}

pub(crate) fn run(ctx: &Ctx, task: &Gpu) -> Result<()> {
    if let Some(directory) = &task.pack {
        return pack::run(ctx, directory);
    }
    ensure!(rustix::process::geteuid().is_root(), "tracing needs root: put sudo in front");
    let interrupt = Interrupt::watch()?;
    let programs = match &task.programs {
        Some(programs) => programs.clone(),
        None => ctx.step("build", || pack::build(ctx))?,
    };
    let out = task.out.clone().unwrap_or_else(|| target_directory().join("bench"));
    let scratch = out.join(&task.name);
    let place = Place {
        sidecar: programs.join("ebpf-cuda-tracer"),
        empty_probe: programs.join(EMPTY_PROBE),
        bpftrace: task.bpftrace.clone(),
        traces: scratch.join("proof"),
        logs: scratch.clone(),
    };
    for tracer in &task.tracers {
        if let Some(program) = tracer.program(&place) {
            ensure!(
                program.is_file() || is_on_path(&program.to_string_lossy()),
                "{} is missing: --tracers asks for it, --programs and --bpftrace say where it is",
                program.display()
            );
        }
    }
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let mut load = Load {
        program: programs.join("loadtest"),
        address: task.address,
        workers: task.workers,
        directory: load::directory(&scratch)?,
        sent: 0,
    };

    let sidecar = start_sidecar(&place, Detail::Call, PROOF_INTERVAL, &interrupt)?;
    let serve = task.serve.as_deref().context("--serve is missing")?;
    let server = ctx.step("start vLLM under the sidecar", || {
        Server::start(serve, task.address, scratch.join("vllm.log"), &interrupt)
    })?;
    let proof = ctx.step("prove the trace from its start on", || {
        load.run(SETTLING_REQUESTS, task.output_tokens)?;
        sidecar.stop()?;
        proof(&place.traces)
    })?;
    eprintln!("{}", proof.to_text());

    let place = Place { traces: scratch.join("traces"), ..place };
    let mut samples = Vec::new();
    let measured =
        ctx.step("compare", || measure(task, &place, &mut load, &interrupt, &mut samples));
    server.stop();
    let report = Report {
        name: task.name.clone(),
        serve: serve.to_owned(),
        machine: machine(),
        requests: task.requests,
        workers: task.workers,
        output_tokens: task.output_tokens,
        proof,
        untraced: untraced(&samples),
        comparisons: comparisons(&samples),
        samples,
    };
    let markdown = to_markdown(&report);
    for (extension, text) in
        [("json", serde_json::to_string_pretty(&report)?), ("md", markdown.clone())]
    {
        let path = out.join(format!("{}.{extension}", task.name));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{markdown}");
    // What was measured before it failed is told all the same.
    measured
}

/// The order within a round changes from round to round, so that a drift of the machine hits all
/// tracers alike.
fn order(tracers: &[Tracer], round: u32) -> Vec<Tracer> {
    let mut order = vec![Tracer::None];
    order.extend(tracers.iter().filter(|tracer| **tracer != Tracer::None));
    let turns = round as usize / 2 % order.len();
    order.rotate_left(turns);
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

fn measure(
    task: &Gpu,
    place: &Place,
    load: &mut Load,
    interrupt: &Interrupt,
    samples: &mut Vec<Sample>,
) -> Result<()> {
    for _ in 0..WARM_UPS {
        load.run(task.requests, task.output_tokens)?;
    }
    let engine = engine()?;
    for round in 1..=task.pairs {
        for tracer in order(&task.tracers, round) {
            interrupt.check()?;
            let running = tracer.start(place, engine[0], interrupt)?;
            let mut settle = || load.run(SETTLING_REQUESTS, SETTLING_TOKENS).map(drop);
            let before = if let Some(running) = &running {
                Some(running.until_at_work(settle, interrupt)?)
            } else {
                settle()?;
                None
            };
            let engine_before = processor_seconds(&engine)?;
            let figures = load.run(task.requests, task.output_tokens)?;
            let engine_processor_seconds = processor_seconds(&engine)? - engine_before;
            let mut sample = Sample {
                round,
                tracer,
                figures,
                engine_processor_seconds,
                tracer_processor_seconds: 0.0,
                events: 0,
                bytes: 0,
                lost: 0,
            };
            if let Some((running, before)) = running.zip(before) {
                let after = running.took(interrupt)?;
                sample.tracer_processor_seconds =
                    after.processor_seconds - before.processor_seconds;
                sample.events = after.lines - before.lines;
                sample.bytes = after.bytes - before.bytes;
                running.stop()?;
                sample.lost = tracer.lost(place)?;
            }
            eprintln!(
                "round {round:>2}  {tracer:?}: {:.0} tokens/s, {} events, {} lost",
                figures.tokens_per_second, sample.events, sample.lost
            );
            samples.push(sample);
        }
    }
    Ok(())
}

/// Driver, kernel and processors.
fn machine() -> Vec<String> {
    let first_line = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().next().unwrap_or_default().to_owned()
    };
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    vec![
        first_line("/proc/driver/nvidia/version"),
        format!("Linux {}", first_line("/proc/sys/kernel/osrelease")),
        format!("{processors} processors"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tracer_comes_first_and_last_in_some_round() {
        let tracers = [Tracer::Call, Tracer::Bpftrace];
        let orders: Vec<Vec<Tracer>> = (1..=6).map(|round| order(&tracers, round)).collect();
        for tracer in [Tracer::None, Tracer::Call, Tracer::Bpftrace] {
            assert!(orders.iter().any(|order| order.first() == Some(&tracer)), "{tracer:?}");
            assert!(orders.iter().any(|order| order.last() == Some(&tracer)), "{tracer:?}");
            assert!(orders.iter().all(|order| order.len() == 3 && order.contains(&tracer)));
        }
    }
}
