//! Whether the trace in a directory is whole, as `trace::check` proves it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use trace::check::{Report, check};

use crate::segments::segments;

/// Problems that the text shows; JSON has all.
const SHOWN: usize = 20;

#[derive(Serialize)]
struct Verdict<'report> {
    whole: bool,
    #[serde(flatten)]
    report: &'report Report,
}

/// Prints what was found, and returns whether the trace is whole.
pub(super) fn verify(directory: &Path, json: bool) -> Result<bool> {
    let segments = segments(directory)?;
    ensure!(
        !segments.is_empty(),
        "no *.jsonl or *.jsonl.zst in {}: closed traces end so, those of a running sidecar have \
         .part behind it",
        directory.display()
    );
    let report = check(&segments);
    let whole = report.is_whole();
    if json {
        let verdict = Verdict { whole, report: &report };
        println!("{}", serde_json::to_string(&verdict).context("cannot print the report")?);
    } else {
        print!("{}", to_text(&report));
    }
    Ok(whole)
}

fn to_text(report: &Report) -> String {
    let Report { files, calls, dropped, ignored, suppressed, functions, runs, problems } = report;
    let called = functions.values().filter(|total| total.lines > 0).count();
    let mut lines = vec![
        format!("files      {files}"),
        format!("calls      {calls}, of {called} functions"),
        format!("dropped    {dropped}"),
        format!("ignored    {ignored}, of processes that are not targets"),
    ];
    if *suppressed > 0 {
        lines.push(format!("suppressed {suppressed}, beyond TRACE_RATE_LIMIT"));
    }
    lines.extend(runs.iter().map(|run| {
        let end = if run.ended { "ended in order" } else { "without its end" };
        format!("run        {}: {} segments, {end}", run.run, run.segments)
    }));
    lines.extend(problems.iter().take(SHOWN).map(|problem| format!("problem    {problem}")));
    if problems.len() > SHOWN {
        lines.push(format!("problem    {} more, see --json", problems.len() - SHOWN));
    }
    lines.push(if report.is_whole() {
        "whole: for every function, calls counted in the kernel = lines + ignored + suppressed"
            .to_owned()
    } else {
        format!("not whole: {} problems, {dropped} calls dropped", problems.len())
    });
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use trace::check::Problem;

    use super::*;

    #[test]
    fn a_drop_alone_is_not_whole() {
        let report = Report { files: 1, calls: 5, dropped: 2, ..Report::default() };
        insta::assert_snapshot!(to_text(&report), @"
        files      1
        calls      5, of 0 functions
        dropped    2
        ignored    0, of processes that are not targets
        not whole: 0 problems, 2 calls dropped
        ");
    }

    #[test]
    fn many_problems_are_shown_in_part() {
        let problem = Problem::NotEnded { run: "node_1".to_owned() };
        let report = Report { problems: vec![problem; SHOWN + 3], ..Report::default() };
        let text = to_text(&report);
        assert_eq!(text.matches("problem    run node_1").count(), SHOWN);
        assert!(text.contains("problem    3 more, see --json"), "{text}");
    }
}
