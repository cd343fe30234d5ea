//! Whether the trace in a directory is whole, as `trace::check` proves it.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use trace::{
    check::{CoverageReport, Refused, Report, check_opened},
    line::CoverageCounts,
    segments::{Found, Others, look},
};

use crate::segment_reader;

/// Problems that the text shows; JSON has all.
const SHOWN: usize = 20;

/// Processes that are covered from a moment on.
const SHOWN_LATE: usize = 5;

#[derive(Serialize)]
struct Verdict<'report> {
    whole: bool,
    /// What a whole trace may lack all the same: calls that nothing has counted.
    reservations: Vec<Reservation>,
    #[serde(flatten)]
    report: &'report Report,
    /// What lies beside the segments.
    not_read: &'report Others,
}

/// Calls of these may be missing without being counted as missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reservation {
    /// Of processes before a moment: `coverage.whole_from` has it.
    BeforeAMoment,
    /// Of processes that nothing told of.
    UnknownProcesses,
    /// Into files that nobody could look into.
    UnexaminedFiles,
    /// Functions that got no probe.
    RefusedFunctions,
}

impl Reservation {
    fn all_of(report: &Report) -> Vec<Self> {
        let counts = report.coverage.as_ref().map(|coverage| coverage.counts).unwrap_or_default();
        let all = [
            (counts.from > 0, Self::BeforeAMoment),
            (counts.events_lost > 0, Self::UnknownProcesses),
            (counts.unexamined > 0, Self::UnexaminedFiles),
            (!report.refused.is_empty(), Self::RefusedFunctions),
        ];
        all.into_iter().filter(|(holds, _)| *holds).map(|(_, reservation)| reservation).collect()
    }

    /// Behind the word "whole".
    fn as_str(self) -> &'static str {
        match self {
            Self::BeforeAMoment => " from the moments above on",
            Self::UnknownProcesses => ", but for processes that nothing told of",
            Self::UnexaminedFiles => ", but for mapped files that nobody could look into",
            Self::RefusedFunctions => ", but for the functions above that have no probe",
        }
    }
}

/// Prints what was found, and returns whether the trace is whole.
pub(super) fn verify(directory: &Path, json: bool) -> Result<bool> {
    let Found { segments, others, .. } = look(directory)?;
    if segments.is_empty() {
        let beside = not_read(&others).map(|line| format!("\n  {line}")).unwrap_or_default();
        bail!(
            "no *.jsonl, *.jsonl.zst or *.parquet in {} is a trace: closed ones are named \
             trace_<host>_<start>_<sequence>, those of a running sidecar have .part behind it{beside}",
            directory.display()
        );
    }
    let report = check_opened(&segments, segment_reader::open);
    let whole = report.is_whole();
    if json {
        let reservations = Reservation::all_of(&report);
        let verdict = Verdict { whole, reservations, report: &report, not_read: &others };
        println!("{}", serde_json::to_string(&verdict).context("cannot print the report")?);
    } else {
        print!("{}", to_text(&report, &others));
    }
    Ok(whole)
}

/// They are no fault of the trace; if one of them belongs to it, a segment is missing above.
fn not_read(others: &Others) -> Option<String> {
    let Others { count, names } = others;
    let more = match count - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (*count > 0).then(|| format!("not read   {}{more}", names.join(", ")))
}

fn to_text(report: &Report, others: &Others) -> String {
    let Report {
        files,
        calls,
        dropped,
        ignored,
        suppressed,
        functions,
        runs,
        coverage,
        refused,
        problems,
    } = report;
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
    lines.extend(coverage.iter().flat_map(coverage_lines));
    lines.extend(refused.iter().take(SHOWN).map(|refused| {
        let Refused { path, functions, function, reason } = refused;
        let (function, reason) = (function.escape_debug(), reason.escape_debug());
        format!("no probe   {functions} functions of {path:?}, as {function}: {reason}")
    }));
    if let Some(more) = refused.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        lines.push(format!("no probe   in {more} libraries more, see --json"));
    }
    lines.extend(not_read(others));
    lines.extend(problems.iter().take(SHOWN).map(|problem| format!("problem    {problem}")));
    if problems.len() > SHOWN {
        lines.push(format!("problem    {} more, see --json", problems.len() - SHOWN));
    }
    lines.push(if report.is_whole() {
        let reservations = Reservation::all_of(report).into_iter().map(Reservation::as_str);
        let reservations: String = reservations.collect();
        format!("whole{reservations}: for every function, calls counted in the kernel = lines + ignored + suppressed")
    } else {
        format!("not whole: {} problems, {dropped} calls dropped", problems.len())
    });
    lines.join("\n") + "\n"
}

/// What is said of the processes whose calls are there, or not.
fn coverage_lines(coverage: &CoverageReport) -> Vec<String> {
    let CoverageReport { counts, late, .. } = coverage;
    let CoverageCounts { exact, from, unseen, events_lost, unexamined } = counts;
    let mut lines = vec![format!(
        "coverage   of {} CUDA libraries in processes: {exact} from the first call on, {from} from \
         a later moment on, {unseen} not seen",
        exact + from + unseen
    )];
    lines.extend(late.iter().take(SHOWN_LATE).map(|late| {
        format!(
            "from       {} ms on: process {}, {:?}: {}",
            late.from_ts,
            late.pid,
            late.path,
            late.reason.escape_debug()
        )
    }));
    if let Some(more) = late.len().checked_sub(SHOWN_LATE).filter(|&more| more > 0) {
        lines.push(format!("from       {more} more, see --json"));
    }
    if *events_lost > 0 {
        lines.push(format!(
            "coverage   the kernel lost process events {events_lost} times: processes that lived \
             only then may be missing"
        ));
    }
    if *unexamined > 0 {
        lines.push(format!(
            "coverage   mapped files not examined: {unexamined}; calls into CUDA libraries among them \
             are missing"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use trace::check::Problem;

    use super::*;

    #[test]
    fn a_drop_alone_is_not_whole() {
        let report = Report { files: 1, calls: 5, dropped: 2, ..Report::default() };
        insta::assert_snapshot!(to_text(&report, &Others::default()), @"
        files      1
        calls      5, of 0 functions
        dropped    2
        ignored    0, of processes that are not targets
        not whole: 0 problems, 2 calls dropped
        ");
    }

    #[test]
    fn a_trace_that_began_late_is_not_said_to_be_whole_without_more() {
        let last_line = |counts| {
            let coverage = Some(CoverageReport { counts, ..CoverageReport::default() });
            let text = to_text(&Report { coverage, ..Report::default() }, &Others::default());
            text.lines().last().unwrap().split_once(':').unwrap().0.to_owned()
        };
        let exact = CoverageCounts { exact: 2, ..CoverageCounts::default() };
        assert_eq!(last_line(exact), "whole");
        let late = CoverageCounts { from: 1, ..exact };
        assert_eq!(last_line(late), "whole from the moments above on");
        let doubtful = CoverageCounts { events_lost: 1, ..exact };
        assert_eq!(last_line(doubtful), "whole, but for processes that nothing told of");
        let both = CoverageCounts { from: 1, ..doubtful };
        let expected = "whole from the moments above on, but for processes that nothing told of";
        assert_eq!(last_line(both), expected);
        let unexamined = CoverageCounts { unexamined: 1, ..exact };
        let expected = "whole, but for mapped files that nobody could look into";
        assert_eq!(last_line(unexamined), expected);
    }

    #[test]
    fn functions_without_a_probe_are_named_beside_the_verdict() {
        let refused = vec![Refused {
            path: "/lib/libcuda.so.1".to_owned(),
            functions: 2,
            function: "cuEventRecord".to_owned(),
            reason: "it is an indirect function".to_owned(),
        }];
        let text = to_text(&Report { refused, ..Report::default() }, &Others::default());
        let expected =
            "no probe   2 functions of \"/lib/libcuda.so.1\", as cuEventRecord: it is an";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("whole, but for the functions above that have no probe: "), "{text}");
    }

    #[test]
    fn many_problems_are_shown_in_part() {
        let problem = Problem::NotEnded { run: "node_1".to_owned() };
        let report = Report { problems: vec![problem; SHOWN + 3], ..Report::default() };
        let text = to_text(&report, &Others::default());
        assert_eq!(text.matches("problem    run node_1").count(), SHOWN);
        assert!(text.contains("problem    3 more, see --json"), "{text}");
    }
}
