//! A checked command line: everything a run needs, nothing left to refuse.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::{
    cli::{Batch, Command, Common},
    client::Options,
    headers::Headers,
    http::tls_configuration,
    pace::{Arrivals, Pace, Rate},
    prompts::{self, Prefix, Prompts, Source},
    protocol::Api,
    replay::Trace,
    run::{Load, Warmup},
    slo::Slo,
    target::Target,
};

#[derive(Debug)]
pub struct Plan {
    pub test: Test,
    /// Not empty.
    pub targets: Vec<Target>,
    pub options: Options,
    pub model: Option<String>,
    pub load: Load,
    pub warmup: Option<String>,
    pub slo: Option<Slo>,
    pub percentiles: Vec<f64>,
    pub label: Option<String>,
    pub append: Option<PathBuf>,
    pub csv: Option<PathBuf>,
    pub study: Option<StudyPlan>,
    pub server_metrics: bool,
    pub replay: Option<PathBuf>,
    /// The exit code says if the client was not up to the load.
    pub strict: bool,
    pub out: PathBuf,
    pub json: bool,
}

/// More than one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StudyPlan {
    Repeat(u32),
    /// Shares, not percent.
    Sweep {
        from: f64,
        precision: f64,
        share: f64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    Single,
    Batch,
}

/// How long --sweep looks at each rate.
const SWEEP: Duration = Duration::from_secs(30);
/// Requests of a batch, unless a number or a time is given.
const BATCH: u32 = 15;

impl Plan {
    /// An error here is wrong usage.
    pub fn new(command: Command) -> Result<Self> {
        match command {
            Command::Single(common) => {
                let prompt = common.prompt.clone().unwrap_or_else(|| prompts::SINGLE.to_owned());
                let load = Load {
                    model: String::new(),
                    prompts: Prompts::list([prompt]),
                    count: Some(1),
                    duration: None,
                    warmup: Warmup::Requests(0),
                    pace: Pace::Closed { workers: 1 },
                    times: None,
                    seed: 0,
                    threads: Some(1),
                };
                Self::of(Test::Single, *common, load)
            }
            Command::Batch(batch) => {
                let load = load_of(&batch)?;
                let study = study_of(&batch)?;
                let Batch { common, warmup, slo, percentiles, append, csv, strict, .. } = *batch;
                Ok(Self {
                    study,
                    server_metrics: !batch.no_server_metrics,
                    replay: batch.replay,
                    warmup,
                    slo,
                    percentiles,
                    append,
                    csv,
                    strict,
                    ..Self::of(Test::Batch, common, load)?
                })
            }
        }
    }

    fn of(test: Test, common: Common, load: Load) -> Result<Self> {
        let Common {
            host,
            port,
            base_url,
            ca,
            header,
            api_key_file,
            model,
            prompt: _,
            label,
            max_tokens,
            ignore_eos,
            chat,
            no_stream,
            timeout,
            api_key,
            out,
            json,
        } = common;
        let mut targets = Vec::new();
        for url in &base_url {
            let target = Target::from_url(url).map_err(|reason| anyhow!("--base-url: {reason}"))?;
            targets.push(target);
        }
        if targets.is_empty() {
            targets.push(Target::new(&host, port).map_err(anyhow::Error::msg)?);
        }
        let tls = targets.iter().any(Target::is_tls);
        ensure!(
            tls || ca.is_none(),
            "--ca is for https: give a --base-url that begins with https://"
        );
        let tls = if tls { Some(tls_configuration(ca.as_deref())?) } else { None };
        let headers = Headers::new(&header, api_key.as_ref(), api_key_file.as_deref())?;
        let api = if chat { Api::Chat } else { Api::Completions };
        let stream = !no_stream;
        let options = Options { api, stream, max_tokens, ignore_eos, timeout, headers, tls };
        Ok(Self {
            test,
            targets,
            options,
            model,
            load,
            warmup: None,
            slo: None,
            percentiles: vec![],
            label,
            append: None,
            csv: None,
            study: None,
            server_metrics: false,
            replay: None,
            strict: false,
            out,
            json,
        })
    }
}

fn load_of(batch: &Batch) -> Result<Load> {
    let prompts = match (&batch.common.prompt, &batch.prompts, batch.input_tokens) {
        (Some(prompt), _, _) => Prompts::list([prompt.clone()]),
        (None, Some(path), _) => Prompts::list(prompts::from_file(path)?),
        (None, None, Some(length)) => {
            Prompts { source: Source::Random(length), ..Prompts::list(prompts::BUILT_IN) }
        }
        (None, None, None) => Prompts::list(prompts::BUILT_IN),
    };
    let mut times = None;
    let mut source = prompts.source;
    if let Some(path) = &batch.replay {
        let trace = Trace::read(path)?;
        times = Some(trace.times(batch.replay_speed));
        source = Source::Trace(Arc::new(trace));
    }
    let prefix = batch.shared_prefix.map(|tokens| Prefix { tokens, count: batch.prefixes });
    let prompts = Prompts { source, output: batch.output_tokens, prefix, seed: batch.seed };
    let warmup = match &batch.warmup {
        Some(text) => parse_warmup(text)?,
        None => Warmup::Requests(0),
    };
    let (mut count, mut duration) = (batch.count, batch.duration);
    if batch.sweep && duration.is_none() {
        duration = Some(SWEEP);
    }
    if count.is_none() && duration.is_none() {
        // All of a trace, if it is not cut.
        let all = times.as_ref().map(|times| u32::try_from(times.len()).unwrap_or(u32::MAX));
        count = Some(all.unwrap_or(BATCH));
    }
    // The warm-up comes on top of what is measured.
    match warmup {
        Warmup::Requests(more) => count = count.map(|count| count.saturating_add(more)),
        Warmup::Time(more) => duration = duration.map(|duration| duration + more),
    }
    let pace = pace_of(batch, times.as_deref())?;
    let Batch { seed, threads, .. } = *batch;
    Ok(Load { model: String::new(), prompts, count, duration, warmup, pace, times, seed, threads })
}

fn pace_of(batch: &Batch, times: Option<&[Duration]>) -> Result<Pace> {
    let rate = match (batch.rate, batch.ramp, batch.duration, times) {
        (Some(rate), ..) => Some(Rate::Constant(rate)),
        (_, Some((from, to)), Some(over), _) => {
            Some(Rate::Ramp { from, to, over, shape: batch.ramp_shape })
        }
        (.., Some(times)) => {
            let seconds = times.last().map_or(1.0, Duration::as_secs_f64).max(1e-3);
            Some(Rate::Constant(times.len() as f64 / seconds))
        }
        _ => batch.sweep.then_some(Rate::Constant(batch.sweep_from)),
    };
    let Some(rate) = rate else {
        for (is_given, option) in [
            (batch.arrivals.is_some(), "--arrivals"),
            (batch.max_concurrency.is_some(), "--max-concurrency"),
        ] {
            ensure!(!is_given, "{option} is for an open loop: give --rate, --ramp or --sweep");
        }
        return Ok(Pace::Closed { workers: if batch.parallel { batch.workers } else { 1 } });
    };
    let arrivals = batch.arrivals.unwrap_or(Arrivals::Poisson);
    Ok(Pace::Open { rate, arrivals, most_in_flight: batch.max_concurrency })
}

fn study_of(batch: &Batch) -> Result<Option<StudyPlan>> {
    if !batch.sweep {
        return Ok(batch.repeat.map(StudyPlan::Repeat));
    }
    let sees_queue = batch.slo.is_some_and(|slo| slo.ttft_ms.or(slo.e2e_ms).is_some());
    ensure!(
        sees_queue,
        "--sweep needs a limit for ttft or e2e in --slo: the others do not see a queue that grows"
    );
    let Batch { sweep_from: from, sweep_precision, sweep_share, .. } = *batch;
    let (precision, share) = (sweep_precision / 100.0, sweep_share / 100.0);
    Ok(Some(StudyPlan::Sweep { from, precision, share }))
}

/// A number of requests, or a number of seconds with an `s` behind it.
fn parse_warmup(text: &str) -> Result<Warmup> {
    let seconds = text.strip_suffix('s').and_then(|seconds| seconds.parse().ok());
    let time =
        seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).map(Warmup::Time);
    time.or_else(|| text.parse().ok().map(Warmup::Requests)).with_context(|| {
        format!("--warmup {text}: give a number of requests, as in 20, or a time, as in 10s")
    })
}

impl Test {
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Batch => "batch",
        }
    }

    /// The result file is named `PREFIX_TIME.json`.
    pub fn file_prefix(self) -> &'static str {
        match self {
            Self::Single => "single_prompt_result",
            Self::Batch => "batch_prompts_result",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn load(arguments: &str) -> Load {
        let words = ["loadtest", "batch"].into_iter().chain(arguments.split_whitespace());
        Plan::new(Cli::parse_from(words).command).unwrap().load
    }

    #[test]
    fn a_warm_up_comes_on_top() {
        assert_eq!((load("").count, load("").duration), (Some(15), None));
        assert_eq!(load("--count 10 --warmup 5").count, Some(15));
        let timed = load("--duration 60 --warmup 5s");
        assert_eq!((timed.count, timed.duration), (None, Some(Duration::from_secs(65))));
        assert_eq!(timed.warmup, Warmup::Time(Duration::from_secs(5)));
        for text in ["", "-1", "5m", "xs", "-1s"] {
            assert!(parse_warmup(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_makes_an_open_loop() {
        let open = |most_in_flight| Pace::Open {
            rate: Rate::Constant(2.5),
            arrivals: Arrivals::Poisson,
            most_in_flight,
        };
        assert_eq!(load("--rate 2.5").pace, open(None));
        assert_eq!(load("--rate 2.5 --max-concurrency 9").pace, open(Some(9)));
        assert_eq!(load("--parallel").pace, Pace::Closed { workers: 4 });
    }
}
