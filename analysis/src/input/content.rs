//! The bytes of a Parquet file, also where it lies in a store: there a group of rows is brought at once.

use std::{
    fs::File,
    io::{self, Cursor, Read},
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use parquet::{
    errors::{ParquetError, Result},
    file::reader::{ChunkReader, Length},
};
use tables::read::Chunks;

use super::location::{Location, Object};

/// What is brought of a file at once, at most: a group of rows as the writer makes it has less.
const MAX_HELD: u64 = 128 << 20;

/// At the end of a file, where it says what is in it.
const END_BYTES: u64 = 64 << 10;

/// For who does not say how much is read.
const READ_BYTES: u64 = 64 << 10;

#[derive(Clone)]
pub(super) enum Content {
    Disk(Arc<File>),
    Object(Arc<Remote>),
}

pub(super) struct Remote {
    object: Arc<Object>,
    /// Where it begins, and what there is.
    held: Mutex<(u64, Bytes)>,
}

impl Content {
    pub(super) fn open(location: &Location) -> io::Result<Self> {
        match location {
            Location::Disk(path) => Ok(Self::Disk(Arc::new(File::open(path)?))),
            Location::Object(object) => {
                let remote = Remote { object: Arc::clone(object), held: Mutex::default() };
                let end = object.bytes.saturating_sub(END_BYTES)..object.bytes;
                remote.hold(end).map_err(io::Error::other)?;
                Ok(Self::Object(Arc::new(remote)))
            }
        }
    }
}

impl Chunks for Content {
    fn hold(&self, range: Range<u64>) -> Result<()> {
        match self {
            Self::Disk(_) => Ok(()),
            Self::Object(remote) => remote.hold(range),
        }
    }
}

impl Remote {
    fn hold(&self, range: Range<u64>) -> Result<()> {
        let (start, end) = (range.start, range.end);
        if self.of_held(start, end.saturating_sub(start)).is_some() {
            return Ok(());
        }
        // Both would not fit.
        *self.held() = (0, Bytes::new());
        let bytes = self.bring(range)?;
        *self.held() = (start, bytes);
        Ok(())
    }

    fn bring(&self, range: Range<u64>) -> Result<Bytes> {
        let length = range.end.saturating_sub(range.start);
        if length > MAX_HELD {
            let message = format!(
                "a group of rows has {length} bytes, and {MAX_HELD} are held: download the tables, \
                 and read them from disk"
            );
            return Err(ParquetError::General(message));
        }
        if length == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.object.store.range(&self.object, range);
        Ok(bytes.map_err(|error| ParquetError::External(Box::new(error)))?.into())
    }

    fn of_held(&self, start: u64, length: u64) -> Option<Bytes> {
        let held = self.held();
        let (from, bytes) = &*held;
        let from = usize::try_from(start.checked_sub(*from)?).ok()?;
        let to = from.checked_add(usize::try_from(length).ok()?)?;
        (to <= bytes.len()).then(|| bytes.slice(from..to))
    }

    fn held(&self) -> std::sync::MutexGuard<'_, (u64, Bytes)> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, start: u64, length: u64) -> Result<Bytes> {
        match self.of_held(start, length) {
            Some(bytes) => Ok(bytes),
            None => self.bring(start..start.saturating_add(length)),
        }
    }

    /// From there on as much as is held, or a little.
    fn from(&self, start: u64) -> Result<Bytes> {
        let held = {
            let held = self.held();
            (held.0..held.0 + held.1.len() as u64)
                .contains(&start)
                .then(|| held.0 + held.1.len() as u64)
        };
        let end = held.unwrap_or_else(|| self.object.bytes.min(start.saturating_add(READ_BYTES)));
        self.get(start, end.saturating_sub(start))
    }
}

impl Length for Content {
    fn len(&self) -> u64 {
        match self {
            Self::Disk(file) => file.len(),
            Self::Object(remote) => remote.object.bytes,
        }
    }
}

impl ChunkReader for Content {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(match self {
            Self::Disk(file) => Box::new(file.get_read(start)?),
            Self::Object(remote) => Box::new(Cursor::new(remote.from(start)?)),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        match self {
            Self::Disk(file) => file.get_bytes(start, length),
            Self::Object(remote) => remote.get(start, length as u64),
        }
    }
}
