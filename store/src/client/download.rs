//! Objects to files, whole or not at all. A transfer that is cut or paused goes on where it was.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Error, Result, anyhow};
use aws_sdk_s3::{
    config::{Builder, StalledStreamProtectionConfig, retry::RetryConfig},
    operation::get_object::{GetObjectError, GetObjectOutput},
    types::ChecksumMode,
};
use rustix::fs::{FlockOperation, flock};
use tokio::{
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::info;

use super::{
    bucket::{Bucket, Object},
    digest::Digest,
    failure::{SdkError, is_about_credentials, status},
    sums::Sums,
};

/// How often an object is asked for while nothing more of it comes.
pub const ATTEMPTS: usize = 4;

/// The longest pause within a transfer, by attempt: what is there already is not asked for again, so
/// it costs little to be impatient first, and a store that takes its time is heard out in the end.
const IDLE_TIMEOUTS: [Duration; ATTEMPTS] = [
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(40),
];

/// The wait after the first failure; it doubles with each.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// An attempt that has brought this much was worth it, however it ended.
const MIN_PROGRESS: u64 = 64 << 10;

/// Bytes a second, beyond the first [`SLOW_START`]: a store that trickles must not hold up the end.
pub(crate) const SLOWEST_DOWNLOAD: u64 = 1 << 10;
pub(crate) const SLOW_START: Duration = Duration::from_secs(60);

/// After this many in a row that the store did not deliver, objects are tried once each: what is wrong
/// is most likely wrong for all, and thousands of objects must not take days to say so.
pub const MAX_FAILURES_IN_A_ROW: usize = 8;

/// What begins and ends the names of files that are not whole yet.
pub const PARTIAL: (&str, &str) = (".fetch_", ".partial");

/// Why an object is not there as a file.
#[derive(Debug)]
pub enum FetchError {
    /// The same request would fail again.
    Final(Error),
    /// The store, or the way to it, failed each time.
    Transfer(Error),
}

impl Bucket {
    /// Downloads an object and returns true, or finds that the same content is there already.
    ///
    /// What came before a transfer broke is asked for only once, also in a later run, as long as the
    /// store says that the object is still the same.
    pub async fn fetch(
        &self,
        object: &Object,
        path: &Path,
        attempts: usize,
    ) -> Result<bool, FetchError> {
        if self.is_there(object, path).await.map_err(FetchError::Final)? {
            return Ok(false);
        }
        let what = || {
            let (name, key) = (&self.name, object.key.escape_debug());
            format!("cannot download s3://{name}/{key} to {}", path.display())
        };
        let partial = self.download(object, path, attempts).await.map_err(|error| match error {
            FetchError::Final(error) => FetchError::Final(error.context(what())),
            FetchError::Transfer(error) => FetchError::Transfer(error.context(what())),
        })?;
        partial.become_file(path).with_context(what).map_err(FetchError::Final)?;
        Ok(true)
    }

    async fn download(
        &self,
        object: &Object,
        path: &Path,
        attempts: usize,
    ) -> Result<Partial, FetchError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))
            .map_err(FetchError::Final)?;
        let mut download =
            Download { bucket: self, object, folder, partial: None, sums: Sums::default() };
        let mut patience = Patience::new(attempts);
        loop {
            let error = match download.attempt(patience.idle()).await {
                Ok(partial) => return Ok(partial),
                Err(FetchError::Transfer(error)) => error,
                Err(error) => {
                    if let Some(partial) = &mut download.partial {
                        partial.is_useless = true;
                    }
                    return Err(error);
                }
            };
            let length = download.partial.as_ref().map_or(0, |partial| partial.length);
            patience.wait(object, length, error).await?;
        }
    }

    /// Whether the same request may fare better.
    pub(crate) fn not_had(&self, error: &SdkError<GetObjectError>) -> FetchError {
        let explained = self.explain(error, "s3:GetObject");
        match status(error) {
            // Of 200 and the like: it was cut, or is none of S3.
            Some(200..300 | 408 | 429 | 500..) => FetchError::Transfer(explained),
            Some(_) => FetchError::Final(explained),
            None if is_about_credentials(error) => FetchError::Final(explained),
            None => FetchError::Transfer(explained),
        }
    }

    /// Only a checksum tells: a store without one has its objects downloaded again.
    async fn is_there(&self, object: &Object, path: &Path) -> Result<bool> {
        if fs::metadata(path).map(|file| (file.is_file(), file.len())).ok()
            != Some((true, object.bytes))
        {
            return Ok(false);
        }
        // Who may not ask this may still download.
        let sums = self.sums(object).await;
        if sums == Sums::default() {
            return Ok(false);
        }
        Ok(sums.complaint(&Digest::read(path).await?).is_none())
    }
}

/// How long an object is tried.
pub(crate) struct Patience {
    attempts: usize,
    failures: usize,
    /// The most that had come after any attempt.
    best: u64,
}

impl Patience {
    pub(crate) fn new(attempts: usize) -> Self {
        Self { attempts, failures: 0, best: 0 }
    }

    /// The longest pause within the next attempt.
    pub(crate) fn idle(&self) -> Duration {
        IDLE_TIMEOUTS[self.failures.min(ATTEMPTS - 1)]
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

/// One object on its way.
struct Download<'a> {
    bucket: &'a Bucket,
    object: &'a Object,
    folder: &'a Path,
    partial: Option<Partial>,
    sums: Sums,
}

impl Download<'_> {
    /// Leaves in `partial` what can be gone on from.
    async fn attempt(&mut self, idle: Duration) -> Result<Partial, FetchError> {
        let listed = self.object.bytes;
        let limit = SLOW_START + Duration::from_secs(listed / SLOWEST_DOWNLOAD);
        let deadline = Instant::now() + limit;
        let mut answer = self.ask().await?;
        if self.partial.is_none() {
            let mut partial = Partial::open(self.folder, &self.object.key, answer.e_tag())
                .map_err(FetchError::Final)?;
            self.sums = Sums::of_answer(&answer);
            if partial.length > listed {
                partial.cut_to(0).await.map_err(FetchError::Final)?;
            }
            let is_begun = partial.length > 0;
            self.partial = Some(partial);
            if is_begun {
                // By an earlier run.
                answer = self.ask().await?;
            }
        }
        let partial = self.partial.as_mut().expect("it was opened above");
        // A store that does not know ranges sends all of it.
        let start = answer.content_range().map_or(Some(0), start_of).unwrap_or(0);
        partial.cut_to(start.min(partial.length)).await.map_err(FetchError::Final)?;
        if start > partial.length {
            return Err(transfer("the store sends another part than it was asked for"));
        }
        let encoding = answer.content_encoding().filter(|encoding| *encoding != "identity");
        let encoding = encoding.map(str::to_owned);
        while partial.length < listed {
            let piece = match timeout(idle, timeout_at(deadline, answer.body.try_next())).await {
                Err(_) => return Err(transfer(format!("nothing came for {} s", idle.as_secs()))),
                Ok(Err(_)) => {
                    let got = partial.length;
                    return Err(transfer(format!(
                        "got {got} of {listed} bytes in {} s: the store, or the way to it, is too slow",
                        limit.as_secs()
                    )));
                }
                Ok(Ok(piece)) => {
                    piece.context("the transfer failed").map_err(FetchError::Transfer)?
                }
            };
            let Some(piece) = piece else { break };
            partial.write(&piece).await.map_err(FetchError::Final)?;
        }
        let got = partial.length;
        // The SDK compares the checksum, if the store has sent one, when the end is read.
        let end =
            if got < listed { Ok(Ok(None)) } else { timeout(idle, answer.body.try_next()).await };
        if let Ok(Err(error)) = end {
            partial.cut_to(0).await.map_err(FetchError::Final)?;
            return Err(FetchError::Transfer(Error::new(error).context("the transfer failed")));
        }
        // Another end than that of the listing: of another object, or of one that was compressed on the way.
        if got != listed || !matches!(end, Ok(Ok(None))) {
            let kept = if got < listed && partial.etag.is_some() { got } else { 0 };
            partial.cut_to(kept).await.map_err(FetchError::Final)?;
            let got =
                if got == listed { "more than that".to_owned() } else { format!("{got} bytes") };
            let error = anyhow!("got {got}, but the listing says {listed}");
            return Err(match encoding {
                Some(encoding) => FetchError::Final(error.context(format!(
                    "the answer has the content encoding {encoding:?}, which nobody asked for: go \
                     around the proxy or gateway that compresses it"
                ))),
                None => FetchError::Transfer(error),
            });
        }
        partial.flush().await.map_err(FetchError::Final)?;
        let digest = Digest::read(&partial.path).await.map_err(FetchError::Final)?;
        if let Some(complaint) = self.sums.complaint(&digest) {
            partial.cut_to(0).await.map_err(FetchError::Final)?;
            return Err(transfer(complaint));
        }
        Ok(self.partial.take().expect("it was opened above"))
    }

    /// For all of it, or for what is missing.
    async fn ask(&mut self) -> Result<GetObjectOutput, FetchError> {
        let Bucket { client, name, .. } = self.bucket;
        let request = client.get_object().bucket(name).key(&self.object.key);
        let request = match self.partial.as_ref().and_then(Partial::resumed) {
            None => request.checksum_mode(ChecksumMode::Enabled),
            Some((length, etag)) => request.range(format!("bytes={length}-")).if_match(etag),
        };
        // Attempts and pauses are counted here, where it is known how much has come.
        let own = Builder::default()
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        let answer = request.customize().config_override(own).send().await;
        answer.map_err(|error| self.failed(&error))
    }

    fn failed(&mut self, error: &SdkError<GetObjectError>) -> FetchError {
        // Precondition failed, range not satisfiable: what is here is of another object.
        if matches!(status(error), Some(412 | 416))
            && let Some(mut partial) = self.partial.take()
        {
            partial.is_useless = true;
            return FetchError::Transfer(self.bucket.explain(error, "s3:GetObject"));
        }
        self.bucket.not_had(error)
    }
}

pub(crate) fn transfer(message: impl Into<String>) -> FetchError {
    FetchError::Transfer(anyhow!(message.into()))
}

/// Of `bytes 5-9/10`.
pub(crate) fn start_of(range: &str) -> Option<u64> {
    range.strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

/// A file that is not whole. Dropped, it stays for a later run, if that can go on from it.
struct Partial {
    path: PathBuf,
    file: tokio::fs::File,
    length: u64,
    /// Without one nobody could tell whether the rest still belongs to it.
    etag: Option<String>,
    is_useless: bool,
}

impl Partial {
    /// Hidden, beside the file that it will be, and named for the object and its version: a later run
    /// finds it, and of another version it never takes a part. Locked against other downloads.
    fn open(folder: &Path, key: &str, etag: Option<&str>) -> Result<Self> {
        let version = Digest::of_bytes(format!("{key}\0{}", etag.unwrap_or_default()).as_bytes());
        let (begin, end) = PARTIAL;
        let path = folder.join(format!("{begin}{}{end}", &version.sha256_hex()[..32]));
        let what = || format!("cannot create {}", path.display());
        let file = fs::File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(what)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| anyhow!("another download of it is under way"))?;
        let length = file.metadata().with_context(what)?.len();
        let etag = etag.map(str::to_owned);
        let file = tokio::fs::File::from_std(file);
        let mut partial = Self { path, file, length, etag, is_useless: false };
        if partial.etag.is_none() {
            // Of who knows what.
            partial.length = 0;
        }
        Ok(partial)
    }

    /// Where to go on, and of what.
    fn resumed(&self) -> Option<(u64, &str)> {
        Some((self.length, self.etag.as_deref()?)).filter(|(length, _)| *length > 0)
    }

    async fn cut_to(&mut self, length: u64) -> Result<()> {
        self.flush().await?;
        let what = || format!("cannot write {}", self.path.display());
        self.file.set_len(length).await.with_context(what)?;
        self.file.seek(std::io::SeekFrom::Start(length)).await.with_context(what)?;
        self.length = length;
        Ok(())
    }

    async fn write(&mut self, piece: &[u8]) -> Result<()> {
        let what = || format!("cannot write {}", self.path.display());
        self.file.write_all(piece).await.with_context(what)?;
        self.length += piece.len() as u64;
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let what = || format!("cannot write {}", self.path.display());
        self.file.flush().await.with_context(what)
    }

    fn become_file(self, path: &Path) -> Result<()> {
        fs::rename(&self.path, path)
            .with_context(|| format!("cannot give {} its name", path.display()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.is_useless || self.resumed().is_none() {
            // Gone already, if it got its name.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_part_is_read_from_its_range() {
        assert_eq!(start_of("bytes 5-9/10"), Some(5));
        assert_eq!(start_of("bytes */10"), None);
        assert_eq!(start_of("5-9/10"), None);
    }
}
