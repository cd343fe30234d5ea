//! Opens segments in whatever form. Tables are read by `cuda-trace`: this crate is built without Parquet.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use duct::ReaderHandle;
use tasks::command::Command;
use trace::{reader::open_content, segment_name::Format};

use crate::analyze;

const BUFFER_BYTES: usize = 1 << 20;

pub(crate) fn open(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    if path.extension().is_none_or(|extension| extension != Format::Parquet.extension()) {
        return open_content(File::open(path)?);
    }
    let lines = Lines::of(&program()?, path)?;
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, lines)))
}

/// Built at the first table.
fn program() -> io::Result<PathBuf> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| analyze::built().map_err(|error| format!("{error:#}")));
    program
        .clone()
        .map_err(|error| io::Error::other(format!("cuda-trace, which reads it: {error}")))
}

/// What the program prints; an error at its end if it has failed.
struct Lines(ReaderHandle);

impl Lines {
    fn of(program: &Path, table: &Path) -> io::Result<Self> {
        let command = Command::new("").path(program).arg("lines").path(table);
        command.reader().map(Self).map_err(|error| io::Error::other(format!("{error:#}")))
    }
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            // It has ended: what it said is why.
            let output = self.0.try_wait()?;
            if let Some(output) = output
                && !output.status.success()
            {
                let error = String::from_utf8_lossy(&output.stderr);
                let error = error.trim().strip_prefix("error: ").unwrap_or(error.trim());
                return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_owned()));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_lines_of_a_table_are_what_a_program_prints_and_its_error_ends_them() {
        let directory = tempfile::tempdir().unwrap();
        let table = directory.path().join("t.parquet");
        fs::write(&table, "one\ntwo\n").unwrap();
        let program = directory.path().join("program");
        let read = |script: &str| {
            fs::write(&program, format!("#!/bin/sh\n{script}")).unwrap();
            let mut text = String::new();
            let command = Command::new("sh").path(&program).arg("lines").path(&table);
            let result = Lines(command.reader().unwrap()).read_to_string(&mut text);
            (text, result.map_err(|error| error.to_string()).err())
        };
        assert_eq!(read("cat \"$2\""), ("one\ntwo\n".to_owned(), None));
        let cut = read("head -n 1 \"$2\"; echo error: the file is damaged >&2; exit 1");
        assert_eq!(cut, ("one\n".to_owned(), Some("the file is damaged".to_owned())));
    }
}
