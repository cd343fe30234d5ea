//! What a tracer has left of the calls that were made: a measurement counts only if it recorded.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use trace::{
    line::{Line, Meta},
    reader::Reader,
    segments::segments,
};

/// Calls with a line, and calls that the tracer says it has lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(super) lines: u64,
    pub(crate) lost: u64,
}

impl Recorded {
    /// The sidecar's own count, from the last closing line.
    pub(super) fn by_sidecar(traces: &Path, function: &str) -> Result<Self> {
        let segments = segments(traces)?;
        let last = segments.last().context("the sidecar left no segment")?;
        let text = fs::read(last).with_context(|| format!("cannot read {}", last.display()))?;
        let line = text.trim_ascii_end().rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
        match Reader::new(line, last).next() {
            Some(Ok(Line::Meta(line))) => match line.meta {
                Meta::SegmentClose(close) => {
                    let counts = close.functions.get(function).copied().unwrap_or_default();
                    Ok(Self { lines: counts.run_lines, lost: counts.run_dropped })
                }
                other => bail!("the last line of {} is {other:?}", last.display()),
            },
            other => bail!("the last line of {} is {other:?}", last.display()),
        }
    }

    /// Counted in what bpftrace has printed.
    pub(crate) fn by_bpftrace(output: &Path) -> Result<Self> {
        let cannot = || format!("cannot read {}", output.display());
        let mut recorded = Self::default();
        for line in BufReader::new(File::open(output).with_context(cannot)?).lines() {
            let line = line.with_context(cannot)?;
            if line.starts_with('{') {
                recorded.lines += 1;
            } else {
                recorded.lost += lost(&line);
            }
        }
        Ok(recorded)
    }

    /// Fails unless all `calls` are accounted for, but for one in a hundred, and no more than
    /// these and `trials` are.
    pub(super) fn agrees_with(self, calls: u64, trials: u64, output: &Path) -> Result<()> {
        let Self { lines, lost } = self;
        let accounted = lines + lost;
        ensure!(
            lines > 0 && accounted >= calls - calls / 100 && accounted <= calls + trials,
            "{calls} calls were made, but {} has {lines} lines and tells of {lost} lost: the \
             measurement does not count",
            output.display()
        );
        Ok(())
    }
}

/// `Lost 12 events`, as bpftrace says it between its lines.
fn lost(line: &str) -> u64 {
    let mut words = line.split_whitespace();
    match (words.next(), words.next().map(str::parse)) {
        (Some("Lost"), Some(Ok(count))) => count,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bpftrace_prints_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("out");
        fs::write(&output, "Attaching 1 probe...\n{\"ts\":1}\n{\"ts\":2}\nLost 12 events\n\n")
            .unwrap();
        let recorded = Recorded::by_bpftrace(&output).unwrap();
        assert_eq!(recorded, Recorded { lines: 2, lost: 12 });
    }

    #[test]
    fn a_tracer_that_recorded_nothing_or_too_much_does_not_count() {
        let output = Path::new("out");
        let agrees = |lines, lost| Recorded { lines, lost }.agrees_with(1000, 50, output);
        agrees(1000, 0).unwrap();
        agrees(1050, 0).unwrap();
        agrees(400, 590).unwrap();
        for (lines, lost) in [(0, 0), (0, 1000), (900, 0), (1051, 0)] {
            let error = agrees(lines, lost).unwrap_err().to_string();
            assert!(error.contains("1000 calls were made, but out has"), "{error}");
        }
    }
}
