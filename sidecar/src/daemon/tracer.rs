//! The two threads that trace: one attaches probes, the other records what they see.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::oneshot;
use tracing::info;

use crate::{
    capabilities,
    config::Config,
    discovery::Discovery,
    probes::{self, Probes},
    process::Processes,
    recorder::{self, Recorder, Totals},
    spool::Spool,
    state::{Phase, State},
};

/// The two tracing threads.
pub(super) struct Tracer {
    stop: Arc<AtomicBool>,
    state: Arc<State>,
    recorder: thread::JoinHandle<Result<Totals>>,
    discovery: thread::JoinHandle<Result<Discovery>>,
    /// Resolves when a thread ends before it was told to.
    pub(super) failed: oneshot::Receiver<()>,
}

impl Tracer {
    /// Returns when everything that can be found is attached.
    pub(super) fn start(
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
        let attaches_by_perf_events = attacher.uses_perf_events();
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
        capabilities::finish_start(attaches_by_perf_events, &config.trace_dir);
        let recorder = spawn("recorder", &ties, move |stop| recorder.run(stop))?;
        discovery.scan()?;
        let discovery = spawn("discovery", &ties, move |stop| discovery.run(stop))?;
        state.enter(Phase::Recording);
        info!(run, target = config.target_process, "ready: tracing");
        Ok(Self { stop, state: Arc::clone(state), recorder, discovery, failed })
    }

    /// Ends both threads; the probes are detached last, by the end of the process.
    pub(super) fn stop(self) -> Result<Totals> {
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
}
