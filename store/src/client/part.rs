//! Parts of objects into memory, each whole or not at all: for who keeps no files.

use std::{ops::Range, time::Duration};

use anyhow::{Context as _, Error, anyhow};
use aws_sdk_s3::{
    config::{Builder, StalledStreamProtectionConfig, retry::RetryConfig},
    operation::get_object::{GetObjectError, GetObjectOutput},
    types::ChecksumMode,
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    bucket::{Bucket, Object},
    download::{FetchError, Patience, SLOW_START, SLOWEST_DOWNLOAD, start_of, transfer},
    failure::{SdkError, status},
    sums::Sums,
};

/// Room that is made before anything has come.
const MAX_RESERVED: usize = 16 << 20;

/// Some of an object's bytes.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) bytes: Vec<u8>,
    pub(crate) version: Version,
    /// Of the whole object.
    pub(crate) sums: Sums,
}

/// Tells an object from one that has replaced it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Version {
    etag: Option<String>,
    /// Of a store that has no entity tags.
    modified: Option<String>,
}

impl Version {
    fn of(answer: &GetObjectOutput) -> Self {
        let etag = answer.e_tag().map(str::to_owned);
        let modified =
            answer.last_modified().filter(|_| etag.is_none()).map(|it| format!("{it:?}"));
        Self { etag, modified }
    }
}

impl Bucket {
    /// What came before a transfer broke is asked for only once. With a version, it has to be of that.
    pub(crate) async fn part(
        &self,
        object: &Object,
        range: Range<u64>,
        version: Option<Version>,
        attempts: usize,
    ) -> Result<Part, FetchError> {
        let mut part =
            Request { bucket: self, object, range, version, bytes: Vec::new(), sums: None };
        let mut patience = Patience::new(attempts);
        loop {
            match part.attempt(patience.idle()).await {
                Ok(()) => break,
                Err(FetchError::Transfer(error)) => {
                    patience.wait(object, part.bytes.len() as u64, error).await?;
                }
                Err(error) => return Err(error),
            }
        }
        let Request { bytes, version, sums, .. } = part;
        Ok(Part { bytes, version: version.unwrap_or_default(), sums: sums.unwrap_or_default() })
    }

    /// The checksums of an object whose parts come without; none where the store does not tell.
    pub(crate) async fn sums(&self, object: &Object) -> Sums {
        let request = self.client.head_object().bucket(&self.name).key(&object.key);
        let answer = request.checksum_mode(ChecksumMode::Enabled).send().await;
        answer.map_or_else(|_| Sums::default(), |answer| Sums::of_head(&answer))
    }
}

struct Request<'a> {
    bucket: &'a Bucket,
    object: &'a Object,
    range: Range<u64>,
    version: Option<Version>,
    bytes: Vec<u8>,
    sums: Option<Sums>,
}

impl Request<'_> {
    fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn got(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Leaves in `bytes` what can be gone on from.
    async fn attempt(&mut self, idle: Duration) -> Result<(), FetchError> {
        let limit = SLOW_START + Duration::from_secs(self.length() / SLOWEST_DOWNLOAD);
        let deadline = Instant::now() + limit;
        let mut answer = match timeout_at(deadline, self.ask()).await {
            Ok(answer) => answer.map_err(|error| self.failed(&error))?,
            Err(_) => return Err(transfer("the store does not answer in time")),
        };
        let skipped = self.placed(&answer)?;
        let encoding = answer.content_encoding().filter(|encoding| *encoding != "identity");
        let encoding = encoding.map(str::to_owned);
        let mut to_skip = skipped;
        while self.got() < self.length() {
            let piece = match timeout(idle, timeout_at(deadline, answer.body.try_next())).await {
                Err(_) => return Err(transfer(format!("nothing came for {} s", idle.as_secs()))),
                Ok(Err(_)) => {
                    let (got, length) = (self.got(), self.length());
                    let limit = limit.as_secs();
                    return Err(transfer(format!(
                        "got {got} of {length} bytes in {limit} s: the store, or the way to it, is too slow"
                    )));
                }
                Ok(Ok(piece)) => {
                    piece.context("the transfer failed").map_err(FetchError::Transfer)?
                }
            };
            let Some(piece) = piece else { break };
            let skip = usize::try_from(to_skip).map_or(piece.len(), |left| left.min(piece.len()));
            to_skip -= skip as u64;
            let missing = usize::try_from(self.length() - self.got()).unwrap_or(usize::MAX);
            let piece = &piece[skip..];
            // At once, as a vector that grows holds up to twice as much.
            if self.bytes.capacity() - self.bytes.len() < piece.len() {
                self.bytes.reserve_exact(missing.min(MAX_RESERVED));
            }
            self.bytes.extend_from_slice(&piece[..piece.len().min(missing)]);
            if piece.len() > missing {
                return self.ends_elsewhere("more than that", encoding.as_deref());
            }
        }
        if self.got() < self.length() {
            let got = format!("{} bytes", self.range.start + self.got());
            return self.ends_elsewhere(&got, encoding.as_deref());
        }
        if self.range.end < self.object.bytes {
            return Ok(());
        }
        // The SDK compares the checksum, if the store has sent one, when the end is read.
        match timeout(idle, answer.body.try_next()).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Err(error)) => {
                self.bytes.clear();
                Err(FetchError::Transfer(Error::new(error).context("the transfer failed")))
            }
            Ok(Ok(Some(_))) | Err(_) => self.ends_elsewhere("more than that", encoding.as_deref()),
        }
    }

    /// Another end than that of the listing: of another object, or of one that was compressed on the way.
    fn ends_elsewhere(&mut self, got: &str, encoding: Option<&str>) -> Result<(), FetchError> {
        let listed = self.object.bytes;
        if got.starts_with("more") && self.range.end == listed || encoding.is_some() {
            self.bytes.clear();
        }
        if self.range.end < listed && got.starts_with("more") {
            // A store without ranges, which goes on behind the part.
            return Ok(());
        }
        let error = anyhow!("got {got}, but the listing says {listed}");
        Err(match encoding {
            Some(encoding) => FetchError::Final(error.context(format!(
                "the answer has the content encoding {encoding:?}, which nobody asked for: go around \
                 the proxy or gateway that compresses it"
            ))),
            None => FetchError::Transfer(error),
        })
    }

    /// How much of the answer stands in front of what is missing.
    fn placed(&mut self, answer: &GetObjectOutput) -> Result<u64, FetchError> {
        let version = Version::of(answer);
        if self.version.as_ref().is_some_and(|own| *own != version) {
            return Err(replaced());
        }
        self.version = Some(version);
        if self.sums.is_none() {
            self.sums = Some(Sums::of_answer(answer));
        }
        let wanted = self.range.start + self.got();
        let range = answer.content_range();
        let total = range.and_then(|range| range.rsplit_once('/')?.1.parse::<u64>().ok());
        if let Some(total) = total.filter(|total| *total != self.object.bytes) {
            return Err(FetchError::Final(anyhow!(
                "it has {total} bytes now, but the listing says {}",
                self.object.bytes
            )));
        }
        // A store that does not know ranges sends all of it.
        let start = range.map_or(Some(0), start_of).unwrap_or(0);
        wanted
            .checked_sub(start)
            .ok_or_else(|| transfer("the store sends another part than it was asked for"))
    }

    /// For all of it, or for what is missing.
    async fn ask(&self) -> Result<GetObjectOutput, SdkError<GetObjectError>> {
        let Bucket { client, name, .. } = self.bucket;
        let request = client.get_object().bucket(name).key(&self.object.key);
        let is_whole = self.bytes.is_empty() && self.range == (0..self.object.bytes);
        let request = if is_whole {
            request.checksum_mode(ChecksumMode::Enabled)
        } else {
            request.range(format!("bytes={}-{}", self.range.start + self.got(), self.range.end - 1))
        };
        let etag = self.version.as_ref().and_then(|version| version.etag.clone());
        // Attempts and pauses are counted here, where it is known how much has come.
        let own = Builder::default()
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        request.set_if_match(etag).customize().config_override(own).send().await
    }

    fn failed(&self, error: &SdkError<GetObjectError>) -> FetchError {
        // Precondition failed, range not satisfiable.
        if matches!(status(error), Some(412 | 416)) {
            return replaced();
        }
        self.bucket.not_had(error)
    }
}

/// What was given out already is of another version.
fn replaced() -> FetchError {
    FetchError::Final(anyhow!("it was replaced while it was read"))
}
