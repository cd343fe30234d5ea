//! Which files of a directory are closed segments.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use trace::segment_name::Format;

/// Closed segments in a directory and in those below it, in the order of their names.
pub(crate) fn segments(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut segments = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let cannot = || format!("cannot list {}", directory.display());
        for entry in fs::read_dir(&directory).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let path = entry.path();
            // The entry's own type: a link to a directory may lead back here.
            if entry.file_type().with_context(cannot)?.is_dir() {
                directories.push(path);
            } else if entry.file_name().to_str().and_then(Format::of).is_some() {
                segments.push(path);
            }
        }
    }
    segments.sort();
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn closed_segments_are_found_at_any_depth_and_open_ones_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("prefix/deeper");
        fs::create_dir_all(&below).unwrap();
        symlink(directory.path(), below.join("back")).unwrap();
        for name in ["b.jsonl", "c.jsonl.part", "c.jsonl.zst.part", "d.json", "e.zst"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        for name in ["a.jsonl", "a.jsonl.zst"] {
            fs::write(below.join(name), "").unwrap();
        }
        assert_eq!(
            segments(directory.path()).unwrap(),
            [directory.path().join("b.jsonl"), below.join("a.jsonl"), below.join("a.jsonl.zst")]
        );
        let error = segments(&directory.path().join("none")).unwrap_err();
        assert!(error.to_string().starts_with("cannot list"), "{error}");
    }
}
