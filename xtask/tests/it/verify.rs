//! `verify --traces` on small traces, whole and not.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{stderr, stdout, xtask};

const NAME: &str = "trace_node_20261124T042800.642Z_000001.jsonl";

const CLOCK: &str = r#"{"start_monotonic_ns":1,"monotonic_ns":2,"realtime_ns":3}"#;

/// A run of one segment with two calls of cuInit, of which the closing line counts `hits`.
pub(crate) fn write_trace(directory: &Path, hits: u64) {
    let counts = format!(
        r#"{{"lines":2,"run_hits":{hits},"run_lines":2,"run_dropped":{},"run_ignored":0}}"#,
        hits - 2
    );
    let lines = [
        format!(
            r#"{{"ts":0.1,"pid":7,"type":"meta","phase":"meta","func":"segment_open","format_version":1,"sequence":1,"host":"node","kernel":"6.18","sidecar_version":"0.1.0","clock":{CLOCK},"options":{{}}}}"#
        ),
        r#"{"ts":1.5,"pid":8,"tid":8,"type":"cuda_api","func":"cuInit","phase":"entry"}"#
            .to_owned(),
        r#"{"ts":1.6,"pid":9,"tid":9,"type":"cuda_api","func":"cuInit","phase":"entry"}"#
            .to_owned(),
        format!(
            r#"{{"ts":2.1,"pid":7,"type":"meta","phase":"meta","func":"segment_close","sequence":1,"reason":"shutdown","final":true,"calls":2,"clock":{CLOCK},"functions":{{"cuInit":{counts}}}}}"#
        ),
    ];
    fs::write(directory.join(NAME), lines.join("\n") + "\n").expect("the directory is there");
}

#[test]
fn whole_trace_passes() {
    let directory = tempfile::tempdir().unwrap();
    write_trace(directory.path(), 2);
    let output = xtask().args(["verify", "--traces"]).arg(directory.path()).output().unwrap();
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert!(text.contains("calls      2, of 1 functions\ndropped    0\n"), "{text}");
    assert!(text.lines().last().unwrap().starts_with("whole: "), "{text}");
}

#[test]
fn missing_line_fails_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    write_trace(directory.path(), 2);
    let path = directory.path().join(NAME);
    let text = fs::read_to_string(&path).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.contains("\"ts\":1.6")).collect();
    fs::write(&path, kept.join("\n") + "\n").unwrap();
    let output = xtask().args(["verify", "--traces"]).arg(directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.contains("problem    ") && text.contains("cuInit"), "{text}");
    assert!(text.lines().last().unwrap().starts_with("not whole: "), "{text}");
}

#[test]
fn json_has_the_counts_by_function() {
    let directory = tempfile::tempdir().unwrap();
    write_trace(directory.path(), 5);
    let output =
        xtask().args(["verify", "--json", "--traces"]).arg(directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["whole"], false);
    assert_eq!(report["problems"], serde_json::json!([]));
    assert_eq!(report["dropped"], 3);
    assert_eq!(report["functions"]["cuInit"]["hits"], 5);
}

#[test]
fn directory_without_a_trace_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let output = xtask().args(["verify", "--traces"]).arg(directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("no *.jsonl, *.jsonl.zst or *.parquet in"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_demo_and_a_directory_are_not_verified_at_once() {
    let output = xtask().args(["verify", "--demo", "--traces", "."]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--traces"), "{}", stderr(&output));
}

#[test]
fn files_of_strangers_are_named_and_are_no_fault_of_the_trace() {
    let directory = tempfile::tempdir().unwrap();
    write_trace(directory.path(), 2);
    let path = |name: &str| directory.path().join(name);
    // What macOS writes beside each file, a file manager's copy, and what people leave.
    fs::write(path(&format!("._{NAME}")), "\0\u{5}\u{16}\u{7}").unwrap();
    fs::copy(path(NAME), path(&format!("Copy of {NAME}"))).unwrap();
    fs::copy(path(NAME), path(&format!(".{NAME}.swp"))).unwrap();
    fs::write(path("notes.jsonl"), "{}\n").unwrap();
    fs::create_dir(path("lost+found")).unwrap();
    fs::create_dir(path("backup")).unwrap();
    fs::copy(path(NAME), path("backup").join(NAME)).unwrap();
    let output = xtask().args(["verify", "--traces"]).arg(directory.path()).output().unwrap();
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert!(!text.contains("problem"), "{text}");
    for name in [format!("\"._{NAME}\""), format!("\"Copy of {NAME}\""), "\"notes.jsonl\"".into()] {
        assert!(text.contains(&name), "no {name} in {text}");
    }
    let json =
        xtask().args(["verify", "--json", "--traces"]).arg(directory.path()).output().unwrap();
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&report["whole"], &report["not_read"]["count"]), (&true.into(), &5.into()));
    assert_eq!(report["files"], 1);
}

#[test]
fn a_segment_under_the_name_of_a_stranger_is_missed() {
    let directory = tempfile::tempdir().unwrap();
    write_trace(directory.path(), 2);
    let other = directory.path().join("Copy of a.jsonl");
    fs::rename(directory.path().join(NAME), other).unwrap();
    let output = xtask().args(["verify", "--traces"]).arg(directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("not read   \"Copy of a.jsonl\""), "{}", stderr(&output));
}
