//! Keys to paths: below the directory as they lie below the prefix, each its own.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use store::PARTIAL;

/// Of a file or folder, in bytes.
const MAX_NAME: usize = 255;

/// Of all of it, with the zero at its end.
const MAX_PATH: usize = 4096;

/// What ends the name of a file whose key is the folder of other keys: `x` beside `x/y`.
const BESIDE_FOLDER: &str = ".file";

/// Where each object goes, or why it cannot. Two keys never get the same path, no path leads out of
/// the directory, and none is that of another's folder.
pub(super) fn local_paths(keys: &[&str], prefix: &str, directory: &Path) -> Vec<Result<PathBuf>> {
    let below: Vec<&str> = keys.iter().map(|key| key.strip_prefix(prefix).unwrap_or(key)).collect();
    let mut taken: HashSet<&str> = below.iter().copied().collect();
    let mut folders = HashSet::new();
    for key in &below {
        let ends = key.match_indices('/').map(|(at, _)| at);
        folders.extend(ends.map(|at| &key[..at]));
    }
    taken.extend(&folders);
    let name = |key: &str| {
        // A folder may lie there from an earlier download too.
        let is_folder = |name: &str| folders.contains(name) || directory.join(name).is_dir();
        let mut name = key.to_owned();
        if is_plain(key).is_ok() && is_folder(key) {
            name.push_str(BESIDE_FOLDER);
            while taken.contains(name.as_str()) || is_folder(&name) {
                name.push_str(BESIDE_FOLDER);
            }
        }
        name
    };
    let path = |key: &&str| {
        let name = name(key);
        is_plain(&name)?;
        let path = directory.join(name);
        let length = path.as_os_str().len();
        ensure!(
            length < MAX_PATH,
            "the path would have {length} bytes, of {MAX_PATH}: choose a shorter --out, or a longer \
             S3_PREFIX"
        );
        Ok(path)
    };
    below.iter().map(path).collect()
}

/// Whether a key can be a path as it is.
fn is_plain(key: &str) -> Result<()> {
    for part in key.split('/') {
        ensure!(
            !matches!(part, "" | "." | ".."),
            "{part:?} cannot be the name of a file or folder: download it by other means, or \
             choose an S3_PREFIX without it"
        );
        // A path is printed as a line, and a line may go to a terminal.
        ensure!(
            !part.contains(char::is_control),
            "{part:?} has control characters: download it by other means"
        );
        ensure!(
            part.len() <= MAX_NAME,
            "a name has {} bytes, and file systems take {MAX_NAME}: download it by other means",
            part.len()
        );
        let (begin, end) = PARTIAL;
        ensure!(
            !(part.starts_with(begin) && part.ends_with(end)),
            "{part:?} is a name that unfinished downloads have: download it by other means"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(keys: &[&str]) -> Vec<Result<PathBuf, String>> {
        let paths = local_paths(keys, "k/", Path::new("out")).into_iter();
        paths.map(|path| path.map_err(|error| error.to_string())).collect()
    }

    #[track_caller]
    fn assert_paths(keys: &[&str], expected: &[&str]) {
        let found: Vec<PathBuf> = paths(keys).into_iter().map(Result::unwrap).collect();
        assert_eq!(found, expected.iter().map(PathBuf::from).collect::<Vec<_>>());
    }

    #[test]
    fn paths_follow_the_key_below_the_prefix() {
        assert_paths(
            &["k/a.jsonl", "k/2026-11-24/a", "k/2026-11-25/a"],
            &["out/a.jsonl", "out/2026-11-24/a", "out/2026-11-25/a"],
        );
        assert_eq!(local_paths(&["a"], "", Path::new("out"))[0].as_ref().unwrap(), "out/a");
    }

    #[test]
    fn keys_that_would_leave_the_directory_or_cannot_be_paths_are_refused() {
        for key in ["k/../a", "k/a/../../b", "k//a", "k/./a", "k//etc/passwd"] {
            let error = paths(&[key]).remove(0).unwrap_err();
            assert!(error.contains("S3_PREFIX"), "{error}");
        }
        let long = format!("k/{}", "x".repeat(256));
        let deep = format!("k/{}", "x/".repeat(3000) + "x");
        for (key, reason) in [
            ("k/a\0b", "control characters"),
            ("k/a\nb", "control characters"),
            (&long, "256 bytes"),
            (&deep, "the path would have"),
            ("k/.fetch_0.partial", "unfinished downloads"),
        ] {
            let error = paths(&[key]).remove(0).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        // The others are saved all the same.
        assert!(paths(&["k/..", "k/good"])[1].is_ok());
    }

    #[test]
    fn a_key_that_is_a_folder_too_gets_a_name_beside_it() {
        assert_paths(&["k/x", "k/x/y", "k/z"], &["out/x.file", "out/x/y", "out/z"]);
        assert_paths(
            &["k/x", "k/x.file", "k/x.file.file/a", "k/x/y/z", "k/x/y"],
            &[
                "out/x.file.file.file",
                "out/x.file",
                "out/x.file.file/a",
                "out/x/y/z",
                "out/x/y.file",
            ],
        );
    }

    #[test]
    fn a_folder_that_is_there_already_is_not_in_the_way() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("x")).unwrap();
        let path = local_paths(&["k/x"], "k/", directory.path()).remove(0).unwrap();
        assert_eq!(path, directory.path().join("x.file"));
    }
}
