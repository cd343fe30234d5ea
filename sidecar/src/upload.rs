//! Closed segments to the store: uploaded, confirmed, only then deleted.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{debug, info, warn};

use crate::{s3::Bucket, spool::Spool};

/// Where segments go. A trait so that tests can fail where S3 would.
pub trait Store: Send + Sync {
    /// Returns once the store has confirmed that it holds the file.
    fn put(&self, file: &Path, name: &str) -> impl Future<Output = Result<()>> + Send;
}

impl Store for Bucket {
    async fn put(&self, file: &Path, name: &str) -> Result<()> {
        Self::put(self, file, name).await
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
}

impl<S: Store> Uploader<S> {
    pub fn new(spool: Spool, store: S) -> Self {
        Self { spool, store, failing: false, uploaded: 0 }
    }

    /// Uploads what is closed, at once and then every `period`; retries sooner after a failure.
    ///
    /// When `stop` turns true it ends after a last pass that uploaded everything. The caller sets
    /// the deadline for that; what is left by then stays on disk for the next start. Returns the
    /// number of uploads.
    pub async fn run(mut self, period: Duration, mut stop: watch::Receiver<bool>) -> u64 {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = FIRST_RETRY;
        loop {
            tokio::select! {
                _ = stop.wait_for(|&stop| stop) => break,
                _ = ticks.tick() => {}
                () = sleep(retry), if self.failing => retry = (retry * 2).min(LONGEST_RETRY),
            }
            self.upload_all().await;
            if !self.failing {
                retry = FIRST_RETRY;
            }
        }
        loop {
            self.upload_all().await;
            if !self.failing {
                return self.uploaded;
            }
            sleep(FIRST_RETRY).await;
        }
    }

    /// One pass over the closed segments, oldest first. Stops at the first failure: the next one
    /// would most likely fail too, and order is kept.
    async fn upload_all(&mut self) {
        let closed = match self.spool.closed() {
            Ok(closed) => closed,
            Err(error) => return self.failed(&error, 0),
        };
        let waiting = closed.len();
        for (index, segment) in closed.into_iter().enumerate() {
            let name = segment.name.to_string();
            let put = self.store.put(&segment.path, &name).await;
            let done = put.and_then(|()| {
                fs::remove_file(&segment.path).with_context(|| {
                    format!("uploaded, but cannot delete {}", segment.path.display())
                })
            });
            match done {
                Ok(()) => {
                    self.uploaded += 1;
                    debug!(segment = name, bytes = segment.bytes, "uploaded and deleted");
                    self.succeeded();
                }
                Err(error) => return self.failed(&error, waiting - index),
            }
        }
    }

    fn failed(&mut self, error: &anyhow::Error, waiting: usize) {
        if !self.failing {
            warn!(
                error = format!("{error:#}"),
                waiting, "uploads fail: segments are kept, and retried"
            );
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
}
