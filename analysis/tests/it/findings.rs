//! Findings in engines that waste time in known ways: small ones, as `cargo xtask test-diagnosis
//! --record` has recorded them with real probes.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use analysis::{pass::Window, questions::Name};
use serde_json::Value;

use super::ask;

fn fixtures() -> Vec<(String, PathBuf)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/diagnosis");
    let mut fixtures: Vec<(String, PathBuf)> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "zst"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            (name.trim_end_matches(".jsonl.zst").to_owned(), path)
        })
        .collect();
    fixtures.sort();
    fixtures
}

fn text(path: &Path) -> String {
    let file = fs::File::open(path).unwrap();
    let mut text = String::new();
    ruzstd::decoding::StreamingDecoder::new(file).unwrap().read_to_string(&mut text).unwrap();
    text
}

fn findings(path: &Path) -> Value {
    ask(&[path], &[Name::Findings], &Window::default()).remove(0)
}

fn names(answer: &Value) -> Vec<&str> {
    let rows = answer["findings"].as_array().unwrap();
    rows.iter().map(|row| row["finding"].as_str().unwrap()).collect()
}

#[test]
fn each_engine_has_the_finding_of_its_cause_and_no_other() {
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), 15, "one for each rule, and a healthy engine: {fixtures:?}");
    for (cause, path) in fixtures {
        let answer = findings(&path);
        let expected: &[&str] = if cause == "healthy" { &[] } else { &[&cause] };
        assert_eq!(names(&answer), expected, "{cause}: {answer:#}");
        assert!(answer["figures"]["steps"]["value"].as_u64().unwrap() >= 8, "{answer:#}");
    }
}

#[test]
fn where_nothing_is_found_the_rules_are_named() {
    let (_, path) = fixtures().into_iter().find(|(name, _)| name == "healthy").unwrap();
    let answer = findings(&path);
    let headline = &answer["headlines"][0];
    let value = headline["value"].as_str().unwrap();
    assert_eq!(value, "nothing found", "{headline}");
    assert!(headline["detail"].as_str().unwrap().ends_with(" The rules are named below."));
    let sentence = |at: usize| answer["sentences"][at].as_str().unwrap();
    assert!(sentence(0).starts_with("Nothing found: 14 rules looked at "), "{}", sentence(0));
    assert!(sentence(0).ends_with(" steps of 1 process."), "{}", sentence(0));
    for (rule, _) in fixtures().iter().filter(|(name, _)| name != "healthy") {
        assert!(sentence(2).contains(rule.as_str()), "{rule}: {}", sentence(2));
    }
    assert_eq!(answer["notes"], Value::Array(Vec::new()), "of tables that are not there");
}

#[test]
fn findings_cite_lines_that_are_there() {
    for (cause, path) in fixtures() {
        let answer = findings(&path);
        let text = text(&path);
        let lines: Vec<&str> = text.lines().collect();
        for row in answer["evidence"].as_array().unwrap() {
            assert_eq!(row["file"], path.file_name().unwrap().to_str().unwrap());
            let at = usize::try_from(row["line"].as_u64().unwrap()).unwrap();
            let line: Value = serde_json::from_str(lines[at - 1]).unwrap();
            match row["function"].as_str() {
                Some(function) => assert_eq!(line["func"], function, "{cause}"),
                // A step is cited by the record of its output's event.
                None => assert!(line["func"].as_str().unwrap().contains("EventRecord"), "{cause}"),
            }
        }
    }
}

#[test]
fn memory_is_not_called_pageable_where_it_may_have_been_pinned() {
    let (_, path) = fixtures().into_iter().find(|(name, _)| name == "pageable_copy").unwrap();
    let text = text(&path);
    let directory = tempfile::tempdir().unwrap();
    let changed = directory.path().join("changed.jsonl");
    for (from, to) in [
        // Calls that pin memory may not have been traced.
        ("\"trace_functions\":\"default\"", "\"trace_functions\":\"launch,copy,sync\""),
        ("\"trace_functions\":\"default\"", "\"trace_functions\":\"default,!cudaHostAlloc\""),
        // A line is cut off, which may have been such a call.
        ("\"func\":\"cudaHostAlloc\"", "\"func\":"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&changed, text.replace(from, to)).unwrap();
        assert!(names(&findings(&changed)).is_empty(), "{to}");
    }
    fs::write(&changed, text).unwrap();
    assert_eq!(names(&findings(&changed)), ["pageable_copy"]);
}

#[test]
fn nothing_is_claimed_of_lines_in_a_wrong_place() {
    let (_, path) = fixtures().into_iter().find(|(name, _)| name == "sync_in_step").unwrap();
    let text = text(&path);
    let mut lines: Vec<&str> = text.lines().collect();
    let middle = lines.len() / 2;
    lines[middle - 500..middle + 500].reverse();
    let directory = tempfile::tempdir().unwrap();
    let changed = directory.path().join("changed.jsonl");
    fs::write(&changed, lines.join("\n")).unwrap();
    let answer = findings(&changed);
    assert!(names(&answer).is_empty(), "{answer:#}");
    assert_eq!(answer["figures"]["findings"]["grade"], "unknown");
}
