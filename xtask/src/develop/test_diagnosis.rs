//! `cargo xtask test-diagnosis`: engines that waste time in known ways, and whether `findings` names them.

mod engine;
mod verdict;

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use tasks::{
    background::{Background, Interrupt},
    ctx::{Ctx, as_from_shell, program_directory, workspace_root},
};
use xshell::cmd;

use crate::develop::doctor;
use verdict::{Verdict, judge};

/// What the stand-in vLLM can do wrong, by the name that the finding has.
const CAUSES: [&str; 14] = [
    "errors",
    "sync_in_step",
    "pageable_copy",
    "sync_copy",
    "allocation_in_step",
    "capture_while_serving",
    "graph_reinstantiation",
    "eager_despite_graph",
    "queue_full",
    "host_held_up",
    "module_load",
    "stream_creation",
    "event_creation",
    "step_outliers",
];

/// Precision and recall.
const GOOD: f64 = 0.95;

/// Let engines waste time in known ways, and check that `cuda-trace findings` names them; needs root
///
/// One sidecar traces stand-in engines, one after the other: for each cause, and for none, as many
/// as --seeds says, with requests that the seed chooses. Then each engine must have the finding of
/// its cause and no other, and a healthy one none. Prints a table; fails below a precision or a
/// recall of 0.95, or if a healthy engine has a finding.
#[derive(Debug, Args)]
pub(crate) struct TestDiagnosis {
    /// Engines for each cause
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,

    /// The first seed; others follow on it
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..1_000_000))]
    first_seed: u64,

    /// Only causes whose name contains this, and healthy engines; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Where traces, logs and answers go (target/diagnosis of the workspace); an earlier one there
    /// is replaced
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Take the programs from there, instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// Keep a small engine of each cause for the tests of the crate `analysis`, there; needs zstd
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
}

/// What one engine does, and with which pid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Expected {
    /// `None` of a healthy one.
    pub(crate) cause: Option<&'static str>,
    pub(crate) seed: u64,
}

pub(crate) fn run(ctx: &Ctx, task: &TestDiagnosis) -> Result<()> {
    ensure!(!ctx.dry_run, "engines cannot be shown without running them: --help says what happens");
    doctor::require_for_tracing(&ctx.sh)?;
    let is_wanted = |cause: &&str| {
        task.only.is_empty() || task.only.iter().any(|part| cause.contains(part.as_str()))
    };
    let causes: Vec<&'static str> = CAUSES.into_iter().filter(|cause| is_wanted(cause)).collect();
    ensure!(!causes.is_empty(), "no cause has such a name: they are {}", CAUSES.join(", "));
    let interrupt = Interrupt::watch()?;
    let programs = if let Some(programs) = &task.programs {
        fs::canonicalize(programs).with_context(|| format!("cannot find {}", programs.display()))?
    } else {
        ctx.step("build", || build(ctx))?;
        program_directory("debug")
    };
    let root = task.out.clone().unwrap_or_else(|| workspace_root().join("target/diagnosis"));
    let place = Layout::create(root, programs)?;
    if let Some(directory) = &task.record {
        return record(ctx, &place, &causes, directory, &interrupt);
    }
    let expected = ctx.step("run engines", || {
        let seeds = task.first_seed..task.first_seed + task.seeds;
        run_engines(ctx, &place, &causes, seeds, engine::Size::Usual, &interrupt)
    })?;
    let program = place.program("cuda-trace");
    let traces = place.traces();
    let answer = cmd!(ctx.sh, "{program} findings {traces} --json").quiet().read()?;
    fs::write(place.root.join("findings.json"), &answer)?;
    let verdict = judge(&expected, &answer)?;
    eprintln!("{}", verdict.table());
    for line in &verdict.wrong {
        eprintln!("{line}");
    }
    let Verdict { precision, recall, false_alarms, .. } = verdict;
    eprintln!(
        "precision {precision:.3}, recall {recall:.3}, findings in healthy engines {false_alarms}"
    );
    if precision < GOOD || recall < GOOD || false_alarms > 0 {
        bail!(
            "precision and recall must be at least {GOOD}, and healthy engines without a finding"
        );
    }
    Ok(())
}

fn build(ctx: &Ctx) -> Result<()> {
    let programs = cmd!(
        ctx.sh,
        "cargo build --locked --package sidecar --package testbed --package analysis --bins"
    );
    as_from_shell(programs).run().context("cannot build the programs")
}

/// Where everything lies.
pub(crate) struct Layout {
    root: PathBuf,
    programs: PathBuf,
}

impl Layout {
    fn create(root: PathBuf, programs: PathBuf) -> Result<Self> {
        let mark = root.join("diagnosis");
        if root.exists() {
            ensure!(
                mark.exists(),
                "{} is no earlier directory of this task: give another one by --out",
                root.display()
            );
            fs::remove_dir_all(&root)?;
        }
        let place = Self { root, programs };
        for directory in [place.traces(), place.root.join("logs")] {
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        fs::write(mark, "")?;
        Ok(place)
    }

    fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    fn traces(&self) -> PathBuf {
        self.root.join("traces")
    }

    fn libraries(&self) -> PathBuf {
        self.root.join("lib")
    }

    /// The stand-in vLLM under the name of the interpreter that runs the real one.
    fn python(&self) -> PathBuf {
        self.root.join("python3")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(name)
    }
}

/// By the engine's pid. One sidecar traces all: a process is an engine of its own to every question.
fn run_engines(
    ctx: &Ctx,
    place: &Layout,
    causes: &[&'static str],
    seeds: Range<u64>,
    size: engine::Size,
    interrupt: &Interrupt,
) -> Result<BTreeMap<u32, Expected>> {
    let (installer, libraries) = (place.program("standin-libraries"), place.libraries());
    cmd!(ctx.sh, "{installer} {libraries}").quiet().ignore_stdout().run()?;
    std::os::unix::fs::symlink(place.program("standin-vllm"), place.python())?;
    let variables = [
        ("TARGET_PROCESS", place.python().display().to_string()),
        ("TRACE_DIR", place.traces().display().to_string()),
        ("TRACE_FORMAT", "jsonl".to_owned()),
        ("TRACE_INTERVAL", "3600".to_owned()),
        ("UPLOAD_ENABLED", "false".to_owned()),
        ("HTTP_ADDRESS", "127.0.0.1:0".to_owned()),
        // Before the first engine loads them: all that it pins must be known.
        ("CUDA_LIBRARY_DIRS", place.libraries().display().to_string()),
    ];
    let program = place.program("ebpf-cuda-tracer");
    let sidecar = Background::start(program, &[], &variables, place.log("sidecar.log"))?;
    sidecar.wait_for_line("ready: tracing", Duration::from_secs(20), interrupt)?;
    let mut expected = BTreeMap::new();
    for seed in seeds {
        for cause in std::iter::once(None).chain(causes.iter().map(|cause| Some(*cause))) {
            let of = Expected { cause, seed };
            let pid = engine::run(place, &of, size, interrupt)
                .with_context(|| format!("engine with {cause:?}, seed {seed}"))?;
            expected.insert(pid, of);
        }
    }
    sidecar.stop(Duration::from_secs(60))?;
    Ok(expected)
}

/// One small engine of each cause in a file, of its outermost calls.
fn record(
    ctx: &Ctx,
    place: &Layout,
    causes: &[&'static str],
    directory: &Path,
    interrupt: &Interrupt,
) -> Result<()> {
    let expected = run_engines(ctx, place, causes, 1..2, engine::Size::Small, interrupt)?;
    fs::create_dir_all(directory)?;
    let mut segments: Vec<PathBuf> =
        fs::read_dir(place.traces())?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    segments.sort();
    for (pid, Expected { cause, .. }) in &expected {
        let path = directory.join(format!("{}.jsonl", cause.unwrap_or("healthy")));
        let mut text = String::new();
        for segment in &segments {
            text += &fs::read_to_string(segment)?;
        }
        let own: Vec<&str> = text.lines().filter(|line| is_kept(line, *pid)).collect();
        fs::write(&path, shortened(&own, cause.is_none()).join("\n") + "\n")?;
        cmd!(ctx.sh, "zstd -q -f --ultra -22 --rm {path}").quiet().run()?;
    }
    Ok(())
}

/// Whether a line belongs to what tests need: the calls that a program made itself, and how it was
/// traced. Lines that name kernels would stand in front of the driver's calls, which are left out.
fn is_kept(line: &str, pid: u32) -> bool {
    if line.contains(r#""type":"meta""#) {
        return line.contains(r#""func":"segment_open""#);
    }
    line.contains(&format!(r#""pid":{pid},"#)) && line.contains(r#""depth":0"#)
}

/// Loading, but for a healthy engine, is what captures need; and not too many steps.
fn shortened<'a>(lines: &[&'a str], is_healthy: bool) -> Vec<&'a str> {
    const MAX_LINES: usize = 5200;
    const OF_LOADING: [&str; 6] =
        ["Launch", "Memcpy", "Memset", "Synchronize", "Event", "cudaMalloc"];
    let function = |line: &'a str| {
        let (_, rest) = line.split_once(r#""func":""#)?;
        rest.split_once('"').map(|(function, _)| function)
    };
    let is_of = |line: &'a str, parts: &[&str]| {
        function(line).is_some_and(|function| parts.iter().any(|part| function.contains(part)))
    };
    let captured = lines.iter().position(|line| is_of(line, &["BeginCapture"])).unwrap_or(0);
    let mut kept: Vec<&str> = (0..)
        .zip(lines)
        .filter(|(at, line)| is_healthy || *at >= captured || !is_of(line, &OF_LOADING))
        .map(|(_, line)| *line)
        .take(MAX_LINES)
        .collect();
    let last = kept.iter().rposition(|line| is_of(line, &["cudaEventQuery"]));
    kept.truncate(last.map_or(kept.len(), |last| last + 1));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixtures_hold_the_outermost_calls_of_one_engine() {
        let call =
            r#"{"ts":1.0,"pid":7,"tid":7,"type":"cuda_runtime","func":"cudaFree","depth":0}"#;
        assert!(is_kept(call, 7) && !is_kept(call, 8));
        assert!(!is_kept(&call.replace("\"depth\":0", "\"depth\":1"), 7));
        let meta = r#"{"ts":1.0,"pid":1,"type":"meta","func":"segment_open"}"#;
        assert!(is_kept(meta, 7));
        assert!(!is_kept(&meta.replace("segment_open", "kernel"), 7));
        let line = |function: &str| format!(r#"{{"func":"{function}","depth":0}}"#);
        let calls =
            ["cudaMalloc", "cudaHostAlloc", "cudaStreamBeginCapture", "cudaLaunchKernel"].map(line);
        let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
        assert_eq!(shortened(&calls, false), &calls[1..]);
        assert_eq!(shortened(&calls, true), calls);
        let ended = [calls[2], r#"{"func":"cudaEventQuery"}"#, calls[0]];
        assert_eq!(shortened(&ended, false), &ended[..2]);
    }
}
