//! How lines become bytes of the file: as they are, or as one zstd frame.

use std::io;

use trace::segment_name::Format;
use zstd_safe::{CCtx, CParameter, compress_bound, get_error_name};

/// Level 1, by measurement on two real traces of vLLM (88 bytes a line) and on that of the demo (244
/// bytes), in frames of 256 KiB: it takes 70 to 180 ns of processor time a line, 3 takes 80 to 220 ns
/// and makes them larger by a few percent (16 to 19 times smaller instead of 17 to 21 times). 6 is
/// smaller by another 5 to 11 percent for six times the time.
const LEVEL: i32 = 1;

pub(crate) enum Encoding {
    Plain,
    Frames(Frames),
}

/// Context and output are used again for every frame: once they have grown nothing is allocated.
pub(crate) struct Frames {
    context: CCtx<'static>,
    frame: Vec<u8>,
}

impl Encoding {
    pub(crate) fn new(format: Format) -> io::Result<Self> {
        match format {
            Format::Jsonl => Ok(Self::Plain),
            Format::JsonlZst => Frames::new().map(Self::Frames),
            Format::Parquet => Err(io::Error::other("a table is made of lines that are complete")),
        }
    }

    /// What is written for `lines`, which are whole.
    pub(crate) fn encode<'a>(&'a mut self, lines: &'a [u8]) -> io::Result<&'a [u8]> {
        match self {
            Self::Plain => Ok(lines),
            Self::Frames(frames) => frames.frame(lines),
        }
    }
}

impl Frames {
    fn new() -> io::Result<Self> {
        let mut context = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        // With a checksum a reader tells a damaged frame from a good one.
        for parameter in [CParameter::CompressionLevel(LEVEL), CParameter::ChecksumFlag(true)] {
            context.set_parameter(parameter).map_err(explain)?;
        }
        Ok(Self { context, frame: Vec::new() })
    }

    fn frame(&mut self, lines: &[u8]) -> io::Result<&[u8]> {
        self.frame.clear();
        self.frame.reserve(compress_bound(lines.len()));
        self.context.compress2(&mut self.frame, lines).map_err(explain)?;
        Ok(&self.frame)
    }
}

fn explain(code: zstd_safe::ErrorCode) -> io::Error {
    io::Error::other(format!("zstd: {}", get_error_name(code)))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn frames_are_read_back_by_the_reader_s_own_decoder() {
        let mut encoding = Encoding::new(Format::JsonlZst).unwrap();
        // Longer than a block of zstd, shorter, and nothing.
        let batches = ["{\"ts\":1.5,\"pid\":3}\n".repeat(20_000), "{}\n".to_owned(), String::new()];
        let mut file = Vec::new();
        for batch in &batches {
            file.extend_from_slice(encoding.encode(batch.as_bytes()).unwrap());
        }
        let mut text = String::new();
        trace::frames::Frames::new(&file[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, batches.concat());
        assert!(file.len() < text.len() / 4, "{} of {}", file.len(), text.len());
    }

    #[test]
    fn a_damaged_frame_is_told_by_its_checksum() {
        let mut encoding = Encoding::new(Format::JsonlZst).unwrap();
        let mut file = encoding.encode(b"{\"ts\":1}\n").unwrap().to_vec();
        let last = file.len() - 1;
        file[last] ^= 1;
        let error = trace::frames::Frames::new(&file[..]).read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("checksum"), "{error}");
    }
}
