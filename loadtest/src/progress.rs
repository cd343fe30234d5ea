//! Progress on stderr, from a thread of its own: one line of moving figures on a terminal, lines elsewhere.
//!
//! Whoever reads stderr may be slow. Then lines are left out, and nothing else waits.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::mpsc::{self, Receiver, SyncSender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::record::RequestRecord;

/// Up to so many requests, a log has a line for each.
const FEW: u32 = 50;
const BETWEEN_LINES: Duration = Duration::from_secs(2);
/// Lines that wait for stderr.
const WAITING: usize = 256;

/// Counts finished requests for the person who waits.
#[derive(Debug)]
pub(crate) struct Progress {
    counts: Counts,
    lines: SyncSender<(Counts, String)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    start: Instant,
    /// `None`: as many as the time allows.
    total: Option<u32>,
    finished: u32,
    failed: u32,
    tokens: u64,
}

impl Progress {
    pub(crate) fn start(total: Option<u32>) -> Self {
        let counts = Counts { start: Instant::now(), total, finished: 0, failed: 0, tokens: 0 };
        let (lines, receiver) = mpsc::sync_channel(WAITING);
        let show = move || {
            if io::stderr().is_terminal() {
                show_bar(&receiver, total);
            } else {
                show_lines(&receiver, total);
            }
        };
        // Without a thread, there is no progress; the run is what counts.
        let thread = thread::Builder::new().name("progress".to_owned()).spawn(show).ok();
        Self { counts, lines, thread }
    }

    /// Does not wait.
    pub(crate) fn show(&mut self, record: &RequestRecord) {
        self.counts.finished += 1;
        self.counts.failed += u32::from(!record.succeeded());
        self.counts.tokens += record.output_tokens.unwrap_or_default();
        let _ = self.lines.try_send((self.counts, line(record)));
    }

    /// Waits until all is shown.
    pub(crate) fn finish(self) {
        let Self { lines, thread, .. } = self;
        drop(lines);
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

fn show_bar(lines: &Receiver<(Counts, String)>, total: Option<u32>) {
    let template = match total {
        Some(_) => "{elapsed_precise} {wide_bar} {pos}/{len} {msg}",
        None => "{elapsed_precise} {spinner} {pos} {msg}",
    };
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    let target = ProgressDrawTarget::stderr();
    let bar = ProgressBar::with_draw_target(total.map(u64::from), target).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(250));
    for (counts, _) in lines {
        bar.set_position(counts.finished.into());
        bar.set_message(counts.figures());
    }
    bar.finish_and_clear();
}

fn show_lines(lines: &Receiver<(Counts, String)>, total: Option<u32>) {
    let is_few = total.is_some_and(|total| total <= FEW);
    let mut next = Instant::now();
    for (counts, line) in lines {
        let is_last = Some(counts.finished) == counts.total;
        let place = match counts.total {
            Some(total) => format!("[{}/{total}]", counts.finished),
            None => format!("[{}]", counts.finished),
        };
        if is_few {
            let _ = writeln!(io::stderr(), "{place} {line}");
        } else if Instant::now() >= next || is_last {
            next = Instant::now() + BETWEEN_LINES;
            let _ = writeln!(io::stderr(), "{place} {}", counts.figures());
        }
    }
}

impl Counts {
    fn figures(&self) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        format!(
            "{:.1} requests/s, {:.0} tokens/s{failed}",
            f64::from(self.finished) / seconds,
            self.tokens as f64 / seconds
        )
    }
}

fn line(record: &RequestRecord) -> String {
    let seconds = record.e2e_ms / 1e3;
    match (&record.failure, record.output_tokens) {
        (Some(failure), _) => {
            format!("request {} failed after {seconds:.2} s: {}", record.index, failure.message)
        }
        (None, Some(tokens)) => {
            format!("request {} done in {seconds:.2} s, {tokens} tokens", record.index)
        }
        (None, None) => format!("request {} done in {seconds:.2} s", record.index),
    }
}
