//! `cuda-trace`: answers from traces.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use analysis::{
    answer::{json, text},
    context::Context,
    diff,
    input::{self, Choice, Found, RunFiles, progress},
    nothing::nothing,
    pass::{self, Moment, Window},
    question::Question,
    questions::{Name, Settings},
    report,
};
use anyhow::{Context as _, Result, bail, ensure};
use clap::{ArgAction, Parser, Subcommand};

/// Answers questions about CUDA traces, and says of each figure how it is known
#[derive(Debug, Parser)]
#[command(
    name = "cuda-trace",
    version,
    after_help = HELP,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    /// One question, or several with commas between: they share one pass over the trace
    #[arg(
        value_enum,
        value_name = "QUESTION",
        value_delimiter = ',',
        required = true,
        num_args = 1,
        action = ArgAction::Set
    )]
    questions: Vec<Name>,

    /// Directories with segments, at any depth; s3://bucket/prefix; files in any form; - for
    /// standard input
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

#[derive(Debug, Subcommand)]
enum Command {
    /// All questions in one pass, as one HTML file
    Report(Report),
    /// What two traces do not have in common
    Diff(Diff),
    /// The lines themselves, unpacked: for jq, grep and others
    Lines(Lines),
}

/// What two traces do not have in common
///
/// Compares counts, rates, durations by their quantiles, memory and steps, and tells new and vanished
/// functions and kernels. Only what the grades of both prove to be beyond the threshold counts as a
/// difference. Of several runs in a directory the latest is taken.
///
/// Exit codes: 0 no difference, 1 nothing could be compared, 2 wrong usage, 3 differences.
#[derive(Debug, clap::Args)]
struct Diff {
    /// A directory with segments, s3://bucket/prefix, a file, or a file with what --json has printed
    #[arg(value_name = "OLD")]
    old: PathBuf,

    /// The other one
    #[arg(value_name = "NEW")]
    new: PathBuf,

    /// Changes up to this part of the old value are none: 10%, 0.1
    #[arg(long, value_name = "PART", default_value = "10%", value_parser = part_of_one)]
    threshold: f64,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// All questions in one pass, as one HTML file
///
/// The file loads nothing from anywhere, so it can be sent to others and opened without a network.
#[derive(Debug, clap::Args)]
struct Report {
    /// Directories with segments, at any depth; s3://bucket/prefix; files in any form; - for
    /// standard input
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    part: Part,

    #[command(flatten)]
    settings: Settings,
}

/// The lines themselves, unpacked: for jq, grep and others
///
/// Prints every line of the trace as the sidecar wrote it, whatever form its files have. What cannot be
/// read ends in an error, behind the lines before it.
#[derive(Debug, clap::Args)]
struct Lines {
    /// Directories with segments, at any depth; files, compressed or tables; - for standard input
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
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
cuda-trace report traces/ --out report.html     everything on one page for a browser
cuda-trace diff old/ new/ --threshold 5%        what has changed; exit code 3 if anything has
cuda-trace summary traces/ --json | jq '.functions[] | select(.calls > 1000) | .function'
cuda-trace lines traces/ | jq -r .func          the lines, whatever form the files have
zstdcat trace_*.zst | cuda-trace summary -
cuda-trace summary s3://my-traces/k3s-vllm --last   from a bucket; nothing is written to disk
cuda-trace timeline traces/ --last              a file to open at https://ui.perfetto.dev
cuda-trace export traces/ --out tables/         Parquet, for DuckDB, Spark, Athena, pandas

Buckets are found as the sidecar finds them: S3_ENDPOINT and S3_ADDRESSING name a store that is not AWS,
AWS_REGION, AWS_PROFILE, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and ~/.aws are those of the AWS SDK.

A figure that is not exact says so: ~ is an estimate, >= and a..b are bounds, ? is not known.
Exit codes: 0 answered, 1 nothing could be answered, 2 wrong usage, 3 differences (diff)";

/// Of `diff`, where there is a difference.
const DIFFERS: u8 = 3;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            progress::clear();
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Some(Command::Report(report)) => write_report(report)?,
        Some(Command::Diff(diff)) => return compare(diff),
        Some(Command::Lines(lines)) => print_lines(lines)?,
        None => answer(cli)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(Diff { old, new, threshold, json }: &Diff) -> Result<ExitCode> {
    let (old, new) = (diff::read(old)?, diff::read(new)?);
    ensure!(
        old.answers.keys().any(|question| new.answers.contains_key(question)),
        "the two have no question in common"
    );
    let found = diff::diff(&old, &new, *threshold);
    let text = if *json {
        diff::to_json(&found, &old, &new, *threshold).to_string()
    } else {
        diff::to_text(&found, &old, &new, *threshold)
    };
    Output::default().line(text.trim_end())?;
    Ok(if found.differences.is_empty() { ExitCode::SUCCESS } else { DIFFERS.into() })
}

fn print_lines(Lines { paths }: &Lines) -> Result<()> {
    let Found { runs, not_read } = input::find(paths)?;
    tell_not_read(&not_read);
    let mut output = Output::default();
    for run in &runs {
        input::read_lines(run, |lines| {
            output.bytes(lines)?;
            if !lines.ends_with(b"\n") {
                // Cut off; the next file's first line is another.
                output.bytes(b"\n")?;
            }
            Ok(!output.is_closed)
        })?;
    }
    Ok(())
}

fn answer(Cli { command: _, questions, paths, json, part, settings }: &Cli) -> Result<()> {
    let Found { runs, not_read } = find(paths, part)?;
    if !json {
        tell_not_read(&not_read);
    }
    ensure!(
        runs.len() == 1 || settings.out.is_none() || !questions.contains(&Name::Timeline),
        "--out names one file, but there are {} runs: choose one by --run or --last, or leave --out \
         out",
        runs.len()
    );
    if questions.contains(&Name::Export) {
        can_export(&runs, part)?;
    }
    let writes_files = questions.iter().any(|name| name.writes_files());
    let mut output = Output::default();
    let mut has_calls = false;
    let (mut failures, mut missing) = (Vec::new(), Vec::new());
    for run in &runs {
        let window = window(run, part)?;
        let mut asked =
            questions.iter().map(|name| name.question(settings)).collect::<Result<Vec<_>>>()?;
        let context = pass::read(run, &window, &mut asked);
        has_calls |= context.calls > 0;
        if let Some(told) = nothing(run, &window, &context) {
            missing.push(told);
            continue;
        }
        failures.extend(print(&mut output, asked, &context, *json)?);
        if output.is_closed && !writes_files {
            return Ok(());
        }
    }
    if !has_calls && missing.is_empty() {
        failures.push("no call was found; what was read is told above".to_owned());
    }
    failures.extend(missing);
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

/// Tables of a part would not add up with the counts of the whole, and two runs of one name would
/// overwrite each other's.
fn can_export(runs: &[RunFiles], Part { since, from, to, .. }: &Part) -> Result<()> {
    ensure!(
        since.is_none() && from.is_none() && to.is_none(),
        "export takes whole runs: leave --since, --from and --to out, and choose by the columns \
         time and ts_ns later"
    );
    let mut names = BTreeSet::new();
    for RunFiles { name, .. } in runs {
        ensure!(names.insert(name), "two runs are called {name:?}: export one after the other");
    }
    Ok(())
}

fn write_report(Report { paths, part, settings }: &Report) -> Result<()> {
    let out = settings.out.clone().unwrap_or_else(|| "report.html".into());
    let Found { runs, not_read } = find(paths, part)?;
    tell_not_read(&not_read);
    let html = report::html(&runs, |run| window(run, part), settings)?;
    // Whoever has the old file open never sees a half of the new one.
    let partial = out.with_extension("html.partial");
    fs::write(&partial, html)
        .and_then(|()| fs::rename(&partial, &out))
        .with_context(|| format!("cannot write {}", out.display()))?;
    Output::default().line(&out.display().to_string())
}

/// The runs that were asked for.
fn find(paths: &[PathBuf], part: &Part) -> Result<Found> {
    let choice = Choice { run: part.run.clone(), is_last: part.last };
    input::find_chosen(paths, &choice)
}

fn tell_not_read(not_read: &[String]) {
    if !not_read.is_empty() {
        progress::clear();
        eprintln!("not read: {}", not_read.join(", "));
    }
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
        self.bytes(format!("{text}\n").as_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if self.is_closed {
            return Ok(());
        }
        progress::clear();
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.is_closed = true,
            result => result.context("cannot write the answer")?,
        }
        Ok(())
    }
}

fn window(run: &RunFiles, part: &Part) -> Result<Window> {
    let Part { since, from, to, .. } = part;
    let Some(since) = since else { return Ok(Window { from: *from, to: *to }) };
    if run.files.iter().any(|file| file.location.is_stdin()) {
        bail!("--since reads the trace twice, to find its end: give a file, or --from");
    }
    let Some(last) = pass::last_call_ns(run) else { bail!("run {}: no call is in it", run.name) };
    Ok(Window { from: Some(Moment::Run(last.saturating_sub(*since))), to: None })
}

/// `10%` or `0.1`.
fn part_of_one(text: &str) -> Result<f64, String> {
    let (digits, divisor) = text.strip_suffix('%').map_or((text, 1.0), |digits| (digits, 100.0));
    match digits.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number / divisor),
        _ => Err("write 10% or 0.1".to_owned()),
    }
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
