use std::fs;

use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;
use cuda::function::Api;

use crate::{
    line::{
        Clock, CloseReason, Coverage, CoverageCounts, CoverageKind, Library, Meta, SegmentClose,
        SegmentOpen,
    },
    segment_name::Format,
    writer::{CallText, push_entry, push_meta},
};

const CLOCK: Clock = Clock { start_monotonic_ns: 0, monotonic_ns: 0, realtime_ns: 0 };

struct Scene {
    directory: tempfile::TempDir,
    files: Vec<PathBuf>,
    lines_before: u64,
    format: Format,
}

impl Scene {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            files: Vec::new(),
            lines_before: 0,
            format: Format::Jsonl,
        }
    }

    /// A segment with `lines` calls of `cuInit`; `edit` may falsify the closing line.
    fn segment(&mut self, sequence: u64, lines: u64, edit: impl FnOnce(&mut SegmentClose)) {
        let (run, format) = (Run::new("host", "start"), self.format);
        let name = SegmentName { run, sequence, format };
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
            coverage: None,
            cost: None,
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
        if self.format == Format::JsonlZst {
            text = compress_to_vec(&text[..], CompressionLevel::Fastest);
        }
        fs::write(&path, text).unwrap();
        self.files.push(path);
    }
}

fn last(close: &mut SegmentClose) {
    close.r#final = true;
}

/// As a later run closes what a crash has left.
fn crashed(close: &mut SegmentClose) {
    close.reason = CloseReason::Truncated;
    close.functions.clear();
}

fn dropped(close: &mut SegmentClose, calls: u64) {
    let counts = close.functions.get_mut("cuInit").unwrap();
    counts.run_hits = counts.run_hits.saturating_add(calls);
    counts.run_dropped = calls;
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

/// A file with these lines before its closing line.
fn insert(file: &PathBuf, ts: u64, pid: u32, coverage: Coverage) {
    insert_meta(file, ts, pid, &Meta::Coverage(coverage));
}

fn insert_meta(file: &PathBuf, ts: u64, pid: u32, meta: &Meta) {
    let text = fs::read_to_string(file).unwrap();
    let (head, closing) = text.trim_end().rsplit_once('\n').unwrap();
    let mut out = format!("{head}\n").into_bytes();
    push_meta(&mut out, ts, pid, meta);
    out.extend_from_slice(closing.as_bytes());
    out.push(b'\n');
    fs::write(file, out).unwrap();
}

fn coverage(kind: CoverageKind, inode: u64) -> Coverage {
    Coverage {
        coverage: kind,
        path: "/opt/libcuda.so.1".to_owned(),
        device: 1,
        inode,
        unprobed: 0,
        reason: Some("why".to_owned()),
    }
}

#[test]
fn a_library_without_probes_is_a_problem_and_one_from_a_moment_on_is_told() {
    let mut run = Scene::new();
    run.segment(1, 1, |close| {
        close.r#final = true;
        close.coverage =
            Some(CoverageCounts { exact: 5, from: 2, unseen: 1, ..CoverageCounts::default() });
    });
    insert(&run.files[0], 7_000_000, 8, coverage(CoverageKind::From, 1));
    insert(&run.files[0], 7_000_000, 9, coverage(CoverageKind::Unseen, 1));
    // Attached to after all: the latest line holds.
    insert(&run.files[0], 7_000_000, 9, coverage(CoverageKind::Unseen, 2));
    insert(&run.files[0], 9_000_000, 9, coverage(CoverageKind::From, 2));
    let report = check(&run.files);
    let unseen = Problem::Unseen {
        run: "host_start".to_owned(),
        pid: 9,
        path: "/opt/libcuda.so.1".to_owned(),
        reason: "why".to_owned(),
    };
    assert_eq!(report.problems, [unseen]);
    assert!(!report.is_whole());
    let CoverageReport { counts, late, whole_from } = report.coverage.unwrap();
    assert_eq!((counts.exact, counts.from, counts.unseen), (5, 2, 1));
    let from: Vec<(u32, f64)> = late.iter().map(|late| (late.pid, late.from_ts)).collect();
    assert_eq!(from, [(8, 7.0), (9, 9.0)]);
    assert_eq!(whole_from, [WholeFrom { run: "host_start".to_owned(), ts: Some(9.0) }]);
}

#[test]
fn the_moment_from_which_a_run_is_whole_is_not_told_if_a_line_of_it_is_missing() {
    let moment = |from: u64| {
        let mut run = Scene::new();
        run.segment(1, 1, |close| {
            close.r#final = true;
            close.coverage = Some(CoverageCounts { from, ..CoverageCounts::default() });
        });
        for pid in 0..2 {
            let ns = 7_000_000 + 1_000_000 * u64::from(pid);
            insert(&run.files[0], ns, 8 + pid, coverage(CoverageKind::From, 1));
        }
        let report = check(&run.files);
        assert!(report.is_whole(), "{:?}", report.problems);
        let [WholeFrom { ts, .. }] = report.coverage.unwrap().whole_from[..] else { panic!() };
        ts
    };
    assert_eq!(moment(2), Some(8.0));
    assert_eq!(moment(3), None, "the closing line knows of one more");
}

#[test]
fn a_process_in_which_some_functions_have_no_probe_is_not_whole() {
    let mut run = Scene::new();
    run.segment(1, 1, |close| {
        close.r#final = true;
        close.coverage = Some(CoverageCounts { from: 40, ..CoverageCounts::default() });
    });
    for pid in 1..=40 {
        let partly = Coverage { unprobed: 3, ..coverage(CoverageKind::From, 1) };
        insert(&run.files[0], 7_000_000, pid, partly);
    }
    let report = check(&run.files);
    let unseen = |problem: &&Problem| matches!(problem, Problem::Unseen { .. });
    assert_eq!(report.problems.iter().filter(unseen).count(), 32);
    let more = Problem::MoreUnseen { run: "host_start".to_owned(), more: 8 };
    assert_eq!(report.problems.last(), Some(&more));
    let CoverageReport { counts, late, .. } = report.coverage.unwrap();
    assert_eq!((counts.from, counts.unseen, late[0].unprobed), (40, 0, 3));
}

#[test]
fn a_closing_line_that_counts_more_unseen_than_lines_tell_is_believed() {
    let mut run = Scene::new();
    run.segment(1, 1, |close| {
        close.r#final = true;
        close.coverage = Some(CoverageCounts { unseen: 3, ..CoverageCounts::default() });
    });
    let problems = check(&run.files).problems;
    assert_eq!(problems, [Problem::MoreUnseen { run: "host_start".to_owned(), more: 3 }]);
}

#[test]
fn an_older_format_says_nothing_of_coverage() {
    let mut run = Scene::new();
    run.segment(1, 1, last);
    assert_eq!(check(&run.files).coverage, None);
}

#[test]
fn a_run_may_mix_both_formats_and_each_segment_counts_once() {
    let mut run = Scene::new();
    run.segment(1, 3, |_| ());
    run.format = Format::JsonlZst;
    run.segment(2, 2, last);
    let report = check(&run.files);
    assert!(report.is_whole(), "{:?}", report.problems);
    assert_eq!(report.calls, 5);
    run.segment(1, 0, |_| ());
    let twice = Problem::Duplicate { run: "host_start".into(), sequence: 1 };
    assert!(check(&run.files).problems.contains(&twice));
}

#[test]
fn missing_segments_are_found_by_their_numbers() {
    let mut run = Scene::new();
    run.segment(2, 1, |_| ());
    run.segment(3, 1, |_| ());
    run.segment(7, 1, last);
    let missing = |first, last| Problem::MissingSegments { run: "host_start".into(), first, last };
    let report = check(&run.files);
    assert_eq!(report.problems, [missing(1, 1), missing(4, 6)]);
    assert_eq!(report.problems[0].to_string(), "run host_start: segment 1 is missing");
    assert_eq!(report.problems[1].to_string(), "run host_start: segments 4 to 6 are missing");
}

#[test]
fn the_widest_gap_is_one_problem() {
    let mut run = Scene::new();
    run.segment(1, 1, |_| ());
    run.segment(u64::MAX, 1, last);
    let missing =
        Problem::MissingSegments { run: "host_start".into(), first: 2, last: u64::MAX - 1 };
    assert_eq!(check(&run.files).problems, [missing]);
}

#[test]
fn a_segment_that_is_there_twice_is_named() {
    let mut run = Scene::new();
    run.segment(1, 1, last);
    let copy = run.directory.path().join("copy").join(run.files[0].file_name().unwrap());
    fs::create_dir(copy.parent().unwrap()).unwrap();
    fs::copy(&run.files[0], &copy).unwrap();
    run.files.push(copy);
    let problems = check(&run.files).problems;
    assert!(problems.contains(&Problem::Duplicate { run: "host_start".into(), sequence: 1 }));
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
    assert!(matches!(problems[0], Problem::CallCount { counted: 2, found: 1, .. }));
    assert!(matches!(problems[1], Problem::LineCount { counted: 2, found: 1, .. }));
    assert!(matches!(
        problems[2],
        Problem::Unbalanced { counts: Balance { hits: 2, lines: 1, .. }, .. }
    ));
}

#[test]
fn a_wrong_count_of_calls_is_found_where_the_counts_by_function_are_right_or_gone() {
    let mut run = Scene::new();
    run.segment(1, 2, |close| close.calls = 3);
    run.segment(2, 2, |close| {
        crashed(close);
        close.calls = 1;
    });
    let problems = check(&run.files).problems;
    let wrong = |index: usize, counted| Problem::CallCount {
        file: run.files[index].clone(),
        counted,
        found: 2,
    };
    assert_eq!(problems[..2], [wrong(0, 3), wrong(1, 1)]);
}

#[test]
fn a_segment_under_the_name_of_another_is_named() {
    let mut run = Scene::new();
    run.segment(1, 1, |_| ());
    run.segment(2, 1, last);
    let other = run.directory.path().join("trace_host_start_000003.jsonl");
    fs::rename(&run.files[1], &other).unwrap();
    run.files[1] = other.clone();
    let problems = check(&run.files).problems;
    // Both the opening and the closing line say so.
    let wrong = Problem::WrongSequence { file: other, named: 3, written: 2 };
    assert_eq!(problems[..2], [wrong.clone(), wrong]);
}

#[test]
fn a_segment_without_its_opening_line_is_named() {
    let mut run = Scene::new();
    run.segment(1, 1, last);
    let text = fs::read_to_string(&run.files[0]).unwrap();
    let (opening, rest) = text.split_once('\n').unwrap();
    let no_opening = Problem::NoOpening { file: run.files[0].clone() };
    fs::write(&run.files[0], rest).unwrap();
    assert_eq!(check(&run.files).problems, std::slice::from_ref(&no_opening));

    fs::write(&run.files[0], format!("{}\n{rest}", &opening[10..])).unwrap();
    let problems = check(&run.files).problems;
    assert_eq!(problems[0], no_opening);
    assert!(matches!(problems[1], Problem::BadLine { .. }));

    let newer = opening.replace("\"format_version\":1", "\"format_version\":9");
    fs::write(&run.files[0], format!("{newer}\n{rest}")).unwrap();
    assert!(matches!(&check(&run.files).problems[..], [Problem::BadLine { .. }]));
}

#[test]
fn of_a_file_that_is_no_trace_only_the_first_lines_are_complained_of() {
    let run = Scene::new();
    let file = run.directory.path().join("trace_h_20260101T000000.000Z_000001.jsonl");
    fs::write(&file, "{}\n".repeat(1000)).unwrap();
    let problems = check(std::slice::from_ref(&file)).problems;
    let one_by_one =
        problems.iter().filter(|problem| matches!(problem, Problem::BadLine { .. })).count();
    assert_eq!(one_by_one, 10);
    assert!(problems.contains(&Problem::MoreBadLines { file, more: 990 }), "{problems:?}");
}

#[test]
fn what_was_dropped_before_a_crash_is_reported() {
    let mut run = Scene::new();
    run.segment(1, 2, |close| dropped(close, 3));
    run.segment(2, 1, crashed);
    let report = check(&run.files);
    assert_eq!((report.calls, report.dropped, report.functions["cuInit"].hits), (3, 3, 5));
    let (file, name) = (run.files[1].clone(), "host_start".to_owned());
    assert_eq!(report.problems, [Problem::Truncated { file }, Problem::NotEnded { run: name }]);
}

#[test]
fn counters_beyond_all_measure_end_in_a_report() {
    let mut run = Scene::new();
    run.segment(1, 1, |close| {
        last(close);
        let counts = close.functions["cuInit"];
        close.functions.insert("cuFree".to_owned(), counts);
        for counts in close.functions.values_mut() {
            (counts.run_dropped, counts.run_ignored) = (u64::MAX, u64::MAX);
            // What the sum would be if it wrapped around, or stayed at its largest.
            counts.run_hits = u64::MAX;
        }
    });
    let report = check(&run.files);
    assert_eq!((report.dropped, report.ignored), (u64::MAX, u64::MAX));
    let unbalanced = |problem: &&Problem| matches!(problem, Problem::Unbalanced { .. });
    assert_eq!(report.problems.iter().filter(unbalanced).count(), 2, "{:?}", report.problems);
}

#[test]
fn drops_balance_the_books_but_the_trace_is_not_whole() {
    let mut run = Scene::new();
    run.segment(1, 2, |close| {
        last(close);
        dropped(close, 3);
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

#[test]
fn functions_that_are_not_told_by_name_are_counted_and_one_with_a_name_is_told() {
    let mut run = Scene::new();
    run.segment(1, 1, |close| close.r#final = true);
    let reason = |name: &str| (name.to_owned(), "too many".to_owned());
    let library = Library {
        path: "/opt/libcuda.so.1".to_owned(),
        device: 1,
        inode: 1,
        found_by: "mapping".to_owned(),
        attached_late: false,
        functions: 7,
        single_stepped: 0,
        failed: ["(840 more functions)", "cuA", "cuB"].map(reason).into(),
    };
    insert_meta(&run.files[0], 7_000_000, 8, &Meta::Library(library));
    let refused = Refused {
        path: "/opt/libcuda.so.1".to_owned(),
        functions: 842,
        function: "cuA".to_owned(),
        reason: "too many".to_owned(),
    };
    assert_eq!(check(&run.files).refused, [refused]);
}
