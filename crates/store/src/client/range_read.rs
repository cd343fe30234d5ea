//! Parts of objects into memory, each whole or not at all: for who keeps no files.

use std::ops::Range;

use anyhow::anyhow;
use aws_sdk_s3::{operation::get_object::GetObjectOutput, types::ChecksumMode};

use super::{
    bucket::{Bucket, Object},
    stored_checksums::StoredChecksums,
    transfer::{Answer, End, FetchError, Limits, Retries, is_replaced},
};

/// Room that is made before anything has come.
const MAX_RESERVED: usize = 16 << 20;

/// Some of an object's bytes.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) bytes: Vec<u8>,
    pub(crate) version: Version,
    /// Of the whole object.
    pub(crate) sums: StoredChecksums,
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
        let mut retries = Retries::new(attempts);
        loop {
            match part.attempt(retries.limits(part.length())).await {
                Ok(()) => break,
                Err(FetchError::Transfer(error)) => {
                    retries.wait(object, part.bytes.len() as u64, error).await?;
                }
                Err(error) => return Err(error),
            }
        }
        let Request { bytes, version, sums, .. } = part;
        Ok(Part { bytes, version: version.unwrap_or_default(), sums: sums.unwrap_or_default() })
    }

    /// The checksums of an object whose parts come without; none where the store does not tell.
    pub(crate) async fn sums(&self, object: &Object) -> StoredChecksums {
        let request = self.client.head_object().bucket(&self.name).key(&object.key);
        let answer = request.checksum_mode(ChecksumMode::Enabled).send().await;
        answer
            .map_or_else(|_| StoredChecksums::default(), |answer| StoredChecksums::of_head(&answer))
    }
}

struct Request<'a> {
    bucket: &'a Bucket,
    object: &'a Object,
    range: Range<u64>,
    version: Option<Version>,
    bytes: Vec<u8>,
    sums: Option<StoredChecksums>,
}

impl Request<'_> {
    fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn got(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// What has come stays in `bytes`, for the next attempt.
    async fn attempt(&mut self, limits: Limits) -> Result<(), FetchError> {
        let mut answer = self.ask(limits).await?;
        let mut to_skip = self.placed(&answer)?;
        let is_last = self.range.end == self.object.bytes;
        while self.got() < self.length() {
            let Some(piece) = answer.next(self.got(), self.length()).await? else {
                let got = format!("{} bytes", self.range.start + self.got());
                return Err(self.wrong_length(&answer, &got));
            };
            let skip = usize::try_from(to_skip).map_or(piece.len(), |left| left.min(piece.len()));
            to_skip -= skip as u64;
            let missing = usize::try_from(self.length() - self.got()).unwrap_or(usize::MAX);
            let piece = &piece[skip..];
            // At once, as a vector that grows holds up to twice as much.
            if self.bytes.capacity() - self.bytes.len() < piece.len() {
                self.bytes.reserve_exact(missing.min(MAX_RESERVED));
            }
            self.bytes.extend_from_slice(&piece[..piece.len().min(missing)]);
            // A store without ranges goes on behind the part.
            if piece.len() > missing && (is_last || answer.encoding().is_some()) {
                return Err(self.more(&answer));
            }
        }
        if !is_last {
            return Ok(());
        }
        match answer.end().await {
            Ok(End::Here) => Ok(()),
            Ok(End::More) => Err(self.more(&answer)),
            Ok(End::Late) => Err(End::late()),
            Err(error) => {
                self.bytes.clear();
                Err(error)
            }
        }
    }

    /// The object is longer than the listing says, so that no byte of it can be believed.
    fn more(&mut self, answer: &Answer) -> FetchError {
        self.bytes.clear();
        self.wrong_length(answer, "more than that")
    }

    fn wrong_length(&mut self, answer: &Answer, got: &str) -> FetchError {
        if answer.encoding().is_some() {
            self.bytes.clear();
        }
        answer.wrong_length(got, self.object.bytes)
    }

    /// How many bytes of the answer lie in front of what is missing.
    fn placed(&mut self, answer: &Answer) -> Result<u64, FetchError> {
        let version = Version::of(&answer.head);
        if self.version.as_ref().is_some_and(|own| *own != version) {
            return Err(replaced());
        }
        self.version = Some(version);
        if self.sums.is_none() {
            self.sums = Some(StoredChecksums::of_answer(&answer.head));
        }
        let wanted = self.range.start + self.got();
        if let Some(total) = answer.total().filter(|total| *total != self.object.bytes) {
            return Err(FetchError::Final(anyhow!(
                "it has {total} bytes now, but the listing says {}",
                self.object.bytes
            )));
        }
        wanted.checked_sub(answer.start()?).ok_or_else(|| {
            FetchError::transfer("the store sends another part than it was asked for")
        })
    }

    /// For all of it, or for what is missing.
    async fn ask(&self, limits: Limits) -> Result<Answer, FetchError> {
        let Bucket { client, name, .. } = self.bucket;
        let request = client.get_object().bucket(name).key(&self.object.key);
        let is_whole = self.bytes.is_empty() && self.range == (0..self.object.bytes);
        let request = if is_whole {
            request.checksum_mode(ChecksumMode::Enabled)
        } else {
            request.range(format!("bytes={}-{}", self.range.start + self.got(), self.range.end - 1))
        };
        let etag = self.version.as_ref().and_then(|version| version.etag.clone());
        Answer::ask(request.set_if_match(etag), limits).await?.map_err(|error| {
            if is_replaced(&error) { replaced() } else { self.bucket.fetch_error(&error) }
        })
    }
}

/// What was given out already is of another version.
fn replaced() -> FetchError {
    FetchError::Final(anyhow!("it was replaced while it was read"))
}
