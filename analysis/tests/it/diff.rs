//! What two traces do not have in common, where the truth about both is known.

use std::{fs, path::Path, process::Command};

use analysis::diff::{Diff, Difference, Kind, diff, read};
use tempfile::TempDir;

use super::{
    mutations::{mutate, seeds},
    random::Random,
    scene::{Scene, segment_name},
};

const MUTATIONS: u64 = 500;

const SEGMENTS: usize = 3;

fn written(scene: &Scene) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    scene.write(directory.path());
    directory
}

fn compare(old: &Path, new: &Path, threshold: f64) -> Diff {
    diff(&read(old).unwrap(), &read(new).unwrap(), threshold)
}

/// The same world, with lines as `change` makes them.
fn changed(scene: &Scene, change: impl Fn(&str) -> String) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (at, lines) in scene.segments.iter().enumerate() {
        let lines: Vec<String> = lines.iter().map(|line| change(line)).collect();
        fs::write(directory.path().join(segment_name(at + 1)), lines.concat()).unwrap();
    }
    directory
}

/// A line whose call took a third of the time.
fn shortened(line: &str) -> String {
    let (before, rest) = line.split_once("\"dur_us\":").unwrap();
    let (duration, after) = rest.split_once(',').unwrap();
    let short = duration.parse::<f64>().unwrap() / 3.0;
    format!("{before}\"dur_us\":{short:.3},{after}")
}

fn names(differences: &[Difference]) -> Vec<String> {
    let mut names: Vec<String> = differences
        .iter()
        .map(|it| format!("{:?} {} {}", it.kind, it.key, it.column.unwrap_or("-")))
        .collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn a_trace_does_not_differ_from_itself() {
    let scene = Scene::new(1, SEGMENTS, 200);
    let (one, other) = (written(&scene), written(&scene));
    let found = compare(one.path(), other.path(), 0.0);
    let Diff { differences, doubtful, same, not_compared, .. } = found;
    assert_eq!((differences, doubtful), (Vec::new(), Vec::new()));
    assert_eq!(not_compared, 0, "what has a value has it in both");
    assert!(same > 50, "{same} figures were compared");
}

/// Durations of one function cut to a third, and one kernel under another name: these and nothing else.
#[test]
fn what_was_changed_is_found_and_nothing_else() {
    let scene = Scene::new(2, SEGMENTS, 400);
    let slow = changed(&scene, |line| {
        if line.contains("\"func\":\"cuEventQuery\"") {
            shortened(line)
        } else {
            line.replace("_Z4kern1v", "_Z5otherv").replace("kern1()", "other()")
        }
    });
    let found = compare(written(&scene).path(), slow.path(), 0.1);
    let quantiles = ["p10_ns", "p25_ns", "p50_ns", "p75_ns", "p90_ns"];
    let mut expected: Vec<String> =
        quantiles.iter().map(|column| format!("Changed cuEventQuery {column}")).collect();
    expected.extend(["New other() -".to_owned(), "Vanished kern1() -".to_owned()]);
    assert_eq!(names(&found.differences), expected);
    for difference in &found.differences {
        if difference.kind == Kind::Changed {
            let change = difference.change().unwrap();
            assert!((change + 2.0 / 3.0).abs() < 0.02, "{difference:?}: a third of the time");
        }
    }
    let runs = scene.truth.runs["kern1"] as f64;
    let of = |kind| found.differences.iter().find(|it| it.kind == kind).unwrap();
    assert_eq!((of(Kind::New).new, of(Kind::Vanished).old), (Some(runs), Some(runs)));
}

/// Both traces are of one world: whatever one of them lacks is no difference.
#[test]
fn what_damage_hides_is_not_called_a_difference() {
    let (mut read_all, mut doubtful) = (0_u64, 0_u64);
    for seed in seeds(MUTATIONS) {
        let scene = Scene::new(seed % 50, SEGMENTS, 40);
        let (whole, damaged) = (written(&scene), written(&scene));
        let what = mutate(damaged.path(), &mut Random(seed ^ 0xd1ff));
        let Ok(damaged) = read(damaged.path()) else { continue };
        let whole = read(whole.path()).unwrap();
        for (old, new) in [(&whole, &damaged), (&damaged, &whole)] {
            let found = diff(old, new, 0.0);
            assert_eq!(found.differences, Vec::new(), "seed {seed}: {what}");
            doubtful += u64::from(!found.doubtful.is_empty());
        }
        read_all += 1;
    }
    assert!(read_all > 100 && doubtful > read_all / 4, "{read_all} {doubtful}");
}

/// By the program: from traces, and from answers that were saved.
#[test]
fn exit_codes_and_saved_answers() {
    let scene = Scene::new(3, SEGMENTS, 100);
    let (old, new) = (written(&scene), written(&Scene::new(4, SEGMENTS, 300)));
    let run = |arguments: &[&str]| {
        let program = env!("CARGO_BIN_EXE_cuda-trace");
        let output = Command::new(program).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (old, new) = (old.path().to_str().unwrap(), new.path().to_str().unwrap());
    let (_, saved) = run(&["summary,launches,memory,steps", old, "--json"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("old.jsonl");
    fs::write(&file, &saved).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(run(&["diff", old, old]).0, Some(0));
    assert_eq!(run(&["diff", file, old, "--threshold", "0"]).0, Some(0));
    assert_eq!(run(&["diff", old, new]).0, Some(3));
    assert_eq!(run(&["diff", file, new, "--json"]), run(&["diff", old, new, "--json"]));
    assert_eq!(run(&["diff", old, new, "--threshold", "100000%"]).0, Some(0));
    assert_eq!(run(&["diff", old, new, "--threshold", "much"]).0, Some(2));
    assert_eq!(run(&["diff", old, directory.path().join("none").to_str().unwrap()]).0, Some(1));
    // A half of an answer is no answer.
    let cut = directory.path().join("cut.jsonl");
    fs::write(&cut, &saved[..saved.len() - 10]).unwrap();
    assert_eq!(run(&["diff", old, cut.to_str().unwrap()]).0, Some(1));
    let (_, text) = run(&["diff", old, new]);
    assert!(text.contains("changed   memory  frees: "), "{text}");
}

#[test]
fn what_has_no_value_on_either_side_is_no_comparison_that_fails() {
    let directory = tempfile::tempdir().unwrap();
    let saved = |name: &str, values: [serde_json::Value; 3]| {
        let figures: serde_json::Map<String, serde_json::Value> = ["a", "b", "c"]
            .into_iter()
            .zip(values)
            .map(|(name, value)| {
                let grade = if value.is_null() { "unknown" } else { "exact" };
                let figure =
                    serde_json::json!({"value": value, "unit": "ns", "grade": grade, "reason": ""});
                (name.to_owned(), figure)
            })
            .collect();
        let answer = serde_json::json!({"schema_version": 1, "question": "memory",
            "run": {"name": "r", "windowed": false}, "figures": figures, "gaps": []});
        let path = directory.path().join(name);
        fs::write(&path, format!("{answer}\n")).unwrap();
        path
    };
    let null = serde_json::Value::Null;
    let old = saved("old.jsonl", [null.clone(), null.clone(), 1.into()]);
    let new = saved("new.jsonl", [null, 2.into(), 1.into()]);
    let Diff { same, not_compared, without_value, too_few, .. } = compare(&old, &new, 0.1);
    assert_eq!((same, not_compared, without_value, too_few), (1, 1, 1, 0));
}
