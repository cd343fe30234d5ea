//! A plan from start to end: choose the model, run the load, write the result, show it.

use std::io::{self, Write as _};

use anyhow::{Context as _, Error, Result};
use jiff::Timestamp;

use crate::{
    client::Client,
    error::RequestError,
    measurement::unix_nanoseconds,
    notes,
    plan::Plan,
    progress::Progress,
    record::{Failure, RunResult, Settings},
    result_file::ResultFile,
    run::{self, Finished, Load},
    summary::summarise,
    table,
};

/// Whether all requests succeeded. An error is a run that could not take place, or left no result.
pub async fn execute(plan: Plan) -> Result<bool> {
    let client =
        Client::new(plan.target.clone(), plan.options.clone()).await.map_err(with_advice)?;
    let mut notes = Vec::new();
    let model = match plan.model.clone() {
        Some(model) => model,
        None => choose_model(&client, &mut notes).await?,
    };
    let file = ResultFile::reserve(&plan.out, plan.test.file_prefix(), Timestamp::now())?;

    let mut progress = Progress::start(plan.count);
    let load =
        Load { model: &model, prompts: &plan.prompts, count: plan.count, workers: plan.workers };
    let finished = run::run(&client, load, interrupt(), |record| progress.show(record)).await;
    progress.finish();

    let result = assemble(&plan, model, finished, notes);
    let mut json = serde_json::to_string_pretty(&result).context("cannot serialise the result")?;
    json.push('\n');
    let path = file.publish(&json)?;
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
    Ok(result.summary.succeeded == plan.count as usize)
}

async fn choose_model(client: &Client, notes: &mut Vec<String>) -> Result<String> {
    let models = client.models().await.map_err(with_advice)?;
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
    let Finished { records, wall, start, end, interrupted } = finished;
    let summary = summarise(&records, wall);
    if interrupted {
        notes.push(format!("interrupted after {} of {} requests", summary.requests, plan.count));
    }
    notes.extend(notes::notes(&records, plan));
    let options = &plan.options;
    let settings = Settings {
        test: plan.test.name().to_owned(),
        host: plan.target.host().to_owned(),
        port: plan.target.port(),
        endpoint: options.api.path().to_owned(),
        model,
        stream: options.stream,
        max_tokens: options.max_tokens,
        ignore_eos: options.ignore_eos,
        timeout_seconds: options.timeout.as_secs_f64(),
        count: plan.count,
        workers: plan.workers,
    };
    RunResult {
        tool: concat!("loadtest ", env!("CARGO_PKG_VERSION")).to_owned(),
        started_at: start.to_string(),
        start_unix_ns: unix_nanoseconds(start),
        finished_at: end.to_string(),
        settings,
        summary,
        notes,
        requests: records,
    }
}
