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
