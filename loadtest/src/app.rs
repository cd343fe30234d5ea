//! A plan from start to end: choose the model, run the load, write the result, show it.

mod studies;

use std::{
    cell::Cell,
    collections::BTreeMap,
    convert::Infallible,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, Error, Result};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    bench_keys,
    client::Client,
    collected,
    error::RequestError,
    measurement::unix_nanoseconds,
    notes,
    pace::{Pace, Rate},
    plan::Plan,
    progress::Progress,
    prompts::Source,
    record::{Failure, RequestRecord, RunResult, Settings, Summary},
    result_file::ResultFile,
    run::{self, Finished, Load, Warmup},
    server_metrics::Sampler,
    statistics::rounded,
    summary::{goodput, percentiles, summarise, windows},
    table,
    target::Target,
};

/// Parts of a ramp that have figures of their own.
const RAMP_WINDOWS: u32 = 10;

/// How a run that left a result went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Good,
    /// A request failed, or was not sent because the run was interrupted.
    Failed,
    /// The client was not up to the load, and `--strict` was given.
    Marked,
}

/// An error is a run that could not take place, or left no result.
pub async fn execute(plan: Plan) -> Result<Outcome> {
    let client = Client::new(&plan.targets, plan.options.clone()).await.map_err(with_advice)?;
    let mut notes = Vec::new();
    let model = match plan.model.clone() {
        Some(model) => model,
        None => choose_model(&client, &mut notes).await?,
    };
    collected::check(plan.append.as_deref(), plan.csv.as_deref())?;
    let session = Session { plan: &plan, client: &client, model, notes };
    match plan.study {
        Some(study) => studies::execute(&session, study).await,
        None => single_run(&session).await,
    }
}

async fn single_run(session: &Session<'_>) -> Result<Outcome> {
    let done = session.run(session.plan.load.clone(), None).await?;
    let path = done.path.display().to_string();
    let json = session.plan.json.then_some(done.json.as_str());
    show(json, &path)?;
    // The result is there, and shown, whatever becomes of the files that gather many.
    done.collected?;
    Ok(done.outcome)
}

/// Data to stdout: the JSON if that is wanted, or else where it is.
fn show(json: Option<&str>, path: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    if let Some(json) = json {
        eprintln!("\nresult: {path}");
        stdout.write_all(json.as_bytes())
    } else {
        eprintln!("\nresult:");
        writeln!(stdout, "{path}")
    }
    .and_then(|()| stdout.flush())
    .context("cannot write to stdout")
}

/// What the runs of a command line have in common.
struct Session<'a> {
    plan: &'a Plan,
    client: &'a Client,
    model: String,
    notes: Vec<String>,
}

/// A run that left a result.
struct Done {
    result: RunResult,
    path: PathBuf,
    json: String,
    outcome: Outcome,
    interrupted: bool,
    was_cut_short: bool,
    /// Whether its figures were appended to where they were to go.
    collected: Result<()>,
}

impl Session<'_> {
    /// Runs one load, writes its result and shows it. With a number of bad requests that may be, it ends with the
    /// first beyond it.
    async fn run(&self, load: Load, most_bad: Option<usize>) -> Result<Done> {
        let Self { plan, client, model, notes } = self;
        let file = ResultFile::reserve(&plan.out, plan.test.file_prefix(), Timestamp::now())?;
        let load = Load { model: model.clone(), ..load };
        let mut progress = Progress::start(load.count);
        let mut sampler =
            if plan.server_metrics { Some(Sampler::start(client).await) } else { None };
        let (too_many_bad, mut bad) = (Notify::new(), 0);
        let was_cut_short = Cell::new(false);
        let stop = async {
            tokio::select! {
                () = interrupt() => (),
                () = too_many_bad.notified() => was_cut_short.set(true),
            }
        };
        let observe = |record: &RequestRecord| {
            progress.show(record);
            let is_bad = || plan.slo.is_some_and(|slo| !slo.is_kept(record));
            bad += usize::from(!record.warmup && is_bad());
            if most_bad.is_some_and(|most| bad > most) {
                too_many_bad.notify_one();
            }
        };
        let finished = tokio::select! {
            finished = run::run(client, load.clone(), stop, observe) => finished?,
            never = sample(sampler.as_mut()) => match never {},
        };
        let was_cut_short = was_cut_short.get();
        let server_metrics = match sampler {
            Some(sampler) => sampler.end().await,
            None => Vec::new(),
        };
        let interrupted = finished.interrupted && !was_cut_short;
        let is_good = !interrupted && finished.records.iter().all(RequestRecord::succeeded);

        let mut result = assemble(plan, &load, model.clone(), finished, notes.clone());
        result.server_metrics = server_metrics;
        if was_cut_short {
            result.notes.push("ended early: the limits cannot be kept any more".to_owned());
        }
        let bench = bench_keys::keys(&result, &plan.percentiles);
        let mut json = serde_json::to_string_pretty(&Written { result: &result, bench: &bench })
            .context("cannot serialise the result")?;
        json.push('\n');
        let published = file.publish(&json);
        let collected = collect(plan, &result, &bench);
        // Only now: whoever reads stderr may be slow.
        progress.finish();
        eprint!("\n{}", table::render(&result));
        let path = published?;
        let is_marked = result.client.as_ref().is_some_and(|client| !client.marks.is_empty());
        let outcome = match (is_good, plan.strict && is_marked) {
            (false, _) => Outcome::Failed,
            (true, true) => Outcome::Marked,
            (true, false) => Outcome::Good,
        };
        Ok(Done { result, path, json, outcome, interrupted, was_cut_short, collected })
    }
}

async fn sample(sampler: Option<&mut Sampler>) -> Infallible {
    match sampler {
        Some(sampler) => sampler.run().await,
        None => std::future::pending().await,
    }
}

/// A result as its file has it.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    result: &'a RunResult,
    #[serde(flatten)]
    bench: &'a BTreeMap<String, Value>,
}

/// To the files that gather many runs.
fn collect(plan: &Plan, result: &RunResult, bench: &BTreeMap<String, Value>) -> Result<()> {
    if let Some(path) = &plan.append {
        let figures = RunResult { requests: Vec::new(), ..result.clone() };
        let line = serde_json::to_value(Written { result: &figures, bench });
        collected::append_json(path, &line.context("cannot serialise the figures")?)?;
    }
    if let Some(path) = &plan.csv {
        let marks = result.client.as_ref().map(|client| client.marks.join("; "));
        let mut figures = bench.clone();
        figures.extend([
            ("label".to_owned(), json!(result.label)),
            ("failed".to_owned(), json!(result.summary.failed)),
            ("marks".to_owned(), json!(marks.unwrap_or_default())),
        ]);
        collected::append_csv(path, &figures)?;
    }
    Ok(())
}

async fn choose_model(client: &Client, notes: &mut Vec<String>) -> Result<String> {
    let explained = |error| Error::msg(table::explain(&client.failure(&error)));
    let models = client.models().await.map_err(explained)?;
    let chosen = models.first().cloned().ok_or_else(|| with_advice(RequestError::NoModel))?;
    if models.len() > 1 {
        notes.push(format!(
            "the server has several models, {chosen} is the first of: {}",
            models.join(", ")
        ));
    }
    Ok(chosen)
}

fn with_advice(error: RequestError) -> Error {
    Error::msg(table::explain(&Failure::from(&error)))
}

/// A person who interrupts a long run still gets the figures of what is done.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        // No handler could be set: the signal ends the process as it always did.
        std::future::pending::<()>().await;
    }
}

fn assemble(
    plan: &Plan,
    load: &Load,
    model: String,
    finished: Finished,
    mut notes: Vec<String>,
) -> RunResult {
    let Finished { records, wall, start, end, interrupted, client } = finished;
    let summary = Summary {
        goodput: plan.slo.map(|slo| goodput(slo, &records, wall)),
        percentiles: percentiles(&records, &plan.percentiles),
        windows: match load.pace {
            Pace::Open { rate: Rate::Ramp { over, .. }, .. } => {
                windows(&records, over, RAMP_WINDOWS)
            }
            _ => Vec::new(),
        },
        ..summarise(&records, wall)
    };
    if interrupted {
        let of_all = load.count.map(|count| format!(" of {count}")).unwrap_or_default();
        notes.push(format!("interrupted after {}{of_all} requests", records.len()));
    }
    notes.extend(notes::notes(&records, plan));
    let options = &plan.options;
    let (workers, rate, arrivals) = match load.pace {
        Pace::Closed { workers } => (workers, None, None),
        Pace::Open { rate, arrivals, most_in_flight } => {
            (most_in_flight.unwrap_or(0), Some(rate), Some(arrivals.to_string()))
        }
    };
    let (rate, ramp) = match rate {
        Some(Rate::Constant(rate)) => (Some(rounded(rate)), None),
        Some(ramp @ Rate::Ramp { .. }) => (None, Some(ramp.to_string())),
        None => (None, None),
    };
    // Those of a trace have the times that they had.
    let arrivals = arrivals.filter(|_| load.times.is_none());
    let of_warmup = match load.warmup {
        Warmup::Requests(count) => count,
        Warmup::Time(_) => 0,
    };
    let sent = u32::try_from(summary.requests).unwrap_or(u32::MAX);
    let settings = Settings {
        test: plan.test.name().to_owned(),
        host: plan.targets[0].host().to_owned(),
        port: plan.targets[0].port(),
        base_urls: plan.targets.iter().filter(|target| target.is_url()).map(Target::url).collect(),
        header_names: options.headers.names(),
        endpoint: options.api.path().to_owned(),
        model,
        stream: options.stream,
        max_tokens: options.max_tokens,
        ignore_eos: options.ignore_eos,
        timeout_seconds: options.timeout.as_secs_f64(),
        // What a time allows is known afterwards.
        count: match (load.count, load.duration) {
            (Some(count), None) => count - of_warmup,
            _ => sent,
        },
        workers,
        rate,
        ramp,
        replay: plan.replay.as_ref().map(|path| path.display().to_string()),
        arrivals,
        duration_seconds: load.duration.map(|duration| duration.as_secs_f64()),
        warmup: plan.warmup.clone(),
        seed: load.seed,
        input_tokens: match load.prompts.source {
            Source::Random(length) => Some(length.to_string()),
            Source::List(_) | Source::Trace(_) => None,
        },
        output_tokens: load.prompts.output.map(|length| length.to_string()),
    };
    RunResult {
        tool: concat!("loadtest ", env!("CARGO_PKG_VERSION")).to_owned(),
        label: plan.label.clone(),
        started_at: start.to_string(),
        start_unix_ns: unix_nanoseconds(start),
        finished_at: end.to_string(),
        settings,
        summary,
        client: Some(client),
        server_metrics: Vec::new(),
        notes,
        requests: records,
    }
}
