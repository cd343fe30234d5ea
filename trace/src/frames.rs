//! The content of `.jsonl.zst`: zstd frames, one behind the other, each of whole lines.
//!
//! Decoded in Rust, so that what only reads traces needs no C compiler, and the writer's frames are
//! proved by code that is not its own.

use std::io::{self, BufRead, ErrorKind, Read};

use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

const MAGIC: u32 = 0xFD2F_B528;

/// Of frames that hold no content; some zstd tools write an index into one.
const SKIPPABLE_MAGIC: u32 = 0x184D_2A50;

/// The decoder limits the window of every frame but the first, so it is given this one first.
const EMPTY_FRAME: [u8; 9] = [0x28, 0xB5, 0x2F, 0xFD, 0, 0, 1, 0, 0];

/// Whether a file that starts so is compressed. No line of JSON does.
pub fn is_compressed(start: &[u8]) -> bool {
    start.first_chunk().is_some_and(|first| {
        let magic = u32::from_le_bytes(*first);
        magic == MAGIC || magic & !15 == SKIPPABLE_MAGIC
    })
}

/// Reads the content of all frames, or frame by frame. Nothing can be read after an error.
pub struct Frames<R> {
    source: Source<R>,
    decoder: FrameDecoder,
    /// Where the current frame begins, or the next one.
    offset: u64,
    is_open: bool,
}

/// The content of one frame. Its end is only told where the frame is whole.
pub struct Frame<'a, R>(&'a mut Frames<R>);

impl<R: BufRead> Frames<R> {
    pub fn new(input: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.reset(&EMPTY_FRAME[..]).expect("an empty frame has a header");
        let source = Source { input, offset: 0, has_ended: false, failure: None };
        Self { source, decoder, offset: 0, is_open: false }
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
            match self.decoder.reset(&mut self.source) {
                Ok(()) => self.is_open = true,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = self.source.by_ref().take(length.into());
                    if io::copy(&mut skipped, &mut io::sink())? < length.into() {
                        return Err(self.cut_off());
                    }
                    self.offset = self.source.offset;
                }
                Err(error) => return Err(self.explain(&error)),
            }
        }
        Ok(true)
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
        match self.source.failure.take() {
            Some(failure) => failure,
            None if self.source.has_ended => self.cut_off(),
            None => self.corrupt(&error.to_string()),
        }
    }

    fn cut_off(&self) -> io::Error {
        let offset = self.offset;
        let message =
            format!("the zstd frame at byte {offset} is cut off: its writer did not finish");
        io::Error::new(ErrorKind::UnexpectedEof, message)
    }

    fn corrupt(&self, reason: &str) -> io::Error {
        let message = format!("the zstd frame at byte {} is corrupt: {reason}", self.offset);
        io::Error::new(ErrorKind::InvalidData, message)
    }
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
                    let expected = format!("the zstd frame at byte {start} is ");
                    assert!(error.starts_with(&expected), "byte {at}: {error}");
                    refused += 1;
                }
            }
        }
        assert!(refused > (good.len() - start) / 2, "{refused} of {}", good.len() - start);
    }

    #[test]
    fn a_window_of_gigabytes_is_refused() {
        // Window descriptor 0xA8: 2 GiB.
        let error = read(&[0x28, 0xB5, 0x2F, 0xFD, 0, 0xA8, 1, 0, 0]).unwrap_err();
        assert!(error.contains("is corrupt"), "{error}");
    }

    #[test]
    fn only_what_starts_as_a_frame_is_compressed() {
        assert!(is_compressed(&frame(b"")) && is_compressed(&[0x50, 0x2A, 0x4D, 0x18]));
        for other in [&b""[..], b"{\"ts\":0", &frame(b"")[..3]] {
            assert!(!is_compressed(other), "{other:?}");
        }
    }
}
