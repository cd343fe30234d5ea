//! The content of `.jsonl.zst`: zstd frames, one behind the other, each of whole lines.
//!
//! Decoded in Rust, so that what only reads traces needs no C compiler, and the writer's frames are
//! proved by code that is not its own.

use std::io::{self, BufRead, ErrorKind, Read};

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder, errors::FrameDecoderError};

const MAGIC: u32 = 0xFD2F_B528;

/// Of frames that hold no content; some zstd tools write an index into one.
const SKIPPABLE_MAGIC: u32 = 0x184D_2A50;

/// What is kept of a frame's content for later parts to refer to, unless the caller says otherwise:
/// as much as `zstd -d` keeps without `--long`.
pub const MAX_WINDOW: u64 = 128 << 20;

/// Memory for windows up to this size is kept from frame to frame; for larger ones it grows with the
/// content that there really is.
const MAX_REUSED_WINDOW: u64 = 8 << 20;

/// Whether a file that starts so is compressed. No line of JSON does.
pub fn is_compressed(start: &[u8]) -> bool {
    start.first_chunk().is_some_and(|first| {
        let magic = u32::from_le_bytes(*first);
        magic == MAGIC || magic & !15 == SKIPPABLE_MAGIC
    })
}

/// Reads the content of all frames, or frame by frame. Nothing can be read after an error.
///
/// Memory is bounded by the largest window that is allowed. A frame that asks for a larger one is
/// read as long as it does not use it, and refused by name where it does.
pub struct Frames<R> {
    source: Source<R>,
    decoder: FrameDecoder,
    max_window: u64,
    /// What the open frame asks for, if that is more than is allowed.
    excess: Option<u64>,
    /// Where the current frame begins, or the next one.
    offset: u64,
    is_open: bool,
}

/// The content of one frame. Its end is only told where the frame is whole.
pub struct Frame<'a, R>(&'a mut Frames<R>);

impl<R: BufRead> Frames<R> {
    pub fn new(input: R) -> Self {
        Self::with_max_window(input, MAX_WINDOW)
    }

    pub fn with_max_window(input: R, max_window: u64) -> Self {
        let source = Source { input, offset: 0, has_ended: false, failure: None };
        let decoder = FrameDecoder::new();
        Self { source, decoder, max_window, excess: None, offset: 0, is_open: false }
    }

    /// Bytes of the frames that have been read to their ends.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next frame, or the rest of one that was not read to its end.
    pub fn next_frame(&mut self) -> io::Result<Option<Frame<'_, R>>> {
        Ok(if self.open()? { Some(Frame(self)) } else { None })
    }

    /// False at the end of the input.
    fn open(&mut self) -> io::Result<bool> {
        while !self.is_open {
            if self.source.input.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match u32::from_le_bytes(self.take()?) {
                MAGIC => self.begin()?,
                magic if magic & !15 == SKIPPABLE_MAGIC => self.skip()?,
                magic => {
                    return Err(self.corrupt(&format!("it begins with {magic:#010x}")));
                }
            }
        }
        Ok(true)
    }

    /// The decoder gets a header of our own, which asks for no larger window than is allowed: its own
    /// limit is below what `zstd --ultra -22` and `zstd --long` ask for, and holds for some frames only.
    fn begin(&mut self) -> io::Result<()> {
        let header = self.read_header()?;
        let allowed = header.window.min(self.max_window);
        self.excess = (header.window > allowed).then_some(header.window);
        if allowed > MAX_REUSED_WINDOW {
            self.decoder = FrameDecoder::new();
        }
        let mut own = MAGIC.to_le_bytes().to_vec();
        own.extend([header.checksum_flag, window_descriptor(allowed)]);
        if let Err(error) = self.decoder.reset(&own[..]) {
            return Err(self.corrupt(&error.to_string()));
        }
        self.is_open = true;
        Ok(())
    }

    /// Behind the magic number.
    fn read_header(&mut self) -> io::Result<Header> {
        let [descriptor] = self.take()?;
        let is_single_segment = descriptor & 0x20 != 0;
        if descriptor & 0x08 != 0 {
            return Err(self.corrupt("its header is of a later version of zstd"));
        }
        let window = if is_single_segment { None } else { Some(window_size(self.take()?)) };
        let dictionary = self.take_number([0, 1, 2, 4][usize::from(descriptor & 3)])?;
        if dictionary != 0 {
            return Err(self.refused(&format!(
                "needs the dictionary {dictionary}: unpack the file with `zstd -d -D DICTIONARY` first"
            )));
        }
        let content = match descriptor >> 6 {
            0 => self.take_number(usize::from(is_single_segment))?,
            1 => self.take_number(2)? + 256,
            2 => self.take_number(4)?,
            _ => self.take_number(8)?,
        };
        let window = window.unwrap_or(content);
        Ok(Header { window, checksum_flag: descriptor & 0x04 })
    }

    fn skip(&mut self) -> io::Result<()> {
        let length = u64::from(u32::from_le_bytes(self.take()?));
        let mut skipped = self.source.by_ref().take(length);
        if io::copy(&mut skipped, &mut io::sink())? < length {
            return Err(self.cut_off());
        }
        self.offset = self.source.offset;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        match self.source.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(_) => Err(self.source.failure.take().unwrap_or_else(|| self.cut_off())),
        }
    }

    /// In little-endian order, of at most 8 bytes.
    fn take_number(&mut self, length: usize) -> io::Result<u64> {
        let mut number = 0;
        for at in 0..length {
            let [byte] = self.take()?;
            number |= u64::from(byte) << (8 * at);
        }
        Ok(number)
    }

    fn read_open(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.is_open && !buffer.is_empty() {
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            if self.decoder.is_finished() {
                self.close()?;
            } else if let Err(error) =
                self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
            {
                return Err(self.explain(&error));
            }
        }
        Ok(0)
    }

    fn close(&mut self) -> io::Result<()> {
        let stored = self.decoder.get_checksum_from_data();
        if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
            return Err(self.corrupt("its checksum is another"));
        }
        self.is_open = false;
        self.offset = self.source.offset;
        Ok(())
    }

    fn explain(&mut self, error: &FrameDecoderError) -> io::Error {
        match (self.source.failure.take(), self.excess) {
            (Some(failure), _) => failure,
            (None, _) if self.source.has_ended => self.cut_off(),
            (None, Some(asked)) => self.refused(&format!(
                "refers back further than the {} MiB that this program keeps, as its window of {} MiB \
                 allows: unpack the file with `zstd -d --long=31` first ({error})",
                self.max_window >> 20,
                asked >> 20,
            )),
            (None, None) => self.corrupt(&error.to_string()),
        }
    }

    fn cut_off(&self) -> io::Error {
        let offset = self.offset;
        let message =
            format!("the zstd frame at byte {offset} is cut off: its writer did not finish");
        io::Error::new(ErrorKind::UnexpectedEof, message)
    }

    fn corrupt(&self, reason: &str) -> io::Error {
        self.refused(&format!("is corrupt: {reason}"))
    }

    fn refused(&self, what: &str) -> io::Error {
        let message = format!("the zstd frame at byte {} {what}", self.offset);
        io::Error::new(ErrorKind::InvalidData, message)
    }
}

/// What a frame says of itself, as far as it matters here.
struct Header {
    window: u64,
    /// As it stands in the descriptor.
    checksum_flag: u8,
}

/// The byte of a header is a power of two, and eighths of it.
fn window_size([descriptor]: [u8; 1]) -> u64 {
    let base = 1 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

/// The smallest one that is enough.
fn window_descriptor(window: u64) -> u8 {
    (0..=u8::MAX).find(|&descriptor| window_size([descriptor]) >= window).unwrap_or(u8::MAX)
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() && self.open()? {
            let read = self.read_open(buffer)?;
            if read > 0 {
                return Ok(read);
            }
        }
        Ok(0)
    }
}

impl<R: BufRead> Read for Frame<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_open(buffer)
    }
}

/// Counts what the decoder takes, and keeps why it got no more.
struct Source<R> {
    input: R,
    offset: u64,
    has_ended: bool,
    failure: Option<io::Error>,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buffer) {
            Ok(read) => {
                self.offset += read as u64;
                self.has_ended |= read == 0 && !buffer.is_empty();
                Ok(read)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failure = Some(error);
                Err(kind.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    const EMPTY_FRAME: [u8; 9] = [0x28, 0xB5, 0x2F, 0xFD, 0, 0, 1, 0, 0];

    fn frame(content: &[u8]) -> Vec<u8> {
        compress_to_vec(content, CompressionLevel::Fastest)
    }

    fn read(compressed: &[u8]) -> Result<String, String> {
        let mut text = String::new();
        match Frames::new(compressed).read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_content_of_all_frames_is_read_and_of_each_by_itself() {
        let long = "a line that is written often\n".repeat(20_000);
        let skippable = [&[0x5F, 0x2A, 0x4D, 0x18, 3, 0, 0, 0][..], b"odd"].concat();
        let all =
            [frame(b"one\n"), skippable, frame(b""), EMPTY_FRAME.to_vec(), frame(long.as_bytes())];
        assert_eq!(read(&all.concat()), Ok(format!("one\n{long}")));
        let all = all.concat();
        let mut frames = Frames::new(&all[..]);
        let mut found = Vec::new();
        while let Some(mut frame) = frames.next_frame().unwrap() {
            let mut text = String::new();
            frame.read_to_string(&mut text).unwrap();
            found.push(text);
        }
        assert_eq!(found, ["one\n", "", "", &long]);
        assert_eq!(frames.offset(), all.len() as u64);
        assert_eq!(read(b""), Ok(String::new()));
    }

    #[test]
    fn a_frame_that_is_cut_off_anywhere_is_named_by_its_offset() {
        let (first, second) = (frame(b"one\n"), frame(b"two\n"));
        let both = [&first[..], &second].concat();
        for end in first.len() + 1..both.len() {
            let mut frames = Frames::new(&both[..end]);
            let error = io::copy(&mut frames, &mut io::sink()).unwrap_err();
            let expected = format!("the zstd frame at byte {} is cut off", first.len());
            assert!(error.to_string().starts_with(&expected), "{end}: {error}");
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            assert_eq!(frames.offset(), first.len() as u64);
        }
    }

    #[test]
    fn a_changed_byte_is_an_error_or_changes_nothing() {
        let text = "a line that is written often\n".repeat(100);
        let good = [frame(b"one\n"), frame(text.as_bytes())].concat();
        let start = frame(b"one\n").len();
        let mut refused = 0;
        for at in start..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            match read(&bad) {
                Ok(content) => assert_eq!(content, format!("one\n{text}"), "byte {at}"),
                Err(error) => {
                    let expected = format!("the zstd frame at byte {start} ");
                    assert!(error.starts_with(&expected), "byte {at}: {error}");
                    refused += 1;
                }
            }
        }
        assert!(refused > (good.len() - start) / 2, "{refused} of {}", good.len() - start);
    }

    /// Of a window that the descriptor says, with a raw block, and a compressed one that repeats
    /// what stands `distance` bytes before.
    fn frame_that_refers_back(descriptor: u8, distance: usize) -> (Vec<u8>, Vec<u8>) {
        let mut frame = [&MAGIC.to_le_bytes()[..], &[0, descriptor]].concat();
        let mut content = Vec::new();
        let block = |kind: u32, size: usize, last: u32| {
            let header = last | kind << 1 | u32::try_from(size).unwrap() << 3;
            header.to_le_bytes()[..3].to_vec()
        };
        frame.extend(block(0, 8, 0));
        frame.extend(b"a line.\n");
        content.extend(b"a line.\n");
        while content.len() < distance {
            let size = (distance - content.len()).min(128 << 10);
            frame.extend(block(1, size, 0));
            frame.push(b'x');
            content.resize(content.len() + size, b'x');
        }
        // No literals; one sequence, all of whose codes are repeated (RLE): no literals, the offset,
        // a match of 8 bytes.
        let value = distance + 3;
        let code = u8::try_from(value.ilog2()).unwrap();
        let mut sequences = vec![0x00, 1, 0x54, 0, code, 5];
        // The extra bits of the offset, and the mark where they end.
        let bits = (value - (1 << code)) as u64 | 1 << code;
        sequences.extend(&bits.to_le_bytes()[..=usize::from(code) / 8]);
        frame.extend(block(2, sequences.len(), 1));
        frame.extend(sequences);
        let from = content.len() - distance;
        content.extend_from_within(from..from + 8);
        (frame, content)
    }

    #[test]
    fn windows_of_long_and_ultra_are_read_and_memory_stays_bounded() {
        // 128 MiB, as of `--ultra -22` and `--long`; 2 GiB, as of `--long=31`.
        for descriptor in [0x88, 0xA8] {
            let (frame, content) = frame_that_refers_back(descriptor, 9 << 20);
            let all = [EMPTY_FRAME.to_vec(), frame.clone(), frame].concat();
            let mut read = Vec::new();
            Frames::with_max_window(&all[..], 16 << 20).read_to_end(&mut read).unwrap();
            assert!(read == [&content[..], &content].concat(), "{descriptor:#x}");
        }
        let (frame, _) = frame_that_refers_back(0xA8, 9 << 20);
        let all = [EMPTY_FRAME.to_vec(), frame].concat();
        let mut frames = Frames::with_max_window(&all[..], 8 << 20);
        let error = io::copy(&mut frames, &mut io::sink()).unwrap_err().to_string();
        let expected = "the zstd frame at byte 9 refers back further than the 8 MiB that this program \
                        keeps, as its window of 2048 MiB allows: unpack the file with `zstd -d --long=31`";
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn a_frame_that_is_one_segment_is_read_whatever_its_size_says() {
        // Single segment: the window is the content, of 8 bytes and of 2^40.
        let block = [65, 0, 0, b'a', b' ', b'l', b'i', b'n', b'e', b'.', b'\n'];
        let small = [&MAGIC.to_le_bytes()[..], &[0x20, 8], &block].concat();
        assert_eq!(read(&small).as_deref(), Ok("a line.\n"));
        let huge = [&MAGIC.to_le_bytes()[..], &[0xE0, 0, 0, 0, 0, 0, 1, 0, 0], &block].concat();
        assert_eq!(read(&huge).as_deref(), Ok("a line.\n"));
    }

    #[test]
    fn a_dictionary_that_is_needed_is_named() {
        let error = read(&[0x28, 0xB5, 0x2F, 0xFD, 0x01, 0x88, 7, 1, 0, 0]).unwrap_err();
        assert!(
            error.contains("needs the dictionary 7") && error.contains("zstd -d -D"),
            "{error}"
        );
    }

    #[test]
    fn only_what_starts_as_a_frame_is_compressed() {
        assert!(is_compressed(&frame(b"")) && is_compressed(&[0x50, 0x2A, 0x4D, 0x18]));
        for other in [&b""[..], b"{\"ts\":0", &frame(b"")[..3]] {
            assert!(!is_compressed(other), "{other:?}");
        }
    }
}
