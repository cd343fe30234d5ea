//! Server-sent events: bytes in, the data of each event out, however the network cut them.

use std::{error, fmt, mem};

/// A line longer than this is a broken server, not a token.
const LONGEST_LINE: usize = 16 << 20;

/// An incremental parser of a `text/event-stream` body.
///
/// Lines may end in LF, CR LF or CR, as the specification allows.
/// Bytes are decoded a whole line at a time, so a character that is split between two reads arrives intact.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    data: String,
    has_data: bool,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_carriage_return: bool,
    past_first_line: bool,
}

/// The reason a stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseError {
    NotUtf8,
    LineTooLong,
}

impl Parser {
    /// Takes the next bytes and appends the data of each event they complete.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<String>) -> Result<(), ParseError> {
        for &byte in bytes {
            let follows_carriage_return =
                mem::replace(&mut self.after_carriage_return, byte == b'\r');
            match byte {
                b'\n' if follows_carriage_return => (),
                b'\n' | b'\r' => events.extend(self.end_line()?),
                _ if self.line.len() == LONGEST_LINE => return Err(ParseError::LineTooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    /// What was left unfinished when the body ended, if anything.
    ///
    /// The specification drops it; a caller may still accept a last event that lacks only its blank line.
    pub fn finish(mut self) -> Result<Option<String>, ParseError> {
        if !self.line.is_empty() {
            self.end_line()?;
        }
        Ok(self.has_data.then_some(self.data))
    }

    fn end_line(&mut self) -> Result<Option<String>, ParseError> {
        let line = mem::take(&mut self.line);
        let mut line = std::str::from_utf8(&line).map_err(|_| ParseError::NotUtf8)?;
        if !mem::replace(&mut self.past_first_line, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            let complete = mem::take(&mut self.has_data);
            return Ok(complete.then(|| mem::take(&mut self.data)));
        }
        // A line that begins with a colon is a comment: its field name is empty.
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        if field == "data" {
            if mem::replace(&mut self.has_data, true) {
                self.data.push('\n');
            }
            self.data.push_str(value.strip_prefix(' ').unwrap_or(value));
        }
        Ok(None)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => formatter.write_str("a line is not valid UTF-8"),
            Self::LineTooLong => {
                write!(formatter, "a line is longer than {} MiB", LONGEST_LINE >> 20)
            }
        }
    }
}

impl error::Error for ParseError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pieces: &[&[u8]]) -> (Vec<String>, Result<Option<String>, ParseError>) {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for piece in pieces {
            if let Err(error) = parser.push(piece, &mut events) {
                return (events, Err(error));
            }
        }
        (events, parser.finish())
    }

    /// Every way to cut `body` in two, and one byte at a time.
    fn assert_parses(body: &[u8], expected: &[&str]) {
        for cut in 0..=body.len() {
            let (events, rest) = parse(&[&body[..cut], &body[cut..]]);
            assert_eq!(events, expected, "cut at {cut}");
            assert_eq!(rest, Ok(None), "cut at {cut}");
        }
        let single: Vec<&[u8]> = body.chunks(1).collect();
        assert_eq!(parse(&single).0, expected);
    }

    #[test]
    fn events_survive_any_cut() {
        assert_parses(b"data: {\"a\":1}\n\ndata: [DONE]\n\n", &["{\"a\":1}", "[DONE]"]);
    }

    #[test]
    fn each_line_ending_counts_once() {
        assert_parses(b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", &["a", "b", "c"]);
    }

    #[test]
    fn a_character_split_between_reads_arrives_whole() {
        let body = "data: größe 東京 🦀\n\n".as_bytes();
        assert_parses(body, &["größe 東京 🦀"]);
    }

    #[test]
    fn comments_and_other_fields_are_skipped() {
        assert_parses(b": ping\n\nevent: x\nid: 3\nretry: 10\ndata: a\n\n:\n\n", &["a"]);
    }

    #[test]
    fn several_data_lines_are_one_event() {
        assert_parses(b"data: {\ndata:  \"a\":\ndata: 1}\n\n", &["{\n \"a\":\n1}"]);
    }

    #[test]
    fn only_one_space_after_the_colon_is_dropped() {
        assert_parses(b"data:a\n\ndata:  b\n\ndata\n\ndata:\n\n", &["a", " b", "", ""]);
    }

    #[test]
    fn a_byte_order_mark_is_dropped_at_the_start_only() {
        assert_parses("\u{feff}data: a\n\n".as_bytes(), &["a"]);
        assert_parses("data: a\n\n\u{feff}data: b\n\n".as_bytes(), &["a"]);
    }

    #[test]
    fn an_unfinished_event_is_handed_over_at_the_end() {
        assert_eq!(
            parse(&[b"data: a\n\ndata: [DO", b"NE]"]),
            (vec!["a".to_owned()], Ok(Some("[DONE]".to_owned())))
        );
        assert_eq!(parse(&[b"data: a\n"]), (vec![], Ok(Some("a".to_owned()))));
        assert_eq!(parse(&[b"event: a\n"]), (vec![], Ok(None)));
    }

    #[test]
    fn broken_utf8_is_an_error() {
        assert_eq!(
            parse(&[b"data: a\n\ndata: \xff\n\n"]),
            (vec!["a".to_owned()], Err(ParseError::NotUtf8))
        );
        assert_eq!(parse(&[b"data: \xe6\x9d"]).1, Err(ParseError::NotUtf8));
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let mebibyte = vec![b'x'; 1 << 20];
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for _ in 0..16 {
            assert_eq!(parser.push(&mebibyte, &mut events), Ok(()));
        }
        assert_eq!(parser.push(b"x", &mut events), Err(ParseError::LineTooLong));
    }
}
