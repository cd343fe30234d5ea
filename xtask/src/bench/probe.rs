//! `cargo xtask bench probe`: nanoseconds that one traced call costs the caller, and what an event
//! costs the sidecar.

mod recorded;
mod sustained;
mod tracer;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::{Deserialize, Serialize};
use xshell::{Shell, cmd};

use crate::{
    background::Interrupt,
    ctx::{Ctx, as_from_shell, program_directory},
    doctor,
};
pub(super) use recorded::Recorded;
use sustained::Sustained;
use tracer::Tracer;

/// What is called: cheap by itself, and in the default set.
const FUNCTION: &str = "cuCtxSynchronize";

/// Compare the caller's time per call: no probe, an empty program, our event, bpftrace
///
/// Both kinds of driver prologue; the rounds alternate between the tracers, the table shows
/// medians. Then one thread calls as fast as it can while the sidecar records. JSON goes to
/// target/bench/probe.json.
#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// Rounds over all tracers
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Length of one measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,

    /// Length of the run at full speed; 0 leaves it out
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    sustained: u32,
}

/// One kind of prologue under every tracer.
#[derive(Debug, Serialize)]
struct Row {
    driver: &'static str,
    /// Median nanoseconds per call.
    none: f64,
    empty: f64,
    ours: f64,
    bpftrace: Option<f64>,
    samples: Vec<Sample>,
}

/// One measurement.
#[derive(Debug, Serialize)]
struct Sample {
    tracer: Tracer,
    ns_per_call: f64,
    calls: u64,
    /// Calls that the tracer says it has lost.
    lost: u64,
}

#[derive(Debug, Serialize)]
struct Results {
    function: &'static str,
    rows: Vec<Row>,
    sustained: Option<Sustained>,
}

pub(crate) fn run(ctx: &Ctx, task: &Probe) -> Result<()> {
    doctor::require_for_tracing(&ctx.sh)?;
    let interrupt = Interrupt::watch()?;
    ctx.step("build", || build(ctx))?;
    let has_bpftrace = cmd!(ctx.sh, "bpftrace --version").quiet().ignore_stderr().read().is_ok();
    if !has_bpftrace {
        eprintln!("bpftrace is not installed (Debian: apt-get install bpftrace): left out");
    }
    let mut rows = Vec::new();
    for driver in ["r550", "r580"] {
        let place = Place::create(&ctx.sh, driver)?;
        rows.push(ctx.step(&format!("driver {driver}"), || {
            measure(driver, &place, task, has_bpftrace, &interrupt)
        })?);
    }
    let sustained = (task.sustained > 0)
        .then(|| {
            let place = Place::create(&ctx.sh, "r550")?;
            ctx.step("one thread at full speed", || {
                sustained::run(&place, task.sustained, &interrupt)
            })
        })
        .transpose()?;
    let results = Results { function: FUNCTION, rows, sustained };
    let path = bench_directory().join("probe.json");
    fs::write(&path, serde_json::to_string_pretty(&results)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    print(&results);
    println!("{}", path.display());
    Ok(())
}

/// Timings of anything but a release build would mislead.
fn build(ctx: &Ctx) -> Result<()> {
    let sh = &ctx.sh;
    as_from_shell(cmd!(
        sh,
        "cargo build --locked --release --package sidecar --package testbed --bins --examples"
    ))
    .run()
    .context("cannot build what is measured")
}

fn measure(
    driver: &'static str,
    place: &Place,
    task: &Probe,
    has_bpftrace: bool,
    interrupt: &Interrupt,
) -> Result<Row> {
    let mut samples = Vec::new();
    for round in 0..task.rounds {
        for tracer in Tracer::ALL {
            if tracer == Tracer::Bpftrace && !has_bpftrace {
                continue;
            }
            interrupt.check()?;
            let running = tracer.start(place, interrupt)?;
            let Calls { ns_per_call, calls } = place.call(task.seconds)?;
            let lost = running.stop(place, calls)?;
            eprintln!("round {}  {tracer:?}: {ns_per_call:.0} ns per call", round + 1);
            samples.push(Sample { tracer, ns_per_call, calls, lost });
        }
    }
    let of = |wanted: Tracer| {
        median(
            samples
                .iter()
                .filter(|sample| sample.tracer == wanted)
                .map(|sample| sample.ns_per_call),
        )
    };
    let bpftrace = has_bpftrace.then(|| of(Tracer::Bpftrace));
    let (none, empty, ours) = (of(Tracer::None), of(Tracer::Empty), of(Tracer::Ours));
    Ok(Row { driver, none, empty, ours, bpftrace, samples })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(results: &Results) {
    println!("\nns per call of {}, medians", results.function);
    println!(
        "{:<8} {:>9} {:>9} {:>9} {:>9} {:>12} {:>14}",
        "driver", "no probe", "empty", "ours", "bpftrace", "ours/empty", "bpftrace/ours"
    );
    for Row { driver, none, empty, ours, bpftrace, .. } in &results.rows {
        let theirs = bpftrace.map_or("-".to_owned(), |value| format!("{value:.0}"));
        let ratio = bpftrace.map_or("-".to_owned(), |value| format!("{:.1}", value / ours));
        println!(
            "{driver:<8} {none:>9.0} {empty:>9.0} {ours:>9.0} {theirs:>9} {:>12.2} {ratio:>14}",
            ours / empty
        );
    }
    for Row { driver, samples, .. } in &results.rows {
        for tracer in [Tracer::Ours, Tracer::Bpftrace] {
            let of = samples.iter().filter(|sample| sample.tracer == tracer);
            let (lost, calls) =
                of.fold((0, 0), |sum, sample| (sum.0 + sample.lost, sum.1 + sample.calls));
            if lost > 0 {
                println!("{driver}: {tracer:?} lost {lost} of {calls} calls");
            }
        }
    }
    if let Some(sustained) = &results.sustained {
        sustained.print();
    }
}

fn bench_directory() -> PathBuf {
    crate::ctx::workspace_root().join("target/bench")
}

/// Libraries of one kind, and room for what tracers write.
struct Place {
    libraries: PathBuf,
    output: PathBuf,
}

impl Place {
    fn create(sh: &Shell, driver: &str) -> Result<Self> {
        let root = bench_directory().join("probe");
        let place = Self { libraries: root.join(driver), output: root.join("output") };
        let (installer, libraries) = (program("standin-libraries"), &place.libraries);
        cmd!(sh, "{installer} {libraries} --driver {driver}").quiet().ignore_stdout().run()?;
        place.clear()?;
        Ok(place)
    }

    fn clear(&self) -> Result<()> {
        if self.output.exists() {
            fs::remove_dir_all(&self.output).context("cannot remove the last measurement")?;
        }
        fs::create_dir_all(self.traces()).context("cannot create a directory")
    }

    /// What the sidecar writes.
    fn traces(&self) -> PathBuf {
        self.output.join("traces")
    }

    fn bpftrace_output(&self) -> PathBuf {
        self.output.join("bpftrace.jsonl")
    }

    fn library(&self) -> Result<PathBuf> {
        let link = self.libraries.join("libcuda.so.1");
        fs::canonicalize(&link).with_context(|| format!("cannot find {}", link.display()))
    }

    /// Calls for so many seconds.
    fn call(&self, seconds: f64) -> Result<Calls> {
        let sh = Shell::new()?;
        let (caller, seconds) = (program("standin-caller"), seconds.to_string());
        let text = cmd!(sh, "{caller} --function {FUNCTION} --seconds {seconds}")
            .env("LD_LIBRARY_PATH", &self.libraries)
            .quiet()
            .read()?;
        serde_json::from_str(&text).context("the caller prints one JSON line")
    }
}

/// What the caller says of a measurement.
#[derive(Debug, Deserialize)]
struct Calls {
    calls: u64,
    ns_per_call: f64,
}

fn program(name: &str) -> PathBuf {
    program_directory("release").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value() {
        assert!((median([3.0, 1.0, 2.0].into_iter()) - 2.0).abs() < f64::EPSILON);
        assert!(median(std::iter::empty()).is_nan());
    }
}
