//! Where a file lies: on this machine, or as an object in a store.

use std::{
    error::Error,
    fmt,
    io::{self, BufRead, BufReader, Read},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use tables::lines::{self, Lines};
use trace::{
    frames::{Frames, is_compressed},
    reader::open_content,
};

use super::{STDIN, content::Content, exported::EXTENSION};

/// How content is read: nothing else is known of the store here.
pub trait Store: Send + Sync {
    /// All of an object: begins to bring it before it is asked for.
    fn start(&self, object: &Object) -> Box<dyn Read + Send>;

    /// The same, for who wants the beginning alone.
    fn start_of(&self, object: &Object) -> Box<dyn Read + Send>;

    /// Some bytes of it, all or none.
    fn range(&self, object: &Object, range: Range<u64>) -> io::Result<Vec<u8>>;
}

/// An object as a listing shows it.
pub struct Object {
    /// `s3://bucket/key`: what answers call it.
    pub path: PathBuf,
    pub key: String,
    pub bytes: u64,
    /// Of its content, where the listing tells it.
    pub etag: Option<String>,
    pub store: Arc<dyn Store>,
}

#[derive(Debug, Clone)]
pub enum Location {
    Disk(PathBuf),
    Object(Arc<Object>),
}

impl Location {
    pub fn path(&self) -> &Path {
        match self {
            Self::Disk(path) => path,
            Self::Object(object) => &object.path,
        }
    }

    pub fn is_stdin(&self) -> bool {
        matches!(self, Self::Disk(path) if path.as_os_str() == STDIN)
    }

    /// By its name.
    pub(super) fn is_table(&self) -> bool {
        self.path().extension().is_some_and(|extension| extension == EXTENSION)
    }

    /// The content, or standard input, unpacked if it is compressed or a table.
    pub(super) fn open(&self) -> io::Result<Box<dyn BufRead + Send>> {
        match self {
            Self::Disk(_) if self.is_stdin() => open_content(io::stdin().take(u64::MAX)),
            Self::Disk(path) => lines::open(path),
            Self::Object(_) if self.is_table() => self.open_table(),
            Self::Object(object) => open_content(object.store.start(object)),
        }
    }

    fn open_table(&self) -> io::Result<Box<dyn BufRead + Send>> {
        Ok(Box::new(Lines::new(Content::open(self)?)?))
    }

    /// The same, for who reads no further than its first line.
    pub(super) fn open_beginning(&self) -> io::Result<Box<dyn BufRead + Send>> {
        match self {
            Self::Disk(_) => self.open(),
            Self::Object(_) if self.is_table() => self.open_table(),
            Self::Object(object) => {
                let start = object.store.start_of(object);
                let mut start = BufReader::with_capacity(BEGINNING_BYTES, start);
                Ok(if is_compressed(start.fill_buf()?) {
                    Box::new(BufReader::new(Frames::with_max_window(start, MAX_WINDOW)))
                } else {
                    Box::new(start)
                })
            }
        }
    }
}

/// Many beginnings are read at a time.
const BEGINNING_BYTES: usize = 64 << 10;

/// As much as the sidecar's frames need, several times.
const MAX_WINDOW: u64 = 8 << 20;

/// Why content that was read to its end is not to be trusted.
#[derive(Debug)]
pub struct Altered(pub String);

impl fmt::Display for Altered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Altered {}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, key: _, bytes, etag: _, store: _ } = self;
        write!(f, "{} ({bytes} bytes)", path.display())
    }
}
