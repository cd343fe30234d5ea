//! Objects to files, whole or not at all. A transfer that is cut or paused goes on where it was.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use aws_sdk_s3::types::ChecksumMode;
use rustix::fs::{FlockOperation, flock};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use super::{
    bucket::{Bucket, Object},
    digest::Digest,
    stored_checksums::StoredChecksums,
    transfer::{Answer, End, FetchError, Limits, Retries, is_replaced},
};

/// After this many in a row that the store did not deliver, objects are tried once each: what is wrong
/// is most likely wrong for all, and thousands of objects must not take days to say so.
pub const MAX_FAILURES_IN_A_ROW: usize = 8;

/// What begins and ends the names of files that are not whole yet.
pub const PARTIAL: (&str, &str) = (".fetch_", ".partial");

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
        let mut download = Download {
            bucket: self,
            object,
            folder,
            partial: None,
            sums: StoredChecksums::default(),
        };
        let mut retries = Retries::new(attempts);
        loop {
            let error = match download.attempt(retries.limits(object.bytes)).await {
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
            retries.wait(object, length, error).await?;
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
        if sums == StoredChecksums::default() {
            return Ok(false);
        }
        Ok(sums.mismatch(&Digest::read(path).await?).is_none())
    }
}

/// One object on its way.
struct Download<'a> {
    bucket: &'a Bucket,
    object: &'a Object,
    folder: &'a Path,
    partial: Option<Partial>,
    sums: StoredChecksums,
}

impl Download<'_> {
    /// What has come stays in `partial`, for the next attempt.
    async fn attempt(&mut self, limits: Limits) -> Result<Partial, FetchError> {
        let listed = self.object.bytes;
        let mut answer = self.ask(limits).await?;
        if self.partial.is_none() {
            let mut partial = Partial::open(self.folder, &self.object.key, answer.head.e_tag())
                .map_err(FetchError::Final)?;
            self.sums = StoredChecksums::of_answer(&answer.head);
            if partial.length > listed {
                partial.cut_to(0).await.map_err(FetchError::Final)?;
            }
            let is_begun = partial.length > 0;
            self.partial = Some(partial);
            if is_begun {
                // By an earlier run.
                answer = self.ask(limits).await?;
            }
        }
        let partial = self.partial.as_mut().expect("it was opened above");
        let start = answer.start()?;
        partial.cut_to(start.min(partial.length)).await.map_err(FetchError::Final)?;
        if start > partial.length {
            return Err(FetchError::transfer("the store sends another part than it was asked for"));
        }
        while partial.length < listed {
            let Some(piece) = answer.next(partial.length, listed).await? else { break };
            partial.write(&piece).await.map_err(FetchError::Final)?;
        }
        let got = partial.length;
        let is_end = got < listed
            || match answer.end().await {
                Ok(End::Late) => return Err(End::late()),
                Ok(end) => end == End::Here,
                Err(error) => {
                    partial.cut_to(0).await.map_err(FetchError::Final)?;
                    return Err(error);
                }
            };
        if got != listed || !is_end {
            let kept = if got < listed && partial.etag.is_some() { got } else { 0 };
            partial.cut_to(kept).await.map_err(FetchError::Final)?;
            let got =
                if got == listed { "more than that".to_owned() } else { format!("{got} bytes") };
            return Err(answer.wrong_length(&got, listed));
        }
        partial.flush().await.map_err(FetchError::Final)?;
        let digest = Digest::read(&partial.path).await.map_err(FetchError::Final)?;
        if let Some(mismatch) = self.sums.mismatch(&digest) {
            partial.cut_to(0).await.map_err(FetchError::Final)?;
            return Err(FetchError::transfer(mismatch));
        }
        Ok(self.partial.take().expect("it was opened above"))
    }

    /// For all of it, or for what is missing.
    async fn ask(&mut self, limits: Limits) -> Result<Answer, FetchError> {
        let Bucket { client, name, .. } = self.bucket;
        let request = client.get_object().bucket(name).key(&self.object.key);
        let request = match self.partial.as_ref().and_then(Partial::resumed) {
            None => request.checksum_mode(ChecksumMode::Enabled),
            Some((length, etag)) => request.range(format!("bytes={length}-")).if_match(etag),
        };
        let error = match Answer::ask(request, limits).await? {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if is_replaced(&error)
            && let Some(mut partial) = self.partial.take()
        {
            partial.is_useless = true;
            return Err(FetchError::Transfer(self.bucket.explain(&error, "s3:GetObject")));
        }
        Err(self.bucket.fetch_error(&error))
    }
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
