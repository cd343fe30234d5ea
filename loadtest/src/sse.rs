//! Server-sent events: bytes in, the data of each event out, however the network cut them.

use std::{error, fmt, mem};

/// A line or an event longer than this is a broken server, not a token.
const MAX_EVENT_BYTES: usize = 16 << 20;
/// How much is kept of lines that belong to no event.
const KEPT_OF_STRAY: usize = 1 << 10;

/// An incremental parser of a `text/event-stream` body.
///
/// Lines may end in LF, CR LF or CR, as the specification allows.
/// Bytes are decoded a whole line at a time, so a character that is split between two reads arrives intact.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    data: Option<String>,
    is_error: bool,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_carriage_return: bool,
    past_first_line: bool,
    stray: String,
}

/// What a server sent in one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub data: String,
    /// Called `error`, or sent in a field of that name, as llama.cpp does.
    pub is_error: bool,
}

/// The reason a stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseError {
    NotUtf8,
    TooLong,
}

impl Parser {
    /// Takes the next bytes and appends each event that they complete.
    pub fn push(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<(), ParseError> {
        if mem::take(&mut self.after_carriage_return) {
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend_line(&bytes[..end])?;
            events.extend(self.end_line()?);
            let is_carriage_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if is_carriage_return {
                self.after_carriage_return = bytes.is_empty();
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
        }
        self.extend_line(bytes)
    }

    /// The beginning of what was sent outside of any event: a server's plain words.
    pub fn stray(&self) -> Option<&str> {
        Some(self.stray.as_str()).filter(|stray| !stray.is_empty())
    }

    /// What was left unfinished when the body ended, if anything.
    ///
    /// The specification drops it; a caller may still accept a last event that lacks only its blank line.
    pub fn finish(&mut self) -> Result<Option<Event>, ParseError> {
        if !self.line.is_empty() {
            self.end_line()?;
        }
        Ok(self.end_event())
    }

    fn extend_line(&mut self, bytes: &[u8]) -> Result<(), ParseError> {
        let of_event = self.data.as_ref().map_or(0, String::len);
        if self.line.len() + of_event + bytes.len() > MAX_EVENT_BYTES {
            return Err(ParseError::TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) -> Result<Option<Event>, ParseError> {
        let bytes = mem::take(&mut self.line);
        let ended = self.take_line(&bytes);
        // Its allocation is used again.
        self.line = bytes;
        self.line.clear();
        ended
    }

    fn take_line(&mut self, line: &[u8]) -> Result<Option<Event>, ParseError> {
        let mut line = str::from_utf8(line).map_err(|_| ParseError::NotUtf8)?;
        if !mem::replace(&mut self.past_first_line, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            return Ok(self.end_event());
        }
        // A line that begins with a colon is a comment: its field name is empty.
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" | "error" => {
                self.is_error |= field == "error";
                match &mut self.data {
                    Some(data) => data.extend(["\n", value]),
                    None => self.data = Some(value.to_owned()),
                }
            }
            "event" => self.is_error = value == "error",
            "" | "id" | "retry" => (),
            _ if self.stray.len() < KEPT_OF_STRAY => {
                self.stray.extend(line.chars().take(KEPT_OF_STRAY).chain(['\n']));
            }
            _ => (),
        }
        Ok(None)
    }

    fn end_event(&mut self) -> Option<Event> {
        let is_error = mem::take(&mut self.is_error);
        self.data.take().map(|data| Event { data, is_error })
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => formatter.write_str("a line is not valid UTF-8"),
            Self::TooLong => {
                write!(formatter, "an event is longer than {} MiB", MAX_EVENT_BYTES >> 20)
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
        let pushed = pieces.iter().try_for_each(|piece| parser.push(piece, &mut events));
        let data = |event: Event| event.data;
        let rest = pushed.and_then(|()| parser.finish()).map(|event| event.map(data));
        (events.into_iter().map(data).collect(), rest)
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
    fn errors_are_told_by_their_name_and_by_their_field() {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        let body = b"event: error\ndata: a\n\nerror: b\n\nevent: ping\ndata: c\n\n";
        parser.push(body, &mut events).unwrap();
        let seen: Vec<_> =
            events.iter().map(|event| (event.data.as_str(), event.is_error)).collect();
        assert_eq!(seen, [("a", true), ("b", true), ("c", false)]);
    }

    #[test]
    fn lines_outside_of_events_are_kept_in_part() {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        parser.push(b"Internal Server Error\nid: 3\ndata: a\n\n", &mut events).unwrap();
        assert_eq!(parser.stray(), Some("Internal Server Error\n"));
        let line = [b"x".repeat(1 << 20), b"\n".to_vec()].concat();
        for _ in 0..4 {
            parser.push(&line, &mut events).unwrap();
        }
        assert!(parser.stray().unwrap().len() < 4 << 10);
    }

    #[test]
    fn an_event_without_end_does_not_fill_the_memory() {
        let line = [b"data:".to_vec(), b"x".repeat(1 << 20), b"\n".to_vec()].concat();
        let mut parser = Parser::default();
        let mut events = Vec::new();
        let ended = (0..17).try_for_each(|_| parser.push(&line, &mut events));
        assert_eq!(ended, Err(ParseError::TooLong));
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let mebibyte = vec![b'x'; 1 << 20];
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for _ in 0..16 {
            assert_eq!(parser.push(&mebibyte, &mut events), Ok(()));
        }
        assert_eq!(parser.push(b"x", &mut events), Err(ParseError::TooLong));
    }
}
