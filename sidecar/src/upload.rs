//! Closed segments to the store: uploaded, confirmed, only then deleted.

use std::{collections::HashSet, fs, io, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    select,
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use trace::segment_name::SegmentName;
use tracing::{debug, info, warn};

use crate::{
    s3::{Bucket, PutError},
    spool::{Closed, Spool},
    state::State,
};

/// Where segments go. A trait so that tests can fail where S3 would.
pub trait Store: Send + Sync {
    /// Returns once the store has confirmed that it holds the file.
    fn put(&self, file: &Path, name: &str) -> impl Future<Output = Result<(), PutError>> + Send;

    /// Fails if uploads would surely fail.
    fn check(&self) -> impl Future<Output = Result<()>> + Send;
}

impl Store for Bucket {
    async fn put(&self, file: &Path, name: &str) -> Result<(), PutError> {
        Self::put(self, file, name).await
    }

    async fn check(&self) -> Result<()> {
        Self::check(self).await
    }
}

/// The wait after the first failure; it doubles up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

pub struct Uploader<S> {
    spool: Spool,
    store: S,
    state: Arc<State>,
    /// The store fails. Logged once when it changes, not once per attempt.
    failing: bool,
    uploaded: u64,
    /// Confirmed, but not deleted: not to be uploaded again.
    undeleted: HashSet<SegmentName>,
    /// Segments whose files cannot be read, uploaded or deleted; each was logged once.
    stuck: HashSet<SegmentName>,
    /// Too large for the store: not to be sent again in this run, a closed file never shrinks.
    refused: HashSet<SegmentName>,
}

impl<S: Store> Uploader<S> {
    pub fn new(spool: Spool, store: S, state: Arc<State>) -> Self {
        Self {
            spool,
            store,
            state,
            failing: false,
            uploaded: 0,
            undeleted: HashSet::new(),
            stuck: HashSet::new(),
            refused: HashSet::new(),
        }
    }

    /// Uploads what is closed, at once and then every `period`; retries sooner after a failure.
    /// Asks the store first, so that the log tells of a wrong setting before minutes have passed.
    ///
    /// When `stop` turns true it ends after a last pass in which the store took everything that
    /// could be read. The caller sets the deadline for that; what is left by then stays on disk
    /// for the next start. Returns the number of uploads.
    pub async fn run(mut self, period: Duration, mut stop: watch::Receiver<bool>) -> u64 {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = FIRST_RETRY;
        select! {
            checked = self.store.check() => self.checked(checked),
            _ = stop.wait_for(|&stop| stop) => {}
        }
        loop {
            select! {
                _ = stop.wait_for(|&stop| stop) => break,
                _ = ticks.tick() => {}
                () = sleep(retry), if self.failing => retry = (retry * 2).min(LONGEST_RETRY),
            }
            if self.upload_all().await && self.failing {
                // Nothing was uploaded that would tell.
                let checked = self.store.check().await;
                self.checked(checked);
            }
            if !self.failing {
                retry = FIRST_RETRY;
            }
        }
        while !self.upload_all().await {
            sleep(FIRST_RETRY).await;
        }
        if !self.stuck.is_empty() {
            warn!(
                segments = self.stuck.len(),
                "segments that cannot be read, uploaded or deleted stay in {}",
                self.spool.directory().display()
            );
        }
        self.uploaded
    }

    /// One pass over the closed segments, oldest first. A file that cannot be read or deleted, or is
    /// too large for the store, does not hold up the others. A store that fails ends the pass: it
    /// would most likely fail again, and order is kept. Returns whether the pass got to its end.
    async fn upload_all(&mut self) -> bool {
        let closed = match self.spool.closed() {
            Ok(closed) => closed,
            Err(error) => {
                self.failed(&error, 0);
                return false;
            }
        };
        let names: HashSet<&SegmentName> = closed.iter().map(|segment| &segment.name).collect();
        self.undeleted.retain(|name| names.contains(name));
        self.stuck.retain(|name| names.contains(name));
        self.refused.retain(|name| names.contains(name));
        let waiting = closed.len();
        for (index, segment) in closed.iter().enumerate() {
            if self.refused.contains(&segment.name) {
                continue;
            }
            match self.upload(segment).await {
                Ok(()) => {}
                Err(PutError::File(error)) => self.file_failed(segment, &error),
                Err(PutError::Object(error)) => {
                    self.file_failed(segment, &error);
                    self.refused.insert(segment.name.clone());
                }
                Err(PutError::Store(error)) => {
                    self.state.uploads().store_failures += 1;
                    self.failed(&error, waiting - index);
                    return false;
                }
            }
        }
        true
    }

    async fn upload(&mut self, Closed { path, name, bytes }: &Closed) -> Result<(), PutError> {
        if !self.undeleted.contains(name) {
            self.store.put(path, &name.to_string()).await?;
            self.succeeded();
            self.uploaded += 1;
            self.state.uploads().stored(*bytes);
            self.undeleted.insert(name.clone());
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
        self.stuck.remove(name);
        debug!(segment = %name, bytes, "uploaded and deleted");
        Ok(())
    }

    fn file_failed(&mut self, Closed { path, name, .. }: &Closed, error: &anyhow::Error) {
        let error = format!("{error:#}");
        self.state.uploads().file_failures += 1;
        if !path.exists() {
            warn!(error, "a segment was deleted by someone else");
        } else if self.stuck.insert(name.clone()) {
            warn!(error, "a segment is left where it is, and tried again later");
        } else {
            debug!(error, "a segment is still left where it is");
        }
    }

    fn checked(&mut self, checked: Result<()>) {
        match checked {
            Ok(()) => self.succeeded(),
            Err(error) => {
                let waiting = self.spool.closed().map_or(0, |closed| closed.len());
                self.failed(&error, waiting);
            }
        }
    }

    fn failed(&mut self, error: &anyhow::Error, waiting: usize) {
        let cause = format!("{error:#}");
        if self.failing {
            debug!(error = cause.as_str(), waiting, "uploads still fail");
        } else {
            warn!(error = cause.as_str(), waiting, "uploads fail: segments are kept, and retried");
        }
        self.failing = true;
        self.state.uploads().failing(cause);
    }

    fn succeeded(&mut self) {
        if self.failing {
            info!("uploads work again");
        }
        self.failing = false;
        self.state.uploads().failing = None;
    }
}

#[cfg(test)]
mod tests;
