//! What is no whole trace: each fault is named, the rest is used, and nothing panics.

use std::{fs, path::Path};

use analysis::{
    answer::{json, text},
    input,
    pass::{self, Moment, Window},
    questions::{Name, Settings},
};
use serde_json::Value;

use super::{
    ask, gaps,
    random::Random,
    scene::{Scene, segment_name},
};

fn scene(directory: &Path) {
    Scene::new(3, 3, 30).write(directory);
}

fn change(file: &Path, change: impl Fn(String) -> String) {
    fs::write(file, change(fs::read_to_string(file).unwrap())).unwrap();
}

fn summary(directory: &Path) -> Value {
    ask(&[directory], &[Name::Summary], &Window::default()).remove(0)
}

fn assert_told(answer: &Value, text: &str) {
    let gaps = gaps(answer);
    assert!(gaps.iter().any(|gap| gap.contains(text)), "{text:?} is not in {gaps:?}");
}

#[test]
fn a_directory_without_a_trace_says_what_lies_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = vec![directory.path().to_owned()];
    let error = input::find(&path).unwrap_err().to_string();
    assert!(error.contains("no trace in"), "{error}");
    for name in ["._trace_node_20261124T042800.642Z_000001.jsonl", "notes.jsonl"] {
        fs::write(directory.path().join(name), "x").unwrap();
    }
    let error = input::find(&path).unwrap_err().to_string();
    assert!(error.contains("notes.jsonl") && error.contains("._trace_node"), "{error}");
    let error = input::find(&[directory.path().join("none")]).unwrap_err().to_string();
    assert!(error.contains("cannot read"), "{error}");
}

#[test]
fn foreign_lines_are_counted_and_the_first_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("other.jsonl");
    fs::write(&file, "{\"event\":\"x\"}\n".repeat(1000) + "[1,2]\n\n").unwrap();
    let answers = ask(&[&file], &[Name::Summary, Name::Launches, Name::Memory], &Window::default());
    for answer in &answers {
        assert_told(answer, "1001 lines were not used, the first is line 1: not a trace line");
    }
    assert_eq!(answers[0]["figures"]["calls"]["grade"], "bounds");
}

#[test]
fn a_binary_file_and_an_empty_one_are_no_reason_to_panic() {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("binary", (0..=255).cycle().take(100_000).collect::<Vec<u8>>()),
        ("empty", Vec::new()),
        ("zstd", vec![0x28, 0xB5, 0x2F, 0xFD, 0xFF, 0xFF]),
        ("blank", b"\n\n\n".to_vec()),
    ] {
        let file = directory.path().join(name);
        fs::write(&file, content).unwrap();
        let answer = &ask(&[&file], &[Name::Summary], &Window::default())[0];
        assert_eq!(answer["figures"]["lines"]["value"], 0, "{name}");
    }
}

#[test]
fn a_cut_line_and_a_cut_frame_are_named_and_the_lines_before_are_used() {
    let directory = tempfile::tempdir().unwrap();
    scene(directory.path());
    let last = directory.path().join(segment_name(3));
    change(&last, |text| text[..text.len() - 5].to_owned());
    let answer = summary(directory.path());
    assert_told(&answer, "the line is cut off");
    assert_told(&answer, "no closing line");
    assert_told(&answer, "the last segment is not here");
    assert_eq!(answer["figures"]["calls"]["grade"], "bounds");

    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let frame = ruzstd::encoding::compress_to_vec(&fs::read(&last).unwrap()[..], level);
    fs::remove_file(&last).unwrap();
    fs::write(last.with_extension("jsonl.zst"), &frame[..frame.len() / 2]).unwrap();
    assert_told(&summary(directory.path()), "cut off: its writer did not finish");
}

#[test]
fn a_newer_format_is_refused_by_its_number_and_the_rest_is_used() {
    let directory = tempfile::tempdir().unwrap();
    scene(directory.path());
    change(&directory.path().join(segment_name(2)), |text| {
        text.replace("\"format_version\":3", "\"format_version\":99")
    });
    let answer = summary(directory.path());
    assert_told(&answer, "format version 99 is newer than");
    assert!(answer["figures"]["lines"]["value"].as_u64().unwrap() > 50);
}

#[test]
fn missing_segments_are_named_and_the_kernels_counts_still_tell_how_many_calls_there_were() {
    let directory = tempfile::tempdir().unwrap();
    scene(directory.path());
    let whole = summary(directory.path());
    fs::remove_file(directory.path().join(segment_name(2))).unwrap();
    let answer = summary(directory.path());
    assert_told(&answer, "segment 2 is missing");
    assert_told(&answer, "cuLaunchKernel: ");
    assert_eq!(answer["figures"]["calls"], whole["figures"]["calls"]);
    assert!(
        answer["figures"]["lines"]["value"].as_u64() < whole["figures"]["lines"]["value"].as_u64()
    );
    for row in answer["functions"].as_array().unwrap() {
        if row["lines"] != row["calls"] {
            assert_eq!(row["grades"]["total_ns"]["grade"], "bounds", "{row}");
            assert_ne!(row["grades"]["p50_ns"]["grade"], "estimate", "{row}");
        }
    }
}

#[test]
fn a_missing_clock_leaves_times_since_the_start() {
    let directory = tempfile::tempdir().unwrap();
    scene(directory.path());
    for sequence in 1..=3 {
        change(&directory.path().join(segment_name(sequence)), |text| {
            text.split_once('\n').unwrap().1.to_owned()
        });
    }
    let window = Window { from: Some(Moment::Unix(0)), to: Some(Moment::Unix(i64::MAX)) };
    for answer in ask(&[directory.path()], &[Name::Summary, Name::Memory], &window) {
        assert_told(&answer, "no opening line");
        assert_eq!(answer["run"]["start_unix_ns"], Value::Null);
    }
}

#[test]
fn counts_that_do_not_add_up_are_told_by_function() {
    let directory = tempfile::tempdir().unwrap();
    scene(directory.path());
    change(&directory.path().join(segment_name(3)), |text| {
        text.replace("\"run_dropped\":0", "\"run_dropped\":2")
            .replace("\"run_ignored\":0", "\"run_ignored\":1")
    });
    let answer = summary(directory.path());
    assert_told(&answer, "cuLaunchKernel: 2 calls were counted in the kernel and have no line");
    let row = &answer["functions"][0];
    let lines = row["lines"].as_u64().unwrap();
    let grade = &row["grades"]["calls"];
    assert_eq!(
        (&grade["low"], &grade["high"]),
        (&(lines as f64).into(), &((lines + 2) as f64).into())
    );
}

#[test]
fn a_segment_of_another_run_under_this_ones_name_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    scene(directory.path());
    change(&directory.path().join(segment_name(2)), |text| {
        text.replace("\"start_monotonic_ns\":4000000000", "\"start_monotonic_ns\":5000000000")
    });
    let answer = summary(directory.path());
    assert_told(&answer, "it belongs to another run than its name says");
    assert_told(&answer, "segment 2 is missing");
}

#[test]
fn a_process_that_was_seen_late_lowers_what_is_said_of_all_calls() {
    let directory = tempfile::tempdir().unwrap();
    scene(directory.path());
    let last = directory.path().join(segment_name(3));
    change(&last, |text| text.replace("\"from\":0", "\"from\":1"));
    let answer = summary(directory.path());
    assert_told(&answer, "calls into 1 mapped library were not all seen");
    assert_eq!(answer["figures"]["calls"]["grade"], "exact_within");

    let line = r#"{"ts":1.0,"pid":7,"type":"meta","phase":"meta","func":"coverage","coverage":"from","path":"/opt/libcuda.so.1","device":1,"inode":2,"reason":"late"}"#;
    let first = directory.path().join(segment_name(1));
    change(&first, |text| text.replacen('\n', &format!("\n{line}\n"), 1));
    let answers = ask(&[directory.path()], &[Name::Summary, Name::Memory], &Window::default());
    assert_told(&answers[0], "calls of process 7 into \"/opt/libcuda.so.1\" may be missing before");
    assert_eq!(answers[0]["gaps"].as_array().unwrap().len(), 1, "{:?}", answers[0]["gaps"]);
    assert_eq!(answers[1]["figures"]["peak_bytes"]["grade"], "bounds");
}

#[test]
fn a_window_is_a_part_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    scene(directory.path());
    let whole = summary(directory.path());
    let half = whole["run"]["last_call_ns"].as_i64().unwrap() / 2;
    let of = |from, to| {
        let window = Window { from, to };
        ask(&[directory.path()], &[Name::Summary], &window).remove(0)
    };
    let first = of(None, Some(Moment::Run(half)));
    let second = of(Some(Moment::Run(half)), None);
    let calls = |answer: &Value| answer["figures"]["calls"]["value"].as_u64().unwrap();
    assert_eq!(calls(&first) + calls(&second), calls(&whole));
    assert_eq!(first["figures"]["calls"]["grade"], "exact_within");
    assert_eq!(first["run"]["windowed"], true);
}

/// Numbers as no writer has them, in any place.
#[test]
fn forged_numbers_are_no_reason_to_panic() {
    const NUMBERS: [&str; 10] = [
        "0",
        "1",
        "-1",
        "4294967295",
        "18446744073709551615",
        "9223372036854775807",
        "1e300",
        "-1e300",
        "99999999999999.999999",
        "null",
    ];
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(segment_name(1));
    for seed in 0..1500 {
        let mut random = Random(seed);
        let scene = Scene::new(seed % 7, 1, 12);
        let mut text = scene.segments.concat().concat();
        for _ in 0..8 {
            let digits: Vec<usize> = text.match_indices("\":").map(|(at, _)| at + 2).collect();
            let at = digits[random.below(digits.len())];
            let length = text[at..].find([',', '}']).unwrap();
            text.replace_range(at..at + length, NUMBERS[random.below(NUMBERS.len())]);
        }
        fs::write(&file, &text).unwrap();
        let questions = [Name::Summary, Name::Launches, Name::Memory];
        for run in &input::find(&[directory.path().to_owned()]).unwrap().runs {
            let mut asked: Vec<_> =
                questions.iter().map(|name| name.question(&Settings::default()).unwrap()).collect();
            let context = pass::read(run, &Window::default(), &mut asked);
            text::heading(&context);
            for question in asked {
                let answer = question.finish(&context);
                text::to_text(&answer);
                serde_json::to_string(&json::to_json(&answer, &context)).unwrap();
            }
        }
    }
}
