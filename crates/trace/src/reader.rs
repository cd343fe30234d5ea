//! Reads traces line by line, compressed or not. A bad line is named by file, line number and reason, and skipped.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    frames::{Frames, is_compressed},
    line::{Call, ENTRY_PHASE, FORMAT_VERSION, Line, META_TYPE, Meta, MetaLine},
};

/// Longer lines are refused: no writer makes them, and memory must stay bounded.
pub const MAX_LINE_BYTES: u64 = 16 << 20;

/// An iterator over the lines of one file. After a [`BadLine`] it goes on with the next line.
pub struct Reader<R> {
    input: R,
    path: PathBuf,
    number: u64,
    buffer: Vec<u8>,
    ended: bool,
}

/// A line that could not be read, and why.
#[derive(Debug)]
pub struct BadLine {
    pub path: PathBuf,
    /// From 1.
    pub line: u64,
    pub reason: Reason,
}

#[derive(Debug)]
pub enum Reason {
    /// The file could not be read on; the iterator ends.
    Io(io::Error),
    /// The last line has no line feed: the writer was cut off.
    Unfinished,
    TooLong,
    Json(serde_json::Error),
    /// Written by a newer sidecar.
    FormatVersion(u32),
}

/// What is kept of a compressed file's content: more than `zstd` keeps, as people compress what they
/// archive with `--long`. A segment of the default size always fits.
const MAX_WINDOW: u64 = 512 << 20;

/// Room for what is read of a file at once, and of its content if that is compressed.
const BUFFER_BYTES: usize = 1 << 20;

impl Reader<Box<dyn BufRead + Send>> {
    /// Whether the file is compressed is told by its first bytes, whatever its name.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::new(open_content(File::open(path)?)?, path))
    }
}

/// Whether a file that starts so is a Parquet table. No line of JSON does, nor a zstd frame.
pub fn is_parquet(start: &[u8]) -> bool {
    start.starts_with(b"PAR1")
}

/// The lines of a file or stream, unpacked if its first bytes say that it is compressed. A segment
/// that is a Parquet table is refused: the crate `tables` reads it.
pub fn open_content(file: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
    if is_parquet(file.fill_buf()?) {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "its lines are in a Parquet table: `cuda-trace lines FILE` prints them",
        ));
    }
    Ok(if is_compressed(file.fill_buf()?) {
        let frames = Frames::with_max_window(file, MAX_WINDOW);
        Box::new(BufReader::with_capacity(BUFFER_BYTES, frames))
    } else {
        Box::new(file)
    })
}

impl<R: BufRead> Reader<R> {
    /// `path` is only named in errors.
    pub fn new(input: R, path: &Path) -> Self {
        Self { input, path: path.to_owned(), number: 0, buffer: Vec::new(), ended: false }
    }

    fn bad(&self, reason: Reason) -> BadLine {
        BadLine { path: self.path.clone(), line: self.number, reason }
    }

    /// Reads past the rest of a line that is too long to keep.
    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                return Ok(());
            }
            let line_feed = chunk.iter().position(|&byte| byte == b'\n');
            let used = line_feed.map_or(chunk.len(), |at| at + 1);
            self.input.consume(used);
            if line_feed.is_some() {
                return Ok(());
            }
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Line, BadLine>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.ended {
                return None;
            }
            self.number += 1;
            self.buffer.clear();
            let mut limited = Read::take(&mut self.input, MAX_LINE_BYTES);
            match limited.read_until(b'\n', &mut self.buffer) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Err(self.bad(Reason::Io(error))));
                }
            }
            if self.buffer.last() != Some(&b'\n') {
                if self.buffer.len() as u64 == MAX_LINE_BYTES {
                    if let Err(error) = self.skip_line() {
                        self.ended = true;
                        return Some(Err(self.bad(Reason::Io(error))));
                    }
                    return Some(Err(self.bad(Reason::TooLong)));
                }
                self.ended = true;
                // A complete object without its line feed is still a complete object.
                return Some(parse_line(&self.buffer).map_err(|_| self.bad(Reason::Unfinished)));
            }
            if self.buffer.trim_ascii().is_empty() {
                continue;
            }
            return Some(parse_line(&self.buffer).map_err(|reason| self.bad(reason)));
        }
    }
}

/// One line, with or without its line feed.
pub fn parse_line(line: &[u8]) -> Result<Line, Reason> {
    let mut call: Call = serde_json::from_slice(line).map_err(Reason::Json)?;
    if call.r#type != META_TYPE {
        if call.phase != ENTRY_PHASE {
            call.detail = serde_json::from_slice(line).map_err(Reason::Json)?;
        }
        return Ok(Line::Call(call));
    }
    // Checked before the rest is parsed: fields of a newer format may not fit.
    if let Ok(Version { format_version }) = serde_json::from_slice(line)
        && format_version > FORMAT_VERSION
    {
        return Err(Reason::FormatVersion(format_version));
    }
    let meta: Meta = serde_json::from_slice(line).map_err(Reason::Json)?;
    Ok(Line::Meta(MetaLine { ts: call.ts, pid: call.pid, meta }))
}

#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, reason } = self;
        write!(f, "{}:{line}: {reason}", path.display())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot read on: {error}"),
            Self::Unfinished => f.write_str("the line is cut off: its writer did not finish"),
            Self::TooLong => write!(f, "the line is longer than {MAX_LINE_BYTES} bytes"),
            Self::Json(error) => write!(f, "not a trace line: {error}"),
            Self::FormatVersion(version) => write!(
                f,
                "format version {version} is newer than {FORMAT_VERSION}, which this program reads: \
                 update it"
            ),
        }
    }
}

impl std::error::Error for BadLine {}

#[cfg(test)]
mod tests {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    const CALL: &str = r#"{"ts":1.5,"pid":3,"type":"cuda_api","func":"cuInit","phase":"entry"}"#;

    fn read(text: &str) -> Vec<Result<Line, String>> {
        Reader::new(text.as_bytes(), Path::new("t.jsonl"))
            .map(|line| line.map_err(|bad| bad.to_string()))
            .collect()
    }

    #[test]
    fn the_line_of_the_seed_is_a_call() {
        let lines = read(&format!("{CALL}\n"));
        let [Ok(Line::Call(call))] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!((call.ts, call.pid, call.tid), (1.5, 3, None));
        assert_eq!((call.func.as_str(), call.phase.as_str()), ("cuInit", "entry"));
    }

    #[test]
    fn a_bad_line_is_named_and_the_next_one_is_read() {
        let lines = read(&format!("{CALL}\n{{\"ts\":1\n\n{CALL}\n"));
        assert_eq!(lines.len(), 3);
        let reason = lines[1].as_ref().unwrap_err();
        assert!(reason.starts_with("t.jsonl:2: not a trace line: "), "{reason}");
        assert!(lines[2].is_ok());
    }

    #[test]
    fn a_cut_last_line_is_unfinished_and_a_whole_one_without_line_feed_is_not() {
        let cut = read(&CALL[..20]);
        assert!(cut[0].as_ref().unwrap_err().contains("cut off"));
        assert!(read(CALL)[0].is_ok());
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let line = r#"{"ts":0,"pid":1,"type":"meta","func":"segment_open","phase":"meta","format_version":99}"#;
        let lines = read(&format!("{line}\n"));
        assert!(lines[0].as_ref().unwrap_err().contains("format version 99"));
    }

    #[test]
    fn a_compressed_file_is_told_by_its_content_and_a_cut_frame_by_file_and_offset() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.jsonl");
        let line = format!("{CALL}\n");
        let frame = compress_to_vec(line.as_bytes(), CompressionLevel::Fastest);
        let read = |content: &[u8]| -> Vec<Result<Line, String>> {
            std::fs::write(&path, content).unwrap();
            let lines = Reader::open(&path).unwrap();
            lines.map(|line| line.map_err(|bad| bad.to_string())).collect()
        };
        for whole in [[&frame[..], &frame].concat(), [line.as_bytes(), line.as_bytes()].concat()] {
            assert!(matches!(read(&whole)[..], [Ok(Line::Call(_)), Ok(Line::Call(_))]));
        }
        let cut = read(&[&frame[..], &frame[..9]].concat());
        let [Ok(_), Err(error)] = &cut[..] else { panic!("{cut:?}") };
        let expected = format!(
            "{}:2: cannot read on: the zstd frame at byte {} is cut off: its writer did not finish",
            path.display(),
            frame.len()
        );
        assert_eq!(*error, expected);
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let endless = vec![b'x'; usize::try_from(MAX_LINE_BYTES).unwrap() + 10];
        let text = format!("{}\n{CALL}\n", String::from_utf8(endless).unwrap());
        let lines = read(&text);
        assert!(lines[0].as_ref().unwrap_err().contains("longer than"));
        assert!(lines[1].is_ok());
    }
}
