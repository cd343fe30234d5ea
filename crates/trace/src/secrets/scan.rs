//! Where a value ends: at its quote, its bracket, its word, or where the text does.
//!
//! Whatever is unclear ends with the text: a secret that swallows its neighbours is no leak. Ends
//! that are found are masked up to, so no byte is looked at more than a few times.

use std::ops::Range;

use super::name::MAX_NAME;

/// What a text is, which says where a value without quotes ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ends with its last value if it begins with a name: `--name=two words`.
    Argument,
    /// Of a process that wrote over its arguments: nothing says where they ended, but that
    /// another option follows.
    Title,
    /// For a shell: words end at blanks.
    Script,
}

/// What blanks are for a value without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blanks {
    End,
    Inside,
    /// Until the line ends.
    InsideLine,
}

pub(super) struct Scan<'a> {
    pub(super) text: &'a str,
    pub(super) kind: Kind,
    /// Bytes looked at: how much work the text was.
    pub(super) work: usize,
}

impl Scan<'_> {
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// The first byte of this kind, or the end.
    pub(super) fn forward(&mut self, from: usize, is_wanted: impl Fn(u8) -> bool) -> usize {
        self.forward_within(from, self.len(), is_wanted)
    }

    /// The same within so many bytes, or their end.
    pub(super) fn forward_within(
        &mut self,
        from: usize,
        most: usize,
        is_wanted: impl Fn(u8) -> bool,
    ) -> usize {
        let rest = self.text.as_bytes().get(from..).unwrap_or_default();
        let rest = &rest[..most.min(rest.len())];
        let ahead = rest.iter().position(|&byte| is_wanted(byte)).unwrap_or(rest.len());
        self.work += ahead + 1;
        (from + ahead).min(self.len())
    }

    /// The beginning of the bytes of this kind that end here, at most so many.
    pub(super) fn backward(
        &mut self,
        end: usize,
        most: usize,
        is_wanted: impl Fn(u8) -> bool,
    ) -> usize {
        let before = &self.text.as_bytes()[end.saturating_sub(most)..end];
        let count = before.iter().rev().take_while(|&&byte| is_wanted(byte)).count();
        self.work += count + 1;
        end - count
    }

    pub(super) fn behind_blanks(&mut self, from: usize) -> usize {
        self.forward(from, |byte| !byte.is_ascii_whitespace())
    }

    /// The quote that stands here behind backslashes, and how many these are.
    pub(super) fn quote(&mut self, at: usize) -> Option<(u8, usize)> {
        let behind = self.forward(at, |byte| byte != b'\\');
        self.byte(behind).filter(|&byte| is_quote(byte)).map(|quote| (quote, behind - at))
    }

    /// The closing quote with its backslashes; `None` if there is none, or it is not clear which.
    /// Text within text within text has one, three and seven backslashes before its quotes, and
    /// twice as many and one before a quote that is a character.
    pub(super) fn closing(
        &mut self,
        (quote, escapes): (u8, usize),
        from: usize,
    ) -> Option<Range<usize>> {
        if !(escapes + 1).is_power_of_two() {
            return None;
        }
        let period = 2 * (escapes + 1);
        let mut at = from;
        loop {
            let found = self.forward(at, |byte| byte == quote);
            self.byte(found)?;
            let run = found - self.backward(found, found - at, |byte| byte == b'\\');
            // Python escapes a quote in single ones, a shell does not.
            let is_character = run % period == period - 1 && (quote == b'"' || escapes > 0);
            if run % period == escapes {
                return Some(found - escapes..found + 1);
            }
            if !is_character {
                return None;
            }
            at = found + 1;
        }
    }

    /// Behind the bracket that closes the one here.
    fn behind_bracket(&mut self, from: usize) -> usize {
        let mut depth = 0_usize;
        let mut at = from;
        loop {
            at = self.forward(at, |byte| is_quote(byte) || b"()[]{}\\".contains(&byte));
            match self.byte(at) {
                None => return self.len(),
                Some(b'(' | b'[' | b'{') => depth += 1,
                Some(b')' | b']' | b'}') => depth = depth.saturating_sub(1),
                Some(_) => {
                    let behind = self.forward(at, |byte| byte != b'\\');
                    at = match self.quote(at) {
                        Some(quote) => match self.closing(quote, behind + 1) {
                            Some(close) => close.end,
                            None => return self.len(),
                        },
                        None => behind,
                    };
                    continue;
                }
            }
            at += 1;
            if depth == 0 {
                return at;
            }
        }
    }

    /// Behind a value without quotes, or behind what follows the closing quote of one.
    pub(super) fn word_end(&mut self, from: usize, first: usize, blanks: Blanks) -> usize {
        let mut at = from;
        while let Some(byte) = self.byte(at) {
            self.work += 1;
            match byte {
                byte if byte.is_ascii_whitespace() => {
                    let behind = self.behind_blanks(at);
                    let ends = match blanks {
                        Blanks::End => true,
                        Blanks::Inside => self.is_long_option(behind),
                        Blanks::InsideLine => {
                            self.is_long_option(behind) || self.text[at..behind].contains('\n')
                        }
                    };
                    if ends {
                        return at;
                    }
                    at = behind;
                }
                b'\\' => {
                    // What these stand for depends on how deep the text is in others: clear are
                    // only a shell's `\'` and `\ `.
                    let behind = self.forward(at, |byte| byte != b'\\');
                    let is_clear = match self.byte(behind) {
                        Some(b'\'') => behind == at + 1,
                        Some(next) if next.is_ascii_whitespace() => behind == at + 1,
                        Some(next) => !is_quote(next),
                        None => true,
                    };
                    if !is_clear {
                        return self.len();
                    }
                    at = behind + 1;
                }
                quote if is_quote(quote) => {
                    // One that closes what the text is in, or one that opens: `P=x"` or `P=x" y"`.
                    match self.byte(at + 1) {
                        None if at > first => return at,
                        Some(next) if at > first && is_end(next) => return self.len(),
                        _ => {}
                    }
                    match self.closing((quote, 0), at + 1) {
                        Some(close) => at = close.end,
                        None => return self.len(),
                    }
                }
                b'(' | b'[' | b'{' => at = self.behind_bracket(at),
                b')' | b']' | b'}' => {
                    let behind = self.forward(at, |byte| !matches!(byte, b')' | b']' | b'}'));
                    if self.is_behind_brackets(behind, blanks) {
                        return at;
                    }
                    at = behind;
                }
                _ if self.is_delimiter(at, blanks) => return at,
                _ => at += 1,
            }
        }
        self.len()
    }

    /// Whether a value without quotes ended before the brackets that end here.
    fn is_behind_brackets(&mut self, at: usize, blanks: Blanks) -> bool {
        match self.byte(at) {
            None => true,
            Some(byte) if byte.is_ascii_whitespace() => blanks == Blanks::End,
            Some(_) => self.is_delimiter(at, blanks),
        }
    }

    /// Whether a value without quotes ends here, rather than has this character.
    fn is_delimiter(&mut self, at: usize, blanks: Blanks) -> bool {
        let next = self.byte(at + 1);
        match self.byte(at) {
            Some(b';' | b'&' | b'|' | b'<' | b'>') if self.kind == Kind::Script => true,
            Some(byte @ (b';' | b'&' | b'|')) if blanks == Blanks::End => {
                next.is_none_or(|next| next.is_ascii_whitespace() || next == byte)
                    || self.is_assignment(at + 1)
            }
            Some(b';' | b'&' | b'|' | b',') => self.is_assignment(at + 1),
            _ => false,
        }
    }

    /// Whether a name with its `=` or `:` is here.
    fn is_assignment(&mut self, from: usize) -> bool {
        let is_before = |byte: u8| byte.is_ascii_whitespace() || is_quote(byte) || byte == b'\\';
        let name = self.forward(from, |byte| !is_before(byte));
        let end = self.forward(name, |byte| !is_name(byte));
        let sign = self.forward(end, |byte| !is_before(byte));
        (1..=MAX_NAME).contains(&(end - name)) && matches!(self.byte(sign), Some(b'=' | b':'))
    }

    /// Where the next option is behind a value.
    pub(super) fn title_end(&mut self, from: usize) -> usize {
        let mut at = from;
        loop {
            at = self.forward(at, |byte| byte.is_ascii_whitespace());
            let behind = self.behind_blanks(at);
            if behind == self.len() || self.is_long_option(behind) {
                return at;
            }
            at = behind;
        }
    }

    pub(super) fn is_long_option(&self, at: usize) -> bool {
        is_long_option(&self.text.as_bytes()[at..])
    }
}

/// Plainly another option: `--x`. A key in PEM has more dashes.
pub(super) fn is_long_option(text: &[u8]) -> bool {
    text.starts_with(b"--") && text.get(2).is_some_and(u8::is_ascii_alphanumeric)
}

pub(super) fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

pub(super) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

/// What may stand behind a value.
pub(super) fn is_end(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b",;:&|<>)]}".contains(&byte)
}
