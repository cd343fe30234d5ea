//! One text with its secrets masked: an argument, a title, a script.

use super::{
    Expected, MASK, expected_after,
    name::{self, MAX_NAME},
    scan::{Blanks, Kind, Scan, is_end, is_name, is_quote},
    token,
};

/// What is behind `Authorization:` and before the secret.
const SCHEMES: [&str; 4] = ["bearer", "basic", "digest", "token"];

pub(super) fn mask(text: &str, kind: Kind) -> String {
    Masker::new(text, kind).run().0
}

struct Masker<'a> {
    scan: Scan<'a>,
    masked: String,
    /// Up to here all is in `masked`.
    copied: usize,
    /// Where the word begins that is being looked at.
    word: usize,
    /// Where the value begins that the text is, behind the names at its beginning.
    first_value: usize,
    /// The next `@`, and the next blank: each is looked for once.
    next_at_sign: usize,
    next_blank: usize,
}

/// A name that a separator follows.
struct Name<'a> {
    text: &'a str,
    start: usize,
    is_quoted: bool,
    has_blanks: bool,
}

impl<'a> Masker<'a> {
    fn new(text: &'a str, kind: Kind) -> Self {
        Self {
            scan: Scan { text, kind, work: 0 },
            masked: String::with_capacity(text.len()),
            copied: 0,
            word: 0,
            first_value: 0,
            next_at_sign: 0,
            next_blank: 0,
        }
    }

    /// The masked text, and how many bytes were looked at for it.
    fn run(mut self) -> (String, usize) {
        let mut at = 0;
        loop {
            at = self.scan.forward(at, |byte| {
                matches!(byte, b'=' | b':' | b',') || byte.is_ascii_whitespace()
            });
            let Some(byte) = self.scan.byte(at) else { break };
            let masked_to = if byte.is_ascii_whitespace() {
                let masked_to = self.behind_word(at);
                self.word = at + 1;
                masked_to
            } else if self.scan.text[at..].starts_with("://") {
                self.login(at + 3).or(Some(at + 3))
            } else {
                self.behind_separator(at, byte)
            };
            at = match masked_to {
                Some(to) => {
                    self.word = to;
                    to
                }
                None => at + 1,
            };
        }
        let end = self.scan.len();
        self.copy(end);
        (self.masked, self.scan.work)
    }

    /// `name=value`, `"name": "value"`, `["--name", "value"]`.
    fn behind_separator(&mut self, at: usize, separator: u8) -> Option<usize> {
        let name = self.name(at);
        let dashed = name.text.starts_with('-');
        if separator == b',' && !(dashed && name.is_quoted) {
            return None;
        }
        let Name { text, start, is_quoted, has_blanks } = name;
        let is_first = !is_quoted && self.is_first(start);
        if !name::is_secret(text) {
            if is_first {
                self.first_value = at + 1;
            }
            let is_login = dashed && expected_after(text) == Expected::Login;
            return if is_login { self.login_value(at + 1) } else { None };
        }
        // Also `:=`, `=>` and `==`.
        let is_operator = |byte| matches!(byte, b'=' | b':' | b'>');
        let mut value = self.scan.forward_within(at + 1, 2, |byte| !is_operator(byte));
        let unspaced = value;
        value = self.scan.behind_blanks(value);
        if !is_quoted && let Some(quote) = self.enclosing(start) {
            let value = self.behind_scheme(value);
            let close = self.scan.closing(quote, value);
            return Some(self.replace(value, close.map_or(self.scan.len(), |close| close.start)));
        }
        if is_first && self.scan.kind == Kind::Argument {
            let value = self.behind_scheme(value);
            return Some(self.replace(value, self.scan.len()));
        }
        if value > unspaced && self.scan.is_long_option(value) {
            return None;
        }
        let before = start.checked_sub(1).and_then(|at| self.scan.byte(at));
        let is_list = matches!(before, Some(b';' | b',' | b'?' | b'&'));
        let is_header = separator == b':' && !has_blanks && value > unspaced;
        let blanks = match self.scan.kind {
            Kind::Argument if is_list => Blanks::Inside,
            Kind::Argument if is_header => Blanks::InsideLine,
            Kind::Argument | Kind::Title | Kind::Script => Blanks::End,
        };
        Some(self.value(value, blanks, is_quoted || separator == b','))
    }

    /// Whether nothing is before a name but other names, as in `--set=password=`, or a sign, as in
    /// `+password=`: then the text is one value.
    fn is_first(&mut self, start: usize) -> bool {
        let is_sign = |byte: u8| byte.is_ascii_whitespace() || b"+~@/$%!".contains(&byte);
        self.scan.backward(start, 8, is_sign) == self.first_value
    }

    /// `--name value`, `Bearer value`.
    fn behind_word(&mut self, at: usize) -> Option<usize> {
        let word = &self.scan.text[self.word..at];
        if word.is_empty() || word.len() > MAX_NAME + 16 {
            return None;
        }
        self.scan.work += word.len();
        let opening: &[char] = &['"', '\'', '`', '(', '[', '{', '$', '\\'];
        let option = word.trim_start_matches(opening);
        let option_start = at - option.len();
        let mut expected = Expected::Nothing;
        if option.starts_with('-') && !option.contains('=') {
            expected = expected_after(option.trim_end_matches(['"', '\'', '\\']));
        } else {
            let scheme = option.rsplit(['"', '\'', ':', '=']).next().unwrap_or(option);
            let scheme_is = |known: &&str| scheme.eq_ignore_ascii_case(known);
            if SCHEMES.iter().any(scheme_is) && !scheme.eq_ignore_ascii_case("digest") {
                expected = Expected::Secret;
            }
        }
        if expected == Expected::Nothing {
            return None;
        }
        let value = self.scan.behind_blanks(at);
        // `--name = value` is for the separator.
        let operator =
            self.scan.forward_within(value, 2, |byte| !matches!(byte, b'=' | b':' | b'>'));
        let is_separated = operator > value
            && self.scan.kind != Kind::Title
            && self.scan.byte(operator).is_some_and(|byte| byte.is_ascii_whitespace());
        if value == self.scan.len() || self.scan.is_long_option(value) || is_separated {
            return None;
        }
        if expected == Expected::Login {
            return self.login_value(value);
        }
        let is_closed = option.ends_with(is_quote_character);
        if !is_closed && let Some(quote) = self.enclosing(option_start) {
            let close = self.scan.closing(quote, value);
            return Some(self.replace(value, close.map_or(self.scan.len(), |close| close.start)));
        }
        let mut end = self.value(value, Blanks::End, false);
        loop {
            let next = self.scan.behind_blanks(end);
            let stops = |byte| byte == b'-' || is_end(byte);
            if expected != Expected::Secrets
                || next == end
                || self.scan.byte(next).is_none_or(stops)
            {
                break;
            }
            end = self.value(next, Blanks::End, false);
        }
        Some(end)
    }

    /// Masks one, with quotes or without, and says where it ended.
    fn value(&mut self, start: usize, blanks: Blanks, is_field: bool) -> usize {
        let start = self.behind_scheme(start);
        let quote = self.scan.quote(start);
        if self.scan.kind == Kind::Title && !(is_field && quote.is_some()) {
            // It has lost the quotes of its arguments: these may be of the value.
            let end = self.scan.title_end(start);
            return self.replace(start, end);
        }
        let Some(quote) = quote else {
            let end = self.scan.word_end(start, start, blanks);
            return self.replace(start, end);
        };
        let inner = start + quote.1 + 1;
        let Some(close) = self.scan.closing(quote, inner) else {
            return self.replace(inner, self.scan.len());
        };
        let is_closed = match self.scan.byte(close.end) {
            None => true,
            Some(next) if is_field => next.is_ascii_whitespace() || b",)]}".contains(&next),
            // Text within text may end before the word does.
            Some(next) if quote.1 > 0 => {
                next.is_ascii_whitespace() && blanks == Blanks::End
                    || b";&|)".contains(&next)
                    || is_quote(next) && self.scan.byte(close.end + 1).is_none()
            }
            Some(_) => false,
        };
        if is_closed {
            return self.replace(inner, close.start);
        }
        if quote.1 > 0 {
            return self.replace(start, self.scan.len());
        }
        // A shell's word may go on: `'it'\''s'`.
        let end = self.scan.word_end(close.end, start, blanks);
        if end == close.end { self.replace(inner, close.start) } else { self.replace(start, end) }
    }

    /// `name:password`.
    fn login_value(&mut self, start: usize) -> Option<usize> {
        let quote = self.scan.quote(start);
        let name = start + quote.map_or(0, |(_, escapes)| escapes + 1);
        let colon = self.scan.forward_within(name, MAX_NAME, |byte| {
            byte == b':' || quote.is_none() && byte.is_ascii_whitespace()
        });
        (self.scan.byte(colon) == Some(b':')).then(|| {
            let end = match quote {
                Some(quote) => {
                    self.scan.closing(quote, colon + 1).map_or(self.scan.len(), |close| close.start)
                }
                None if self.scan.kind == Kind::Argument && self.first_value == start => {
                    self.scan.len()
                }
                None if self.scan.kind == Kind::Title => self.scan.title_end(colon + 1),
                None => self.scan.word_end(colon + 1, colon + 1, Blanks::End),
            };
            self.replace(colon + 1, end)
        })
    }

    /// `scheme://name:password@host`, also without a password: some services take a token as a
    /// name. Passwords hold what addresses may not, so a port that is no number is one.
    fn login(&mut self, start: usize) -> Option<usize> {
        let mut end = self.authority_end(start);
        let authority = &self.scan.text[start..end];
        let last = if let Some(last) = authority.rfind('@') {
            start + last
        } else {
            let (_, port) = authority.split_once(':')?;
            if authority.starts_with('[') || port.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let found = self.at_sign(end)?;
            end = self.authority_end(found + 1);
            self.scan.text[found..end].rfind('@').map_or(found, |last| found + last)
        };
        self.scan.work += end - start;
        Some(self.replace(start, last))
    }

    fn authority_end(&mut self, from: usize) -> usize {
        self.scan.forward(from, |byte| {
            byte.is_ascii_whitespace() || is_quote(byte) || b"/?#,".contains(&byte)
        })
    }

    /// The next one, which in a script stands in the same word.
    fn at_sign(&mut self, from: usize) -> Option<usize> {
        if self.next_at_sign < from {
            self.next_at_sign = self.scan.forward(from, |byte| byte == b'@');
        }
        if self.next_blank < from {
            self.next_blank = self.scan.forward(from, |byte| byte.is_ascii_whitespace());
        }
        let is_apart = self.scan.kind == Kind::Script && self.next_blank < self.next_at_sign;
        (self.next_at_sign < self.scan.len() && !is_apart).then_some(self.next_at_sign)
    }

    /// Of a separator: `name=`, `"name" :`, `["name"]=`.
    fn name(&mut self, separator: usize) -> Name<'a> {
        let text = self.scan.text;
        let behind = self.scan.backward(separator, 8, |byte| byte.is_ascii_whitespace());
        let end = self
            .scan
            .backward(behind, 16, |byte| is_quote(byte) || matches!(byte, b'\\' | b']' | b')'));
        let has_blanks = behind < separator;
        if let Some(quote) = text[end..behind].bytes().find(|&byte| is_quote(byte)) {
            let start = self.scan.backward(end, MAX_NAME, |byte| byte != quote);
            if start > 0 && self.scan.byte(start - 1) == Some(quote) {
                return Name { text: &text[start..end], start, is_quoted: true, has_blanks };
            }
        }
        let start = self.scan.backward(end, MAX_NAME + 1, is_name);
        Name { text: &text[start..end], start, is_quoted: false, has_blanks }
    }

    /// The quote that opens directly before a name: `'name=value'`.
    fn enclosing(&mut self, name: usize) -> Option<(u8, usize)> {
        let quote = name.checked_sub(1)?;
        let byte = self.scan.byte(quote).filter(|&byte| is_quote(byte))?;
        let first = self.scan.backward(quote, 64, |byte| byte == b'\\');
        let opens =
            |byte: u8| byte.is_ascii_whitespace() || b"=([{,:;$".contains(&byte) || is_quote(byte);
        let is_open = first.checked_sub(1).and_then(|at| self.scan.byte(at)).is_none_or(opens);
        is_open.then_some((byte, quote - first))
    }

    fn behind_scheme(&mut self, value: usize) -> usize {
        let end = self.scan.forward(value, |byte| !byte.is_ascii_alphabetic());
        let word = &self.scan.text[value..end];
        let is_scheme = SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
        let behind = self.scan.behind_blanks(end);
        if is_scheme && behind > end && behind < self.scan.len() { behind } else { value }
    }

    fn replace(&mut self, start: usize, end: usize) -> usize {
        self.copy(start);
        if end > start {
            self.masked.push_str(MASK);
        }
        self.copied = end;
        end
    }

    fn copy(&mut self, to: usize) {
        token::mask(&self.scan.text[self.copied..to], &mut self.masked);
        self.copied = to;
    }
}

fn is_quote_character(c: char) -> bool {
    matches!(c, '"' | '\'' | '`')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces that look for something ahead, behind, or both.
    const UNITS: [&str; 36] = [
        "=",
        ":",
        "a=",
        "token=",
        "token:",
        "token: ",
        "://",
        "://a:b",
        "@",
        "\"key\":",
        "\"token\":",
        "'",
        "\"",
        "\\",
        "\\\"",
        "`",
        " ",
        "--token ",
        " --token",
        "--user=",
        "@--user=x",
        "-u ",
        "(",
        "{",
        "]",
        "}",
        ",",
        ";",
        "&",
        "bearer ",
        "token , ",
        "hf_",
        "-",
        "x",
        "\u{20ac}=",
        "\n",
    ];

    fn work(text: &str) -> usize {
        let kinds = [Kind::Argument, Kind::Title, Kind::Script];
        kinds.map(|kind| Masker::new(text, kind).run().1).into_iter().max().unwrap()
    }

    /// Bytes looked at for each byte of a text: 34 at most were seen.
    const PER_BYTE: usize = 64;

    #[test]
    fn the_work_grows_with_the_length_only() {
        let try_it = |unit: &str, length: usize, before: &str| {
            let text = before.to_owned() + &unit.repeat(length / unit.len());
            let work = work(&text);
            assert!(work <= PER_BYTE * (text.len() + 16), "{before:?} {unit:?} {length}: {work}");
        };
        for one in UNITS {
            try_it(one, 256 << 10, "p ");
            for two in UNITS {
                try_it(&format!("{one}{two}"), 8 << 10, "p ");
                try_it(two, 8 << 10, one);
                for three in &UNITS[..12] {
                    try_it(&format!("{one}{two}{three}"), 1 << 10, "p ");
                }
            }
        }
        // The one with the most.
        try_it("-u `", 1 << 20, "p ");
    }
}
