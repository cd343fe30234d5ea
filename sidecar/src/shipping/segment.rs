//! One segment after the other: written as `.part`, renamed when it is closed.
//!
//! Lines are collected in memory and written in whole lines only, in zstd frames if they are to be
//! compressed. What cannot be written is cut from the file again, so that a full disk never leaves
//! half a line or half a frame.

mod encoding;
mod page_cache;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    mem,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

pub(crate) use encoding::Encoding;
use page_cache::PageCache;
use trace::segment_name::{Format, PART_SUFFIX, Run, SegmentName};

/// How long lines are collected for a frame: one of few lines compresses badly.
const FRAME_PERIOD: Duration = Duration::from_secs(1);

/// A segment that is being written.
pub struct Segment {
    name: SegmentName,
    directory: PathBuf,
    file: File,
    /// Lines that are not in the file yet.
    buffer: Vec<u8>,
    encoding: Encoding,
    flushed: Instant,
    /// Bytes of whole lines, or of whole frames, in the file.
    written: u64,
    /// A failed write may have left more than that.
    dirty: bool,
    page_cache: PageCache,
}

impl Segment {
    /// Fails if the file exists: two runs must never share a name.
    pub fn create(directory: PathBuf, run: Run, sequence: u64, format: Format) -> io::Result<Self> {
        let encoding = Encoding::new(format)?;
        let name = SegmentName { run, sequence, format };
        let path = directory.join(format!("{name}{PART_SUFFIX}"));
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Self {
            name,
            directory,
            file,
            buffer: Vec::new(),
            encoding,
            flushed: Instant::now(),
            written: 0,
            dirty: false,
            page_cache: PageCache::default(),
        })
    }

    /// Goes on with `next`, which gets this one's memory to use again. Returns this one, to be
    /// published. Flush first.
    #[must_use]
    pub fn replace(&mut self, mut next: Self) -> Self {
        debug_assert!(self.buffer.is_empty());
        mem::swap(&mut self.buffer, &mut next.buffer);
        mem::swap(&mut self.encoding, &mut next.encoding);
        mem::replace(self, next)
    }

    pub fn sequence(&self) -> u64 {
        self.name.sequence
    }

    /// Whole lines are appended here.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Bytes in the file.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes of lines that are not in the file yet.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Whether lines should be written even where they are few.
    pub fn is_due(&self) -> bool {
        matches!(self.encoding, Encoding::Plain) || self.flushed.elapsed() >= FRAME_PERIOD
    }

    /// Writes the buffer. After an error the buffer is empty: its lines are lost, the caller
    /// counts them, and what part of them reached the file is cut off before the next write.
    pub fn flush(&mut self) -> io::Result<()> {
        let result = self.write_buffer();
        self.dirty = result.is_err();
        self.buffer.clear();
        self.flushed = Instant::now();
        result
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.set_len(self.written)?;
            self.file.seek(SeekFrom::Start(self.written))?;
        }
        let bytes = self.encoding.encode(&self.buffer)?;
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        self.page_cache.spare(&self.file, self.written);
        Ok(())
    }

    /// Removes the file; nothing has been written to it.
    pub fn discard(self) {
        debug_assert_eq!(self.written, 0);
        // If that fails too, the next start closes an empty segment.
        let _: io::Result<()> = fs::remove_file(self.part());
    }

    /// Whether no name leads to the file any more.
    pub fn is_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Where it is written.
    pub fn part(&self) -> PathBuf {
        self.directory.join(format!("{}{PART_SUFFIX}", self.name))
    }

    pub fn name(&self) -> &SegmentName {
        &self.name
    }

    /// Gives the file its final name, under which it may be uploaded. Flush first. If it fails it
    /// can be tried again.
    pub fn publish(&self) -> io::Result<&SegmentName> {
        debug_assert!(self.buffer.is_empty());
        let path = self.directory.join(self.name.to_string());
        fs::rename(self.part(), path)?;
        Ok(&self.name)
    }
}

#[cfg(test)]
impl Segment {
    /// A descriptor that cannot be written stands for a full disk. Returns the present one.
    pub(crate) fn exchange_file(&mut self, file: File) -> File {
        mem::replace(&mut self.file, file)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, path::Path};

    use trace::frames::{Frames, is_compressed};

    use super::*;

    /// A segment in a directory of its own, and where it is when it is published.
    fn segment(format: Format) -> (tempfile::TempDir, PathBuf, Segment) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let segment = Segment::create(path.clone(), Run::new("h", "s"), 1, format).unwrap();
        let published = path.join(format!("trace_h_s_000001.{}", format.extension()));
        (directory, published, segment)
    }

    fn part_of(published: &Path) -> PathBuf {
        published.with_file_name(format!(
            "{}{PART_SUFFIX}",
            published.file_name().unwrap().to_str().unwrap()
        ))
    }

    fn lines_in(file: &Path) -> String {
        let content = fs::read(file).unwrap();
        if !is_compressed(&content) {
            return String::from_utf8(content).unwrap();
        }
        let mut lines = String::new();
        Frames::new(&content[..]).read_to_string(&mut lines).unwrap();
        lines
    }

    #[test]
    fn a_segment_gets_its_name_only_when_it_is_published() {
        for format in Format::OF_LINES {
            let (_directory, published, mut segment) = segment(format);
            segment.buffer().extend_from_slice(b"line\n");
            segment.flush().unwrap();
            assert!(part_of(&published).exists());
            segment.publish().unwrap();
            assert_eq!(lines_in(&published), "line\n");
            assert_eq!(is_compressed(&fs::read(&published).unwrap()), format == Format::JsonlZst);
            assert!(!part_of(&published).exists());
        }
    }

    #[test]
    fn a_failed_write_leaves_whole_lines_only() {
        for format in Format::OF_LINES {
            let (_directory, published, mut segment) = segment(format);
            segment.buffer().extend_from_slice(b"first\n");
            segment.flush().unwrap();
            let written = segment.written();
            let writable = segment.exchange_file(File::open("/dev/null").unwrap());
            segment.buffer().extend_from_slice(b"second\n");
            assert!(segment.flush().is_err());
            assert_eq!((segment.written(), segment.buffered()), (written, 0));
            segment.exchange_file(writable);
            // What a disk still took of it before it was full.
            segment.file.write_all(&[0x28, 0xB5, 0x2F]).unwrap();
            segment.buffer().extend_from_slice(b"third\n");
            segment.flush().unwrap();
            assert_eq!(fs::metadata(part_of(&published)).unwrap().len(), segment.written());
            segment.publish().unwrap();
            assert_eq!(lines_in(&published), "first\nthird\n");
        }
    }

    #[test]
    fn the_next_segment_goes_on_in_the_same_memory() {
        let (directory, published, mut segment) = segment(Format::JsonlZst);
        segment.buffer().extend_from_slice(b"first\n");
        segment.flush().unwrap();
        let memory = segment.buffer().as_ptr();
        let path = directory.path().to_owned();
        let next = Segment::create(path, Run::new("h", "s"), 2, Format::JsonlZst).unwrap();
        segment.replace(next).publish().unwrap();
        assert_eq!(segment.buffer().as_ptr(), memory);
        segment.buffer().extend_from_slice(b"second\n");
        segment.flush().unwrap();
        let name = segment.publish().unwrap();
        assert_eq!(lines_in(&published), "first\n");
        assert_eq!(lines_in(&directory.path().join(name.to_string())), "second\n");
    }

    #[test]
    fn only_frames_wait_for_more_lines() {
        let (_directory, _, plain) = segment(Format::Jsonl);
        assert!(plain.is_due());
        let (_directory, _, mut frames) = segment(Format::JsonlZst);
        assert!(!frames.is_due());
        frames.flushed -= FRAME_PERIOD;
        assert!(frames.is_due());
    }
}
