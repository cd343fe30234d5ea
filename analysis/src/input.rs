//! Finds what is to be read: the segments of each run, in their order.

pub mod pieces;

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use trace::{
    line::{Line, Meta, SegmentOpen},
    reader::{Reader, open_content},
    segment_name::{Run, SegmentName},
    segments,
};

use crate::gap::{Cause, Gap};

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
            add(path.clone(), &mut by_run, &mut found.runs);
            continue;
        }
        let segments::Found { segments, open, others } = segments::look(path)?;
        let not_open = others.names.iter().filter(|name| !name.ends_with("(still being written)"));
        found.not_read.extend(not_open.cloned());
        if others.count > others.names.len() {
            found.not_read.push(format!("{} more", others.count - others.names.len()));
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
             .jsonl.zst; give another file by its own path{beside}",
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
            let segment = Segment { path, sequence: Some(sequence), opening };
            by_run.entry(run).or_default().push(segment);
        }
    }
}

fn single(path: &Path) -> RunFiles {
    let name = match path.to_str() {
        Some(STDIN) => "standard input".to_owned(),
        _ => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
    };
    let segment = Segment { path: path.to_owned(), sequence: None, opening: None };
    RunFiles { name, files: vec![segment], gaps: Vec::new() }
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
