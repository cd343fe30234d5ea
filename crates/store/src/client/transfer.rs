//! How the bytes of an object come: one request, its answer piece by piece, and when to try again.

use std::{ops::Deref, time::Duration};

use anyhow::{Context as _, Error, anyhow};
use aws_sdk_s3::{
    config::{Builder, StalledStreamProtectionConfig, retry::RetryConfig},
    operation::get_object::{GetObjectError, GetObjectOutput, builders::GetObjectFluentBuilder},
};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::info;

use super::{
    bucket::{Bucket, Object},
    failure::{SdkError, is_about_credentials, status},
};

/// How often an object is asked for while nothing more of it comes.
pub const ATTEMPTS: usize = 4;

/// The longest pause within a transfer, by attempt: what is there already is not asked for again, so
/// a short limit costs little at first, and a slow store is given more time in the end.
const IDLE_TIMEOUTS: [Duration; ATTEMPTS] = [
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(40),
];

/// The wait after the first failure; it doubles with each.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// An attempt that has brought this much resets the count of failures, however it ended.
const MIN_PROGRESS: u64 = 64 << 10;

/// Bytes a second after the first [`MIN_TIMEOUT`]: a store that trickles must not delay the end.
const MIN_RATE: u64 = 1 << 10;
const MIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Why an object was not downloaded.
#[derive(Debug)]
pub enum FetchError {
    /// The same request would fail again.
    Final(Error),
    /// The store, or the way to it, failed each time.
    Transfer(Error),
}

impl FetchError {
    pub(crate) fn transfer(message: impl Into<String>) -> Self {
        Self::Transfer(anyhow!(message.into()))
    }
}

/// The time that one attempt may take.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    idle: Duration,
    total: Duration,
    deadline: Instant,
}

impl Limits {
    /// From now on.
    pub(crate) fn of(idle: Duration, bytes: u64) -> Self {
        let total = MIN_TIMEOUT + Duration::from_secs(bytes / MIN_RATE);
        Self { idle, total, deadline: Instant::now() + total }
    }
}

/// The answer to a GET, whose body is read piece by piece.
pub(crate) struct Answer {
    pub(crate) head: GetObjectOutput,
    limits: Limits,
}

impl Answer {
    /// Retries and pauses are those of [`Retries`], which knows how much has come.
    pub(crate) async fn ask(
        request: GetObjectFluentBuilder,
        limits: Limits,
    ) -> Result<Result<Self, SdkError<GetObjectError>>, FetchError> {
        let own = Builder::default()
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        let sent = request.customize().config_override(own).send();
        let answer = timeout_at(limits.deadline, sent)
            .await
            .map_err(|_| FetchError::transfer("the store does not answer in time"))?;
        Ok(answer.map(|head| Self { head, limits }))
    }

    /// The first byte of the object that the body has: a store without ranges sends all of it.
    pub(crate) fn start(&self) -> Result<u64, FetchError> {
        let Some(range) = self.head.content_range() else { return Ok(0) };
        start_of(range).ok_or_else(|| {
            FetchError::transfer(format!(
                "the store sends the odd range {:?}",
                range.escape_debug()
            ))
        })
    }

    /// The size of the whole object, if the answer is a part of it.
    pub(crate) fn total(&self) -> Option<u64> {
        self.head.content_range().and_then(total_of)
    }

    /// The next piece, or none at the end; `got` and `length` are for the error alone.
    pub(crate) async fn next(
        &mut self,
        got: u64,
        length: u64,
    ) -> Result<Option<impl Deref<Target = [u8]> + use<>>, FetchError> {
        let Limits { idle, total, deadline } = self.limits;
        match timeout(idle, timeout_at(deadline, self.head.body.try_next())).await {
            Err(_) => Err(FetchError::transfer(format!("no bytes came for {} s", idle.as_secs()))),
            Ok(Err(_)) => Err(FetchError::transfer(format!(
                "got {got} of {length} bytes in {} s: the store, or the network to it, is too slow",
                total.as_secs()
            ))),
            Ok(Ok(piece)) => piece.context("the transfer failed").map_err(FetchError::Transfer),
        }
    }

    /// What comes behind the last byte: nothing should. The SDK compares the checksum, if the store has sent
    /// one, when it reads the end: an error says that the content is wrong.
    pub(crate) async fn end(&mut self) -> Result<End, FetchError> {
        let Limits { idle, deadline, .. } = self.limits;
        match timeout_at(deadline.min(Instant::now() + idle), self.head.body.try_next()).await {
            Ok(Ok(None)) => Ok(End::Here),
            Ok(Ok(Some(_))) => Ok(End::More),
            Ok(Err(error)) => {
                Err(FetchError::Transfer(Error::new(error).context("the transfer failed")))
            }
            Err(_) => Ok(End::Late),
        }
    }

    /// Of an answer whose encoding the store, or a proxy, chose.
    pub(crate) fn encoding(&self) -> Option<&str> {
        self.head.content_encoding().filter(|encoding| *encoding != "identity")
    }

    /// For a body that is shorter or longer than the listing says: the object was replaced, or was
    /// compressed by a proxy.
    pub(crate) fn wrong_length(&self, got: &str, listed: u64) -> FetchError {
        let error = anyhow!("got {got}, but the listing says {listed}");
        match self.encoding() {
            Some(encoding) => FetchError::Final(error.context(format!(
                "the answer has the content encoding {encoding:?}, which was not asked for: go \
                 around the proxy or gateway that compresses it"
            ))),
            None => FetchError::Transfer(error),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Here,
    /// There are more bytes.
    More,
    /// It did not come in time.
    Late,
}

impl End {
    pub(crate) fn late() -> FetchError {
        FetchError::transfer("the end of the answer did not come in time")
    }
}

impl Bucket {
    /// Whether the same request may succeed later.
    pub(crate) fn fetch_error(&self, error: &SdkError<GetObjectError>) -> FetchError {
        let explained = self.explain(error, "s3:GetObject");
        match status(error) {
            // With 200 and the like the answer was cut, or is none of S3.
            Some(200..300 | 408 | 429 | 500..) => FetchError::Transfer(explained),
            Some(_) => FetchError::Final(explained),
            None if is_about_credentials(error) => FetchError::Final(explained),
            None => FetchError::Transfer(explained),
        }
    }
}

/// Precondition failed, range not satisfiable: the object is another one than before.
pub(crate) fn is_replaced(error: &SdkError<GetObjectError>) -> bool {
    matches!(status(error), Some(412 | 416))
}

/// The attempts at one object.
pub(crate) struct Retries {
    attempts: usize,
    failures: usize,
    /// The most that had come after any attempt.
    best: u64,
}

impl Retries {
    pub(crate) fn new(attempts: usize) -> Self {
        Self { attempts, failures: 0, best: 0 }
    }

    /// The limits of the next attempt at this many bytes.
    pub(crate) fn limits(&self, bytes: u64) -> Limits {
        Limits::of(IDLE_TIMEOUTS[self.failures.min(ATTEMPTS - 1)], bytes)
    }

    /// After an attempt that failed, when `length` bytes are there: waits for the next one, or gives up.
    pub(crate) async fn wait(
        &mut self,
        object: &Object,
        length: u64,
        error: Error,
    ) -> Result<(), FetchError> {
        if length >= self.best + MIN_PROGRESS {
            self.failures = 0;
        }
        self.best = self.best.max(length);
        self.failures += 1;
        if self.failures >= self.attempts {
            return Err(FetchError::Transfer(error));
        }
        let pause = FIRST_RETRY * (1 << (self.failures - 1));
        info!("{}: {error:#}; trying again in {pause:?}", object.key.escape_debug());
        sleep(pause).await;
        Ok(())
    }
}

/// `bytes 5-9/10` starts at 5.
fn start_of(range: &str) -> Option<u64> {
    range.strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

/// `bytes 5-9/10` is of 10 bytes.
pub(crate) fn total_of(range: &str) -> Option<u64> {
    range.rsplit_once('/')?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_and_the_size_are_read_from_a_range() {
        assert_eq!((start_of("bytes 5-9/10"), total_of("bytes 5-9/10")), (Some(5), Some(10)));
        assert_eq!((start_of("bytes */10"), total_of("bytes 0-0/*")), (None, None));
        assert_eq!((start_of("5-9/10"), total_of("")), (None, None));
    }
}
