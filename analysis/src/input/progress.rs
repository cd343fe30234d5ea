//! How far a long download is, for who waits at a terminal: one line on stderr that is written over.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Nobody wonders before.
const FIRST: Duration = Duration::from_secs(2);

const INTERVAL: Duration = Duration::from_millis(200);

/// Goes to the beginning of the line and clears it.
const CLEAR: &str = "\r\u{1b}[K";

static LINE: Mutex<Line> = Mutex::new(Line { began: None, last: None, is_shown: false });

struct Line {
    began: Option<Instant>,
    last: Option<Instant>,
    is_shown: bool,
}

/// Says how far it is, if it is time to.
pub fn tell(text: impl FnOnce() -> String) {
    let now = Instant::now();
    let mut line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
    let began = *line.began.get_or_insert(now);
    let is_soon = line.last.is_some_and(|last| now.duration_since(last) < INTERVAL);
    if now.duration_since(began) < FIRST || is_soon || !stderr().is_terminal() {
        return;
    }
    line.last = Some(now);
    line.is_shown = true;
    // Who has closed stderr wants no progress.
    let _ = write!(stderr(), "{CLEAR}{}", text()).and_then(|()| stderr().flush());
}

/// Makes room for something else.
pub fn clear() {
    let mut line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
    if std::mem::take(&mut line.is_shown) {
        let _ = write!(stderr(), "{CLEAR}").and_then(|()| stderr().flush());
    }
}
