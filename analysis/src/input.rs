//! Finds what is to be read: the segments of each run, in their order.

pub mod exported;
pub mod pieces;

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use trace::{
    line::{Line, Meta, SegmentOpen},
    reader::{Reader, open_content},
    segment_name::{Run, SegmentName},
    segments,
};

use crate::gap::{Cause, Gap};
use exported::{EXTENSION, Exported, Kind};
use pieces::Source;

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

#[derive(Debug)]
pub struct Segment {
    pub path: PathBuf,
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

/// Looks into directories at any depth; a file is read whatever its name.
pub fn find(paths: &[PathBuf]) -> Result<Found> {
    let mut found = Found::default();
    let mut by_run: BTreeMap<Run, Vec<Segment>> = BTreeMap::new();
    for path in paths {
        if path.as_os_str() == STDIN {
            found.runs.push(single(path));
            continue;
        }
        let metadata =
            fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if !metadata.is_dir() {
            fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                match exported::look(path).with_context(|| path.display().to_string())? {
                    Kind::Calls(run) => found.runs.push(of_export(*run)),
                    Kind::Other(table) => bail!(
                        "{}: it is the table {table:?} of an export: give the directory of the \
                         export, or its table calls",
                        path.display()
                    ),
                    Kind::Foreign => bail!("{}: not written by export", path.display()),
                }
                continue;
            }
            add(path.clone(), &mut by_run, &mut found.runs);
            continue;
        }
        let segments::Found { segments, open, others } = segments::look(path)?;
        let is_table = |name: &&String| name.ends_with(&format!(".{EXTENSION}\""));
        let is_told = |name: &&String| !name.ends_with("(still being written)") && !is_table(name);
        found.not_read.extend(others.names.iter().filter(is_told).cloned());
        let tables = tables(path);
        let told = others.names.len();
        let told_tables = others.names.iter().filter(is_table).count();
        let not_told = (others.count - told).saturating_sub(tables.len() - told_tables);
        if not_told > 0 {
            found.not_read.push(format!("{not_told} more"));
        }
        for table in tables {
            let name = format!("{:?}", table.display().to_string());
            match exported::look(&table) {
                Ok(Kind::Calls(run)) => found.runs.push(of_export(*run)),
                Ok(Kind::Other(_)) => {}
                Ok(Kind::Foreign) => found.not_read.push(format!("{name} (not written by export)")),
                Err(error) if exported::is_below_calls(&table) => {
                    found.runs.push(damaged(&table, &error));
                }
                Err(error) => found.not_read.push(format!("{name} ({error:#})")),
            }
        }
        for file in segments.into_iter().chain(open) {
            add(file, &mut by_run, &mut found.runs);
        }
    }
    found.runs.extend(by_run.into_iter().map(|(run, files)| of_run(&run, files)));
    if found.runs.is_empty() {
        let beside = match &found.not_read[..] {
            [] => String::new(),
            names => format!("; not read: {}", names.join(", ")),
        };
        bail!(
            "no trace in {}: segments are named trace_<host>_<start>_<sequence>.jsonl or \
             .jsonl.zst, or are the tables that export has written; give another file by its own \
             path{beside}",
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        );
    }
    found.runs.sort_by_key(start_of);
    Ok(found)
}

/// Runs of several hosts in the order of their time, not of their hosts.
fn start_of(run: &RunFiles) -> (String, String) {
    let start = run.name.rsplit_once('_').map_or("", |(_, start)| start);
    (start.to_owned(), run.name.clone())
}

fn add(path: PathBuf, by_run: &mut BTreeMap<Run, Vec<Segment>>, others: &mut Vec<RunFiles>) {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(SegmentName::parse);
    match name {
        None => others.push(single(&path)),
        Some(SegmentName { run, sequence, .. }) => {
            let opening = opening(&path);
            let sequence = opening.as_ref().map_or(sequence, |opening| opening.sequence);
            let segment = Segment { path, sequence: Some(sequence), opening, exported: None };
            by_run.entry(run).or_default().push(segment);
        }
    }
}

fn single(path: &Path) -> RunFiles {
    let name = match path.to_str() {
        Some(STDIN) => "standard input".to_owned(),
        _ => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
    };
    let segment = Segment { path: path.to_owned(), sequence: None, opening: None, exported: None };
    RunFiles { name, files: vec![segment], gaps: Vec::new() }
}

/// What was exported of a run, as the segments that it was.
fn of_export(run: exported::Run) -> RunFiles {
    let exported::Run { name, tables, segments, gaps } = run;
    let tables = Arc::new(tables);
    let files = segments.into_iter().map(|exported::Segment { file, sequence }| Segment {
        path: file.into(),
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

/// Parquet files in a directory and in those below it, but for hidden ones.
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

impl RunFiles {
    /// What is to be read one after the other.
    pub(crate) fn sources(&self) -> Vec<Source> {
        let mut sources = Vec::new();
        for file in &self.files {
            match (&file.exported, sources.last_mut()) {
                (None, _) => sources.push(Source::File(file.path.clone())),
                (Some(_), Some(Source::Exported { segments, .. })) => *segments += 1,
                (Some(tables), _) => {
                    sources.push(Source::Exported { tables: Arc::clone(tables), segments: 1 });
                }
            }
        }
        sources
    }
}

/// The first line, if it is one: what the file is, whatever its name says.
fn opening(path: &Path) -> Option<SegmentOpen> {
    match Reader::open(path).ok()?.next()?.ok()? {
        Line::Meta(line) => match line.meta {
            Meta::SegmentOpen(opening) => Some(opening),
            _ => None,
        },
        Line::Call(_) => None,
    }
}

/// Sorts the segments of a run, and tells which are missing and which are not used.
fn of_run(run: &Run, mut files: Vec<Segment>) -> RunFiles {
    let mut gaps = Vec::new();
    let start = |file: &Segment| Some(file.opening.as_ref()?.clock.start_monotonic_ns);
    let of_first = files.iter().find_map(start);
    files.retain(|file| {
        let is_of_run = start(file).is_none() || start(file) == of_first;
        if !is_of_run {
            gaps.push(Gap::anywhere(Cause::OtherRun { file: file.path.clone() }));
        }
        is_of_run
    });
    files.sort_by(|one, other| (one.sequence, &one.path).cmp(&(other.sequence, &other.path)));
    let mut expected = 1;
    files.retain(|file| {
        let sequence = file.sequence.unwrap_or(expected);
        if sequence < expected {
            let file = file.path.clone();
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

/// Opens a file, or standard input, unpacked if it is compressed.
fn open(path: &Path) -> std::io::Result<Box<dyn std::io::BufRead + Send>> {
    if path.as_os_str() == STDIN {
        open_content(std::io::stdin().take(u64::MAX))
    } else {
        open_content(fs::File::open(path)?)
    }
}
