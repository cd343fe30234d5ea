//! TRACE_DIR: the closed segments in it, the lock on it, and what an earlier run left there.

mod leftover;

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};
use trace::segment_name::{PART_SUFFIX, SegmentName};
use tracing::warn;

/// The directory, held by this process alone.
#[derive(Clone)]
pub struct Spool {
    directory: PathBuf,
    /// What a crash had left open when the directory was opened.
    leftovers: Arc<Mutex<Vec<PathBuf>>>,
    _lock: Arc<File>,
}

/// A closed segment that waits for upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    pub path: PathBuf,
    pub name: SegmentName,
    pub bytes: u64,
}

/// What waits for upload, or stays where it is if there are none.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub segments: usize,
    pub bytes: u64,
    /// When the oldest was closed.
    pub since: Option<SystemTime>,
}

impl Spool {
    /// Creates the directory if needed, and takes its lock. What a crash left open is only
    /// remembered, for [`Self::close_leftovers`].
    pub fn open(directory: &Path) -> Result<Self> {
        let shown = directory.display();
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create TRACE_DIR {shown}: choose a writable one"))?;
        let lock = lock(&directory.join(".lock"))
            .with_context(|| format!("cannot use TRACE_DIR {shown}"))?;
        let spool = Self {
            directory: directory.to_owned(),
            leftovers: Arc::default(),
            _lock: Arc::new(lock),
        };
        *spool.leftovers() = spool.parts()?;
        Ok(spool)
    }

    /// Closes the segments that were open when the directory was opened, so that they are uploaded
    /// too; those of this run are never touched.
    ///
    /// Reads the files whole, so it may take long; a second call does nothing. The end of the
    /// process may interrupt it. What is not closed then, or cannot be closed, on a full disk for
    /// one, is left for the next start: this one may still upload what makes room.
    ///
    /// `begin` is told of each file before it is read, and how long it is.
    pub fn close_leftovers(&self, begin: impl Fn(&str, u64)) {
        let parts = mem::take(&mut *self.leftovers());
        for part in parts {
            let name = part.file_name().unwrap_or_default().to_string_lossy();
            begin(&name, fs::metadata(&part).map_or(0, |metadata| metadata.len()));
            match leftover::close(&part) {
                Ok(closed) => {
                    warn!(segment = %closed.display(), "closed a segment that a crash had left open");
                }
                Err(error) => warn!(
                    segment = %part.display(),
                    error = format!("{error:#}"),
                    "cannot close a segment that a crash had left open: the next start will retry"
                ),
            }
        }
    }

    fn leftovers(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.leftovers.lock().expect("nothing panics while it is held")
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Closed segments, oldest first.
    pub fn closed(&self) -> Result<Vec<Closed>> {
        let mut closed = Vec::new();
        for (path, file_name) in self.files()? {
            let Some(name) = SegmentName::parse(&file_name) else { continue };
            if file_name.ends_with(PART_SUFFIX) {
                continue;
            }
            // Deleted since it was listed: then it is not waiting.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            closed.push(Closed { path, name, bytes: metadata.len() });
        }
        closed.sort_by(|a, b| {
            (&a.name.run.start, a.name.sequence).cmp(&(&b.name.run.start, b.name.sequence))
        });
        Ok(closed)
    }

    /// Bytes in closed segments.
    pub fn waiting_bytes(&self) -> Result<u64> {
        Ok(self.waiting()?.bytes)
    }

    pub fn waiting(&self) -> Result<Waiting> {
        let closed = self.closed()?;
        // Nothing is written to a segment once it is closed.
        let oldest = closed.first().and_then(|closed| fs::metadata(&closed.path).ok());
        Ok(Waiting {
            segments: closed.len(),
            bytes: closed.iter().map(|closed| closed.bytes).sum(),
            since: oldest.and_then(|metadata| metadata.modified().ok()),
        })
    }

    fn parts(&self) -> Result<Vec<PathBuf>> {
        let files = self.files()?.into_iter();
        Ok(files
            .filter(|(_, name)| name.ends_with(PART_SUFFIX) && SegmentName::parse(name).is_some())
            .map(|(path, _)| path)
            .collect())
    }

    /// Regular files: a link that another container has put there could lead anywhere.
    fn files(&self) -> Result<Vec<(PathBuf, String)>> {
        let entries = fs::read_dir(&self.directory)
            .with_context(|| format!("cannot list TRACE_DIR {}", self.directory.display()))?;
        Ok(entries
            .filter_map(|entry| {
                let entry = entry.ok().filter(is_regular)?;
                Some((entry.path(), entry.file_name().into_string().ok()?))
            })
            .collect())
    }
}

fn is_regular(entry: &fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_file())
}

fn lock(path: &Path) -> Result<File> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}: choose a writable one", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let owner = fs::read_to_string(path).unwrap_or_default();
            bail!("another sidecar (pid {}) writes there: choose another TRACE_DIR", owner.trim());
        }
        Err(error) => return Err(error).context("cannot lock it"),
    }
    // For the message above only: no reason not to start on a full disk.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "trace_h_s_000001.jsonl";

    #[test]
    fn only_what_was_open_when_the_directory_was_opened_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let part = |name| directory.path().join(format!("{name}{PART_SUFFIX}"));
        fs::write(part(NAME), "half a li").unwrap();
        let spool = Spool::open(directory.path()).unwrap();
        let ours = part("trace_h_t_000001.jsonl");
        fs::write(&ours, "half a li").unwrap();
        assert_eq!(spool.closed().unwrap(), [], "opening reads no segment");
        for _ in 0..2 {
            spool.clone().close_leftovers(|_, _| ());
            let closed = spool.closed().unwrap();
            assert_eq!(closed.len(), 1);
            assert_eq!(closed[0].name.to_string(), NAME);
        }
        assert_eq!(fs::read_to_string(ours).unwrap(), "half a li");
    }

    #[test]
    fn a_part_that_cannot_be_closed_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = directory.path().join("elsewhere");
        fs::write(&elsewhere, "half a li").unwrap();
        let traces = directory.path().join("traces");
        fs::create_dir_all(traces.join(format!("{NAME}{PART_SUFFIX}"))).unwrap();
        for name in ["trace_h_s_000002.jsonl.part", "trace_h_s_000003.jsonl"] {
            std::os::unix::fs::symlink(&elsewhere, traces.join(name)).unwrap();
        }
        let spool = Spool::open(&traces).unwrap();
        spool.close_leftovers(|_, _| ());
        assert_eq!(spool.closed().unwrap(), []);
        assert_eq!(fs::read_to_string(elsewhere).unwrap(), "half a li");
    }

    #[test]
    fn a_second_sidecar_is_refused_with_the_pid_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let _first = Spool::open(directory.path()).unwrap();
        let error = Spool::open(directory.path()).err().unwrap();
        assert!(format!("{error:#}").contains(&format!("pid {}", std::process::id())));
    }

    #[test]
    fn segments_are_listed_oldest_first_and_other_files_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        for name in
            ["trace_b_2_000001.jsonl", "trace_a_3_000001.jsonl", "trace_b_2_000010.jsonl", "x"]
        {
            fs::write(directory.path().join(name), "12").unwrap();
        }
        let spool = Spool::open(directory.path()).unwrap();
        let names: Vec<String> =
            spool.closed().unwrap().iter().map(|closed| closed.name.to_string()).collect();
        assert_eq!(
            names,
            ["trace_b_2_000001.jsonl", "trace_b_2_000010.jsonl", "trace_a_3_000001.jsonl"]
        );
        let oldest = directory.path().join("trace_b_2_000001.jsonl");
        let since = Some(fs::metadata(oldest).unwrap().modified().unwrap());
        assert_eq!(spool.waiting().unwrap(), Waiting { segments: 3, bytes: 6, since });
    }
}
