//! Where the body of a response is among the bytes of its connection.

use std::ops::Range;

use super::HttpError;

/// A line that frames a chunk, or a trailer, is no longer than this.
const MAX_LINE: usize = 16 << 10;

/// How far a body has come.
#[derive(Debug)]
pub(crate) struct Body(State);

#[derive(Debug)]
enum State {
    Length(u64),
    UntilClose,
    ChunkSize { size: u64, digits: u32, in_extension: bool, length: usize },
    ChunkData(u64),
    ChunkEnd,
    Trailer { line: usize, length: usize },
    Done,
}

/// The first piece of a body among some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Bytes that are dealt with, the data among them.
    pub(crate) consumed: usize,
    pub(crate) data: Range<usize>,
}

const CHUNK_START: State = State::ChunkSize { size: 0, digits: 0, in_extension: false, length: 0 };

impl Body {
    pub(crate) fn empty() -> Self {
        Self(State::Done)
    }

    pub(crate) fn of_length(length: u64) -> Self {
        Self(if length == 0 { State::Done } else { State::Length(length) })
    }

    pub(crate) fn chunked() -> Self {
        Self(CHUNK_START)
    }

    pub(crate) fn until_close() -> Self {
        Self(State::UntilClose)
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.0, State::Done)
    }

    /// The connection is at its end. Whether the body is, too.
    pub(crate) fn close(&mut self) -> bool {
        if matches!(self.0, State::UntilClose) {
            self.0 = State::Done;
        }
        self.is_done()
    }

    /// Stops at the end of the first data, and at the end of the body.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<Piece, HttpError> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = bytes.len() - at;
            match &mut self.0 {
                State::Done => break,
                State::UntilClose => {
                    return Ok(Piece { consumed: bytes.len(), data: at..bytes.len() });
                }
                State::Length(left) | State::ChunkData(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest);
                    *left -= taken as u64;
                    if *left == 0 {
                        let is_chunk = matches!(self.0, State::ChunkData(_));
                        self.0 = if is_chunk { State::ChunkEnd } else { State::Done };
                    }
                    return Ok(Piece { consumed: at + taken, data: at..at + taken });
                }
                _ => {
                    self.take_framing(bytes[at])?;
                    at += 1;
                }
            }
        }
        Ok(Piece { consumed: at, data: at..at })
    }

    fn take_framing(&mut self, byte: u8) -> Result<(), HttpError> {
        let broken = |what: &str| Err(HttpError::NotHttp(what.to_owned()));
        match &mut self.0 {
            State::ChunkSize { size, digits, in_extension, length } => {
                *length += 1;
                if *length > MAX_LINE {
                    return broken("the line before a chunk has no end");
                }
                match (byte, char::from(byte).to_digit(16)) {
                    (b'\n', _) if *digits > 0 => {
                        self.0 = match *size {
                            0 => State::Trailer { line: 0, length: 0 },
                            size => State::ChunkData(size),
                        };
                    }
                    (b'\r' | b' ' | b'\t', _) => (),
                    (b';', _) if *digits > 0 => *in_extension = true,
                    _ if *in_extension => (),
                    (_, Some(digit)) if *digits < 16 => {
                        (*size, *digits) = (*size << 4 | u64::from(digit), *digits + 1);
                    }
                    _ => return broken("a chunk has no size"),
                }
            }
            State::ChunkEnd => match byte {
                b'\r' => (),
                b'\n' => self.0 = CHUNK_START,
                _ => return broken("a chunk is longer than it said"),
            },
            State::Trailer { line, length } => {
                *length += 1;
                if *length > MAX_LINE {
                    return broken("its trailers have no end");
                }
                match byte {
                    b'\n' if *line == 0 => self.0 = State::Done,
                    b'\n' => *line = 0,
                    b'\r' => (),
                    _ => *line += 1,
                }
            }
            State::Length(_) | State::UntilClose | State::ChunkData(_) | State::Done => (),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a body that comes in pieces of `size` bytes, and what was left over.
    fn data(mut body: Body, bytes: &[u8], size: usize) -> Result<(Vec<u8>, usize), HttpError> {
        let mut data = Vec::new();
        let mut left = bytes.len();
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() && !body.is_done() {
                let Piece { consumed, data: range } = body.decode(piece)?;
                data.extend_from_slice(&piece[range]);
                piece = &piece[consumed..];
                left -= consumed;
            }
        }
        Ok((data, left))
    }

    #[test]
    fn chunks_survive_any_cut() {
        let bytes = b"3\r\nabc\r\n00a;x=\"1\"\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nnext";
        for size in 1..=bytes.len() {
            let (data, left) = data(Body::chunked(), bytes, size).unwrap();
            assert_eq!((data.as_slice(), left), (&b"abc0123456789"[..], 4), "{size}");
        }
    }

    #[test]
    fn a_length_ends_the_body() {
        for size in 1..6 {
            assert_eq!(data(Body::of_length(3), b"abcde", size).unwrap(), (b"abc".to_vec(), 2));
        }
        assert!(Body::of_length(0).is_done());
    }

    #[test]
    fn only_a_body_without_length_may_end_with_its_connection() {
        let mut body = Body::until_close();
        assert_eq!(body.decode(b"abc").unwrap(), Piece { consumed: 3, data: 0..3 });
        assert!(body.close());
        assert!(!Body::of_length(1).close() && !Body::chunked().close());
    }

    #[test]
    fn broken_chunks_are_refused() {
        for bytes in [&b"x\r\n"[..], b"\r\n\r\n", b"3\r\nabcd", b"fffffffffffffffff\r\n", b";a\r\n"]
        {
            assert!(data(Body::chunked(), bytes, 64).is_err(), "{bytes:?}");
        }
        let endless = [b"1;".to_vec(), b"x".repeat(MAX_LINE)].concat();
        assert!(data(Body::chunked(), &endless, 64).is_err());
        let trailers = [b"0\r\n".to_vec(), b"a\r\n".repeat(MAX_LINE)].concat();
        assert!(data(Body::chunked(), &trailers, 64).is_err());
    }
}
