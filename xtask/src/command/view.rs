//! A command in view: its stderr is passed on as it comes, and kept for the error.

use std::{
    io::{BufRead as _, BufReader, PipeReader, PipeWriter, pipe},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use duct::Expression;

/// The stderr of one command, on its way to ours.
pub(super) struct View {
    reader: JoinHandle<String>,
}

impl View {
    /// The expression to run instead; `shown` is what may be seen of a line.
    pub(super) fn of(
        expression: &Expression,
        shown: impl Fn(&str) -> String + Send + 'static,
    ) -> Result<(Self, Expression)> {
        let (reader, writer): (PipeReader, PipeWriter) = pipe().context("cannot create a pipe")?;
        let reader = thread::spawn(move || {
            let mut seen = String::new();
            let mut reader = BufReader::new(reader);
            let mut line = Vec::new();
            // What cannot be read any more is what nobody writes any more.
            while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = shown(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']));
                eprintln!("{text}");
                seen.push_str(&text);
                seen.push('\n');
                line.clear();
            }
            seen
        });
        Ok((Self { reader }, expression.stderr_file(writer)))
    }

    /// All of it; the expression must be gone, or its end of the pipe stays open.
    pub(super) fn seen(self) -> String {
        self.reader.join().unwrap_or_default()
    }
}
