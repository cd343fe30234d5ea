//! A result file that appears under its name only when it is complete.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;

/// A name taken for a result, before the run that produces it: a directory that cannot be written to is found then.
#[derive(Debug)]
pub(crate) struct ResultFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    published: bool,
}

impl ResultFile {
    /// `PREFIX_20260131T120000Z.json`; a second run within the same second gets `-2`, and so on.
    pub(crate) fn reserve(directory: &Path, prefix: &str, time: Timestamp) -> Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let time = time.strftime("%Y%m%dT%H%M%SZ");
        for attempt in 1.. {
            let name = if attempt == 1 {
                format!("{prefix}_{time}.json")
            } else {
                format!("{prefix}_{time}-{attempt}.json")
            };
            let (path, temporary) =
                (directory.join(&name), directory.join(format!(".{name}.part")));
            let file = match File::create_new(&temporary) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("cannot write a result to {}", directory.display())
                    });
                }
            };
            let reserved = Self { file, temporary, path, published: false };
            // Only the holder of the temporary name may rename to the final one, so this look is not a race.
            if !reserved.path.exists() {
                return Ok(reserved);
            }
        }
        unreachable!("the loop has no end")
    }

    /// Writes the text, renames the file to its name and returns that.
    ///
    /// A result that took an hour is not lost to a full disk: it then goes to the directory for temporary files, or to
    /// stdout, and the error says where it is.
    pub(crate) fn publish(mut self, text: &str) -> Result<PathBuf> {
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_all());
        match written.and_then(|()| fs::rename(&self.temporary, &self.path)) {
            Ok(()) => {
                self.published = true;
                Ok(self.path.clone())
            }
            Err(error) => {
                let kept = self.keep_elsewhere(text, &std::env::temp_dir());
                Err(error).with_context(|| format!("cannot write {}; {kept}", self.path.display()))
            }
        }
    }

    /// Where the text is now.
    fn keep_elsewhere(&self, text: &str, directory: &Path) -> String {
        // What is half written takes the room that the whole might need.
        let _ = self.file.set_len(0);
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let path = directory.join(format!("{}-{name}", std::process::id()));
        let written = File::create_new(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        if written.is_ok() {
            return format!("the result is in {}", path.display());
        }
        let _ = fs::remove_file(&path);
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => "the result is on stdout".to_owned(),
            Err(_) => "the result is lost".to_owned(),
        }
    }
}

impl Drop for ResultFile {
    fn drop(&mut self) {
        if !self.published {
            // Nothing better can be done about a leftover than to leave it.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time() -> Timestamp {
        "2026-01-31T12:00:00.5Z".parse().unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_result_appears_whole_and_under_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let nested = directory.path().join("a/b");
        let file = ResultFile::reserve(&nested, "batch_prompts_result", time()).unwrap();
        assert_eq!(names(&nested), [".batch_prompts_result_20260131T120000Z.json.part"]);
        let path = file.publish("{}\n").unwrap();
        assert_eq!(path, nested.join("batch_prompts_result_20260131T120000Z.json"));
        assert_eq!(names(&nested), ["batch_prompts_result_20260131T120000Z.json"]);
        assert_eq!(fs::read_to_string(path).unwrap(), "{}\n");
    }

    #[test]
    fn no_result_overwrites_another() {
        let directory = tempfile::tempdir().unwrap();
        let reserve = || ResultFile::reserve(directory.path(), "r", time()).unwrap();
        let unfinished = reserve();
        reserve().publish("second").unwrap();
        unfinished.publish("first").unwrap();
        reserve().publish("third").unwrap();
        let expected =
            ["r_20260131T120000Z-2.json", "r_20260131T120000Z-3.json", "r_20260131T120000Z.json"];
        assert_eq!(names(directory.path()), expected);
        assert_eq!(fs::read_to_string(directory.path().join(expected[2])).unwrap(), "first");
    }

    #[test]
    fn an_abandoned_result_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        drop(ResultFile::reserve(directory.path(), "r", time()).unwrap());
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let message = format!("{:#}", ResultFile::reserve(file.path(), "r", time()).unwrap_err());
        assert!(
            message.starts_with(&format!("cannot create {}: ", file.path().display())),
            "{message}"
        );
    }

    #[test]
    fn a_result_that_finds_no_room_is_kept_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = ResultFile::reserve(directory.path(), "r", time()).unwrap();
        file.file = File::options().write(true).open("/dev/full").unwrap();
        let message = format!("{:#}", file.publish("{\"a\":1}\n").unwrap_err());
        let (_, rest) = message.split_once("the result is in ").unwrap();
        let (path, reason) = rest.split_once(": ").unwrap();
        assert!(reason.contains("No space left"), "{message}");
        assert_eq!(fs::read_to_string(path).unwrap(), "{\"a\":1}\n");
        fs::remove_file(path).unwrap();
        assert!(names(directory.path()).is_empty());
    }
}
