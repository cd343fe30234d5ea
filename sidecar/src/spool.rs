//! TRACE_DIR: the closed segments in it, the lock on it, and what an earlier run left there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};
use trace::{
    line::{CloseReason, Meta, SegmentClose},
    segment_name::{PART_SUFFIX, SegmentName},
    writer::push_meta,
};
use tracing::warn;

use crate::clock;

/// The directory, held by this process alone.
#[derive(Clone)]
pub struct Spool {
    directory: PathBuf,
    _lock: Arc<File>,
}

/// A closed segment that waits for upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    pub path: PathBuf,
    pub name: SegmentName,
    pub bytes: u64,
}

impl Spool {
    /// Creates the directory if needed, takes its lock, and closes what a crash left open. What
    /// cannot be closed, on a full disk for one, is left for the next start: this one may still
    /// upload what makes room.
    pub fn open(directory: &Path) -> Result<Self> {
        let shown = directory.display();
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create TRACE_DIR {shown}: choose a writable one"))?;
        let lock = lock(&directory.join(".lock"))
            .with_context(|| format!("cannot use TRACE_DIR {shown}"))?;
        let spool = Self { directory: directory.to_owned(), _lock: Arc::new(lock) };
        for part in spool.parts()? {
            match close_truncated(&part) {
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
        Ok(spool)
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
        Ok(self.closed()?.iter().map(|closed| closed.bytes).sum())
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
        .with_context(|| format!("cannot open {}", path.display()))?;
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

/// Cuts the line that the crash interrupted, closes the file and gives it its final name.
///
/// A crash in the middle of this leaves a `.part` again, which the next run closes.
fn close_truncated(part: &Path) -> Result<PathBuf> {
    let file_name = part.file_name().and_then(|name| name.to_str()).context("odd file name")?;
    let name = SegmentName::parse(file_name).context("not a segment")?;
    let mut file = OpenOptions::new().read(true).write(true).open(part)?;
    let Scan { whole_bytes, calls, last_timestamp_ns, closed } = scan(&file)?;
    file.set_len(whole_bytes)?;
    if !closed {
        let close = Meta::SegmentClose(SegmentClose {
            sequence: name.sequence,
            reason: CloseReason::Truncated,
            r#final: false,
            calls,
            clock: clock::read(0),
            functions: std::collections::BTreeMap::new(),
        });
        let mut line = Vec::new();
        push_meta(&mut line, last_timestamp_ns, std::process::id(), &close);
        file.seek(SeekFrom::End(0))?;
        file.write_all(&line)?;
    }
    let final_path = part.with_file_name(name.to_string());
    fs::rename(part, &final_path)?;
    Ok(final_path)
}

struct Scan {
    /// Up to and with the last line feed.
    whole_bytes: u64,
    calls: u64,
    last_timestamp_ns: u64,
    /// The closing line is there: only the new name was missing.
    closed: bool,
}

fn scan(file: &File) -> io::Result<Scan> {
    let mut scan = Scan { whole_bytes: 0, calls: 0, last_timestamp_ns: 0, closed: false };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(scan);
        }
        scan.whole_bytes += line.len() as u64;
        let Some(Ok(parsed)) = trace::reader::Reader::new(&line[..], Path::new("")).next() else {
            continue;
        };
        let timestamp = match parsed {
            trace::line::Line::Call(call) => {
                scan.calls += 1;
                call.ts
            }
            trace::line::Line::Meta(line) => {
                scan.closed = matches!(line.meta, Meta::SegmentClose(_));
                line.ts
            }
        };
        scan.last_timestamp_ns = clock::nanoseconds(timestamp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str =
        "{\"ts\":2.5,\"pid\":3,\"type\":\"cuda_api\",\"func\":\"cuInit\",\"phase\":\"entry\"}\n";
    const NAME: &str = "trace_h_s_000001.jsonl";

    #[test]
    fn a_part_is_cut_to_whole_lines_closed_and_renamed() {
        let directory = tempfile::tempdir().unwrap();
        let part = directory.path().join(format!("{NAME}{PART_SUFFIX}"));
        fs::write(&part, format!("{CALL}{CALL}{}", &CALL[..30])).unwrap();
        let spool = Spool::open(directory.path()).unwrap();
        let closed = spool.closed().unwrap();
        assert_eq!(closed.len(), 1);
        let text = fs::read_to_string(&closed[0].path).unwrap();
        assert!(text.starts_with(&format!("{CALL}{CALL}{{\"ts\":2.500000,")), "{text}");
        assert!(text.contains("\"reason\":\"truncated\",\"final\":false,\"calls\":2"), "{text}");
        assert!(text.ends_with("}\n"));
        assert!(!part.exists());
    }

    #[test]
    fn a_part_that_was_closed_but_not_renamed_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let part = directory.path().join(format!("{NAME}{PART_SUFFIX}"));
        fs::write(&part, CALL).unwrap();
        let once = close_truncated(&part).unwrap();
        let text = fs::read_to_string(&once).unwrap();
        fs::rename(&once, &part).unwrap();
        close_truncated(&part).unwrap();
        assert_eq!(fs::read_to_string(&once).unwrap(), text);
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
        assert_eq!(spool.waiting_bytes().unwrap(), 6);
    }
}
