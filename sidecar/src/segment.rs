//! One segment after the other: written as `.part`, renamed when it is closed.
//!
//! Lines are collected in memory and written in whole lines only. What cannot be written is cut
//! from the file again, so that a full disk never leaves half a line.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::PathBuf,
};

use trace::segment_name::{PART_SUFFIX, Run, SegmentName};

/// A segment that is being written.
pub struct Segment {
    name: SegmentName,
    directory: PathBuf,
    file: File,
    /// Lines that are not in the file yet.
    buffer: Vec<u8>,
    /// Bytes of whole lines in the file.
    written: u64,
    /// A failed write may have left more than that.
    dirty: bool,
}

impl Segment {
    /// Fails if the file exists: two runs must never share a name.
    pub fn create(directory: PathBuf, run: Run, sequence: u64) -> io::Result<Self> {
        let name = SegmentName { run, sequence };
        let path = directory.join(format!("{name}{PART_SUFFIX}"));
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Self { name, directory, file, buffer: Vec::new(), written: 0, dirty: false })
    }

    pub fn sequence(&self) -> u64 {
        self.name.sequence
    }

    /// Whole lines are appended here.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Bytes in the file and in the buffer.
    pub fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Bytes in the file.
    pub fn written(&self) -> u64 {
        self.written
    }

    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Writes the buffer. After an error the buffer is empty: its lines are lost, the caller
    /// counts them, and what part of them reached the file is cut off before the next write.
    pub fn flush(&mut self) -> io::Result<()> {
        let result = self.write_buffer();
        self.dirty = result.is_err();
        self.buffer.clear();
        result
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.set_len(self.written)?;
            self.file.seek(SeekFrom::Start(self.written))?;
        }
        self.file.write_all(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        Ok(())
    }

    /// Removes the file; nothing has been written to it.
    pub fn discard(self) {
        debug_assert_eq!(self.written, 0);
        // If that fails too, the next start closes an empty segment.
        let _: io::Result<()> =
            fs::remove_file(self.directory.join(format!("{}{PART_SUFFIX}", self.name)));
    }

    /// Gives the file its final name, under which it may be uploaded. Flush first.
    pub fn publish(self) -> io::Result<SegmentName> {
        debug_assert!(self.buffer.is_empty());
        let path = self.directory.join(self.name.to_string());
        let part = self.directory.join(format!("{}{PART_SUFFIX}", self.name));
        fs::rename(part, path)?;
        Ok(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_gets_its_name_only_when_it_is_published() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let mut segment = Segment::create(path.clone(), Run::new("h", "s"), 1).unwrap();
        segment.buffer().extend_from_slice(b"line\n");
        segment.flush().unwrap();
        assert!(path.join("trace_h_s_000001.jsonl.part").exists());
        segment.publish().unwrap();
        assert_eq!(fs::read(path.join("trace_h_s_000001.jsonl")).unwrap(), b"line\n");
        assert!(!path.join("trace_h_s_000001.jsonl.part").exists());
    }

    #[test]
    fn a_failed_write_leaves_whole_lines_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let mut segment = Segment::create(path.clone(), Run::new("h", "s"), 1).unwrap();
        segment.buffer().extend_from_slice(b"first\n");
        segment.flush().unwrap();
        // A descriptor that cannot be written stands for the full disk.
        let writable = std::mem::replace(&mut segment.file, File::open("/dev/null").unwrap());
        segment.buffer().extend_from_slice(b"second\n");
        assert!(segment.flush().is_err());
        assert_eq!(segment.bytes(), 6);
        segment.file = writable;
        segment.buffer().extend_from_slice(b"third\n");
        segment.flush().unwrap();
        segment.publish().unwrap();
        assert_eq!(fs::read(path.join("trace_h_s_000001.jsonl")).unwrap(), b"first\nthird\n");
    }
}
