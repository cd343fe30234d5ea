//! The store as the daemon uses it: opened when it is needed, in bounded time. Opened again when it
//! refuses the keys, or when an upload fails and the key files have changed.

use std::{path::Path, pin::Pin, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{sync::Mutex, time::timeout};
use tracing::info;

use super::{bucket::Bucket, failure::PutError, key_files::KeyFiles};
use crate::settings::Destination;

/// For finding region, proxy and certificates, and for asking the store how it names buckets.
const MAX_CONNECT: Duration = Duration::from_secs(60);

pub struct Connection {
    open: Box<dyn Fn() -> Opening + Send + Sync>,
    bucket: Mutex<Option<Opened>>,
}

struct Opened {
    bucket: Arc<Bucket>,
    /// Before it was opened.
    key_files: Option<KeyFiles>,
}

type Opening = Pin<Box<dyn Future<Output = Result<Bucket>> + Send>>;

impl Connection {
    /// Contacts nothing yet.
    pub fn new(destination: Destination) -> Self {
        let destination = Arc::new(destination);
        Self::by(move || {
            let destination = Arc::clone(&destination);
            async move { Bucket::open(&destination).await }
        })
    }

    /// Connects in the caller's way.
    pub fn by<F>(open: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Bucket>> + Send + 'static,
    {
        Self { open: Box::new(move || Box::pin(open())), bucket: Mutex::default() }
    }

    async fn bucket(&self) -> Result<Arc<Bucket>> {
        let mut current = self.bucket.lock().await;
        if let Some(Opened { bucket, .. }) = &*current {
            return Ok(Arc::clone(bucket));
        }
        let key_files = KeyFiles::now().await;
        let opened = timeout(MAX_CONNECT, (self.open)()).await.with_context(|| {
            format!(
                "region, proxy and certificates of the store are not found within {} s: look at \
                 ~/.aws, AWS_CONFIG_FILE and what they name",
                MAX_CONNECT.as_secs()
            )
        })??;
        let bucket = Arc::new(opened);
        *current = Some(Opened { bucket: Arc::clone(&bucket), key_files });
        Ok(bucket)
    }

    /// Another one, if this one may be replaced by a better one.
    async fn after(&self, failed: &Bucket) -> Option<Arc<Bucket>> {
        let reason = if failed.is_stale() {
            "the store refuses the keys or the bucket"
        } else if self.has_other_key_files().await {
            // Also where a credential_process hangs: nobody waits for that one any more.
            "the files of the keys have changed"
        } else {
            return None;
        };
        *self.bucket.lock().await = None;
        let next = self.bucket().await.ok()?;
        info!("{reason}: settings and keys are read again");
        Some(next)
    }

    async fn has_other_key_files(&self) -> bool {
        let Some(now) = KeyFiles::now().await else { return false };
        let current = self.bucket.lock().await;
        let before = current.as_ref().and_then(|opened| opened.key_files.as_ref());
        before.is_some_and(|before| *before != now)
    }

    async fn put_to(
        bucket: &Bucket,
        file: &Path,
        name: &str,
        look_first: bool,
    ) -> Result<(), PutError> {
        if look_first { bucket.put_again(file, name).await } else { bucket.put(file, name).await }
    }

    /// [`Bucket::put`], or with `look_first` [`Bucket::put_again`].
    pub async fn put(&self, file: &Path, name: &str, look_first: bool) -> Result<(), PutError> {
        let bucket = self.bucket().await.map_err(PutError::Store)?;
        let outcome = Self::put_to(&bucket, file, name, look_first).await;
        if outcome.is_err()
            && let Some(next) = self.after(&bucket).await
        {
            return Self::put_to(&next, file, name, look_first).await;
        }
        outcome
    }

    /// [`Bucket::check`].
    pub async fn check(&self) -> Result<()> {
        let bucket = self.bucket().await?;
        let outcome = bucket.check().await;
        if outcome.is_err()
            && let Some(next) = self.after(&bucket).await
        {
            return next.check().await;
        }
        outcome
    }
}
