//! `cargo xtask bench analyze`: how fast `cuda-trace` answers, beside `jq`.

mod cut;
mod usage;

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use xshell::cmd;

use super::{
    goal::{self, Goal, Wanted},
    place::{self, program},
    table::{grouped, markdown},
};
use cut::Cut;
use tasks::{
    background::Interrupt,
    ctx::{Ctx, as_from_shell, workspace_root},
};
use usage::Usage;

/// Lines per second of `cuda-trace`, its memory, and what `jq` takes for the simplest count
///
/// A cut of a real trace is repeated with later times, as segments of one run with closing lines
/// that fit; `summary` must find every line, and the trace whole. jq counts functions in the first
/// segments, and its time is scaled by lines, which favours it: `sort` takes more than twice as long
/// for twice as many. Goals are told, never enforced. All results go to target/bench/analyze.json;
/// the trace stays in target/bench/analyze until the next measurement (5 GB).
#[derive(Debug, Args)]
pub(crate) struct Analyze {
    /// Call lines of the trace, at least
    #[arg(long, value_name = "COUNT", default_value_t = 20_000_000)]
    lines: u64,

    /// Of them for jq, at least
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    jq_lines: u64,

    /// What is repeated: a segment, or a cut of one
    #[arg(long, value_name = "FILE", default_value = "analysis/tests/data/h200-graphs.jsonl.zst")]
    cut: PathBuf,

    /// Questions that are asked together
    #[arg(long, value_name = "NAMES", default_value = "summary,steps,startup,launches,memory")]
    questions: String,

    /// Print the results as JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// As the trace was made.
struct Made {
    directory: PathBuf,
    segments: Vec<PathBuf>,
    /// In each segment.
    calls: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Row {
    what: String,
    lines: u64,
    seconds: f64,
    lines_per_second: f64,
    /// Processor time, user and system; `None` where it was not measured.
    cpu_us_per_line: Option<f64>,
    resident_mib: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Results {
    bytes_per_line: f64,
    rows: Vec<Row>,
    goals: Vec<Goal>,
}

pub(crate) fn run(ctx: &Ctx, task: &Analyze) -> Result<()> {
    let interrupt = Interrupt::watch()?;
    let sh = &ctx.sh;
    ctx.step("build", || {
        as_from_shell(cmd!(
            sh,
            "cargo build --locked --release --no-default-features --package analysis"
        ))
        .run()
        .context("cannot build what is measured")
    })?;
    let made = ctx.step("trace", || make(task, &interrupt))?;
    let traces = made.directory.display().to_string();
    let all = made.calls * made.segments.len() as u64;
    prove(&traces, all)?;
    let mut rows = Vec::new();
    let mut ask = |questions: &str, out: Option<&Path>| -> Result<()> {
        let mut arguments = vec![questions.to_owned(), traces.clone()];
        if let Some(out) = out {
            arguments.extend(["--out".to_owned(), out.display().to_string()]);
        }
        let usage =
            ctx.step(questions, || Usage::of(program("cuda-trace"), &arguments, &interrupt))?;
        rows.push(Row::new(questions, all, usage.seconds, Some(usage)));
        Ok(())
    };
    ask("summary", None)?;
    ask(&task.questions, None)?;
    let out = made.directory.with_file_name("output");
    fs::create_dir_all(&out).context("cannot create a directory")?;
    for question in writing_questions(ctx)? {
        ask(&question, Some(&out.join(&question)))?;
    }
    fs::remove_dir_all(&out).ok();
    let jq = ctx.step("jq", || jq(ctx, task, &made))?;
    let ratio = jq.seconds / jq.lines as f64 / (rows[0].seconds / all as f64);
    rows.push(jq);
    let goals = goals(&rows, ratio);
    let results = Results { bytes_per_line: made.bytes as f64 / all as f64, rows, goals };
    let path = place::write_results("analyze", &results)?;
    if task.json {
        println!("{}", serde_json::to_string_pretty(&results)?);
    } else {
        println!("\n{}\n{}", results.text(), path.display());
    }
    Ok(())
}

fn make(task: &Analyze, interrupt: &Interrupt) -> Result<Made> {
    let cut = Cut::read(&workspace_root().join(&task.cut))?;
    let directory = workspace_root().join("target/bench/analyze/traces");
    if directory.exists() {
        fs::remove_dir_all(&directory).context("cannot remove the last measurement")?;
    }
    fs::create_dir_all(&directory).context("cannot create a directory")?;
    let count = task.lines.div_ceil(cut.calls());
    let (mut segments, mut bytes) = (Vec::new(), 0);
    for sequence in 1..=count {
        interrupt.check()?;
        let path = directory.join(format!("trace_bench_20261124T042800.642Z_{sequence:06}.jsonl"));
        let cannot = || format!("cannot write {}", path.display());
        let mut file = BufWriter::new(File::create(&path).with_context(cannot)?);
        cut.write(&mut file, sequence, sequence == count).with_context(cannot)?;
        file.flush().with_context(cannot)?;
        bytes += fs::metadata(&path).with_context(cannot)?.len();
        segments.push(path);
    }
    eprintln!("{} lines of calls, {} MiB", count * cut.calls(), bytes >> 20);
    Ok(Made { directory, segments, calls: cut.calls(), bytes })
}

/// A fast program that finds less than there is would be of no use.
fn prove(traces: &str, calls: u64) -> Result<()> {
    let text = duct::cmd(program("cuda-trace"), ["summary", traces, "--json"]).read()?;
    let answer: Value =
        serde_json::from_str(&text).context("--json prints one line for one run")?;
    let found = &answer["figures"]["calls"];
    ensure!(found["value"] == calls, "{calls} calls were written, found are {found}");
    ensure!(found["grade"] == "exact", "the trace should be whole: {}", answer["gaps"]);
    Ok(())
}

/// Questions whose answers are files, as far as this `cuda-trace` has them.
fn writing_questions(ctx: &Ctx) -> Result<Vec<String>> {
    let (sh, program) = (&ctx.sh, program("cuda-trace"));
    let help = cmd!(sh, "{program} --help").quiet().read()?;
    let has = |question: &&str| help.contains(&format!("- {question}:"));
    Ok(["timeline", "export"].into_iter().filter(has).map(str::to_owned).collect())
}

/// The seed's count of functions.
fn jq(ctx: &Ctx, task: &Analyze, made: &Made) -> Result<Row> {
    let sh = &ctx.sh;
    let count = usize::try_from(task.jq_lines.div_ceil(made.calls))?.min(made.segments.len());
    let files = &made.segments[..count];
    let begin = Instant::now();
    let script = "cat \"$@\" | jq -r .func | sort | uniq -c";
    cmd!(sh, "sh -c {script} sh {files...}").quiet().ignore_stdout().run().context("jq")?;
    let seconds = begin.elapsed().as_secs_f64();
    let lines = made.calls * count as u64;
    Ok(Row::new("jq -r .func | sort | uniq -c", lines, seconds, None))
}

fn goals(rows: &[Row], ratio: f64) -> Vec<Goal> {
    let at_least = |row: &Row, goal: f64| {
        let what = format!("{}: million lines per second", row.what);
        Goal::new(what, row.lines_per_second / 1e6, Wanted::AtLeast(goal))
    };
    let resident = rows[0].resident_mib.unwrap_or(f64::NAN);
    let mut goals = vec![
        at_least(&rows[0], 3.0),
        Goal::new("summary: resident MiB".to_owned(), resident, Wanted::AtMost(256.0)),
        Goal::new("summary: times as fast as jq".to_owned(), ratio, Wanted::AtLeast(60.0)),
    ];
    let others = &rows[1..rows.len() - 1];
    goals.extend(others.iter().map(|row| at_least(row, 1.0)));
    goals
}

impl Row {
    fn new(what: &str, lines: u64, seconds: f64, usage: Option<Usage>) -> Self {
        Self {
            what: what.to_owned(),
            lines,
            seconds,
            lines_per_second: lines as f64 / seconds,
            cpu_us_per_line: usage.map(|usage| usage.cpu_seconds * 1e6 / lines as f64),
            resident_mib: usage.map(|usage| usage.resident_mib),
        }
    }
}

impl Results {
    fn text(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| {
                let or_none = |figure: Option<f64>, decimals| {
                    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.decimals$}"))
                };
                vec![
                    row.what.clone(),
                    grouped(row.lines as f64),
                    format!("{:.2}", row.seconds),
                    grouped(row.lines_per_second),
                    or_none(row.cpu_us_per_line, 3),
                    or_none(row.resident_mib, 0),
                ]
            })
            .collect();
        let heads = ["", "lines", "s", "lines/s", "CPU us/line", "resident MiB"];
        format!(
            "{}\n{:.0} bytes per line\n\n{}",
            markdown(1, &heads, &rows),
            self.bytes_per_line,
            goal::text(&self.goals)
        )
    }
}
