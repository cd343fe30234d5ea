//! Closed segments to the store: uploaded, confirmed, only then deleted.

use std::{collections::HashSet, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    select,
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use trace::segment_name::SegmentName;
use tracing::{debug, info, warn};

use crate::{
    s3::Bucket,
    spool::{Closed, Spool},
};

/// Where segments go. A trait so that tests can fail where S3 would.
pub trait Store: Send + Sync {
    /// Returns once the store has confirmed that it holds the file.
    fn put(&self, file: &Path, name: &str) -> impl Future<Output = Result<()>> + Send;

    /// Fails if uploads would surely fail.
    fn check(&self) -> impl Future<Output = Result<()>> + Send;
}

impl Store for Bucket {
    async fn put(&self, file: &Path, name: &str) -> Result<()> {
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
    /// Logged once when it changes, not once per attempt.
    failing: bool,
    uploaded: u64,
    /// Confirmed, but not deleted: not to be uploaded again.
    undeleted: HashSet<SegmentName>,
}

impl<S: Store> Uploader<S> {
    pub fn new(spool: Spool, store: S) -> Self {
        Self { spool, store, failing: false, uploaded: 0, undeleted: HashSet::new() }
    }

    /// Uploads what is closed, at once and then every `period`; retries sooner after a failure.
    /// Asks the store first, so that the log tells of a wrong setting before minutes have passed.
    ///
    /// When `stop` turns true it ends after a last pass that uploaded everything. The caller sets
    /// the deadline for that; what is left by then stays on disk for the next start. Returns the
    /// number of uploads.
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
                // Nothing is left whose upload would tell.
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
        self.uploaded
    }

    /// One pass over the closed segments, oldest first. Stops at the first failure: the next one
    /// would most likely fail too, and order is kept. Returns whether none is left.
    async fn upload_all(&mut self) -> bool {
        let closed = match self.spool.closed() {
            Ok(closed) => closed,
            Err(error) => {
                self.failed(&error, 0);
                return false;
            }
        };
        let waiting = closed.len();
        for (index, segment) in closed.iter().enumerate() {
            match self.upload(segment).await {
                Ok(()) => self.succeeded(),
                Err(error) if !segment.path.exists() => {
                    warn!(error = format!("{error:#}"), "a segment was deleted by someone else");
                }
                Err(error) => {
                    self.failed(&error, waiting - index);
                    return false;
                }
            }
        }
        true
    }

    async fn upload(&mut self, Closed { path, name, bytes }: &Closed) -> Result<()> {
        if !self.undeleted.contains(name) {
            self.store.put(path, &name.to_string()).await?;
            self.uploaded += 1;
            self.undeleted.insert(name.clone());
        }
        fs::remove_file(path)
            .with_context(|| format!("uploaded, but cannot delete {}", path.display()))?;
        self.undeleted.remove(name);
        debug!(segment = %name, bytes, "uploaded and deleted");
        Ok(())
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
            debug!(error = cause, waiting, "uploads still fail");
        } else {
            warn!(error = cause, waiting, "uploads fail: segments are kept, and retried");
        }
        self.failing = true;
    }

    fn succeeded(&mut self) {
        if self.failing {
            info!("uploads work again");
        }
        self.failing = false;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    };

    use tokio::time::timeout;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory {
        down: Arc<AtomicBool>,
        stored: Arc<Mutex<Vec<String>>>,
    }

    impl Store for Memory {
        async fn put(&self, _file: &Path, name: &str) -> Result<()> {
            anyhow::ensure!(!self.down.load(Ordering::Relaxed), "down");
            self.stored.lock().unwrap().push(name.to_owned());
            Ok(())
        }

        async fn check(&self) -> Result<()> {
            anyhow::ensure!(!self.down.load(Ordering::Relaxed), "down");
            Ok(())
        }
    }

    const FIRST: &str = "trace_h_s_000001.jsonl";
    const SECOND: &str = "trace_h_s_000002.jsonl";

    fn spool_of(names: &[&str]) -> (tempfile::TempDir, Spool) {
        let directory = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(directory.path().join(name), "{}\n").unwrap();
        }
        let spool = Spool::open(directory.path()).unwrap();
        (directory, spool)
    }

    #[tokio::test(start_paused = true)]
    async fn segments_go_in_order_and_are_deleted_once_stored() {
        let (_directory, spool) = spool_of(&[SECOND, FIRST]);
        let store = Memory::default();
        let (sender, stop) = watch::channel(false);
        let uploader = Uploader::new(spool.clone(), store.clone());
        let task = tokio::spawn(uploader.run(Duration::from_secs(120), stop));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(*store.stored.lock().unwrap(), [FIRST, SECOND]);
        assert!(spool.closed().unwrap().is_empty());
        sender.send(true).unwrap();
        assert_eq!(task.await.unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_deleted_while_the_store_is_down_and_all_arrives_when_it_is_back() {
        let (_directory, spool) = spool_of(&[FIRST]);
        let store = Memory::default();
        store.down.store(true, Ordering::Relaxed);
        let (_sender, stop) = watch::channel(false);
        let task = tokio::spawn(
            Uploader::new(spool.clone(), store.clone()).run(Duration::from_secs(3600), stop),
        );
        sleep(Duration::from_secs(30)).await;
        assert_eq!(spool.closed().unwrap().len(), 1);
        store.down.store(false, Ordering::Relaxed);
        sleep(LONGEST_RETRY * 2).await;
        assert_eq!(*store.stored.lock().unwrap(), [FIRST], "retried long before the next period");
        assert!(spool.closed().unwrap().is_empty());
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_pass_does_not_end_before_everything_is_stored() {
        let (_directory, spool) = spool_of(&[FIRST, SECOND]);
        let store = Memory::default();
        store.down.store(true, Ordering::Relaxed);
        let (_sender, stop) = watch::channel(true);
        let uploader = Uploader::new(spool.clone(), store.clone());
        let mut task = tokio::spawn(uploader.run(Duration::from_secs(120), stop));
        assert!(timeout(Duration::from_secs(60), &mut task).await.is_err(), "still trying");
        store.down.store(false, Ordering::Relaxed);
        assert_eq!(task.await.unwrap(), 2);
        assert!(spool.closed().unwrap().is_empty());
    }
    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_deleted_is_uploaded_once() {
        let (directory, spool) = spool_of(&[]);
        // A directory stands for a file that cannot be deleted, by root neither.
        let path = directory.path().join(FIRST);
        let segment = Closed { path, name: SegmentName::parse(FIRST).unwrap(), bytes: 0 };
        fs::create_dir(&segment.path).unwrap();
        let store = Memory::default();
        let mut uploader = Uploader::new(spool, store.clone());
        for _ in 0..2 {
            let error = uploader.upload(&segment).await.unwrap_err().to_string();
            assert!(error.contains("uploaded, but cannot delete"), "{error}");
        }
        assert_eq!(*store.stored.lock().unwrap(), [FIRST]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_down_at_the_start_does_not_hold_up_the_end() {
        let (_directory, spool) = spool_of(&[]);
        let store = Memory::default();
        store.down.store(true, Ordering::Relaxed);
        let (sender, stop) = watch::channel(false);
        let task = tokio::spawn(Uploader::new(spool, store).run(Duration::from_secs(120), stop));
        sleep(Duration::from_secs(60)).await;
        sender.send(true).unwrap();
        assert_eq!(timeout(Duration::from_secs(60), task).await.unwrap().unwrap(), 0);
    }
}
