use std::fs;

use super::*;
use crate::{
    function::Api,
    line::{Clock, SegmentOpen},
    writer::{CallText, push_entry, push_meta},
};

const CLOCK: Clock = Clock { start_monotonic_ns: 0, monotonic_ns: 0, realtime_ns: 0 };

struct Scene {
    directory: tempfile::TempDir,
    files: Vec<PathBuf>,
    lines_before: u64,
}

impl Scene {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), files: Vec::new(), lines_before: 0 }
    }

    /// A segment with `lines` calls of `cuInit`; `edit` may falsify the closing line.
    fn segment(&mut self, sequence: u64, lines: u64, edit: impl FnOnce(&mut SegmentClose)) {
        let name = SegmentName { run: Run::new("host", "start"), sequence };
        let open = SegmentOpen {
            format_version: 1,
            sequence,
            host: "host".to_owned(),
            kernel: "6.18".to_owned(),
            sidecar_version: "0".to_owned(),
            clock: CLOCK,
            options: BTreeMap::new(),
        };
        self.lines_before += lines;
        let counts = FunctionCounts {
            lines,
            run_hits: self.lines_before,
            run_lines: self.lines_before,
            ..FunctionCounts::default()
        };
        let mut close = SegmentClose {
            sequence,
            reason: CloseReason::Interval,
            r#final: false,
            calls: lines,
            clock: CLOCK,
            functions: BTreeMap::from([("cuInit".to_owned(), counts)]),
        };
        edit(&mut close);
        let mut text = Vec::new();
        push_meta(&mut text, 0, 1, &Meta::SegmentOpen(open));
        for _ in 0..lines {
            push_entry(&mut text, 1, 1, 1, &CallText::new("cuInit", Api::Driver));
        }
        push_meta(&mut text, 2, 1, &Meta::SegmentClose(close));
        let path = self.directory.path().join(name.to_string());
        fs::write(&path, text).unwrap();
        self.files.push(path);
    }
}

fn last(close: &mut SegmentClose) {
    close.r#final = true;
}

#[test]
fn a_whole_run_has_no_problem() {
    let mut run = Scene::new();
    run.segment(1, 3, |_| ());
    run.segment(2, 2, last);
    let report = check(&run.files);
    assert!(report.is_whole(), "{:?}", report.problems);
    assert_eq!((report.calls, report.runs[0].ended), (5, true));
    assert_eq!(report.functions["cuInit"].hits, 5);
}

#[test]
fn a_missing_segment_is_found_by_its_number() {
    let mut run = Scene::new();
    run.segment(1, 1, |_| ());
    run.segment(3, 1, last);
    let problems = check(&run.files).problems;
    assert!(problems.contains(&Problem::MissingSegment { run: "host_start".into(), sequence: 2 }));
}

#[test]
fn a_missing_last_segment_leaves_the_run_without_an_end() {
    let mut run = Scene::new();
    run.segment(1, 1, |_| ());
    let problems = check(&run.files).problems;
    assert_eq!(problems, [Problem::NotEnded { run: "host_start".into() }]);
}

#[test]
fn a_lost_line_breaks_the_count_of_its_segment_and_the_balance_of_its_run() {
    let mut run = Scene::new();
    run.segment(1, 2, last);
    let text = fs::read_to_string(&run.files[0]).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&run.files[0], [lines[0], lines[1], lines[3], ""].join("\n")).unwrap();
    let problems = check(&run.files).problems;
    assert!(matches!(problems[0], Problem::LineCount { counted: 2, found: 1, .. }));
    assert!(matches!(
        problems[1],
        Problem::Unbalanced { counts: Balance { hits: 2, lines: 1, .. }, .. }
    ));
}

#[test]
fn drops_balance_the_books_but_the_trace_is_not_whole() {
    let mut run = Scene::new();
    run.segment(1, 2, |close| {
        last(close);
        let counts = close.functions.get_mut("cuInit").unwrap();
        (counts.run_hits, counts.run_dropped) = (5, 3);
    });
    let report = check(&run.files);
    assert_eq!((report.problems.len(), report.dropped), (0, 3));
    assert!(!report.is_whole());
}

#[test]
fn truncated_and_unclosed_segments_are_named() {
    let mut run = Scene::new();
    run.segment(1, 1, |close| close.reason = CloseReason::Truncated);
    run.segment(2, 1, |_| ());
    let text = fs::read_to_string(&run.files[1]).unwrap();
    fs::write(&run.files[1], text.lines().next().unwrap()).unwrap();
    let problems = check(&run.files).problems;
    assert!(problems.contains(&Problem::Truncated { file: run.files[0].clone() }));
    assert!(problems.contains(&Problem::NotClosed { file: run.files[1].clone() }));
}

#[test]
fn a_foreign_file_is_named() {
    let report = check(&[PathBuf::from("/nowhere/notes.txt")]);
    assert!(matches!(report.problems[0], Problem::NotASegment { .. }));
}
