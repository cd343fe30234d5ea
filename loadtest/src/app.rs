//! A plan from start to end: choose the model, run the load, write the result, show it.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
};

use anyhow::{Context as _, Error, Result};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    bench_keys,
    client::Client,
    collected,
    error::RequestError,
    measurement::unix_nanoseconds,
    notes,
    pace::Pace,
    plan::Plan,
    progress::Progress,
    prompts::Source,
    record::{Failure, RequestRecord, RunResult, Settings, Summary},
    result_file::ResultFile,
    run::{self, Finished, Load, Warmup},
    summary::{goodput, percentiles, summarise},
    table,
    target::Target,
};

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
    let file = ResultFile::reserve(&plan.out, plan.test.file_prefix(), Timestamp::now())?;

    let mut progress = Progress::start(plan.load.count);
    let load = Load { model: model.clone(), ..plan.load.clone() };
    let finished = run::run(&client, load, interrupt(), |record| progress.show(record)).await?;
    let is_good = !finished.interrupted && finished.records.iter().all(RequestRecord::succeeded);

    let result = assemble(&plan, model, finished, notes);
    let bench = bench_keys::keys(&result, &plan.percentiles);
    let mut json = serde_json::to_string_pretty(&Written { result: &result, bench: &bench })
        .context("cannot serialise the result")?;
    json.push('\n');
    let path = file.publish(&json)?;
    collect(&plan, &result, &bench)?;
    // Only now: whoever reads stderr may be slow.
    progress.finish();
    eprint!("\n{}", table::render(&result));
    let mut stdout = io::stdout().lock();
    if plan.json {
        eprintln!("\nresult: {}", path.display());
        stdout.write_all(json.as_bytes())
    } else {
        eprintln!("\nresult:");
        writeln!(stdout, "{}", path.display())
    }
    .and_then(|()| stdout.flush())
    .context("cannot write to stdout")?;
    let is_marked = result.client.as_ref().is_some_and(|client| !client.marks.is_empty());
    Ok(match (is_good, plan.strict && is_marked) {
        (false, _) => Outcome::Failed,
        (true, true) => Outcome::Marked,
        (true, false) => Outcome::Good,
    })
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

fn assemble(plan: &Plan, model: String, finished: Finished, mut notes: Vec<String>) -> RunResult {
    let Finished { records, wall, start, end, interrupted, client } = finished;
    let summary = Summary {
        goodput: plan.slo.map(|slo| goodput(slo, &records, wall)),
        percentiles: percentiles(&records, &plan.percentiles),
        ..summarise(&records, wall)
    };
    if interrupted {
        let of_all = plan.load.count.map(|count| format!(" of {count}")).unwrap_or_default();
        notes.push(format!("interrupted after {}{of_all} requests", records.len()));
    }
    notes.extend(notes::notes(&records, plan));
    let (options, load) = (&plan.options, &plan.load);
    let (workers, rate, arrivals) = match load.pace {
        Pace::Closed { workers } => (workers, None, None),
        Pace::Open { rate, arrivals, most_in_flight } => {
            (most_in_flight.unwrap_or(0), Some(rate), Some(arrivals.to_string()))
        }
    };
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
        arrivals,
        duration_seconds: load.duration.map(|duration| duration.as_secs_f64()),
        warmup: plan.warmup.clone(),
        seed: load.seed,
        input_tokens: match load.prompts.source {
            Source::Random(length) => Some(length.to_string()),
            Source::List(_) => None,
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
        notes,
        requests: records,
    }
}
