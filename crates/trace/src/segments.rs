//! Which files of a directory are closed segments, and which are none.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::segment_name::{Format, PART_SUFFIX, SegmentName};

/// Names that are told; of what lies beside the segments there may be anything.
const MAX_TOLD: usize = 10;

/// The sidecar's own, and of no interest to anybody.
const LOCK: &str = ".lock";

/// What a directory holds, and those below it.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order of their names.
    pub segments: Vec<PathBuf>,
    /// Segments that are still being written; told among the others too.
    pub open: Vec<PathBuf>,
    pub others: Others,
}

/// What is no segment: files of the system, of editors and of people.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Others {
    pub count: usize,
    /// The first of them, with the reason where the name does not tell it.
    pub names: Vec<String>,
}

/// Closed segments in a directory and in those below it, in the order of their names.
pub fn segments(directory: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(look(directory)?.segments)
}

/// The same, with what else is there. Only the directory itself must be readable.
pub fn look(directory: &Path) -> io::Result<Found> {
    let (mut segments, mut open) = (Vec::new(), Vec::new());
    let mut others = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(current) = directories.pop() {
        let mut other = |path: &Path, reason: &str| {
            let name = path.strip_prefix(directory).unwrap_or(path);
            others.push((name.to_owned(), reason.to_owned()));
        };
        let entries = fs::read_dir(&current).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = match entries {
            Ok(entries) => entries,
            // lost+found is root's.
            Err(error) if current != directory => {
                other(&current, &format!("cannot be listed: {error}"));
                continue;
            }
            Err(error) => {
                let message = format!("cannot list {}: {error}", current.display());
                return Err(io::Error::new(error.kind(), message));
            }
        };
        for entry in entries {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            // The entry's own type: a link to a directory may lead back here.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if name.starts_with('.') {
                    other(&path, "a hidden folder");
                } else {
                    directories.push(path);
                }
                continue;
            }
            match SegmentName::parse(&name) {
                _ if name == LOCK => {}
                None => other(&path, ""),
                // A pipe would never end.
                Some(_) if !fs::metadata(&path).is_ok_and(|file| file.is_file()) => {
                    other(&path, "not a regular file");
                }
                Some(segment) if name.ends_with(PART_SUFFIX) => {
                    other(&path, "still being written");
                    // Nothing can be read of half a table, and its lines are beside it.
                    if segment.format != Format::Parquet {
                        open.push(path);
                    }
                }
                Some(_) => segments.push(path),
            }
        }
    }
    segments.sort();
    open.sort();
    let (segments, copies) = without_copies(segments, are_equal);
    for (path, first) in copies {
        let shown = first.strip_prefix(directory).unwrap_or(&first);
        let name = path.strip_prefix(directory).unwrap_or(&path);
        others.push((name.to_owned(), format!("a copy of {}", quoted(shown))));
    }
    others.sort();
    let told = others.iter().take(MAX_TOLD).map(|(path, reason)| match &reason[..] {
        "" => quoted(path),
        reason => format!("{} ({reason})", quoted(path)),
    });
    let others = Others { count: others.len(), names: told.collect() };
    Ok(Found { segments, open, others })
}

/// Of files with one name and one content only the first counts, and copies are told with it; of
/// another content it is for the check to say that a segment is there twice.
pub fn without_copies(
    files: Vec<PathBuf>,
    are_equal: impl Fn(&Path, &Path) -> io::Result<bool>,
) -> (Vec<PathBuf>, Vec<(PathBuf, PathBuf)>) {
    let mut first_by_name = HashMap::new();
    let (mut kept, mut copies) = (Vec::new(), Vec::new());
    for file in files {
        let name = file.file_name().unwrap_or_default().to_owned();
        let first: &PathBuf = first_by_name.entry(name).or_insert_with(|| file.clone());
        if *first != file && are_equal(first, &file).unwrap_or(false) {
            copies.push((file, first.clone()));
        } else {
            kept.push(file);
        }
    }
    (kept, copies)
}

/// A name may hold anything, and goes to a terminal.
fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}

fn are_equal(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (BufReader::new(one), BufReader::new(other));
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if left[..length] != right[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(left.len() == right.len());
        }
        one.consume(length);
        other.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn closed_segments_are_found_at_any_depth_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let below = root.join("prefix/deeper");
        for folder in [&below, &root.join("lost+found"), &root.join(".Trash-1000")] {
            fs::create_dir_all(folder).unwrap();
        }
        symlink(root, below.join("back")).unwrap();
        let others = [
            ".DS_Store",
            "._trace_h_s_000001.jsonl",
            "Copy of trace_h_s_000001.jsonl",
            "notes.jsonl",
            "trace_h_s_000001 (1).jsonl",
            "trace_h_s_000003.jsonl.part",
        ];
        for name in others.iter().chain(&[".lock", "trace_h_s_000001.jsonl"]) {
            fs::write(root.join(name), "").unwrap();
        }
        fs::write(root.join(".Trash-1000/trace_h_s_000009.jsonl"), "").unwrap();
        symlink("/dev/zero", root.join("trace_h_s_000004.jsonl")).unwrap();
        for name in ["trace_h_s_000002.jsonl", "trace_h_s_000003.jsonl.zst"] {
            fs::write(below.join(name), "").unwrap();
        }
        let Found { segments: found, open, others } = look(root).unwrap();
        let expected = [
            below.join("trace_h_s_000002.jsonl"),
            below.join("trace_h_s_000003.jsonl.zst"),
            root.join("trace_h_s_000001.jsonl"),
        ];
        assert_eq!(found, expected);
        assert_eq!(open, [root.join("trace_h_s_000003.jsonl.part")]);
        assert_eq!(segments(root).unwrap(), expected);
        assert_eq!(
            others.names,
            [
                "\".DS_Store\"",
                "\".Trash-1000\" (a hidden folder)",
                "\"._trace_h_s_000001.jsonl\"",
                "\"Copy of trace_h_s_000001.jsonl\"",
                "\"notes.jsonl\"",
                "\"prefix/deeper/back\"",
                "\"trace_h_s_000001 (1).jsonl\"",
                "\"trace_h_s_000003.jsonl.part\" (still being written)",
                "\"trace_h_s_000004.jsonl\" (not a regular file)",
            ]
        );
        assert_eq!(others.count, 9);
        let error = segments(&root.join("none")).unwrap_err();
        assert!(error.to_string().starts_with("cannot list"), "{error}");
    }

    #[test]
    fn a_copy_in_another_folder_counts_once_and_another_content_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let name = "trace_h_s_000001.jsonl";
        for (folder, content) in [("a", "one"), ("b", "one"), ("c", "two")] {
            fs::create_dir(root.join(folder)).unwrap();
            fs::write(root.join(folder).join(name), content).unwrap();
        }
        let Found { segments, others, .. } = look(root).unwrap();
        assert_eq!(segments, [root.join("a").join(name), root.join("c").join(name)]);
        let told = "\"b/trace_h_s_000001.jsonl\" (a copy of \"a/trace_h_s_000001.jsonl\")";
        assert_eq!(others.names, [told]);
    }

    #[test]
    fn of_thousands_of_strangers_a_few_are_told() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..100 {
            fs::write(directory.path().join(format!("photo{number}.jpg")), "").unwrap();
        }
        let others = look(directory.path()).unwrap().others;
        assert_eq!((others.count, others.names.len()), (100, MAX_TOLD));
    }
}
