//! The program `cuda-trace` as it is typed.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use super::scene::Scene;

fn cuda_trace(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cuda-trace"));
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    command
}

#[test]
fn who_has_read_enough_may_close_the_pipe() {
    let directory = tempfile::tempdir().unwrap();
    Scene::new(1, 1, 200).write(directory.path());
    for questions in ["summary,launches,memory", "summary,timeline"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let command = &mut cuda_trace(directory.path(), &[questions, "."]);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*stderr), (Some(0), ""), "{questions}");
    }
    let files = fs::read_dir(directory.path()).unwrap().flatten();
    let is_timeline = |name: &std::ffi::OsStr| name.to_string_lossy().ends_with(".perfetto-trace");
    assert_eq!(files.filter(|file| is_timeline(&file.file_name())).count(), 1, "is written");
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let directory = tempfile::tempdir().unwrap();
    Scene::new(1, 1, 20).write(directory.path());
    fs::write(directory.path().join("taken"), "mine").unwrap();
    for (arguments, code, told) in [
        (&["summary", "."][..], 0, ""),
        (&["timeline", ".", "--out", "taken"], 1, "taken was not written by this program"),
        (&["summary", "none"], 1, "cannot read none"),
        (&["weather", "."], 2, "invalid value 'weather'"),
    ] {
        let output = cuda_trace(directory.path(), arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(told), "{arguments:?}: {stderr}");
    }
    assert_eq!(fs::read_to_string(directory.path().join("taken")).unwrap(), "mine");
}

#[test]
fn two_runs_do_not_share_a_file() {
    let directory = tempfile::tempdir().unwrap();
    Scene::new(1, 1, 20).write(directory.path());
    for entry in fs::read_dir(directory.path()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let other = directory.path().join(name.replace("042800", "052800"));
        fs::copy(entry.path(), other).unwrap();
    }
    let arguments = ["timeline", ".", "--out", "one"];
    let output = cuda_trace(directory.path(), &arguments).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("there are 2 runs"), "{stderr}");
    assert!(!directory.path().join("one").exists());
    let output = cuda_trace(directory.path(), &arguments[..2]).output().unwrap();
    assert!(output.status.success());
    let files = fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(files, 4, "one for each run");
}

/// What stderr says, if nothing is answered.
fn refused(directory: &Path, arguments: &[&str]) -> String {
    let output = cuda_trace(directory, arguments).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{arguments:?}");
    stderr
}

const RESULT: &str = r#"{"tool": "loadtest 0.1.0", "requests": [{"index": 1, "start_unix_ns": 1795999214803111776,
    "output_tokens": 1, "finish_reason": "length", "chunk_offsets_ms": [495.8]}]}"#;

#[test]
fn what_is_no_trace_is_told_by_what_it_looks_like() {
    let directory = tempfile::tempdir().unwrap();
    for (name, content, told) in [
        ("report.html", "<!DOCTYPE html>\n<p>x\n", "it looks like a HTML page"),
        (
            "result.json",
            RESULT,
            "it looks like the result of a load test (loadtest): put --load before it",
        ),
        ("profile.json", "{\n\"traceEvents\": []\n}\n", "put --merge before it"),
        ("saved.jsonl", "{\"program_version\":\"1\",\"question\":\"steps\"}\n", "cuda-trace diff"),
        ("notes.txt", "hello\nworld\n", "2 lines were not used, the first is line 1"),
        ("nothing", "", "it is empty"),
    ] {
        fs::write(directory.path().join(name), content).unwrap();
        let stderr = refused(directory.path(), &["summary", name]);
        assert!(stderr.contains(&format!("{name} is no trace: ")), "{stderr}");
        assert!(stderr.contains(told), "{stderr}");
        let stderr = refused(directory.path(), &["report", name, "--out", "other.html"]);
        assert!(stderr.contains(told), "{stderr}");
        assert!(!directory.path().join("other.html").exists());
    }
}

#[test]
fn load_tests_are_taken_from_a_directory_and_others_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    Scene::new(1, 1, 20).write(directory.path());
    let results = directory.path().join("results");
    fs::create_dir(&results).unwrap();
    fs::write(results.join("notes.json"), "{\"a\": 1}").unwrap();
    let stderr = refused(directory.path(), &["tokens", ".", "--load", "results"]);
    assert!(stderr.contains("no result of a load test is in results"), "{stderr}");
    for name in ["one.json", "two.json"] {
        fs::write(results.join(name), RESULT).unwrap();
    }
    let arguments = ["tokens", ".", "--load", "results", "--json"];
    let output = cuda_trace(directory.path(), &arguments).output().unwrap();
    assert!(output.status.success());
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let files: Vec<&str> = answer["loads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["file"].as_str().unwrap())
        .collect();
    assert_eq!(files, ["results/one.json", "results/two.json"]);
    for questions in ["tokens", "timeline"] {
        let stderr = refused(directory.path(), &[questions, ".", "--load", "results/notes.json"]);
        assert!(stderr.contains("cannot use results/notes.json as a load test"), "{stderr}");
    }
}

#[test]
fn a_window_outside_of_the_run_says_when_the_run_was() {
    let directory = tempfile::tempdir().unwrap();
    Scene::new(1, 1, 20).write(directory.path());
    for (window, told) in [
        (&["--from", "1h"][..], "no call from"),
        (&["--to", "0s"], "no call before"),
        (&["--from", "1h", "--to", "2h"], "no call between"),
    ] {
        for first in [&["summary", "."][..], &["report", ".", "--out", "other.html"]] {
            let arguments = [first, window].concat();
            let stderr = refused(directory.path(), &arguments);
            assert!(stderr.contains(told), "{stderr}");
            assert!(
                stderr.contains("the calls of the run are from 2026-11-24T04:28:0"),
                "{stderr}"
            );
        }
    }
}

#[test]
fn a_run_that_is_not_there_is_answered_by_those_that_are() {
    let directory = tempfile::tempdir().unwrap();
    Scene::new(1, 1, 20).write(directory.path());
    let stderr = refused(directory.path(), &["summary", ".", "--run", "zzz"]);
    assert!(stderr.contains("no run is called \"zzz\"; there are node_20261124T0428"), "{stderr}");
}
