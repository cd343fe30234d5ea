//! Bodies that come compressed, though nobody asked for it: some proxies do so.

use std::io::Write as _;

use flate2::write::{MultiGzDecoder, ZlibDecoder};

use super::HttpError;

/// Decodes piece by piece, so that each has the time at which it came.
#[derive(Debug)]
pub(crate) enum Decoder {
    Gzip(MultiGzDecoder<Vec<u8>>),
    /// Called `deflate`.
    Zlib(ZlibDecoder<Vec<u8>>),
}

impl Decoder {
    /// `None` for an encoding that is not known.
    pub(crate) fn of(encoding: &str) -> Option<Self> {
        match encoding {
            "gzip" | "x-gzip" => Some(Self::Gzip(MultiGzDecoder::new(Vec::new()))),
            "deflate" => Some(Self::Zlib(ZlibDecoder::new(Vec::new()))),
            _ => None,
        }
    }

    /// All that `bytes` complete, in the place of what was decoded before. One byte becomes a thousand at most.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<(), HttpError> {
        match self {
            Self::Gzip(decoder) => {
                decoder.get_mut().clear();
                decoder.write_all(bytes).and_then(|()| decoder.flush())
            }
            Self::Zlib(decoder) => {
                decoder.get_mut().clear();
                decoder.write_all(bytes).and_then(|()| decoder.flush())
            }
        }
        .map_err(|error| broken(&error))
    }

    pub(crate) fn decoded(&self) -> &[u8] {
        match self {
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zlib(decoder) => decoder.get_ref(),
        }
    }

    /// The body is at its end. An error if what was compressed is not.
    pub(crate) fn finish(&mut self) -> Result<(), HttpError> {
        match self {
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zlib(decoder) => decoder.try_finish(),
        }
        .map_err(|error| broken(&error))
    }
}

fn broken(error: &std::io::Error) -> HttpError {
    HttpError::NotHttp(format!("its compressed body is broken ({error})"))
}

#[cfg(test)]
mod tests {
    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };

    use super::*;

    #[test]
    fn each_piece_gives_all_that_it_completes() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let mut decoder = Decoder::of("gzip").unwrap();
        for text in ["data: first\n\n", "data: second\n\n"] {
            let before = encoder.get_ref().len();
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.flush().unwrap();
            decoder.decode(&encoder.get_ref()[before..]).unwrap();
            assert_eq!(decoder.decoded(), text.as_bytes());
        }
    }

    #[test]
    fn any_cut_gives_the_same_text() {
        let text = b"the same words again and again, the same words again and again".repeat(50);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&text).unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&text).unwrap();
        for (name, bytes) in [("gzip", gzip.finish().unwrap()), ("deflate", zlib.finish().unwrap())]
        {
            for size in [1, 7, bytes.len()] {
                let mut decoder = Decoder::of(name).unwrap();
                let mut decoded = Vec::new();
                for piece in bytes.chunks(size) {
                    decoder.decode(piece).unwrap();
                    decoded.extend_from_slice(decoder.decoded());
                }
                decoder.finish().unwrap();
                assert_eq!(decoded, text, "{name} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_is_cut_or_not_compressed_is_refused() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(b"words").unwrap();
        let bytes = gzip.finish().unwrap();
        let mut decoder = Decoder::of("gzip").unwrap();
        decoder.decode(&bytes[..bytes.len() - 4]).unwrap();
        assert!(decoder.finish().is_err());
        assert!(Decoder::of("gzip").unwrap().decode(b"data: not compressed at all\n\n").is_err());
        assert!(Decoder::of("br").is_none());
    }
}
