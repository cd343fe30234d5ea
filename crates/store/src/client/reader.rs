//! Reads objects for who keeps no files, in bounded memory: blocking, on a runtime of its own.

use std::{
    collections::VecDeque,
    io::{self, Read},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Error, Result};
use tokio::{
    runtime::{Builder, Runtime},
    task::{AbortHandle, JoinHandle},
};

use super::{
    bucket::{Bucket, Object},
    digest::Hasher,
    download::MAX_FAILURES_IN_A_ROW,
    range_read::{Part, Version},
    stored_checksums::StoredChecksums,
    transfer::{ATTEMPTS, FetchError},
};
use crate::settings::Destination;

/// What is asked for at once: large enough that the time between request and answer hardly counts.
const PART_BYTES: u64 = 4 << 20;

/// Where only the beginning is wanted, the first request is for so much, and each further one for four
/// times as much.
const FIRST_BYTES: u64 = 64 << 10;

/// Parts of one object that are on their way at a time.
const PARTS_AHEAD: usize = 4;

/// Reads the objects of one bucket. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    runtime: Arc<Runtime>,
    bucket: Bucket,
    /// Objects in a row that the store did not deliver.
    failures: Arc<AtomicUsize>,
    received: Arc<AtomicU64>,
}

impl Reader {
    /// Asks the store how it wants the bucket to be named; a store that is down is no error here.
    pub fn open(destination: &Destination) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.context("cannot start the threads that download")?;
        let bucket = runtime.block_on(Bucket::open(destination))?;
        let (runtime, failures, received) = (Arc::new(runtime), Arc::default(), Arc::default());
        Ok(Self { runtime, bucket, failures, received })
    }

    /// The store in words: its endpoint, or the region at AWS.
    pub fn store(&self) -> &str {
        self.bucket.store()
    }

    /// [`Bucket::list_each`].
    pub fn list_each(
        &self,
        prefix: &str,
        visit: impl FnMut(Object) -> Result<()>,
    ) -> Result<Option<Error>> {
        self.runtime.block_on(self.bucket.list_each(prefix, visit))
    }

    /// Begins to read an object: its first part is on its way when this returns.
    pub fn start(&self, object: Arc<Object>) -> Content {
        Content::new(self.clone(), object, PART_BYTES, PARTS_AHEAD)
    }

    /// The same, for who wants no more than its beginning.
    pub fn start_of(&self, object: Arc<Object>) -> Content {
        Content::new(self.clone(), object, FIRST_BYTES, 1)
    }

    /// Some bytes of an object. Fails where these are not all there.
    pub fn range(&self, object: &Object, range: Range<u64>) -> io::Result<Vec<u8>> {
        if range.end > object.bytes || range.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let part = self.runtime.block_on(self.bucket.part(object, range, None, self.attempts()));
        Ok(self.counted(part)?.bytes)
    }

    /// Bytes that came of all objects so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    fn attempts(&self) -> usize {
        let failures = self.failures.load(Ordering::Relaxed);
        if failures < MAX_FAILURES_IN_A_ROW { ATTEMPTS } else { 1 }
    }

    fn counted(&self, part: Result<Part, FetchError>) -> io::Result<Part> {
        match &part {
            Ok(part) => {
                self.failures.store(0, Ordering::Relaxed);
                self.received.fetch_add(part.bytes.len() as u64, Ordering::Relaxed);
            }
            Err(FetchError::Transfer(_)) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
            Err(FetchError::Final(_)) => {}
        }
        part.map_err(|error| {
            let (FetchError::Final(error) | FetchError::Transfer(error)) = error;
            io::Error::other(format!("{error:#}"))
        })
    }
}

/// The content of one object, as it comes. An error says why no more of it does; one of the kind
/// `InvalidData` comes at the end, and says that what came is not what was stored.
pub struct Content {
    reader: Reader,
    object: Arc<Object>,
    part_bytes: u64,
    parts_ahead: usize,
    /// Where the next request begins.
    asked_to: u64,
    running: VecDeque<Running>,
    version: Option<Version>,
    sums: StoredChecksums,
    hasher: Hasher,
    given: u64,
    part: io::Cursor<Vec<u8>>,
    has_ended: bool,
}

/// Stops when it is dropped.
struct Running {
    part: JoinHandle<Result<Part, FetchError>>,
    abort: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl Content {
    fn new(reader: Reader, object: Arc<Object>, part_bytes: u64, parts_ahead: usize) -> Self {
        let mut content = Self {
            reader,
            object,
            part_bytes,
            parts_ahead,
            asked_to: 0,
            running: VecDeque::new(),
            version: None,
            sums: StoredChecksums::default(),
            hasher: Hasher::default(),
            given: 0,
            part: io::Cursor::default(),
            has_ended: false,
        };
        content.ask();
        content
    }

    fn ask(&mut self) {
        let Self { reader, object, version, .. } = self;
        let end = object.bytes.min(self.asked_to.saturating_add(self.part_bytes));
        let range = self.asked_to..end;
        self.asked_to = end;
        self.part_bytes = PART_BYTES.min(self.part_bytes * 4);
        let (bucket, object, version) =
            (reader.bucket.clone(), Arc::clone(object), version.clone());
        let attempts = reader.attempts();
        let part = async move { bucket.part(&object, range, version, attempts).await };
        let part = reader.runtime.spawn(part);
        self.running.push_back(Running { abort: part.abort_handle(), part });
    }

    /// False at the end.
    fn next_part(&mut self) -> io::Result<bool> {
        // The version is known when the first part is here.
        while self.version.is_some()
            && self.asked_to < self.object.bytes
            && self.running.len() < self.parts_ahead
        {
            self.ask();
        }
        let Some(mut running) = self.running.pop_front() else { return Ok(false) };
        let ended = self.reader.runtime.block_on(&mut running.part);
        let ended = ended.unwrap_or_else(|error| Err(FetchError::Final(Error::new(error))));
        let Part { bytes, version, sums } = self.reader.counted(ended)?;
        if self.version.replace(version).is_none() {
            self.sums = sums;
        }
        self.hasher.update(&bytes);
        self.given += bytes.len() as u64;
        self.part = io::Cursor::new(bytes);
        Ok(true)
    }

    /// Whether what came has the checksum that the store tells.
    fn check(&mut self) -> io::Result<()> {
        if self.sums == StoredChecksums::default() && self.object.bytes > PART_BYTES {
            self.sums = self.reader.runtime.block_on(self.reader.bucket.sums(&self.object));
        }
        let digest = std::mem::take(&mut self.hasher).finish();
        match self.sums.mismatch(&digest) {
            None => Ok(()),
            Some(mismatch) => Err(io::Error::new(io::ErrorKind::InvalidData, mismatch)),
        }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.part.read(buffer)?;
            if read > 0 || buffer.is_empty() || self.has_ended {
                return Ok(read);
            }
            match self.next_part() {
                Ok(true) => {}
                Ok(false) => {
                    self.has_ended = true;
                    self.check()?;
                }
                Err(error) => {
                    self.has_ended = true;
                    self.running.clear();
                    return Err(error);
                }
            }
        }
    }
}
