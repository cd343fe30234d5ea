//! Progress on stderr: a bar on a terminal, a line per request elsewhere.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::record::RequestRecord;

/// Counts finished requests for the person who waits.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total: u32,
    finished: u32,
    failed: u32,
}

impl Progress {
    pub(crate) fn start(total: u32) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} {msg}")
                    .expect("the template is a constant");
            let bar =
                ProgressBar::with_draw_target(Some(total.into()), ProgressDrawTarget::stderr());
            bar.set_style(style);
            bar.enable_steady_tick(std::time::Duration::from_millis(250));
            bar
        });
        Self { bar, total, finished: 0, failed: 0 }
    }

    pub(crate) fn show(&mut self, record: &RequestRecord) {
        self.finished += 1;
        self.failed += u32::from(!record.succeeded());
        match &self.bar {
            None => eprintln!("[{}/{}] {}", self.finished, self.total, line(record)),
            Some(bar) => {
                bar.inc(1);
                if self.failed > 0 {
                    bar.set_message(format!("{} failed", self.failed));
                }
            }
        }
    }

    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
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
