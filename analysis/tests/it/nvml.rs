//! `memory --nvml`: NVML's figures beside those of the calls, and recordings that are of something else.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use analysis::{
    answer::json::to_json,
    input,
    pass::{self, Window},
    questions::{Name, Settings},
};
use serde_json::Value;

use super::{random::Random, startup::Start};

const MIB: i64 = 1 << 20;

/// Other processes, and the context of this one.
const OTHERS: i64 = 500;
const CONTEXT: i64 = 300;

/// MiB that the engine of [`Start`] holds, as it was written.
fn live(ms: i64) -> i64 {
    let allocations = [(2100, 700), (8200, 900), (8400, -900), (9100, 2000)];
    allocations.iter().filter(|(at, _)| *at <= ms).map(|(_, size)| size).sum()
}

fn used(ms: i64) -> i64 {
    OTHERS + if ms >= 1000 { CONTEXT } else { 0 } + live(ms)
}

/// As `nvidia-smi` writes it; the trace begins at 04:28:00 on that day.
fn recording(day: &str, hour: u32, devices: &[&dyn Fn(i64) -> i64]) -> String {
    let mut text = "timestamp, index, memory.used [MiB]\n".to_owned();
    for ms in (0..20_000).step_by(100) {
        for (device, used) in devices.iter().enumerate() {
            let (seconds, rest) = (ms / 1000, ms % 1000);
            let used = used(ms);
            writeln!(text, "{day} {hour:02}:28:{seconds:02}.{rest:03}, {device}, {used} MiB")
                .unwrap();
        }
    }
    text
}

fn ask(segments: &[Vec<String>; 3], recording: &str) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let traces = directory.path().join("traces");
    fs::create_dir(&traces).unwrap();
    Start::write(segments, &traces);
    let nvml = directory.path().join("nvml.csv");
    fs::write(&nvml, recording).unwrap();
    let settings = Settings { nvml: Some(nvml), ..Settings::default() };
    let run = &input::find(&[traces]).unwrap().runs[0];
    let mut asked = vec![Name::Memory.question(&settings).unwrap()];
    let context = pass::read(run, &Window::default(), &mut asked);
    to_json(&asked.remove(0).finish(&context), &context)
}

/// By stage: live, what calls do not tell, and NVML's, in MiB, and their grades.
fn stages(answer: &Value) -> BTreeMap<String, [(Option<i64>, Value); 3]> {
    let mut stages: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for row in answer["nvml"].as_array().unwrap() {
        let stage = row["stage"].as_str().unwrap().to_owned();
        let mib = row["bytes"].as_i64().map(|bytes| bytes / MIB);
        stages.entry(stage).or_default().push((mib, row["grades"]["bytes"].clone()));
    }
    stages.into_iter().map(|(stage, rows)| (stage, rows.try_into().unwrap())).collect()
}

fn said(answer: &Value) -> String {
    let texts = |field: &str| {
        answer[field]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    [texts("sentences"), texts("notes")].concat().join("\n")
}

#[test]
fn every_stage_has_what_calls_tell_what_they_do_not_and_nvml() {
    // Nothing is recorded in the 50 ms of the warm-up.
    let recorded = recording("2026/11/24", 4, &[&used]);
    let recorded: Vec<&str> = recorded.lines().filter(|line| !line.contains(":09.800,")).collect();
    let answer = ask(&Start::engine().segments(), &recorded.join("\n"));
    let found = stages(&answer);
    for (stage, live, context) in [
        ("init", 0, OTHERS + CONTEXT),
        ("load", 700, OTHERS + CONTEXT),
        ("profile", 700, OTHERS + CONTEXT),
        ("cache", 2700, OTHERS + CONTEXT),
        ("waiting", 2700, OTHERS + CONTEXT),
    ] {
        let [calls, untold, nvml] = &found[stage];
        assert_eq!(calls, &(Some(live), Value::Null), "{stage}: exact");
        assert_eq!((nvml.0, nvml.1["grade"].as_str()), (Some(live + context), Some("estimate")));
        assert_eq!(untold.0, Some(context), "{stage}");
        let bound = |side: &str| untold.1[side].as_f64().unwrap();
        let truth = (context * MIB) as f64;
        assert!(bound("low") <= truth && truth <= bound("high"), "{stage} {untold:?}");
        assert!(bound("high") - bound("low") <= 2.0 * MIB as f64, "{stage} {untold:?}");
    }
    let rows = answer["nvml"].as_array().unwrap();
    let profile = rows.iter().filter(|row| row["stage"] == "profile");
    let most: Vec<i64> = profile.map(|row| row["most_bytes"].as_i64().unwrap() / MIB).collect();
    assert_eq!(most, [1600, OTHERS + CONTEXT, 2400], "the profile run at its most");
    let [_, _, warm_up] = &found["warm_up"];
    assert_eq!(warm_up.0, None, "{warm_up:?}");
    assert!(warm_up.1["reason"].as_str().unwrap().contains("record more often"), "{warm_up:?}");
    assert!(said(&answer).contains("NVML has 3.42 GiB in use"), "{}", said(&answer));
    assert_eq!(answer["figures"]["live_bytes"]["value"], 2700 * MIB);
}

#[test]
fn devices_that_are_not_of_the_trace_are_left_out() {
    let idle = |_: i64| 4;
    let answer =
        ask(&Start::engine().segments(), &recording("2026/11/24", 4, &[&idle, &used, &idle]));
    assert_eq!(stages(&answer)["cache"][2].0, Some(2700 + OTHERS + CONTEXT));
    assert!(said(&answer).contains("devices 0, 2 are left out"), "{}", said(&answer));
}

#[test]
fn a_recording_of_something_else_is_named_and_no_figure_is_made_of_it() {
    let segments = Start::engine().segments();
    let idle = |_: i64| 4;
    // Large enough, but it does not grow when the calls do.
    let other = |_: i64| 20_000;
    let late = |ms: i64| used(ms - 3000);
    let late_by_more = |ms: i64| if ms < 12_000 { 800 } else { used(ms - 12_000) };
    for (recording, expected) in [
        (recording("2026/11/23", 4, &[&used]), "of another time"),
        (recording("2026/11/24", 6, &[&used]), "its zone may be UTC+02:00"),
        (recording("2026/11/24", 0, &[&used]), "its zone may be UTC-04:00"),
        (recording("2026/11/24", 4, &[&idle]), "of another run"),
        (recording("2026/11/24", 4, &[&other]), "it has 0 B more in use"),
        (recording("2026/11/24", 4, &[&late]), "it has 1000 MiB more in use"),
        (recording("2026/11/24", 4, &[&late_by_more]), "a clock that is wrong"),
        (recording("2026/11/24", 4, &[&used, &used]), "of another run"),
        ("nothing".to_owned(), "has no sample"),
    ] {
        let answer = ask(&segments, &recording);
        assert!(said(&answer).contains(expected), "{expected}: {}", said(&answer));
        assert!(answer["nvml"].as_array().unwrap().is_empty(), "{expected}: {answer}");
        assert_eq!(answer["figures"]["live_bytes"]["value"], 2700 * MIB, "the rest is told");
    }
}

#[test]
fn a_damaged_trace_or_recording_makes_no_wrong_figure() {
    let whole = Start::engine().segments();
    let recording = recording("2026/11/24", 4, &[&used]);
    let mut known = 0;
    for seed in 0..200 {
        let mut random = Random(seed);
        let (mut segments, mut lines) = (whole.clone(), recording.lines().collect::<Vec<_>>());
        if random.below(2) == 0 {
            let segment = &mut segments[random.below(3)];
            segment.remove(random.below(segment.len()));
        } else {
            let (one, other) = (random.below(lines.len()), random.below(lines.len()));
            match random.below(3) {
                0 => lines.truncate(one.max(3)),
                1 => lines.swap(one, other),
                _ => drop(lines.drain(one.min(other)..one.max(other))),
            }
        }
        let answer = ask(&segments, &lines.join("\n"));
        for row in answer["nvml"].as_array().unwrap() {
            let (what, at) = (row["what"].as_str().unwrap(), row["unix_ns"].as_i64());
            let Some(ms) = at.map(|ns| (ns - 1_795_494_480_000_000_000) / 1_000_000) else {
                continue;
            };
            let truth = match what {
                "live by calls" => live(ms),
                "NVML, in use" => used(ms),
                _ => used(ms) - live(ms),
            };
            let (truth, value) = ((truth * MIB) as f64, row["bytes"].as_f64());
            let grade = &row["grades"]["bytes"];
            let is_right = match grade["grade"].as_str() {
                None => value == Some(truth),
                Some("bounds") => {
                    grade["low"].as_f64().is_none_or(|low| low <= truth)
                        && grade["high"].as_f64().is_none_or(|high| high >= truth)
                }
                Some("estimate") => {
                    (value.unwrap() - truth).abs() <= grade["error"].as_f64().unwrap() * truth
                }
                _ => true,
            };
            assert!(is_right, "seed {seed}: {row} {truth}");
            known += u32::from(value.is_some());
        }
    }
    assert!(known > 1000, "{known}");
}
