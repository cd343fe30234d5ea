//! The table at the end.

use crate::case::{Ended, Outcome};

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) ended: Ended,
    pub(crate) seconds: u64,
}

/// Problems of one case that are shown.
const MAX_PROBLEMS: usize = 5;

/// Characters of each.
const MAX_PROBLEM: usize = 300;

impl Row {
    pub(crate) fn is_failure(&self) -> bool {
        match &self.ended {
            Ended::Proved(outcome) => !outcome.is_good(),
            Ended::Skipped(_) => false,
            Ended::Failed(_) => true,
        }
    }

    pub(crate) fn verdict(&self) -> String {
        match &self.ended {
            Ended::Proved(outcome) if outcome.is_good() => "ok".to_owned(),
            Ended::Proved(Outcome { lost: 1.., .. }) => "LOST".to_owned(),
            Ended::Skipped(_) => "skipped".to_owned(),
            Ended::Proved(_) | Ended::Failed(_) => "FAILED".to_owned(),
        }
    }

    fn cells(&self) -> [String; 7] {
        let numbers = match &self.ended {
            Ended::Proved(Outcome { injected, survived, lost, peak_kib, .. }) => [
                injected.to_string(),
                survived.to_string(),
                lost.to_string(),
                format!("{:.1}", *peak_kib as f64 / 1024.0),
            ],
            _ => ["-"; 4].map(str::to_owned),
        };
        let [injected, survived, lost, peak] = numbers;
        let seconds = self.seconds.to_string();
        [self.name.to_owned(), injected, survived, lost, peak, seconds, self.verdict()]
    }

    fn remarks(&self) -> Vec<String> {
        match &self.ended {
            Ended::Proved(Outcome { problems, notes, .. }) => {
                let more = problems.len().saturating_sub(MAX_PROBLEMS);
                let mut remarks: Vec<String> =
                    problems.iter().take(MAX_PROBLEMS).map(|problem| cut(problem)).collect();
                if more > 0 {
                    remarks.push(format!("and {more} more problems"));
                }
                remarks.extend(notes.iter().map(|note| cut(note)));
                remarks
            }
            Ended::Skipped(reason) | Ended::Failed(reason) => vec![cut(reason)],
        }
    }
}

pub(crate) fn text(rows: &[Row]) -> String {
    let heads = ["fault", "injected", "survived", "lost", "peak MiB", "seconds", "verdict"];
    let mut lines = vec![heads.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let widths: [usize; 7] =
        std::array::from_fn(|column| lines.iter().map(|line| line[column].len()).max().unwrap());
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if (1..6).contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        add_row(&mut out, cells);
        if index == 0 {
            let rule = widths.iter().enumerate().map(|(column, &width)| {
                let right = if (1..6).contains(&column) { ":" } else { "-" };
                "-".repeat(width - 1) + right
            });
            add_row(&mut out, rule);
        }
    }
    for row in rows {
        for remark in row.remarks() {
            out.extend([row.name, ": ", &remark, "\n"]);
        }
    }
    out
}

fn add_row(out: &mut String, cells: impl Iterator<Item = String>) {
    out.extend(["| ", &cells.collect::<Vec<_>>().join(" | "), " |\n"]);
}

fn cut(text: &str) -> String {
    let line = text.replace('\n', " ");
    match line.char_indices().nth(MAX_PROBLEM) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
