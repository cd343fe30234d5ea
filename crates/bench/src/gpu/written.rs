//! What a tracer has written so far.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, ErrorKind},
    path::Path,
};

use anyhow::{Context as _, Result};
use trace::line::META_TYPE;

/// Lines of calls, and bytes, of all files in a directory.
pub(super) fn written(directory: &Path) -> Result<(u64, u64)> {
    /// Segments are renamed when they are closed: once in a minute.
    const ATTEMPTS: u32 = 5;
    let mut attempt = 1;
    loop {
        match written_now(directory) {
            // One was renamed after it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound && attempt < ATTEMPTS => attempt += 1,
            result => {
                return result
                    .with_context(|| format!("cannot read the files in {}", directory.display()));
            }
        }
    }
}

fn written_now(directory: &Path) -> io::Result<(u64, u64)> {
    let meta = format!("\"type\":\"{META_TYPE}\"");
    let (mut lines, mut bytes) = (0, 0);
    let mut line = Vec::new();
    for entry in fs::read_dir(directory)? {
        let mut file = BufReader::with_capacity(1 << 20, File::open(entry?.path())?);
        while file.read_until(b'\n', &mut line)? > 0 {
            bytes += line.len() as u64;
            // bpftrace says between them what it does.
            let is_whole = line.starts_with(b"{") && line.ends_with(b"\n");
            if is_whole && !line.windows(meta.len()).any(|part| part == meta.as_bytes()) {
                lines += 1;
            }
            line.clear();
        }
    }
    Ok((lines, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_calls_and_bytes_of_all_files_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let meta = "{\"ts\":1,\"pid\":1,\"type\":\"meta\",\"phase\":\"meta\"}\n";
        let call = "{\"ts\":1,\"pid\":1,\"type\":\"cuda_api\"}\n";
        let texts = [
            ("a.jsonl", [meta, call, call, meta].concat()),
            ("b.jsonl.part", [meta, call, &call[..20]].concat()),
            ("bpftrace.jsonl", ["Attaching 31 probes...\n", call, "Lost 12 events\n"].concat()),
        ];
        let mut bytes = 0;
        for (name, text) in &texts {
            fs::write(directory.path().join(name), text).unwrap();
            bytes += text.len() as u64;
        }
        assert_eq!(written(directory.path()).unwrap(), (4, bytes));
    }

    #[test]
    fn a_file_that_stays_away_is_an_error_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", directory.path().join("a.jsonl")).unwrap();
        let error = written(directory.path()).unwrap_err().to_string();
        assert!(error.contains("cannot read the files in"), "{error}");
    }
}
