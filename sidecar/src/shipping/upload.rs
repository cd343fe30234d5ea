//! Closed segments to the store: uploaded, confirmed, only then deleted.
//!
//! No segment waits for another: one that fails gets a time of its own for its next attempt, and steps
//! aside. Only where the store itself fails do all of them wait.

mod failures;
mod recovery;
mod supervisor;

use std::{collections::HashSet, fs, io, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use store::{Connection, PutError};
use tokio::{
    select,
    sync::{Notify, watch},
    task::{JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use trace::segment_name::SegmentName;
use tracing::{debug, info, warn};

use crate::{
    reporting::state::State,
    shipping::spool::{Closed, Spool},
};
use failures::{Failures, Kind};
pub use recovery::while_recovering;
pub use supervisor::supervise;

/// Where segments go. A trait so that tests can fail where S3 would.
pub trait Store: Send + Sync + 'static {
    /// Returns once the store has confirmed that it holds the file. With `look_first`, an earlier
    /// attempt may have stored it already.
    fn put(
        &self,
        file: &Path,
        name: &str,
        look_first: bool,
    ) -> impl Future<Output = Result<(), PutError>> + Send;

    /// Fails if uploads would surely fail.
    fn check(&self) -> impl Future<Output = Result<()>> + Send;
}

impl Store for Connection {
    async fn put(&self, file: &Path, name: &str, look_first: bool) -> Result<(), PutError> {
        self.put(file, name, look_first).await
    }

    async fn check(&self) -> Result<()> {
        self.check().await
    }
}

/// The wait after the first failure; it doubles up to [`MAX_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// An attempt that has neither succeeded nor failed by then never will. More than the SDK's own
/// limits for a store that does not answer, and the time for the bytes comes on top.
const MAX_SILENCE: Duration = Duration::from_secs(180);

/// Bytes a second, so slow as no useful line is, several attempts included.
const MIN_SPEED: u64 = 16 << 10;

/// How late the uploader may be in anything.
const MARGIN: Duration = Duration::from_secs(30);

/// Failures of different segments in a row, without any success: then it is the store.
const MAX_IN_A_ROW: u32 = 3;

/// At the end, for a segment that fails while others are stored.
const MAX_LAST_PASSES: u32 = 3;

pub struct Uploader<S> {
    spool: Spool,
    store: Arc<S>,
    state: Arc<State>,
    /// The store fails. Logged once when it changes, not once per attempt.
    failing: bool,
    /// Confirmed, but not deleted: not to be uploaded again.
    undeleted: HashSet<SegmentName>,
    failures: Failures,
    /// There are segments that were not closed before.
    wake: Arc<Notify>,
    /// How many this task has stored.
    stored: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Those whose time has come.
    Due,
    /// Also those that wait for their next attempt.
    All,
}

impl<S: Store> Uploader<S> {
    pub fn new(spool: Spool, store: Arc<S>, state: Arc<State>) -> Self {
        Self {
            spool,
            store,
            state,
            failing: false,
            undeleted: HashSet::new(),
            failures: Failures::default(),
            wake: Arc::default(),
            stored: 0,
        }
    }

    /// Looks for segments each time that `wake` is notified, too.
    #[must_use]
    pub fn woken_by(self, wake: Arc<Notify>) -> Self {
        Self { wake, ..self }
    }

    /// Uploads what is closed, at once and then every `period`; retries sooner after a failure.
    /// Asks the store first, so that the log tells of a wrong setting before minutes have passed.
    ///
    /// When `stop` turns true it ends after a last pass in which the store took everything that it
    /// takes. The caller sets the deadline for that; what is left by then stays on disk for the next
    /// start.
    pub async fn run(mut self, period: Duration, mut stop: watch::Receiver<bool>) {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = FIRST_RETRY;
        select! {
            checked = self.check() => self.checked(checked),
            _ = stop.wait_for(|&stop| stop) => {}
        }
        loop {
            let next = self.next_attempt(retry);
            let longest = next.map_or(period, |next| period.min(next - Instant::now()));
            self.state.uploads().begin("the wait for the next segment", longest + MARGIN);
            select! {
                _ = stop.wait_for(|&stop| stop) => break,
                _ = ticks.tick() => {}
                () = self.wake.notified() => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    if self.failing {
                        retry = (retry * 2).min(MAX_RETRY);
                    }
                }
            }
            let tried = self.pass(Which::Due).await;
            if self.failing && !tried {
                // Nothing was uploaded that would tell.
                let checked = self.check().await;
                self.checked(checked);
            }
            if !self.failing {
                retry = FIRST_RETRY;
            }
        }
        for number in 1.. {
            self.pass(Which::All).await;
            if !self.is_worth_another_pass(number) {
                break;
            }
            self.state.uploads().begin("the wait for the next attempt", FIRST_RETRY + MARGIN);
            sleep(FIRST_RETRY).await;
        }
        if !self.failures.is_empty() {
            warn!(
                segments = self.failures.len(),
                "segments that cannot be read, uploaded or deleted stay in {}",
                self.spool.directory().display()
            );
        }
        self.state.uploads().end();
    }

    /// While the store fails, it alone decides when it is asked again.
    fn next_attempt(&self, retry: Duration) -> Option<Instant> {
        let now = Instant::now();
        if self.failing {
            return Some(now + retry);
        }
        // Many have a time of their own: not a pass for each.
        self.failures.next_attempt().map(|next| next.max(now + FIRST_RETRY))
    }

    /// At the end: whether the store may still take something.
    fn is_worth_another_pass(&self, number: u32) -> bool {
        let Ok(closed) = self.spool.closed() else { return true };
        closed.iter().any(|segment| match self.failures.kind(&segment.name) {
            None => !self.undeleted.contains(&segment.name),
            Some(kind) if !kind.is_of_the_store() => false,
            Some(_) => self.failing || number < MAX_LAST_PASSES,
        })
    }

    /// One pass over the closed segments: those that have failed least first, and the oldest of them
    /// first. Ends early where the store fails, for it would most likely fail again. Returns whether
    /// the store was asked for anything.
    async fn pass(&mut self, which: Which) -> bool {
        self.state.uploads().begin("listing TRACE_DIR", MARGIN);
        let closed = match self.spool.closed() {
            Ok(closed) => closed,
            Err(error) => {
                self.failed(&format!("{error:#}"), 0);
                return true;
            }
        };
        let names: HashSet<&SegmentName> = closed.iter().map(|segment| &segment.name).collect();
        self.undeleted.retain(|name| names.contains(name));
        self.failures.retain(|name| names.contains(name));
        let now = Instant::now();
        let mut queue: Vec<&Closed> = closed
            .iter()
            .filter(|segment| self.failures.may_be_tried(&segment.name, which, now))
            .collect();
        queue.sort_by_key(|segment| self.failures.attempts(&segment.name));
        let (mut tried, mut in_a_row, mut stored) = (false, 0, 0);
        let mut failure = None;
        for segment in queue {
            let error = match self.upload(segment).await {
                Ok(uploaded) => {
                    if uploaded {
                        (tried, in_a_row, failure) = (true, 0, None);
                        stored += 1;
                    }
                    continue;
                }
                Err(error) => error,
            };
            let kind = Kind::of(&error);
            let error = error.to_string();
            if !kind.is_of_the_store() {
                self.file_failed(segment, kind, error);
                continue;
            }
            tried = true;
            let is_its_own = self.failures.note(&segment.name, kind, &error, self.stored);
            {
                // At once: to ask whether the store is there may take long.
                let mut uploads = self.state.uploads();
                uploads.store_failures += 1;
                if !is_its_own {
                    uploads.failing(error.clone());
                }
            }
            in_a_row += 1;
            let is_down = in_a_row == 1 && self.check().await.is_err();
            if is_down || !is_its_own {
                failure = Some(error);
            }
            if is_down || in_a_row >= MAX_IN_A_ROW {
                break;
            }
        }
        match failure {
            Some(error) => self.failed(&error, closed.len() - stored),
            None if stored > 0 => self.succeeded(),
            None => {}
        }
        self.tell_of_troubles();
        tried
    }

    /// Returns whether the store was asked, not only the directory.
    async fn upload(&mut self, segment: &Closed) -> Result<bool, PutError> {
        let Closed { path, name, bytes } = segment;
        let mut uploaded = false;
        if !self.undeleted.contains(name) {
            self.put(segment).await?;
            self.stored += 1;
            self.state.uploads().stored(*bytes);
            self.undeleted.insert(name.clone());
            uploaded = true;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("uploaded, but cannot delete {}", path.display()))
                    .map_err(PutError::File);
            }
            _ => {}
        }
        self.undeleted.remove(name);
        if self.failures.solved(name) {
            info!(segment = %name, "a segment that was left where it is has been uploaded");
        }
        debug!(segment = %name, bytes, "uploaded and deleted");
        Ok(uploaded)
    }

    async fn put(&self, Closed { path, name, bytes }: &Closed) -> Result<(), PutError> {
        let within = MAX_SILENCE + Duration::from_secs(bytes / MIN_SPEED);
        self.state.uploads().begin(format!("the upload of {name}"), within + MARGIN);
        let look_first = self.failures.kind(name) == Some(Kind::Unconfirmed);
        let (store, path, name) = (Arc::clone(&self.store), path.clone(), name.to_string());
        let put = async move { store.put(&path, &name, look_first).await };
        guarded(put, within).await.unwrap_or_else(|error| Err(PutError::Store(error)))
    }

    async fn check(&self) -> Result<()> {
        let within = MAX_SILENCE;
        self.state.uploads().begin("the question whether the store answers", within + MARGIN);
        let store = Arc::clone(&self.store);
        guarded(async move { store.check().await }, within).await?
    }

    fn file_failed(&mut self, Closed { path, name, .. }: &Closed, kind: Kind, error: String) {
        self.state.uploads().file_failures += 1;
        if !path.exists() {
            warn!(error, "a segment was deleted by someone else");
            return;
        }
        self.failures.note(name, kind, &error, self.stored);
    }

    /// In the log once for each, and in the state.
    fn tell_of_troubles(&mut self) {
        for (name, error) in self.failures.untold() {
            warn!(
                segment = %name,
                error,
                "a segment is left where it is, and tried again later; the others are uploaded"
            );
        }
        let (blocked_segments, blocked) = self.failures.blocked();
        let mut uploads = self.state.uploads();
        uploads.blocked_segments = blocked_segments;
        uploads.blocked = blocked;
    }

    fn checked(&mut self, checked: Result<()>) {
        match checked {
            Ok(()) => self.succeeded(),
            Err(error) => {
                let waiting = self.spool.closed().map_or(0, |closed| closed.len());
                self.failed(&format!("{error:#}"), waiting);
            }
        }
    }

    fn failed(&mut self, cause: &str, waiting: usize) {
        if self.failing {
            debug!(error = cause, waiting, "uploads still fail");
        } else {
            warn!(error = cause, waiting, "uploads fail: segments are kept, and retried");
        }
        self.failing = true;
        self.state.uploads().failing(cause.to_owned());
    }

    fn succeeded(&mut self) {
        if self.failing {
            info!("uploads work again");
            self.failures.hurry();
        }
        self.failing = false;
        self.state.uploads().failing = None;
    }
}

/// An attempt that panics or hangs fails, and that is all it does.
async fn guarded<T: Send + 'static>(
    attempt: impl Future<Output = T> + Send + 'static,
    within: Duration,
) -> Result<T> {
    // Dropped, it ends what it holds.
    let mut attempts = JoinSet::new();
    attempts.spawn(attempt);
    match timeout(within, attempts.join_next()).await {
        Ok(Some(Ok(outcome))) => Ok(outcome),
        Ok(Some(Err(ended))) => Err(broke_off(ended)),
        Ok(None) => unreachable!("one was spawned"),
        Err(_) => bail!(
            "it has neither succeeded nor failed for {} s, and was given up: check S3_ENDPOINT, the \
             credentials and the network between",
            within.as_secs()
        ),
    }
}

/// Why a task is gone that should not be.
fn broke_off(ended: JoinError) -> anyhow::Error {
    let Ok(panic) = ended.try_into_panic() else { return anyhow!("it was given up") };
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    anyhow!("it panicked: {first} (a defect of the sidecar, or a setting that it does not check)")
}

#[cfg(test)]
mod tests;
