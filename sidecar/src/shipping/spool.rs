//! TRACE_DIR: the closed segments in it, the lock on it, and what an earlier run left there.

mod recovery;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};
use trace::segment_name::{Format, PART_SUFFIX, SegmentName};
use tracing::warn;

use crate::shipping::transcode::Transcoder;

/// The directory, held by this process alone.
#[derive(Clone)]
pub struct Spool {
    directory: PathBuf,
    /// What a crash had left open when the directory was opened.
    leftovers: Arc<Mutex<Vec<PathBuf>>>,
    transcoder: Option<Transcoder>,
    _lock: Arc<File>,
}

/// A segment with its closing line, which waits for upload, or to become a table.
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
            transcoder: None,
            _lock: Arc::new(lock),
        };
        *spool.leftovers() = spool.parts()?;
        Ok(spool)
    }

    /// Has tables made of closed segments. What it holds waits for upload as what is closed does.
    #[must_use]
    pub fn with_transcoder(self, transcoder: Transcoder) -> Self {
        Self { transcoder: Some(transcoder), ..self }
    }

    pub fn transcoder(&self) -> Option<&Transcoder> {
        self.transcoder.as_ref()
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
        let mut parts = mem::take(&mut *self.leftovers());
        // The lines of a segment before its table: until they have their name, it says what was done.
        parts.sort();
        for part in parts {
            let name = part.file_name().unwrap_or_default().to_string_lossy();
            begin(&name, fs::metadata(&part).map_or(0, |metadata| metadata.len()));
            match self.close_leftover(&part) {
                Ok(Some(closed)) if closed == part => {
                    warn!(
                        segment = %closed.display(),
                        "closed a segment that a crash had left open: it waits to become a table"
                    );
                }
                Ok(Some(closed)) => {
                    warn!(segment = %closed.display(), "closed a segment that a crash had left open");
                }
                Ok(None) => {}
                Err(error) => warn!(
                    segment = %part.display(),
                    error = format!("{error:#}"),
                    "cannot close a segment that a crash had left open: the next start will retry"
                ),
            }
        }
    }

    /// `None` if there was nothing to close: the same lines are there under another name.
    fn close_leftover(&self, part: &Path) -> Result<Option<PathBuf>> {
        let name = part.file_name().and_then(|name| name.to_str()).and_then(SegmentName::parse);
        let name = name.context("not a segment")?;
        let format = name.format;
        if format == Format::Parquet {
            fs::remove_file(part)?;
            return Ok(None);
        }
        let table = SegmentName { format: Format::Parquet, ..name }.to_string();
        let unfinished = part.with_file_name(format!("{table}{PART_SUFFIX}"));
        let table = part.with_file_name(table);
        // A table beside its lines was never uploaded. It is made again rather than read: other containers
        // can write here, and a table may claim any memory. What cannot be removed, such as a directory, is
        // in no way of lines.
        let _: io::Result<()> = fs::remove_file(&table);
        // What ended the sidecar may be the making of this table: it is not to do so again.
        let is_free = |path: &Path| fs::symlink_metadata(path).is_err();
        let becomes_table = format == Format::Jsonl && is_free(&unfinished) && is_free(&table);
        match &self.transcoder {
            Some(transcoder) if becomes_table => {
                let name = recovery::complete(part)?;
                let bytes = fs::metadata(part)?.len();
                transcoder.push(part.to_owned(), name, bytes);
                Ok(Some(part.to_owned()))
            }
            _ => recovery::close(part).map(Some),
        }
    }

    fn leftovers(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.leftovers.lock().expect("nothing panics while it is held")
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Closed segments, oldest first; without tables whose lines are still there, which would be stored
    /// twice.
    pub fn closed(&self) -> Result<Vec<Closed>> {
        let mut closed = Vec::new();
        for (path, file_name) in self.files()? {
            let Some(name) = SegmentName::parse(&file_name) else { continue };
            if file_name.ends_with(PART_SUFFIX) {
                continue;
            }
            if name.format == Format::Parquet
                && fs::symlink_metadata(lines_of(&path, &name)).is_ok()
            {
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
        // First those that become tables: what leaves them meanwhile is closed then.
        let mut held = self.transcoder.as_ref().map(Transcoder::waiting).unwrap_or_default();
        let closed = self.closed()?;
        let is_same = |one: &SegmentName, other: &SegmentName| {
            (&one.run, one.sequence) == (&other.run, other.sequence)
        };
        held.retain(|held| !closed.iter().any(|closed| is_same(&held.name, &closed.name)));
        // Nothing is written to a segment once it is closed.
        let closed_at = |path: &Path| fs::metadata(path).ok()?.modified().ok();
        let oldest = closed.first().map(|closed| &closed.path).into_iter();
        let oldest = oldest.chain(held.first().map(|held| &held.path));
        Ok(Waiting {
            segments: closed.len() + held.len(),
            bytes: closed.iter().chain(&held).map(|closed| closed.bytes).sum(),
            since: oldest.filter_map(|path| closed_at(path)).min(),
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

/// The file that becomes the table of this name.
fn lines_of(table: &Path, name: &SegmentName) -> PathBuf {
    let lines = SegmentName { format: Format::Jsonl, ..name.clone() };
    table.with_file_name(format!("{lines}{PART_SUFFIX}"))
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

    /// Both are there between the making of a table and the removal of its lines, for ever after a crash.
    #[test]
    fn a_table_is_uploaded_only_once_its_lines_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let lines = directory.path().join(format!("{NAME}{PART_SUFFIX}"));
        let table = directory.path().join("trace_h_s_000001.parquet");
        fs::write(&lines, "{}\n").unwrap();
        fs::write(&table, "PAR1").unwrap();
        let spool = Spool::open(directory.path()).unwrap();
        assert_eq!(spool.closed().unwrap(), []);
        fs::remove_file(lines).unwrap();
        assert_eq!(spool.closed().unwrap()[0].path, table);
    }

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

    #[test]
    fn with_a_transcoder_what_a_crash_left_is_there_once_and_whole() {
        let directory = tempfile::tempdir().unwrap();
        let call = "{\"ts\":2.5,\"pid\":3,\"type\":\"cuda_api\",\"func\":\"cuInit\",\"phase\":\"entry\"}\n";
        let path = |name: &str| directory.path().join(name);
        let write = |name: &str, content: &str| fs::write(path(name), content).unwrap();
        // Open, and in the middle of a table.
        write("trace_h_s_000001.jsonl.part", &format!("{call}{call}{}", &call[..20]));
        write("trace_h_s_000002.jsonl.part", call);
        write("trace_h_s_000002.parquet.part", "PAR1 half");
        // Behind tables whose lines are still there: whatever the tables are, the lines count.
        let table = path("trace_h_s_000003.parquet");
        let name = SegmentName::parse("trace_h_s_000003.parquet").unwrap();
        let finished = tables::lines::write(call.as_bytes(), &table, &name, || false).unwrap();
        finished.publish().unwrap();
        write("trace_h_s_000003.jsonl.part", call);
        write("trace_h_s_000004.jsonl.part", call);
        write("trace_h_s_000004.parquet", "PAR1 whole");
        write("trace_h_s_000005.jsonl.part", call);
        fs::create_dir(path("trace_h_s_000005.parquet")).unwrap();
        // Closed: whoever closed that may have uploaded it.
        write("trace_h_s_000006.jsonl", call);
        let transcoder = Transcoder::start(u64::MAX, directory.path()).unwrap();
        let spool = Spool::open(directory.path()).unwrap().with_transcoder(transcoder.clone());
        assert_eq!(spool.waiting().unwrap().segments, 1, "only what is closed");
        spool.close_leftovers(|_, _| ());
        transcoder.stop(std::time::Duration::from_secs(600));
        let closed = spool.closed().unwrap();
        let names: Vec<_> = closed.iter().map(|closed| closed.name.to_string()).collect();
        let expected = ["1.parquet", "2.jsonl", "3.parquet", "4.parquet", "5.jsonl", "6.jsonl"];
        assert_eq!(names, expected.map(|end| format!("trace_h_s_00000{end}")));
        assert_eq!(spool.parts().unwrap(), <[PathBuf; 0]>::default());
        let lines = |at: usize| {
            let mut lines = String::new();
            let mut file = tables::lines::open(&closed[at].path).unwrap();
            io::Read::read_to_string(&mut file, &mut lines).unwrap();
            lines
        };
        let first = lines(0);
        assert!(first.starts_with(&format!("{call}{call}{{\"ts\":2.500000,")), "{first}");
        assert!(first.contains("\"reason\":\"truncated\",\"final\":false,\"calls\":2"), "{first}");
        for at in [1, 2, 3, 4] {
            assert!(lines(at).starts_with(&format!("{call}{{\"ts\":2.500000,")), "{at}");
        }
    }

    #[test]
    fn what_waits_to_become_a_table_counts_as_closed() {
        let directory = tempfile::tempdir().unwrap();
        let part = directory.path().join("trace_h_s_000001.jsonl.part");
        fs::write(&part, "12345").unwrap();
        // It cannot be read as a segment, so that it waits until it is stopped, or is one already.
        let transcoder = Transcoder::start(u64::MAX, directory.path()).unwrap();
        let spool = Spool::open(directory.path()).unwrap().with_transcoder(transcoder.clone());
        transcoder.push(part, SegmentName::parse(NAME).unwrap(), 5);
        let Waiting { segments, bytes, since } = spool.waiting().unwrap();
        assert_eq!((segments, bytes, since.is_some()), (1, 5, true));
        transcoder.stop(std::time::Duration::from_secs(600));
        assert_eq!(spool.waiting_bytes().unwrap(), 5);
    }
}
