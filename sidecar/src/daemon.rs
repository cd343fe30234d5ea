//! The sidecar's life: start, record and upload until told to stop, then drain.

mod detach;
mod tracer;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use processes::clock;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use settings::HttpAddress;
use store::Connection;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use trace::segment_name::{Format, Run};
use tracing::{info, warn};

use crate::{
    config::Config,
    probing::preflight,
    recording::recorder::{self, Totals},
    reporting::{
        http,
        state::State,
        status::{Facts, Reporter},
    },
    shipping::{
        spool::Spool,
        transcode::Transcoder,
        upload::{Uploader, supervise, while_recovering},
    },
    signals::Signals,
};
use tracer::Tracer;

/// Runs until SIGTERM or SIGINT; a second one aborts the drain.
pub async fn run(mut config: Config) -> Result<()> {
    // Watched before anything starts, so that an early signal is not lost.
    let mut signals = Signals::watch()?;
    raise_file_limit()?;
    preflight::check(config.settings.attach_by)?;
    config.settings.trace_detail = preflight::safe_detail(config.settings.trace_detail);
    let mut spool = Spool::open(&config.settings.trace_dir)?;
    if config.settings.trace_format == Format::Parquet {
        spool = spool.with_transcoder(Transcoder::start(
            config.settings.trace_dir_limit / 4,
            &config.settings.trace_dir,
        )?);
    }
    let options = recorder_options(&config);
    let state = Arc::new(State::default());
    if let HttpAddress(Some(address)) = config.local.http_address {
        // Before the tracer, so that it can be asked while it starts.
        serve(address, facts(&config, &options), &spool, &state)?;
    }
    let mut tracer = Tracer::start(&config, options, &spool, &state)?;
    // Told to stop while it still attaches, it uploads what earlier runs have left.
    let told = tokio::select! {
        ready = &mut tracer.ready => match ready {
            Ok(()) => None,
            Err(_) => return tracer.stop().map(drop),
        },
        name = signals.next() => Some(name),
    };
    let (stop_uploads, stopped) = watch::channel(false);
    // After the tracer: reading gigabytes, and finding region and credentials, can take seconds.
    let leftovers = tokio::task::spawn_blocking({
        let (spool, state) = (spool.clone(), Arc::clone(&state));
        move || {
            spool.close_leftovers(|name, bytes| state.uploads().begin_closing(name, bytes));
            state.uploads().end_closing();
        }
    });
    // It has one if it uploads: the settings were checked.
    let destination = config.destination().ok().filter(|_| config.settings.upload_enabled);
    let period = config.settings.upload_interval;
    let uploads = destination.map(|destination| {
        let store = Connection::new(destination);
        tokio::spawn(upload(store, period, spool.clone(), state, leftovers, stopped))
    });

    let told = if told.is_some() {
        told
    } else {
        tokio::select! {
            name = signals.next() => Some(name),
            _ = &mut tracer.failed => None,
        }
    };
    if let Some(name) = told {
        info!(
            "received {name}: closing and uploading the trace, for {:?} at most; once more gives up \
             at once",
            config.settings.shutdown_timeout
        );
    } else {
        // Reported below, by the join.
        warn!("a tracing thread ended early");
    }
    let deadline = Instant::now() + config.settings.shutdown_timeout;
    let transcoder = spool.transcoder().cloned();
    let drained = timeout_at(deadline, drain(tracer, transcoder, deadline, &stop_uploads, uploads));
    let drained = tokio::select! {
        drained = drained => drained,
        name = signals.next() => bail!(
            "received {name} again: what was not closed or uploaded stays in {}",
            config.settings.trace_dir.display()
        ),
    };
    let Ok(drained) = drained else {
        bail!(
            "SHUTDOWN_TIMEOUT passed with {} segments not uploaded; they stay in {}, and the next \
             start uploads them",
            spool.waiting()?.segments,
            config.settings.trace_dir.display()
        );
    };
    let (Totals { lines, dropped, segments }, uploaded) = drained?;
    info!(lines, dropped, segments, uploaded, "stopped");
    Ok(())
}

/// Closes the trace, then uploads the rest of it; also of a trace that failed. Tables may take a quarter of
/// the time that is left then; what has no table by then stays lines.
async fn drain(
    tracer: Tracer,
    transcoder: Option<Transcoder>,
    deadline: Instant,
    stop_uploads: &watch::Sender<bool>,
    uploads: Option<JoinHandle<u64>>,
) -> Result<(Totals, u64)> {
    let totals = tokio::task::spawn_blocking(move || {
        let totals = tracer.stop();
        if let Some(transcoder) = transcoder {
            transcoder.stop(deadline.saturating_duration_since(Instant::now()) / 4);
        }
        totals
    })
    .await?;
    stop_uploads.send_replace(true);
    let uploaded = match uploads {
        Some(uploads) => uploads.await?,
        None => 0,
    };
    Ok((totals?, uploaded))
}

/// Uploads until told to stop; returns the number of uploads. A store that is down, wrong settings and
/// keys, and a task that ends by itself make nothing else end: what waits is kept, and told of.
async fn upload(
    store: Connection,
    period: Duration,
    spool: Spool,
    state: Arc<State>,
    leftovers: JoinHandle<()>,
    stopped: watch::Receiver<bool>,
) -> u64 {
    let store = Arc::new(store);
    let wake = Arc::new(Notify::new());
    while_recovering(leftovers, Arc::clone(&wake), move || {
        let (spool, store, wake) = (spool.clone(), Arc::clone(&store), Arc::clone(&wake));
        let start = {
            let (state, stopped) = (Arc::clone(&state), stopped.clone());
            move || {
                let uploader = Uploader::new(spool.clone(), Arc::clone(&store), Arc::clone(&state));
                uploader.woken_by(Arc::clone(&wake)).run(period, stopped.clone())
            }
        };
        Box::pin(supervise(Arc::clone(&state), stopped.clone(), start))
    })
    .await
}

fn serve(address: SocketAddr, facts: Facts, spool: &Spool, state: &Arc<State>) -> Result<()> {
    let listener = http::listen(address)?;
    let address = listener.local_addr().context("cannot tell where HTTP_ADDRESS is")?;
    info!("listening on http://{address}");
    let reporter = Reporter::new(facts, spool.clone(), Arc::clone(state));
    http::serve(listener, Arc::new(reporter))
}

fn recorder_options(config: &Config) -> recorder::Options {
    let system = rustix::system::uname();
    let start = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ").to_string();
    let settings = [
        ("target_process", config.settings.target_process.clone()),
        ("trace_functions", config.settings.trace_functions.to_string()),
        ("trace_detail", word(config.settings.trace_detail)),
        ("trace_format", config.settings.trace_format.extension().to_owned()),
        ("trace_rate_limit", config.settings.trace_rate_limit.to_string()),
        ("attach_by", word(config.settings.attach_by)),
        ("trace_interval_s", config.settings.trace_interval.as_secs_f64().to_string()),
        ("ring_buffer_bytes", config.settings.ring_buffer_size.to_string()),
    ];
    recorder::Options {
        run: Run::new(&system.nodename().to_string_lossy(), &start),
        start_ns: clock::monotonic_ns(),
        interval: config.settings.trace_interval,
        segment_size: config.settings.trace_segment_size,
        format: config.settings.trace_format.while_open(),
        directory_limit: config.settings.trace_dir_limit,
        ring_bytes: config.settings.ring_buffer_size.into(),
        kernel_release: system.release().to_string_lossy().into_owned(),
        settings: settings.map(|(name, value)| (name.to_owned(), value)).into(),
    }
}

/// As the variable has it.
fn word(value: impl ValueEnum) -> String {
    let value = value.to_possible_value().expect("every value can be given");
    value.get_name().to_owned()
}

fn facts(config: &Config, options: &recorder::Options) -> Facts {
    let recorder::Options { run, kernel_release, .. } = options;
    Facts::of(config, &run.host, kernel_release, &run.to_string())
}

/// Each probe takes two descriptors.
fn raise_file_limit() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .context("cannot raise the limit of open files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_opening_line_says_how_calls_were_chosen_and_probes_attached() {
        let arguments = [
            "x",
            "--upload-enabled=false",
            "--trace-rate-limit=100",
            "--attach-by=perf-events",
            "--trace-detail=entry",
        ];
        let settings = recorder_options(&Config::parse_from(arguments).unwrap()).settings;
        for (name, value) in
            [("trace_rate_limit", "100"), ("attach_by", "perf-events"), ("trace_detail", "entry")]
        {
            assert_eq!(settings.get(name).map(String::as_str), Some(value), "{settings:?}");
        }
    }
}
