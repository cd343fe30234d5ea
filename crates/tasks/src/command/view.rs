//! A command in view: its stderr is passed on as it comes, and kept for the error.

use std::{
    io::{BufRead as _, BufReader, PipeReader, PipeWriter, pipe},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use duct::Expression;

/// How long a command's last words may be on their way.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The stderr of one command, on its way to ours.
pub(super) struct View {
    seen: Arc<Mutex<String>>,
    /// Closed when nobody can write any more.
    end: Receiver<()>,
}

impl View {
    /// The expression to run instead; `shown` is what may be seen of a line.
    pub(super) fn of(
        expression: &Expression,
        shown: impl Fn(&str) -> String + Send + 'static,
    ) -> Result<(Self, Expression)> {
        let (reader, writer): (PipeReader, PipeWriter) = pipe().context("cannot create a pipe")?;
        let seen = Arc::new(Mutex::new(String::new()));
        let (sender, end) = channel();
        let kept = Arc::clone(&seen);
        thread::spawn(move || pass_on(reader, shown, &kept, sender));
        Ok((Self { seen, end }, expression.stderr_file(writer)))
    }

    /// All of it, after the command has ended; what it has left running may still hold the pipe, and is
    /// not waited for.
    pub(super) fn seen(self) -> String {
        // Either it is closed, or the time is up.
        let _: Result<(), _> = self.end.recv_timeout(LAST_WORDS);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn pass_on(
    reader: PipeReader,
    shown: impl Fn(&str) -> String,
    seen: &Mutex<String>,
    _end: Sender<()>,
) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    // What cannot be read any more is what nobody writes any more.
    while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let text = shown(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']));
        eprintln!("{text}");
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push_str(&text);
        seen.push('\n');
        line.clear();
    }
}
