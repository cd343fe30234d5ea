//! The file that is written: under its name stands a whole one or none.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result, bail};

/// Written at once.
const PIECE_BYTES: usize = 1 << 20;

pub(super) struct TimelineFile {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    /// What is to be written next.
    pub(super) buffer: Vec<u8>,
    written: u64,
    is_finished: bool,
}

impl TimelineFile {
    /// `header` is what files of this program begin with: no other file is written over.
    pub(super) fn create(path: &Path, header: Vec<u8>) -> Result<Self> {
        let shown = path.display();
        match fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.is_file() => bail!("{shown} is no file: name another"),
            Ok(_) if !begins_with(path, &header)? => {
                bail!("{shown} was not written by this program: delete it, or name another file");
            }
            Ok(_) | Err(_) => {}
        }
        let name = path.file_name().with_context(|| format!("{shown} names no file"))?;
        let mut temporary = name.to_owned();
        temporary.push(format!(".{}.part", process::id()));
        let temporary = path.with_file_name(temporary);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .with_context(|| format!("cannot write {}", temporary.display()))?;
        Ok(Self {
            path: path.to_owned(),
            temporary,
            file,
            buffer: header,
            written: 0,
            is_finished: false,
        })
    }

    pub(super) fn flush_if_full(&mut self) -> Result<()> {
        if self.buffer.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.file
            .write_all(&self.buffer)
            .with_context(|| format!("cannot write {}", self.temporary.display()))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Gives the file its name; tells that, and its size.
    pub(super) fn finish(mut self) -> Result<(PathBuf, u64)> {
        self.flush()?;
        fs::rename(&self.temporary, &self.path)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.is_finished = true;
        Ok((self.path.clone(), self.written))
    }
}

impl Drop for TimelineFile {
    fn drop(&mut self) {
        if !self.is_finished {
            // Nothing is left to be told of it.
            let _: std::io::Result<()> = fs::remove_file(&self.temporary);
        }
    }
}

fn begins_with(path: &Path, header: &[u8]) -> Result<bool> {
    let cannot = || format!("cannot read {}", path.display());
    let mut found = Vec::new();
    let mut beginning = File::open(path).with_context(cannot)?.take(header.len() as u64);
    beginning.read_to_end(&mut found).with_context(cannot)?;
    Ok(found == header)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"ours";

    fn write(path: &Path, more: &[u8]) -> Result<(PathBuf, u64)> {
        let mut file = TimelineFile::create(path, HEADER.to_vec())?;
        file.buffer.extend_from_slice(more);
        file.flush_if_full()?;
        file.finish()
    }

    #[test]
    fn only_our_own_file_is_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        assert_eq!(write(&path, b" one").unwrap(), (path.clone(), 8));
        assert_eq!(write(&path, b" two").unwrap().1, 8);
        assert_eq!(fs::read(&path).unwrap(), b"ours two");
        fs::write(&path, b"our").unwrap();
        assert!(write(&path, b" three").unwrap_err().to_string().contains("was not written by"));
        assert_eq!(fs::read(&path).unwrap(), b"our");
        assert!(write(directory.path(), b"").is_err(), "a directory");
        assert!(write(&directory.path().join("none/a"), b"").is_err());
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let mut file = TimelineFile::create(&path, HEADER.to_vec()).unwrap();
        file.buffer.resize(PIECE_BYTES, 0);
        file.flush_if_full().unwrap();
        assert!(!path.exists());
        drop(file);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
