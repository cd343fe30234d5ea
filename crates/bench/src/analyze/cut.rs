//! A cut of a real trace, repeated as segments of one run.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead as _, Write},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use trace::{
    line::{Line, Meta, SegmentOpen},
    reader::{open_content, parse_line},
};

const NS_PER_MS: u64 = 1_000_000;

pub(super) struct Cut {
    open: SegmentOpen,
    /// Pid of the opening line.
    pid: u32,
    lines: Vec<Text>,
    /// Call lines by function.
    functions: BTreeMap<String, u64>,
    /// From the beginning of one copy to that of the next.
    length_ns: u64,
    begin_ns: u64,
}

/// A line, with its time taken out.
struct Text {
    ts_ns: u64,
    /// From the comma behind the time on, with the line feed.
    rest: String,
}

impl Cut {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (mut opening, mut lines, mut functions) = (None, Vec::new(), BTreeMap::new());
        // What tells of a call stands in front of it: at the end there is none.
        let mut with_calls = 0;
        let mut end_ns = 0;
        for line in open_content(file)?.lines() {
            let line = line?;
            match parse_line(line.as_bytes()).map_err(|reason| anyhow::anyhow!("{reason}"))? {
                Line::Call(call) => {
                    *functions.entry(call.func).or_default() += 1;
                    let text = Text::of(&line)?;
                    let dur_us = call.detail.dur_us.unwrap_or(0.0);
                    end_ns = end_ns.max(text.ts_ns + nanoseconds(dur_us));
                    lines.push(text);
                    with_calls = lines.len();
                }
                Line::Meta(meta) => match meta.meta {
                    Meta::SegmentOpen(open) => opening = Some((open, meta.pid)),
                    Meta::Process(_) | Meta::Kernel(_) | Meta::Graph(_) => {
                        lines.push(Text::of(&line)?);
                    }
                    _ => {}
                },
            }
        }
        lines.truncate(with_calls);
        let (open, pid) = opening.context("the cut has no opening line")?;
        let begin_ns = lines.iter().map(|line| line.ts_ns).min().context("the cut has no calls")?;
        // Copies are a millisecond apart: none of their calls overlap.
        let length_ns = end_ns - begin_ns + NS_PER_MS;
        Ok(Self { open, pid, lines, functions, length_ns, begin_ns })
    }

    pub(super) fn calls(&self) -> u64 {
        self.functions.values().sum()
    }

    pub(super) fn write(
        &self,
        out: &mut impl Write,
        sequence: u64,
        is_final: bool,
    ) -> io::Result<()> {
        let shift_ns = (sequence - 1) * self.length_ns;
        self.meta(
            out,
            self.begin_ns + shift_ns,
            &Meta::SegmentOpen(SegmentOpen { sequence, ..self.open.clone() }),
        )?;
        for Text { ts_ns, rest } in &self.lines {
            let ts_ns = ts_ns + shift_ns;
            write!(out, "{{\"ts\":{}.{:06}{rest}", ts_ns / NS_PER_MS, ts_ns % NS_PER_MS)?;
        }
        let functions: BTreeMap<&String, Value> = self
            .functions
            .iter()
            .map(|(name, &lines)| {
                let of_run = lines * sequence;
                let counts = json!({
                    "lines": lines, "run_hits": of_run, "run_lines": of_run, "run_dropped": 0,
                    "run_ignored": 0, "run_suppressed": 0,
                });
                (name, counts)
            })
            .collect();
        let close = json!({
            "func": "segment_close", "sequence": sequence, "final": is_final,
            "reason": if is_final { "shutdown" } else { "size" }, "calls": self.calls(),
            "clock": self.open.clock, "functions": functions,
        });
        let close = serde_json::from_value(close)?;
        self.meta(out, self.begin_ns + shift_ns + self.length_ns, &close)
    }

    fn meta(&self, out: &mut impl Write, ts_ns: u64, meta: &Meta) -> io::Result<()> {
        let mut text = Vec::new();
        trace::writer::push_meta(&mut text, ts_ns, self.pid, meta);
        out.write_all(&text)
    }
}

impl Text {
    fn of(line: &str) -> Result<Self> {
        let rest =
            line.strip_prefix("{\"ts\":").context("a line that does not begin with its time")?;
        let at = rest.find(',').context("a line of one field")?;
        let (whole, decimals) = rest[..at].split_once('.').unwrap_or((&rest[..at], ""));
        ensure!(decimals.len() <= 6, "a time finer than nanoseconds");
        let decimals = format!("{decimals:0<6}");
        let ts_ns = whole.parse::<u64>()? * NS_PER_MS + decimals.parse::<u64>()?;
        Ok(Self { ts_ns, rest: format!("{}\n", &rest[at..]) })
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a call's duration")]
fn nanoseconds(us: f64) -> u64 {
    (us * 1000.0).ceil() as u64
}

#[cfg(test)]
mod tests {
    use trace::check::check;

    use super::*;
    use tasks::ctx::workspace_root;

    #[test]
    fn copies_of_a_real_cut_are_one_whole_run() {
        let path = workspace_root().join("analysis/tests/it/data/vllm-h200.jsonl");
        let cut = Cut::read(&path).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let files: Vec<_> = (1..=3)
            .map(|sequence| {
                let name = format!("trace_bench_20261124T042800.642Z_{sequence:06}.jsonl");
                let path = directory.path().join(name);
                let mut text = Vec::new();
                cut.write(&mut text, sequence, sequence == 3).unwrap();
                std::fs::write(&path, text).unwrap();
                path
            })
            .collect();
        let report = check(&files);
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert!(cut.calls() > 500);
    }
}
