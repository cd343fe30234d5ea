//! `cuda-trace`: answers from traces.

#![forbid(unsafe_code)]

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use analysis::{
    answer::{json, text},
    context::Context,
    input::{self, Found, RunFiles, STDIN},
    pass::{self, Moment, Window},
    question::Question,
    questions::{Name, Settings},
};
use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;

/// Answers questions about CUDA traces, and says of each figure how it is known
#[derive(Debug, Parser)]
#[command(name = "cuda-trace", version, after_help = HELP)]
struct Cli {
    /// One question, or several with commas between: they share one pass over the trace
    #[arg(
        value_enum,
        value_name = "QUESTION",
        value_delimiter = ',',
        required = true,
        num_args = 1
    )]
    questions: Vec<Name>,

    /// Directories with segments, at any depth; files, compressed or not; - for standard input
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// Print each answer as one JSON object on a line of its own
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    part: Part,

    #[command(flatten)]
    settings: Settings,
}

/// Which runs, and which part of them.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Part of the trace")]
struct Part {
    /// Only runs whose name holds TEXT: <host>_<start>
    #[arg(long, value_name = "TEXT")]
    run: Option<String>,

    /// Only the latest run
    #[arg(long)]
    last: bool,

    /// Only calls from this long before the last one on: 90s, 5m
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with_all = ["from", "to"])]
    since: Option<i64>,

    /// Only calls from here on: 2026-11-24T04:28:01Z, or 12.5s after the start of the run
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Moment>,

    /// Only calls before
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Moment>,
}

const HELP: &str = "\
cuda-trace summary traces/                      what a trace holds, and whether it is whole
cuda-trace launches,memory traces/ --last       two answers from one pass, of the latest run
cuda-trace memory traces/ --vllm-log vllm.log   beside what vLLM says
cuda-trace summary traces/ --json | jq '.functions[] | select(.calls > 1000) | .function'
zstdcat trace_*.zst | cuda-trace summary -
cuda-trace timeline traces/ --last              a file to open at https://ui.perfetto.dev

A figure that is not exact says so: ~ is an estimate, >= and a..b are bounds, ? is not known.
Exit codes: 0 answered, 1 nothing could be answered, 2 wrong usage.";

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(Cli { questions, paths, json, part, settings }: &Cli) -> Result<()> {
    let Found { mut runs, not_read } = input::find(paths)?;
    if let Some(text) = &part.run {
        runs.retain(|run| run.name.contains(text));
        ensure!(!runs.is_empty(), "no run is called {text:?}");
    }
    if part.last {
        runs.drain(..runs.len() - 1);
    }
    if !not_read.is_empty() && !json {
        eprintln!("not read: {}", not_read.join(", "));
    }
    ensure!(
        runs.len() == 1 || settings.out.is_none() || !questions.contains(&Name::Timeline),
        "--out names one file, but there are {} runs: choose one by --run or --last, or leave --out \
         out",
        runs.len()
    );
    let writes_files = questions.iter().any(|name| name.writes_files());
    let mut output = Output::default();
    let mut has_calls = false;
    let mut failures = Vec::new();
    for run in &runs {
        let window = window(run, part)?;
        let mut asked =
            questions.iter().map(|name| name.question(settings)).collect::<Result<Vec<_>>>()?;
        let context = pass::read(run, &window, &mut asked);
        has_calls |= context.calls > 0;
        failures.extend(print(&mut output, asked, &context, *json)?);
        if output.is_closed && !writes_files {
            return Ok(());
        }
    }
    if !has_calls {
        failures.push("no call was found; what was read is told above".to_owned());
    }
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

/// What could not be done.
fn print(
    output: &mut Output,
    asked: Vec<Box<dyn Question>>,
    context: &Context,
    json: bool,
) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    if !json {
        output.line(&text::heading(context))?;
    }
    for question in asked {
        let answer = question.finish(context);
        if let Some(failure) = answer.failure {
            failures.push(failure);
            continue;
        }
        if json {
            output.line(&serde_json::to_string(&json::to_json(&answer, context))?)?;
        } else {
            output.line(&text::to_text(&answer))?;
        }
    }
    Ok(failures)
}

/// Stdout; who has read enough, as `head` has, closes it.
#[derive(Default)]
struct Output {
    is_closed: bool,
}

impl Output {
    fn line(&mut self, text: &str) -> Result<()> {
        if self.is_closed {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.is_closed = true,
            result => result.context("cannot write the answer")?,
        }
        Ok(())
    }
}

fn window(run: &RunFiles, part: &Part) -> Result<Window> {
    let Part { since, from, to, .. } = part;
    let Some(since) = since else { return Ok(Window { from: *from, to: *to }) };
    if run.files.iter().any(|file| file.path.as_os_str() == STDIN) {
        bail!("--since reads the trace twice, to find its end: give a file, or --from");
    }
    let last = pass::read(run, &Window::default(), &mut []).time.last_ns;
    let Some(last) = last else { bail!("run {}: no call is in it", run.name) };
    Ok(Window { from: Some(Moment::Run(last.saturating_sub(*since))), to: None })
}

/// `90s`, `5m`, `1h`, `250ms`.
fn duration(text: &str) -> Result<i64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return Err("write 250ms, 90s, 5m or 1h".to_owned()),
    };
    let number: f64 = digits.parse().map_err(|_| format!("{digits:?} is no number"))?;
    if !number.is_finite() || number < 0.0 {
        return Err(format!("{digits:?} is no length of time"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    Ok((number * unit) as i64)
}

/// A time of day, or one since the start of the run.
fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(ns) = duration(text) {
        return Ok(Moment::Run(ns));
    }
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| "write a time such as 2026-11-24T04:28:01Z, or 12.5s".to_owned())?;
    i64::try_from(time.as_nanosecond()).map(Moment::Unix).map_err(|error| error.to_string())
}
