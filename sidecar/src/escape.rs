//! Foreign text for terminals and logs: names, command lines and errors come from traced processes,
//! their files and the network, and may hold escape sequences or line breaks.
//!
//! Escapes have the form of JSON, `\n` or `\u001b`, so that JSON stays JSON.

use std::{
    borrow::Cow,
    fmt::{self, Display, Write as _},
    io::{self, Write},
};

use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

/// `text` with every control character escaped, line breaks too.
pub fn escape(text: &str) -> Cow<'_, str> {
    if text.contains(is_control) {
        Cow::Owned(text.chars().fold(String::with_capacity(text.len() + 16), |mut out, c| {
            write!(out, "{}", Escaped(c)).expect("memory takes everything");
            out
        }))
    } else {
        Cow::Borrowed(text)
    }
}

/// Every string in a JSON value, and every name of a field.
pub fn escape_all(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(escape(&text).into_owned()),
        Value::Array(values) => values.into_iter().map(escape_all).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (escape(&name).into_owned(), escape_all(value)))
            .collect(),
        other => other,
    }
}

/// JSON as `serde_json` writes it: it escapes what JSON has to, which is not all that a terminal
/// obeys. Line breaks stand between fields only, so they stay.
pub fn escape_json(json: &str) -> String {
    json.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

/// Control characters of both ranges, and those that reorder, hide or break a line.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

struct Escaped(char);

impl Display for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            '\n' => f.write_str("\\n"),
            '\r' => f.write_str("\\r"),
            '\t' => f.write_str("\\t"),
            // None of them is above U+FFFF.
            c if is_control(c) => write!(f, "\\u{:04x}", u32::from(c)),
            c => f.write_char(c),
        }
    }
}

/// The log on stderr: one line per event, whatever the event quotes.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// The subscriber colours its lines; it escapes ESC in what an event says itself.
    pub is_coloured: bool,
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = LogLine<io::Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        LogLine { out: io::stderr(), is_coloured: self.is_coloured }
    }
}

/// Takes whole events, as the subscriber writes them.
pub struct LogLine<W> {
    out: W,
    is_coloured: bool,
}

impl<W: Write> Write for LogLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let mut escaped =
            if self.is_coloured { keeping_colours(line) } else { escape(line).into() };
        escaped.push('\n');
        self.out.write_all(escaped.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Escapes all but `ESC [ digits m`.
fn keeping_colours(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut out = escape(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        let parameters = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        match parameters.strip_prefix('m') {
            Some(rest) => {
                out.push_str("\u{1b}[");
                out.push_str(&part[..part.len() - rest.len()]);
                out.push_str(&escape(rest));
            }
            None => out.push_str(&escape(&format!("\u{1b}[{part}"))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        for (foreign, shown) in [
            ("python3 -m vllm", "python3 -m vllm"),
            ("größer 日本", "größer 日本"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}", "\\u001b[2J\\u001b]0;title\\u0007"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{9b}31m\u{7f}", "\\u009b31m\\u007f"),
            ("\u{202e}gpj.exe\u{2028}", "\\u202egpj.exe\\u2028"),
        ] {
            assert_eq!(escape(foreign), shown);
        }
    }

    #[test]
    fn json_stays_json_with_the_same_content() {
        let value = json!({"name\u{9b}": ["\u{1b}[2J\u{9b}\n\u{202e}", 1]});
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let escaped = escape_json(&text);
            assert!(!escaped.replace('\n', "").contains(is_control), "{escaped:?}");
            assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap(), value);
        }
        assert_eq!(escape_all(value), json!({"name\\u009b": ["\\u001b[2J\\u009b\\n\\u202e", 1]}));
    }

    fn logged(event: &str, is_coloured: bool) -> String {
        let mut line = LogLine { out: Vec::new(), is_coloured };
        line.write_all(event.as_bytes()).unwrap();
        String::from_utf8(line.out).unwrap()
    }

    #[test]
    fn an_event_is_one_line_of_the_log_and_keeps_only_the_colours_of_the_log() {
        assert_eq!(logged("INFO it is\nERROR forged\n", false), "INFO it is\\nERROR forged\n");
        assert_eq!(logged("\u{1b}[31mred\u{1b}[0m\n", false), "\\u001b[31mred\\u001b[0m\n");
        let colours = "\u{1b}[2mtime\u{1b}[0m \u{1b}[1;32mINFO\u{1b}[0m text\n";
        assert_eq!(logged(colours, true), colours);
        assert_eq!(
            logged("\u{1b}[32mINFO\u{1b}[0m \u{1b}[2J\u{1b}]0;x\u{7}\n", true),
            "\u{1b}[32mINFO\u{1b}[0m \\u001b[2J\\u001b]0;x\\u0007\n"
        );
    }
}
