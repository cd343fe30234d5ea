//! The sidecar's life: start, record and upload until told to stop, then drain.

use std::{
    io::{self, Write as _},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};
use trace::segment_name::Run;
use tracing::{error, info, warn};

use crate::{
    clock,
    config::Config,
    discovery::Discovery,
    preflight,
    probes::Probes,
    process::Processes,
    recorder::{self, Recorder, Totals},
    s3::Bucket,
    spool::Spool,
    upload::Uploader,
};

/// Runs until SIGTERM or SIGINT; a second one aborts the drain.
pub async fn run(config: Config) -> Result<()> {
    // Watched before anything starts, so that an early signal is not lost.
    let mut signals = Signals::watch()?;
    raise_file_limit()?;
    preflight::check()?;
    let spool = Spool::open(&config.trace_dir)?;
    let mut tracer = Tracer::start(&config, &spool)?;
    let (stop_uploads, stopped) = watch::channel(false);
    // After the tracer: finding region and credentials can take seconds.
    let uploads = (config.upload_enabled && config.s3_bucket.is_some())
        .then(|| tokio::spawn(upload(config.clone(), spool.clone(), stopped)));

    tokio::select! {
        name = signals.next() => info!("received {name}: closing and uploading the trace"),
        // Reported below, by the join.
        _ = &mut tracer.failed => warn!("a tracing thread ended early"),
    }
    let deadline = Instant::now() + config.shutdown_timeout;
    let drained = async {
        let totals = tokio::task::spawn_blocking(move || tracer.stop()).await??;
        stop_uploads.send_replace(true);
        let uploaded = match uploads {
            // Too late: what is left stays on disk for the next start.
            Some(uploads) => timeout_at(deadline, uploads).await.ok().transpose()?,
            None => Some(0),
        };
        Ok::<_, anyhow::Error>((totals, uploaded))
    };
    let (Totals { lines, dropped, segments }, uploaded) = tokio::select! {
        drained = drained => drained?,
        name = signals.next() => bail!(
            "received {name} again: segments that were not uploaded stay in {}",
            config.trace_dir.display()
        ),
    };
    let Some(uploaded) = uploaded else {
        bail!(
            "SHUTDOWN_TIMEOUT passed with {} segments not uploaded; they stay in {}, and the next \
             start uploads them",
            spool.closed()?.len(),
            config.trace_dir.display()
        );
    };
    info!(lines, dropped, segments, uploaded, "stopped");
    Ok(())
}

/// Uploads until told to stop; returns the number of uploads.
async fn upload(config: Config, spool: Spool, stopped: watch::Receiver<bool>) -> u64 {
    let name = config.s3_bucket.as_deref().unwrap_or_default();
    let endpoint = config.s3_endpoint.as_deref();
    let bucket = Bucket::connect(name, &config.s3_prefix, endpoint).await;
    Uploader::new(spool, bucket).run(config.upload_interval, stopped).await
}

/// The two tracing threads.
struct Tracer {
    stop: Arc<AtomicBool>,
    recorder: JoinHandle<Result<Totals>>,
    discovery: JoinHandle<Result<Discovery>>,
    /// Resolves when a thread ends before it was told to.
    failed: oneshot::Receiver<()>,
}

impl Tracer {
    /// Returns when everything that can be found is attached.
    fn start(config: &Config, spool: &Spool) -> Result<Self> {
        let Probes { attacher, events, kernel } = Probes::load(config.ring_buffer_size)?;
        let processes = Arc::new(Mutex::new(Processes::new(&config.target_process)));
        let (notices, received) = mpsc::channel();
        let options = recorder_options(config)?;
        let run = options.run.to_string();
        let recorder = Recorder::new(
            options,
            spool.clone(),
            events,
            kernel,
            Arc::clone(&processes),
            received,
        )?;
        let mut discovery = Discovery::new(
            config.trace_functions.clone(),
            config.cuda_library_dirs.0.clone(),
            attacher,
            processes,
            notices,
        )?;
        let stop = Arc::new(AtomicBool::new(false));
        let (failure, failed) = oneshot::channel();
        let failure = Arc::new(Mutex::new(Some(failure)));
        let recorder = spawn("recorder", &stop, &failure, move |stop| recorder.run(stop))?;
        discovery.scan()?;
        let discovery = spawn("discovery", &stop, &failure, move |stop| discovery.run(stop))?;
        info!(run, target = config.target_process, "ready: tracing");
        Ok(Self { stop, recorder, discovery, failed })
    }

    /// Ends both threads; the probes are detached last, by the end of the process.
    fn stop(self) -> Result<Totals> {
        self.stop.store(true, Ordering::Release);
        let totals = join(self.recorder, "recorder")?;
        let discovery = join(self.discovery, "discovery")?;
        // Detaching takes the kernel up to half a second per probe: uploads must not wait for it.
        std::mem::forget(discovery);
        Ok(totals)
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    stop: &Arc<AtomicBool>,
    failure: &Arc<Mutex<Option<oneshot::Sender<()>>>>,
    body: impl FnOnce(&AtomicBool) -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    let (stop, failure) = (Arc::clone(stop), Arc::clone(failure));
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let result = body(&stop);
            if !stop.load(Ordering::Acquire)
                && let Some(failure) = failure.lock().expect("held only here").take()
            {
                // Nobody listens only when the sidecar is ending anyway.
                let _: Result<(), ()> = failure.send(());
            }
            result
        })
        .with_context(|| format!("cannot start the thread {name}"))
}

fn join<T>(thread: JoinHandle<Result<T>>, name: &str) -> Result<T> {
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
        ("trace_detail", format!("{:?}", config.trace_detail).to_lowercase()),
        ("trace_interval_s", config.trace_interval.as_secs_f64().to_string()),
        ("ring_buffer_bytes", config.ring_buffer_size.to_string()),
    ];
    Ok(recorder::Options {
        run: Run::new(system.nodename().to_str().context("the host name is not UTF-8")?, &start),
        start_ns: clock::monotonic_ns(),
        interval: config.trace_interval,
        segment_size: config.trace_segment_size,
        directory_limit: config.trace_dir_limit,
        kernel_release: system.release().to_string_lossy().into_owned(),
        settings: settings.map(|(name, value)| (name.to_owned(), value)).into(),
    })
}

/// Each probe takes two descriptors.
fn raise_file_limit() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .context("cannot raise the limit of open files")
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watch() -> Result<Self> {
        Ok(Self {
            // Kubernetes sends SIGTERM, a person at a terminal SIGINT.
            terminate: signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Downloads everything under the prefix into a directory, and prints the path of each file.
pub async fn fetch(config: &Config, directory: &Path) -> Result<()> {
    let mut signals = Signals::watch()?;
    tokio::select! {
        fetched = fetch_all(config, directory) => fetched,
        name = signals.next() => bail!("received {name}: what is downloaded so far is whole"),
    }
}

async fn fetch_all(config: &Config, directory: &Path) -> Result<()> {
    let name = config.s3_bucket.as_deref().context("S3_BUCKET is not set")?;
    let prefix = &config.s3_prefix;
    let bucket = Bucket::connect(name, prefix, config.s3_endpoint.as_deref()).await;
    let objects = bucket.list().await?;
    if objects.is_empty() {
        warn!("nothing is stored under s3://{name}/{prefix}");
    }
    let (mut downloaded, mut left_out) = (0, 0);
    for object in &objects {
        let path = match bucket.path_of(object, directory) {
            Ok(path) => path,
            Err(error) => {
                // No reason to withhold the others.
                error!("{error:#}");
                left_out += 1;
                continue;
            }
        };
        if bucket.fetch(object, &path).await? {
            info!(bytes = object.bytes, "downloaded {}", path.display());
            downloaded += 1;
        }
        writeln!(io::stdout(), "{}", path.display()).context("cannot print a path")?;
    }
    let objects = objects.len();
    ensure!(left_out == 0, "{left_out} of {objects} objects were left out");
    info!(objects, downloaded, "all of s3://{name}/{prefix} is in {}", directory.display());
    Ok(())
}
