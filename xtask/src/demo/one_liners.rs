//! The README's one-liners on the demo's trace, compared with what `trace` reads in it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use trace::{
    check::check,
    line::{Line, MetaLine},
    reader::Reader,
    segments::segments,
};
use xshell::{Shell, cmd};

use super::files::{Files, USUAL, directory};
use tasks::ctx::Ctx;

/// A command as it stands in the README, and what its output must agree with.
type OneLiner = (&'static str, fn(&Trace, &str) -> Result<()>);

const ONE_LINERS: [OneLiner; 5] = [
    ("wc -l target/demo/downloaded/trace_*.jsonl", Trace::has_lines),
    (
        "jq -r .func target/demo/downloaded/trace_*.jsonl | sort | uniq -c | sort -rn",
        Trace::has_functions,
    ),
    (
        "cat target/demo/downloaded/trace_*.jsonl | head -100 | jq -r '[.ts, .func] | @tsv'",
        Trace::begins_with,
    ),
    (
        "grep -hE 'Mem|Alloc' target/demo/downloaded/trace_*.jsonl | jq -c 'select(.type != \"meta\")'",
        |trace, output| trace.has_calls(output, &["Mem", "Alloc"]),
    ),
    (
        "grep -h Launch target/demo/downloaded/trace_*.jsonl | jq -c 'select(.func | contains(\"Launch\"))'",
        |trace, output| trace.has_calls(output, &["Launch"]),
    ),
];

/// Runs them on what the demo has left in its usual place; says so where there is no `jq`.
pub(crate) fn one_liners(ctx: &Ctx) -> Result<()> {
    let sh = &ctx.sh;
    if cmd!(sh, "jq --version").quiet().ignore_stderr().read().is_err() {
        eprintln!(
            "jq is not installed (Debian: apt-get install jq): the README's one-liners were not run"
        );
        return Ok(());
    }
    let files = Files::open(directory(None, USUAL)?);
    let trace = Trace::read(&segments(&files.downloaded())?)?;
    for (command, agrees) in ONE_LINERS {
        let output = run(sh, command)?;
        agrees(&trace, &output)
            .with_context(|| format!("`{command}` and the reader of traces differ"))?;
    }
    Ok(())
}

fn run(sh: &Shell, command: &str) -> Result<String> {
    eprintln!("$ {command}");
    // The same order of files everywhere.
    let shell = cmd!(sh, "sh -c {command}").env("LC_ALL", "C").quiet();
    shell.read().with_context(|| format!("cannot run `{command}`"))
}

/// What the one-liners are compared with.
struct Trace {
    /// Call lines by function, as `trace::check` counts them.
    calls: BTreeMap<String, u64>,
    /// Meta lines by kind.
    meta: BTreeMap<String, u64>,
    /// `ts` and `func` of the first lines.
    first: Vec<(f64, String)>,
}

impl Trace {
    const FIRST: usize = 100;

    fn read(segments: &[PathBuf]) -> Result<Self> {
        let mut trace = Self { calls: BTreeMap::new(), meta: BTreeMap::new(), first: Vec::new() };
        for (function, total) in check(segments).functions {
            if total.lines > 0 {
                trace.calls.insert(function, total.lines);
            }
        }
        for segment in segments {
            trace.read_lines(segment)?;
        }
        Ok(trace)
    }

    fn read_lines(&mut self, segment: &Path) -> Result<()> {
        let reader =
            Reader::open(segment).with_context(|| format!("cannot open {}", segment.display()))?;
        for line in reader {
            let (ts, func) = match line? {
                Line::Call(call) => (call.ts, call.func),
                Line::Meta(MetaLine { ts, meta, .. }) => {
                    let kind = serde_json::to_value(&meta)?["func"].as_str().map(str::to_owned);
                    let kind = kind.context("a meta line names its kind")?;
                    *self.meta.entry(kind.clone()).or_default() += 1;
                    (ts, kind)
                }
            };
            if self.first.len() < Self::FIRST {
                self.first.push((ts, func));
            }
        }
        Ok(())
    }

    /// `wc` prints a line per file and their sum, or a single file's alone.
    fn has_lines(&self, output: &str) -> Result<()> {
        let expected = self.calls.values().sum::<u64>() + self.meta.values().sum::<u64>();
        let last = output.lines().last().and_then(|line| line.split_whitespace().next());
        let found: u64 = last.context("no output")?.parse()?;
        ensure!(found == expected, "{found} lines, {expected} were read");
        Ok(())
    }

    fn has_functions(&self, output: &str) -> Result<()> {
        let mut found = BTreeMap::new();
        for line in output.lines() {
            let (count, name) = line.trim().split_once(' ').context("no count and name")?;
            found.insert(name.to_owned(), count.parse::<u64>()?);
        }
        let expected: BTreeMap<String, u64> = self
            .calls
            .iter()
            .chain(&self.meta)
            .map(|(name, count)| (name.clone(), *count))
            .collect();
        ensure!(found == expected, "{found:?}, but {expected:?} were read");
        Ok(())
    }

    fn begins_with(&self, output: &str) -> Result<()> {
        let mut found = Vec::new();
        for line in output.lines() {
            let (ts, func) = line.split_once('\t').context("no time and name")?;
            found.push((ts.parse::<f64>()?, func.to_owned()));
        }
        ensure!(found == self.first, "{found:?}, but {:?} were read", self.first);
        Ok(())
    }

    /// Calls of functions with one of `parts` in their names.
    fn has_calls(&self, output: &str, parts: &[&str]) -> Result<()> {
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        for value in serde_json::Deserializer::from_str(output).into_iter::<Value>() {
            let value = value?;
            let func = value["func"].as_str().context("a call without a function")?;
            *found.entry(func.to_owned()).or_default() += 1;
        }
        let expected: BTreeMap<String, u64> = self
            .calls
            .iter()
            .filter(|(name, _)| parts.iter().any(|part| name.contains(part)))
            .map(|(name, count)| (name.clone(), *count))
            .collect();
        ensure!(found == expected, "{found:?}, but {expected:?} were read");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;
    use tasks::ctx::workspace_root;

    /// What the README reads; a line of it that has this is a one-liner.
    const TRACES: &str = "target/demo/downloaded/trace_*.jsonl";

    #[test]
    fn these_are_the_one_liners_of_the_readme() {
        let readme = fs::read_to_string(workspace_root().join("README.md")).unwrap();
        let written: BTreeSet<&str> = readme
            .lines()
            .filter(|line| line.contains(TRACES))
            .map(|line| line.split_once("  # ").map_or(line, |(command, _)| command).trim_end())
            .collect();
        assert_eq!(written, ONE_LINERS.map(|(command, _)| command).into());
    }

    fn trace() -> Trace {
        Trace {
            calls: BTreeMap::from([("cuInit".to_owned(), 1), ("cuMemAlloc_v2".to_owned(), 2)]),
            meta: BTreeMap::from([("segment_open".to_owned(), 1)]),
            first: vec![(0.044_306, "segment_open".to_owned()), (1.5, "cuInit".to_owned())],
        }
    }

    #[test]
    fn one_line_more_or_less_is_a_difference() {
        let trace = trace();
        trace.has_lines("4 trace_a.jsonl").unwrap();
        trace.has_lines(" 1 trace_a.jsonl\n 3 trace_b.jsonl\n 4 total").unwrap();
        trace.has_lines(" 1 trace_a.jsonl\n 4 trace_b.jsonl\n 5 total").unwrap_err();
        trace.has_functions("  2 cuMemAlloc_v2\n  1 cuInit\n  1 segment_open").unwrap();
        trace.has_functions("  1 cuMemAlloc_v2\n  1 cuInit\n  1 segment_open").unwrap_err();
        trace.has_functions("  2 cuMemAlloc_v2\n  1 cuInit").unwrap_err();
        trace.begins_with("0.044306\tsegment_open\n1.5\tcuInit").unwrap();
        trace.begins_with("0.044306\tsegment_open\n1.6\tcuInit").unwrap_err();
        let line = r#"{"func":"cuMemAlloc_v2"}"#;
        trace.has_calls(&format!("{line}\n{line}"), &["Mem", "Alloc"]).unwrap();
        trace.has_calls(line, &["Mem", "Alloc"]).unwrap_err();
    }
}
