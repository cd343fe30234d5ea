//! Finds what is to be read below `s3://bucket/prefix`. Nothing is written to disk.

mod listing;
mod notes;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    env,
    io::{self, BufRead, BufReader, Read},
    ops::Range,
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{self, AtomicUsize},
    },
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum as _;
use store::{
    Addressing, Destination, Reader,
    settings::{bucket, endpoint, sdk_endpoint},
};
use trace::{key_prefix::KeyPrefix, secrets::mask, segments::without_copies};

use super::{
    exported::{self, Kind},
    is_segment,
    location::{Altered, Location, Object, Store},
    pool::{Choice, Pool},
    progress,
};
use crate::gap::{Cause, Gap};
use listing::Kept;

/// Tables that are looked at at a time.
const TABLES_AT_A_TIME: usize = 16;

/// Objects that are downloaded to see whether they are copies of others. Beyond it they count as others,
/// and so as a segment that is there twice.
const MAX_COMPARED: usize = 16;

/// Fills the pool with what a bucket has below the prefix.
pub(super) fn look(url: &Path, choice: &Choice, pool: &mut Pool) -> Result<()> {
    notes::print();
    let url = url.to_str().unwrap_or_default();
    let (name, key) = parts(url)?;
    let destination = destination(&name, key)?;
    let reader = Reader::open(&destination).map_err(shown)?;
    let bucket = Arc::new(Bucket { reader, name });
    if let Some(object) = bucket.object(key)? {
        let file = Location::Object(bucket.known(object));
        if file.is_table() && !is_segment(file.path()) {
            let at = |path: &Path| bucket.beside(path);
            return pool.add_table_by_path(&file, exported::look(&file, at));
        }
        pool.add(file);
        return Ok(());
    }
    let folder = if key.is_empty() { String::new() } else { format!("{key}/") };
    let mut kept = Kept::new(&folder, choice);
    let mut listed = 0_u64;
    let stopped = bucket.reader.list_each(&folder, |object| {
        listed += 1;
        progress::tell(|| format!("{url}: {listed} objects listed"));
        kept.add(object)
    });
    let stopped = stopped.map_err(shown)?;
    if listed == 0 && stopped.is_none() {
        bail!(
            "nothing is stored under s3://{}/{folder} in {}: check the name of the bucket and what \
             stands behind it",
            bucket.name,
            bucket.reader.store()
        );
    }
    if let Some(reason) = stopped {
        let (place, reason) = (url.to_owned(), shown(reason).to_string());
        pool.unlisted.push(Gap::anywhere(Cause::NotListed { place, reason }));
    }
    pool.has_unwanted |= kept.has_unwanted;
    pool.not_read.append(&mut kept.not_read());
    bucket.add_segments(kept.segments, pool);
    bucket.add_tables(kept.tables, pool);
    Ok(())
}

/// Of `s3://bucket/prefix`, without the `/` at its end.
fn parts(url: &str) -> Result<(String, &str)> {
    let rest = url.strip_prefix("s3://").unwrap_or_default();
    let (name, key) = rest.split_once('/').unwrap_or((rest, ""));
    let name = bucket(name).map_err(|accepted| {
        let accepted = accepted.trim_start_matches("accepted: ");
        anyhow!("{url:?}: write s3://bucket/prefix; a bucket has {accepted}")
    })?;
    Ok((name, key.trim_end_matches('/')))
}

/// As the sidecar's settings say it.
fn destination(bucket: &str, key: &str) -> Result<Destination> {
    let set = |variable| env::var(variable).ok().filter(|value| !value.is_empty());
    let odd =
        |variable, value: &str, accepted| anyhow!("{variable} is {:?}: {accepted}", mask(value));
    let of_sidecar =
        |value: String| endpoint(&value).map_err(|accepted| odd("S3_ENDPOINT", &value, accepted));
    let endpoint = match set("S3_ENDPOINT") {
        Some(value) => Some(of_sidecar(value)?),
        None => sdk_endpoint().map_err(|message| anyhow!(message))?,
    };
    let addressing = set("S3_ADDRESSING").map_or(Ok(Addressing::default()), |value| {
        let accepted = "accepted: auto, path, host".to_owned();
        Addressing::from_str(&value, false).map_err(|_| odd("S3_ADDRESSING", &value, accepted))
    })?;
    // Only where to look first: whoever may list the prefix alone may not list the rest.
    let prefix = KeyPrefix::from_str(key).unwrap_or_default();
    Ok(Destination {
        bucket: bucket.to_owned(),
        prefix,
        endpoint,
        addressing,
        ..Destination::default()
    })
}

/// What a store says goes to a terminal.
fn shown(error: anyhow::Error) -> anyhow::Error {
    anyhow!(plain(&format!("{error:#}")))
}

/// Control characters shown instead of obeyed.
fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_unicode());
            escaped.into_iter().flatten().chain((!c.is_control()).then_some(c))
        })
        .collect()
}

struct Bucket {
    reader: Reader,
    name: String,
}

impl Bucket {
    fn known(self: &Arc<Self>, object: store::Object) -> Arc<Object> {
        let store::Object { key, bytes, etag } = object;
        let path = PathBuf::from(format!("s3://{}/{key}", self.name));
        let store: Arc<dyn Store> = Arc::<Self>::clone(self);
        Arc::new(Object { path, key, bytes, etag, store })
    }

    /// The object of just that key, if there is one.
    fn object(&self, key: &str) -> Result<Option<store::Object>> {
        let mut found = None;
        if key.is_empty() {
            return Ok(found);
        }
        // It is the first of all that begin so.
        let take = |object: store::Object| {
            found = (object.key == key).then_some(object);
            Err(anyhow!("that is enough"))
        };
        self.reader.list_each(key, take).map_err(shown)?;
        Ok(found)
    }

    fn beside(self: &Arc<Self>, path: &Path) -> Result<Location> {
        let below = format!("s3://{}/", self.name);
        let key = path.to_str().and_then(|path| path.strip_prefix(&below));
        let object = self.object(key.context("it is not there")?)?.context("it is not there")?;
        Ok(Location::Object(self.known(object)))
    }

    fn add_segments(self: &Arc<Self>, segments: Vec<store::Object>, pool: &mut Pool) {
        let mut objects: HashMap<PathBuf, Arc<Object>> = HashMap::new();
        for object in segments {
            let object = self.known(object);
            objects.insert(object.path.clone(), object);
        }
        let mut paths: Vec<PathBuf> = objects.keys().cloned().collect();
        paths.sort();
        let compared = AtomicUsize::new(0);
        let are_equal =
            |one: &Path, other: &Path| are_equal(&objects[one], &objects[other], &compared);
        let (paths, copies) = without_copies(paths, are_equal);
        for (path, first) in copies {
            pool.not_read.push(format!("{} (a copy of {})", quoted(&path), quoted(&first)));
        }
        for path in paths {
            pool.add(Location::Object(Arc::clone(&objects[&path])));
        }
    }

    fn add_tables(self: &Arc<Self>, tables: Vec<store::Object>, pool: &mut Pool) {
        let objects: BTreeMap<PathBuf, Arc<Object>> = tables
            .into_iter()
            .map(|object| {
                let object = self.known(object);
                (object.path.clone(), object)
            })
            .collect();
        let at = |path: &Path| {
            let object = objects.get(path).context("it is not there")?;
            Ok(Location::Object(Arc::clone(object)))
        };
        let waiting = Mutex::new(objects.values());
        let look = || {
            let mut kinds: Vec<(Location, Result<Kind>)> = Vec::new();
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(table) = next else { return kinds };
                let table = Location::Object(Arc::clone(table));
                let kind = exported::look(&table, at);
                kinds.push((table, kind));
            }
        };
        let mut kinds: Vec<_> = thread::scope(|scope| {
            let threads = TABLES_AT_A_TIME.min(objects.len());
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(look)).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, Vec<_>>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().flat_map(join).collect()
        });
        kinds.sort_by(|(one, _), (other, _)| one.path().cmp(other.path()));
        for (table, kind) in kinds {
            pool.add_table(table, kind);
        }
    }
}

/// A key may hold anything, and goes to a terminal.
fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}

/// By what the listing tells, or else by their contents.
fn are_equal(one: &Object, other: &Object, compared: &AtomicUsize) -> io::Result<bool> {
    if one.bytes != other.bytes {
        return Ok(false);
    }
    if one.etag.is_some() && one.etag == other.etag {
        return Ok(true);
    }
    if compared.fetch_add(1, atomic::Ordering::Relaxed) >= MAX_COMPARED {
        return Ok(false);
    }
    let content = |object: &Object| BufReader::with_capacity(1 << 20, object.store.start(object));
    let (mut one, mut other) = (content(one), content(other));
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if left[..length].cmp(&right[..length]) != Ordering::Equal {
            return Ok(false);
        }
        if length == 0 {
            return Ok(left.len() == right.len());
        }
        one.consume(length);
        other.consume(length);
    }
}

impl Store for Bucket {
    fn start(&self, object: &Object) -> Box<dyn Read + Send> {
        let content = self.reader.start(self.asked(object));
        Box::new(Told { content, reader: self.reader.clone(), path: object.path.clone() })
    }

    fn start_of(&self, object: &Object) -> Box<dyn Read + Send> {
        let content = self.reader.start_of(self.asked(object));
        Box::new(Told { content, reader: self.reader.clone(), path: object.path.clone() })
    }

    fn range(&self, object: &Object, range: Range<u64>) -> io::Result<Vec<u8>> {
        tell(&self.reader, &object.path);
        let read = self.reader.range(&self.asked(object), range);
        read.map_err(|error| io::Error::new(error.kind(), plain(&error.to_string())))
    }
}

impl Bucket {
    #[expect(clippy::unused_self, reason = "of this bucket")]
    fn asked(&self, object: &Object) -> Arc<store::Object> {
        let Object { key, bytes, etag, .. } = object;
        Arc::new(store::Object { key: key.clone(), bytes: *bytes, etag: etag.clone() })
    }
}

/// Content that says how far it is.
struct Told {
    content: store::Content,
    reader: Reader,
    path: PathBuf,
}

fn tell(reader: &Reader, path: &Path) {
    progress::tell(|| {
        let mib = reader.received() as f64 / f64::from(1 << 20);
        format!("{mib:.1} MiB downloaded: {}", path.display())
    });
}

impl Read for Told {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        tell(&self.reader, &self.path);
        let read = self.content.read(buffer);
        read.map_err(|error| {
            let message = plain(&error.to_string());
            match error.kind() {
                kind @ io::ErrorKind::InvalidData => io::Error::new(kind, Altered(message)),
                kind => io::Error::new(kind, message),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_bucket_and_perhaps_a_prefix() {
        for (url, key) in [
            ("s3://traces", ""),
            ("s3://traces/", ""),
            ("s3://traces/k3s-vllm", "k3s-vllm"),
            ("s3://traces/a/b//", "a/b"),
        ] {
            assert_eq!(parts(url).unwrap(), ("traces".to_owned(), key), "{url}");
        }
        for odd in ["s3://", "s3:///a", "s3://a b/c"] {
            let error = parts(odd).unwrap_err().to_string();
            assert!(error.contains("write s3://bucket/prefix; a bucket has 3 to 63"), "{error}");
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\u{a}");
    }
}
