//! The sidecar's life: start, record and upload until told to stop, then drain.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use trace::segment_name::Run;
use tracing::{info, warn};

use crate::{
    clock,
    config::{Config, HttpAddress},
    discovery::Discovery,
    http, preflight,
    probes::{self, Probes},
    process::Processes,
    recorder::{self, Recorder, Totals},
    s3::Bucket,
    signals::Signals,
    spool::Spool,
    state::{Phase, State},
    status::{Facts, Reporter},
    upload::Uploader,
};

/// Runs until SIGTERM or SIGINT; a second one aborts the drain.
pub async fn run(mut config: Config) -> Result<()> {
    // Watched before anything starts, so that an early signal is not lost.
    let mut signals = Signals::watch()?;
    raise_file_limit()?;
    preflight::check(config.attach_by)?;
    config.trace_detail = preflight::safe_detail(config.trace_detail);
    let spool = Spool::open(&config.trace_dir)?;
    let options = recorder_options(&config)?;
    let state = Arc::new(State::default());
    if let HttpAddress(Some(address)) = config.http_address {
        // Before the tracer, so that it can be asked while it starts.
        serve(address, facts(&config, &options), &spool, &state).await?;
    }
    let mut tracer = Tracer::start(&config, options, &spool, &state)?;
    let (stop_uploads, stopped) = watch::channel(false);
    // After the tracer: reading gigabytes, and finding region and credentials, can take seconds.
    let leftovers = tokio::task::spawn_blocking({
        let spool = spool.clone();
        move || spool.close_leftovers()
    });
    let uploads = (config.upload_enabled && config.s3_bucket.is_some()).then(|| {
        let uploader = upload(config.clone(), spool.clone(), state, leftovers, stopped);
        tokio::spawn(uploader)
    });

    tokio::select! {
        name = signals.next() => info!(
            "received {name}: closing and uploading the trace, for {:?} at most; once more gives up \
             at once",
            config.shutdown_timeout
        ),
        // Reported below, by the join.
        _ = &mut tracer.failed => warn!("a tracing thread ended early"),
    }
    let deadline = Instant::now() + config.shutdown_timeout;
    let drained = timeout_at(deadline, drain(tracer, &stop_uploads, uploads));
    let drained = tokio::select! {
        drained = drained => drained,
        name = signals.next() => bail!(
            "received {name} again: what was not closed or uploaded stays in {}",
            config.trace_dir.display()
        ),
    };
    let Ok(drained) = drained else {
        bail!(
            "SHUTDOWN_TIMEOUT passed with {} segments not uploaded; they stay in {}, and the next \
             start uploads them",
            spool.closed()?.len(),
            config.trace_dir.display()
        );
    };
    let (Totals { lines, dropped, segments }, uploaded) = drained?;
    info!(lines, dropped, segments, uploaded, "stopped");
    Ok(())
}

/// Closes the trace, then uploads the rest of it; also of a trace that failed.
async fn drain(
    tracer: Tracer,
    stop_uploads: &watch::Sender<bool>,
    uploads: Option<JoinHandle<u64>>,
) -> Result<(Totals, u64)> {
    let totals = tokio::task::spawn_blocking(move || tracer.stop()).await?;
    stop_uploads.send_replace(true);
    let uploaded = match uploads {
        Some(uploads) => uploads.await?,
        None => 0,
    };
    Ok((totals?, uploaded))
}

/// Uploads until told to stop; returns the number of uploads.
async fn upload(
    config: Config,
    spool: Spool,
    state: Arc<State>,
    leftovers: JoinHandle<()>,
    stopped: watch::Receiver<bool>,
) -> u64 {
    let name = config.s3_bucket.as_deref().unwrap_or_default();
    let endpoint = config.s3_endpoint.as_deref();
    let bucket = Bucket::connect(name, &config.s3_prefix, endpoint).await;
    // The first pass takes them along.
    if let Err(error) = leftovers.await {
        warn!(%error, "segments that a crash had left open are not closed");
    }
    Uploader::new(spool, bucket, state).run(config.upload_interval, stopped).await
}

async fn serve(address: SocketAddr, facts: Facts, spool: &Spool, state: &Arc<State>) -> Result<()> {
    let listener = http::listen(address).await?;
    let address = listener.local_addr().context("cannot tell where HTTP_ADDRESS is")?;
    info!("listening on http://{address}");
    let reporter = Reporter::new(facts, spool.clone(), Arc::clone(state));
    tokio::spawn(http::serve(listener, Arc::new(reporter)));
    Ok(())
}

/// The two tracing threads.
struct Tracer {
    stop: Arc<AtomicBool>,
    state: Arc<State>,
    recorder: thread::JoinHandle<Result<Totals>>,
    discovery: thread::JoinHandle<Result<Discovery>>,
    /// Resolves when a thread ends before it was told to.
    failed: oneshot::Receiver<()>,
}

impl Tracer {
    /// Returns when everything that can be found is attached.
    fn start(
        config: &Config,
        options: recorder::Options,
        spool: &Spool,
        state: &Arc<State>,
    ) -> Result<Self> {
        let Probes { attacher, events, kernel } = Probes::load(probes::Settings {
            ring_buffer_size: config.ring_buffer_size,
            attach_by: config.attach_by,
            detail: config.trace_detail,
            rate_limit: config.trace_rate_limit,
        })?;
        let processes = Arc::new(Mutex::new(Processes::new(&config.target_process)));
        let (notices, received) = mpsc::channel();
        let run = options.run.to_string();
        let recorder = Recorder::new(
            options,
            spool.clone(),
            events,
            kernel,
            Arc::clone(&processes),
            received,
            Arc::clone(state),
        )?;
        let mut discovery = Discovery::new(
            config.trace_functions.clone(),
            config.cuda_library_dirs.0.clone(),
            attacher,
            processes,
            notices,
            Arc::clone(state),
        )?;
        let stop = Arc::new(AtomicBool::new(false));
        let (failure, failed) = oneshot::channel();
        let ties = Ties {
            stop: Arc::clone(&stop),
            state: Arc::clone(state),
            failure: Arc::new(Mutex::new(Some(failure))),
        };
        let recorder = spawn("recorder", &ties, move |stop| recorder.run(stop))?;
        discovery.scan()?;
        let discovery = spawn("discovery", &ties, move |stop| discovery.run(stop))?;
        state.enter(Phase::Recording);
        info!(run, target = config.target_process, "ready: tracing");
        Ok(Self { stop, state: Arc::clone(state), recorder, discovery, failed })
    }

    /// Ends both threads; the probes are detached last, by the end of the process.
    fn stop(self) -> Result<Totals> {
        self.stop.store(true, Ordering::Release);
        self.state.enter(Phase::Stopping);
        let totals = join(self.recorder, "recorder")?;
        let discovery = join(self.discovery, "discovery")?;
        // Detaching takes the kernel up to half a second per probe: uploads must not wait for it.
        std::mem::forget(discovery);
        Ok(totals)
    }
}

/// How a thread is told to end, and how it tells that it ends.
#[derive(Clone)]
struct Ties {
    stop: Arc<AtomicBool>,
    state: Arc<State>,
    failure: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

/// Tells the daemon, and whoever asks, when a thread ends before it was told to.
struct EndOfThread {
    name: &'static str,
    ties: Ties,
}

impl Drop for EndOfThread {
    /// Also in a panic.
    fn drop(&mut self) {
        let Ties { stop, state, failure } = &self.ties;
        if stop.load(Ordering::Acquire) {
            return;
        }
        state.thread_failed(self.name);
        if let Some(failure) = failure.lock().ok().and_then(|mut failure| failure.take()) {
            // Nobody listens only when the sidecar is ending anyway.
            let _: Result<(), ()> = failure.send(());
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    ties: &Ties,
    body: impl FnOnce(&AtomicBool) -> T + Send + 'static,
) -> Result<thread::JoinHandle<T>> {
    let end = EndOfThread { name, ties: ties.clone() };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || body(&end.ties.stop))
        .with_context(|| format!("cannot start the thread {name}"))
}

fn join<T>(thread: thread::JoinHandle<Result<T>>, name: &str) -> Result<T> {
    thread
        .join()
        .map_err(|_| anyhow!("the thread {name} panicked"))?
        .with_context(|| format!("the thread {name} failed"))
}

fn recorder_options(config: &Config) -> Result<recorder::Options> {
    let system = rustix::system::uname();
    let start = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ").to_string();
    let settings = [
        ("target_process", config.target_process.clone()),
        ("trace_functions", config.trace_functions.to_string()),
        ("trace_detail", word(config.trace_detail)),
        ("trace_format", config.trace_format.extension().to_owned()),
        ("trace_rate_limit", config.trace_rate_limit.to_string()),
        ("attach_by", word(config.attach_by)),
        ("trace_interval_s", config.trace_interval.as_secs_f64().to_string()),
        ("ring_buffer_bytes", config.ring_buffer_size.to_string()),
    ];
    Ok(recorder::Options {
        run: Run::new(system.nodename().to_str().context("the host name is not UTF-8")?, &start),
        start_ns: clock::monotonic_ns(),
        interval: config.trace_interval,
        segment_size: config.trace_segment_size,
        format: config.trace_format,
        directory_limit: config.trace_dir_limit,
        ring_bytes: config.ring_buffer_size.into(),
        kernel_release: system.release().to_string_lossy().into_owned(),
        settings: settings.map(|(name, value)| (name.to_owned(), value)).into(),
    })
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

    /// What is known of a thread that ran `body` and was told to stop first, or was not.
    fn after(is_told: bool, body: fn()) -> (Phase, Option<&'static str>, bool) {
        let (failure, mut failed) = oneshot::channel();
        let ties = Ties {
            stop: Arc::new(AtomicBool::new(is_told)),
            state: Arc::default(),
            failure: Arc::new(Mutex::new(Some(failure))),
        };
        ties.state.enter(Phase::Recording);
        // A panic is an outcome here, too.
        let _ = spawn("recorder", &ties, move |_| body()).unwrap().join();
        (ties.state.phase(), ties.state.failed_thread(), failed.try_recv().is_ok())
    }

    #[test]
    fn a_thread_that_ends_by_itself_is_told_of_also_when_it_panics() {
        assert_eq!(after(true, || {}), (Phase::Recording, None, false));
        assert_eq!(after(false, || {}), (Phase::Failed, Some("recorder"), true));
        assert_eq!(after(false, || panic!("on purpose")), (Phase::Failed, Some("recorder"), true));
    }

    #[test]
    fn the_opening_line_says_how_calls_were_chosen_and_probes_attached() {
        let arguments = [
            "x",
            "--upload-enabled=false",
            "--trace-rate-limit=100",
            "--attach-by=perf-events",
            "--trace-detail=entry",
        ];
        let settings = recorder_options(&Config::parse_from(arguments).unwrap()).unwrap().settings;
        for (name, value) in
            [("trace_rate_limit", "100"), ("attach_by", "perf-events"), ("trace_detail", "entry")]
        {
            assert_eq!(settings.get(name).map(String::as_str), Some(value), "{settings:?}");
        }
    }
}
