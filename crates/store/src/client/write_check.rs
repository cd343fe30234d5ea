//! An object that is written, read back and removed, to see whether uploads will work.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aws_config::timeout::TimeoutConfig;
use jiff::Timestamp;
use tokio::time::timeout;

use super::{
    bucket::{Body, Bucket, CONNECT_TIMEOUT, loader},
    confirm::{Seen, Stored},
    digest::Digest,
    failure,
    limit::Limit,
};
use crate::settings::Destination;

/// Somebody waits for the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// One object, of which the store knows nothing before.
pub struct WriteCheck {
    bucket: Bucket,
    key: String,
    content: String,
    digest: Digest,
}

/// Whether the store lets these credentials do something that uploads do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permitted {
    Yes,
    No,
}

impl Bucket {
    /// [`Self::open`] for somebody who waits.
    pub async fn open_briefly(destination: &Destination) -> Result<Self> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ANSWER_TIMEOUT)
            .build();
        Self::open_with(loader().timeout_config(timeouts), destination).await
    }

    /// Where objects go, in words.
    pub fn location(&self) -> String {
        format!("s3://{}/{} at {}", self.name, self.prefix, self.store)
    }

    /// Fails unless the bucket is there and knows the credentials.
    pub async fn may_list(&self) -> Result<Permitted> {
        match self.list_one().await {
            Ok(()) => Ok(Permitted::Yes),
            Err(error) if failure::is_access_denied(&error) => Ok(Permitted::No),
            Err(error) => Err(self.explain(&error, "s3:ListBucket")),
        }
    }

    pub fn write_check(&self) -> WriteCheck {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let now = Timestamp::now();
        let name = format!("check-s3_{host}_{}.txt", now.strftime("%Y%m%dT%H%M%S%.3fZ"));
        let key = self.key(&name, now);
        let content = format!("ebpf-cuda-tracer check-s3 on {host} at {now}; may be removed\n");
        let digest = Digest::of_bytes(content.as_bytes());
        WriteCheck { bucket: self.clone(), key, content, digest }
    }
}

impl WriteCheck {
    pub fn location(&self) -> String {
        format!("s3://{}/{}", self.bucket.name, self.key)
    }

    /// By the same request as an upload.
    pub async fn write(&self) -> Result<()> {
        let body = Body::Text(&self.content);
        let put = self.bucket.put_object(&self.key, &self.digest, body).await;
        put.map(drop).map_err(|error| self.bucket.explain(&error, "s3:PutObject"))
    }

    /// As an upload is confirmed.
    pub async fn confirm(&self) -> Result<()> {
        match self.bucket.look(&self.key, &self.digest, Some(&Stored::default())).await? {
            Seen::Same => Ok(()),
            Seen::Missing => Err(failure::not_there()),
            Seen::Other(what) => Err(what),
        }
    }

    pub async fn read_back(&self) -> Result<()> {
        let Self { bucket, key, digest, .. } = self;
        let read = async {
            let get = bucket.client.get_object().bucket(&bucket.name).key(key).send().await;
            let answer = get.map_err(|error| bucket.explain(&error, "s3:GetObject"))?;
            Digest::of_stream(answer.body, digest.bytes).await
        };
        let Ok(stored) = timeout(ANSWER_TIMEOUT, read).await else {
            bail!("{} does not send it within {} s", bucket.store, ANSWER_TIMEOUT.as_secs());
        };
        ensure!(
            stored? == *digest,
            "the store gives back something else than was sent: check what lies between, such as a \
             proxy or gateway"
        );
        Ok(())
    }

    pub async fn remove(&self) -> Result<Permitted> {
        let Self { bucket, key, .. } = self;
        let request = bucket.client.delete_object().bucket(&bucket.name).key(key);
        match request.customize().interceptor(Limit::All).send().await {
            Ok(_) => Ok(Permitted::Yes),
            Err(error) if failure::is_access_denied(&error) => Ok(Permitted::No),
            Err(error) => Err(bucket.explain(&error, "s3:DeleteObject"))
                .with_context(|| format!("{} may be left behind", self.location())),
        }
    }
}
