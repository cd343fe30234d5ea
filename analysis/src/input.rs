//! Finds what is to be read: the segments of each run, in their order.

#[cfg(feature = "s3")]
mod bucket;
mod content;
pub mod exported;
pub mod location;
pub mod pieces;
mod pool;
pub mod progress;

use std::{
    fs,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, bail};
use trace::{
    line::{Line, Meta, SegmentOpen},
    reader::Reader,
    segment_name::{Run, SegmentName},
    segments,
};

use crate::gap::{Cause, Gap};
use exported::{EXTENSION, Exported};
use location::Location;
use pieces::{Piece, Pieces, Source};
pub use pool::Choice;
use pool::{Pool, start_of};

/// Stands for standard input.
pub const STDIN: &str = "-";

/// One life of the sidecar, or a file that is no segment by its name.
#[derive(Debug)]
pub struct RunFiles {
    pub name: String,
    pub files: Vec<Segment>,
    /// What is known before the first line is read.
    pub gaps: Vec<Gap>,
}

#[derive(Debug, Clone)]
pub struct Segment {
    pub location: Location,
    /// By its opening line, else by its name; `None` for what is no segment.
    pub sequence: Option<u64>,
    pub opening: Option<SegmentOpen>,
    /// The tables that hold its lines, if it is read from such.
    pub exported: Option<Arc<Exported>>,
}

#[derive(Debug, Default)]
pub struct Found {
    /// In the order of their starts.
    pub runs: Vec<RunFiles>,
    /// Files that lie beside and were not read, in words.
    pub not_read: Vec<String>,
}

/// Looks into directories at any depth, and into buckets; a file is read whatever its name.
pub fn find(paths: &[PathBuf]) -> Result<Found> {
    find_chosen(paths, &Choice::default())
}

/// The same, and of what is not wanted no more is read than tells so.
pub fn find_chosen(paths: &[PathBuf], choice: &Choice) -> Result<Found> {
    let mut pool = Pool::default();
    for path in paths {
        if is_url(path) {
            look_into_bucket(path, choice, &mut pool)?;
        } else {
            look(path, &mut pool)?;
        }
    }
    if pool.is_empty() {
        let beside = match &pool.not_read[..] {
            [] => String::new(),
            names => format!("; not read: {}", names.join(", ")),
        };
        bail!(
            "no trace in {}: segments are named trace_<host>_<start>_<sequence>.jsonl, .jsonl.zst \
             or .parquet, or are the tables that export has written; give another file by its own \
             path{beside}",
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        );
    }
    pool.keep_one_form();
    pool.choose(choice)?;
    let Pool { by_run, others, not_read, unlisted, .. } = pool;
    let mut runs = others;
    runs.extend(by_run.into_iter().map(|(run, files)| of_run(&run, files)));
    runs.sort_by_key(|run| start_of(&run.name));
    for run in &mut runs {
        run.gaps.extend(unlisted.iter().cloned());
    }
    Ok(Found { runs, not_read })
}

/// A path that names a bucket.
fn is_url(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.starts_with("s3://"))
}

#[cfg(feature = "s3")]
use bucket::look as look_into_bucket;

#[cfg(not(feature = "s3"))]
fn look_into_bucket(path: &Path, _: &Choice, _: &mut Pool) -> Result<()> {
    bail!(
        "cannot read {}: this program was built without its feature s3: build it with `cargo build --release \
         --package analysis`",
        path.display()
    )
}

fn look(path: &Path, pool: &mut Pool) -> Result<()> {
    if path.as_os_str() == STDIN {
        pool.others.push(single(Location::Disk(path.to_owned())));
        return Ok(());
    }
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if !metadata.is_dir() {
        fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = Location::Disk(path.to_owned());
        if file.is_table() && !is_segment(path) {
            return pool.add_table_by_path(&file, exported::look(&file, on_disk));
        }
        pool.add(file);
        return Ok(());
    }
    let segments::Found { segments, open, others } = segments::look(path)?;
    let is_table = |name: &&String| name.ends_with(&format!(".{EXTENSION}\""));
    let is_told = |name: &&String| !name.ends_with("(still being written)") && !is_table(name);
    pool.not_read.extend(others.names.iter().filter(is_told).cloned());
    let tables = tables(path);
    let told = others.names.len();
    let told_tables = others.names.iter().filter(is_table).count();
    let not_told = (others.count - told).saturating_sub(tables.len() - told_tables);
    if not_told > 0 {
        pool.not_read.push(format!("{not_told} more"));
    }
    for table in tables {
        let table = Location::Disk(table);
        let kind = exported::look(&table, on_disk);
        pool.add_table(table, kind);
    }
    for file in segments.into_iter().chain(open) {
        pool.add(Location::Disk(file));
    }
    Ok(())
}

/// Whether it is there is found when it is opened.
#[expect(clippy::unnecessary_wraps, reason = "in a bucket it may be missing")]
fn on_disk(path: &Path) -> Result<Location> {
    Ok(Location::Disk(path.to_owned()))
}

fn is_segment(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|it| SegmentName::parse(it).is_some())
}

fn single(file: Location) -> RunFiles {
    let path = file.path();
    let name = if file.is_stdin() {
        "standard input".to_owned()
    } else {
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    };
    let segment = Segment { location: file, sequence: None, opening: None, exported: None };
    RunFiles { name, files: vec![segment], gaps: Vec::new() }
}

/// What was exported of a run, as the segments that it was.
fn of_export(run: exported::Run) -> RunFiles {
    let exported::Run { name, tables, segments, gaps } = run;
    let tables = Arc::new(tables);
    let files = segments.into_iter().map(|exported::Segment { file, sequence }| Segment {
        location: Location::Disk(file.into()),
        sequence,
        opening: None,
        exported: Some(Arc::clone(&tables)),
    });
    RunFiles { name, files: files.collect(), gaps }
}

/// Calls of which nothing can be read: a run all the same, so that no answer passes over it.
fn damaged(path: &Path, error: &anyhow::Error) -> RunFiles {
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let (file, reason) = (path.to_owned(), format!("{error:#}"));
    let gaps = vec![Gap::anywhere(Cause::Unreadable { file, reason })];
    RunFiles { name, files: Vec::new(), gaps }
}

/// Parquet files in a directory and in those below it, but for hidden ones and segments.
fn tables(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        // What cannot be listed is told by whoever looks for segments.
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !is_hidden => directories.push(path),
                Ok(kind) if kind.is_dir() => {}
                _ if is_segment(&path) => {}
                _ if path.extension().is_some_and(|it| it == EXTENSION) && path.is_file() => {
                    found.push(path);
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

impl Segment {
    pub fn path(&self) -> &Path {
        self.location.path()
    }
}

impl RunFiles {
    /// What is to be read one after the other.
    pub(crate) fn sources(&self) -> Vec<Source> {
        let mut sources = Vec::new();
        for file in &self.files {
            match (&file.exported, sources.last_mut()) {
                (None, _) => sources.push(Source::File(file.location.clone())),
                (Some(_), Some(Source::Exported { segments, .. })) => *segments += 1,
                (Some(tables), _) => {
                    sources.push(Source::Exported { tables: Arc::clone(tables), segments: 1 });
                }
            }
        }
        sources
    }
}

/// All lines of a run, many at once, as long as `take` wants more. The last of a file may have no line
/// feed.
pub fn read_lines(run: &RunFiles, mut take: impl FnMut(&[u8]) -> Result<bool>) -> Result<()> {
    for gap in &run.gaps {
        if let Cause::Unreadable { file, reason } = &gap.cause {
            bail!("{}: {reason}", file.display());
        }
    }
    let mut files = run.files.iter();
    let mut pieces = Pieces::of(run.sources());
    let mut file = files.next();
    while let Some(piece) = pieces.receive() {
        let path =
            || file.map_or_else(|| run.name.clone(), |file| file.path().display().to_string());
        match piece {
            Piece::Lines(lines) => {
                if !take(lines.bytes())? {
                    return Ok(());
                }
                pieces.give_back(lines);
            }
            Piece::TooLong => bail!("{}: a line is longer than any writer makes it", path()),
            Piece::Failed(error) => bail!("{}: {error}", path()),
            Piece::End => file = files.next(),
        }
    }
    Ok(())
}

/// Opened at a time where they lie in a store, which takes its time for each.
const OPENED_AT_A_TIME: usize = 16;

/// The segments of a run, each with its opening line.
fn opened(files: Vec<Location>) -> Vec<Segment> {
    let is_far = files.iter().any(|file| matches!(file, Location::Object(_)));
    let threads = if is_far { OPENED_AT_A_TIME.min(files.len()) } else { 1 };
    let waiting = Mutex::new(files.into_iter().enumerate());
    let open = || {
        let mut segments = Vec::new();
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((at, location)) = next else { return segments };
            let name = location.path().file_name().and_then(|name| name.to_str());
            let of_name = name.and_then(SegmentName::parse).map(|name| name.sequence);
            let opening = opening(&location);
            let sequence = opening.as_ref().map(|opening| opening.sequence).or(of_name);
            segments.push((at, Segment { location, sequence, opening, exported: None }));
        }
    };
    let mut segments: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(open)).collect();
        let segments = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        segments.flatten().collect()
    });
    segments.sort_by_key(|(at, _)| *at);
    segments.into_iter().map(|(_, segment)| segment).collect()
}

/// The first line, if it is one: what the file is, whatever its name says.
fn opening(file: &Location) -> Option<SegmentOpen> {
    let content = file.open_beginning().ok()?;
    match Reader::new(content, file.path()).next()?.ok()? {
        Line::Meta(line) => match line.meta {
            Meta::SegmentOpen(opening) => Some(opening),
            _ => None,
        },
        Line::Call(_) => None,
    }
}

/// Of several files of one segment the first is used: one that is whole, if there is one.
fn put_whole_ones_first(files: &mut [Segment]) {
    for same in files.chunk_by_mut(|one, other| one.sequence == other.sequence) {
        if same.len() > 1 && same[0].sequence.is_some() {
            let whole = same.iter().position(|file| is_whole(&file.location));
            same[..=whole.unwrap_or(0)].rotate_right(1);
        }
    }
}

/// Whether it can be read up to a closing line.
fn is_whole(file: &Location) -> bool {
    let Ok(content) = file.open() else { return false };
    let mut is_closed = false;
    for line in Reader::new(content, file.path()) {
        let Ok(line) = line else { return false };
        is_closed = matches!(line, Line::Meta(line) if matches!(line.meta, Meta::SegmentClose(_)));
    }
    is_closed
}

/// Sorts the segments of a run, and tells which are missing and which are not used.
fn of_run(run: &Run, files: Vec<Location>) -> RunFiles {
    let mut files = opened(files);
    let mut gaps = Vec::new();
    let start = |file: &Segment| Some(file.opening.as_ref()?.clock.start_monotonic_ns);
    let of_first = files.iter().find_map(start);
    files.retain(|file| {
        let is_of_run = start(file).is_none() || start(file) == of_first;
        if !is_of_run {
            gaps.push(Gap::anywhere(Cause::OtherRun { file: file.path().to_owned() }));
        }
        is_of_run
    });
    files.sort_by(|one, other| (one.sequence, one.path()).cmp(&(other.sequence, other.path())));
    put_whole_ones_first(&mut files);
    let mut expected = 1;
    files.retain(|file| {
        let sequence = file.sequence.unwrap_or(expected);
        if sequence < expected {
            let file = file.path().to_owned();
            gaps.push(Gap::anywhere(Cause::Duplicate { file, sequence }));
            return false;
        }
        if sequence > expected {
            let (first, last) = (expected, sequence - 1);
            gaps.push(Gap::anywhere(Cause::MissingSegments { first, last }));
        }
        expected = sequence.saturating_add(1);
        true
    });
    RunFiles { name: run.to_string(), files, gaps }
}
