//! The two threads that trace: one attaches probes, the other records what they see.

use std::{
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use processes::process::Processes;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::detach;

use crate::{
    capabilities,
    config::Config,
    probing::{
        discovery::Discovery,
        probes::{self, Probes},
    },
    recording::recorder::{self, DiscoveryEvent, Recorder, Totals},
    reporting::state::{Phase, State},
    shipping::spool::Spool,
};

/// How long discovery may take to end. It looks into files and processes that others control, and
/// the trace must be closed and uploaded also when these do not answer.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(1);

/// The two tracing threads.
pub(super) struct Tracer<D = Discovery> {
    stop_discovery: Arc<AtomicBool>,
    stop_recorder: Arc<AtomicBool>,
    state: Arc<State>,
    recorder: thread::JoinHandle<Result<Totals>>,
    discovery: thread::JoinHandle<Result<D>>,
    /// What becomes of discovery, and its probes, in the end.
    release: fn(D),
    /// To the recorder, as discovery has it.
    discovery_events: mpsc::Sender<DiscoveryEvent>,
    /// What becomes of the probes of a discovery that does not end.
    abandon: fn(),
    /// Resolves when everything that can be found is attached; an error if that failed.
    pub(super) ready: oneshot::Receiver<()>,
    /// Resolves when a thread ends before it was told to.
    pub(super) failed: oneshot::Receiver<()>,
}

impl Tracer {
    /// Returns when calls are recorded, but before anything is attached: a file that does not
    /// answer must not keep signals waiting.
    pub(super) fn start(
        config: &Config,
        options: recorder::Options,
        spool: &Spool,
        state: &Arc<State>,
    ) -> Result<Self> {
        let Probes { mut attacher, events, kernel } = Probes::load(probes::Settings {
            ring_buffer_size: config.settings.ring_buffer_size,
            attach_by: config.settings.attach_by,
            detail: config.settings.trace_detail,
            rate_limit: config.settings.trace_rate_limit,
        })?;
        let attaches_by_perf_events = attacher.uses_perf_events();
        let stop_discovery = Arc::default();
        attacher.stop_when(Arc::clone(&stop_discovery));
        let processes = Arc::new(Mutex::new(Processes::new(&config.settings.target_process)));
        let (discovery_events, received) = mpsc::channel();
        let own_notices = discovery_events.clone();
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
            config.settings.trace_functions.clone(),
            config.settings.cuda_library_dirs.0.clone(),
            attacher,
            processes,
            discovery_events,
            Arc::clone(state),
        )?;
        let (failure, failed) = oneshot::channel();
        let failure = Arc::new(Mutex::new(Some(failure)));
        let link =
            |stop| ThreadLink { stop, state: Arc::clone(state), failure: Arc::clone(&failure) };
        capabilities::finish_start(attaches_by_perf_events, &config.settings.trace_dir);
        let (of_recorder, of_discovery) = (link(Arc::default()), link(stop_discovery));
        let recorder = spawn("recorder", &of_recorder, move |stop| recorder.run(stop))?;
        let (tell, ready) = oneshot::channel();
        let (told, target) = (Arc::clone(state), config.settings.target_process.clone());
        let discovery = spawn("discovery", &of_discovery, move |stop| {
            discovery.scan()?;
            if !stop.load(Ordering::Acquire) {
                told.enter(Phase::Recording);
                info!(run, target, "ready: tracing");
            }
            // Nobody listens when it is told to stop.
            let _: Result<(), ()> = tell.send(());
            discovery.run(stop)
        })?;
        Ok(Self {
            stop_discovery: of_discovery.stop,
            stop_recorder: of_recorder.stop,
            state: Arc::clone(state),
            recorder,
            discovery,
            release,
            discovery_events: own_notices,
            abandon: if attaches_by_perf_events { abandon } else { || () },
            ready,
            failed,
        })
    }
}

impl<D> Tracer<D> {
    /// Ends both threads. Discovery first, so that what it still finds out is written; the recorder
    /// does not wait for it for long. Neither this nor the end of the process waits until probes are
    /// detached.
    pub(super) fn stop(self) -> Result<Totals> {
        self.stop_discovery.store(true, Ordering::Release);
        self.state.enter(Phase::Stopping);
        let deadline = Instant::now() + DISCOVERY_TIMEOUT;
        while !self.discovery.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        if !self.discovery.is_finished() {
            // One that has ended tells why itself.
            let _: Result<(), _> = self.discovery_events.send(DiscoveryEvent::DiscoveryAbandoned);
        }
        self.stop_recorder.store(true, Ordering::Release);
        let totals = join(self.recorder, "recorder");
        if self.discovery.is_finished() {
            match join(self.discovery, "discovery") {
                Ok(discovery) => (self.release)(discovery),
                Err(error) => return totals.and(Err(error)),
            }
        } else {
            warn!("discovery does not end within {DISCOVERY_TIMEOUT:?}: going on without it");
            (self.abandon)();
        }
        totals
    }
}

/// Links of many probes are closed at once, by the end of the process. Perf events take up to 0.2 s
/// for each probe: neither uploads nor the end may wait for that.
fn release(discovery: Discovery) {
    let slow = discovery.detaches_slowly();
    if slow && discovery.is_attaching() {
        // A thread holds the probes too.
        mem::forget(discovery);
        return abandon();
    }
    let mut discovery = Some(discovery);
    if slow && let Err(error) = detach::by_another_process(|| drop(discovery.take())) {
        warn!("probes are detached one by one before the sidecar can end: {error:#}");
    }
    mem::forget(discovery);
}

/// Discovery keeps its probes until the sidecar has ended, which must not wait for them either.
fn abandon() {
    if let Err(error) = detach::by_another_process_after_the_end() {
        warn!("probes are detached one by one before the sidecar can end: {error:#}");
    }
}

/// How a thread is told to end, and how it tells that it ends.
#[derive(Clone)]
struct ThreadLink {
    stop: Arc<AtomicBool>,
    state: Arc<State>,
    failure: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

/// Tells the daemon, and whoever asks, when a thread ends before it was told to.
struct EndOfThread {
    name: &'static str,
    link: ThreadLink,
}

impl Drop for EndOfThread {
    /// Also in a panic.
    fn drop(&mut self) {
        let ThreadLink { stop, state, failure } = &self.link;
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
    link: &ThreadLink,
    body: impl FnOnce(&AtomicBool) -> T + Send + 'static,
) -> Result<thread::JoinHandle<T>> {
    let end = EndOfThread { name, link: link.clone() };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || body(&end.link.stop))
        .with_context(|| format!("cannot start the thread {name}"))
}

fn join<T>(thread: thread::JoinHandle<Result<T>>, name: &str) -> Result<T> {
    thread
        .join()
        .map_err(|_| anyhow!("the thread {name} panicked"))?
        .with_context(|| format!("the thread {name} failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known of a thread that ran `body` and was told to stop first, or was not.
    fn after(is_told: bool, body: fn()) -> (Phase, Option<&'static str>, bool) {
        let (failure, mut failed) = oneshot::channel();
        let link = ThreadLink {
            stop: Arc::new(AtomicBool::new(is_told)),
            state: Arc::default(),
            failure: Arc::new(Mutex::new(Some(failure))),
        };
        link.state.enter(Phase::Recording);
        // A panic is an outcome here, too.
        let _ = spawn("recorder", &link, move |_| body()).unwrap().join();
        (link.state.phase(), link.state.failed_thread(), failed.try_recv().is_ok())
    }

    #[test]
    fn a_thread_that_ends_by_itself_is_told_of_also_when_it_panics() {
        assert_eq!(after(true, || {}), (Phase::Recording, None, false));
        assert_eq!(after(false, || {}), (Phase::Failed, Some("recorder"), true));
        assert_eq!(after(false, || panic!("on purpose")), (Phase::Failed, Some("recorder"), true));
    }

    #[test]
    fn the_trace_is_closed_and_stopping_goes_on_although_discovery_hangs() {
        static ABANDONED: AtomicBool = AtomicBool::new(false);

        let (_failure, failed) = oneshot::channel();
        let (_tell, ready) = oneshot::channel();
        // It ends with the test.
        let (_end, hangs) = mpsc::channel::<()>();
        let stop = Arc::new(AtomicBool::new(false));
        let recorder = {
            let stop = Arc::clone(&stop);
            move || {
                while !stop.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                Ok(Totals { lines: 7, ..Totals::default() })
            }
        };
        let discovery = move || hangs.recv().context("the test has ended");
        let (discovery_events, received) = mpsc::channel();
        let state: Arc<State> = Arc::default();
        let tracer = Tracer {
            stop_discovery: Arc::default(),
            stop_recorder: stop,
            release: |()| (),
            discovery_events,
            abandon: || ABANDONED.store(true, Ordering::Relaxed),
            state: Arc::clone(&state),
            recorder: thread::spawn(recorder),
            discovery: thread::spawn(discovery),
            ready,
            failed,
        };
        assert_eq!(tracer.stop().unwrap().lines, 7);
        let is_told = matches!(received.try_recv(), Ok(DiscoveryEvent::DiscoveryAbandoned));
        assert!(is_told, "the trace would not tell of what discovery knew");
        assert!(ABANDONED.load(Ordering::Relaxed), "its probes are not closed one by one");
        assert_eq!(state.phase(), Phase::Stopping);
    }
}
