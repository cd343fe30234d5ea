//! Tables against the lines that they were made of.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use analysis::{input, pass::Window, questions::Name};
use serde_json::Value;

use super::{ask, data, gaps, random::Random, scene::Scene};

const ALL: [Name; 5] = [Name::Summary, Name::Steps, Name::Startup, Name::Launches, Name::Memory];

/// Exit code, and what was said on standard error.
fn cuda_trace(arguments: &[&Path]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cuda-trace")).args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn export(traces: &[&Path], out: &Path) {
    let mut arguments = vec![Path::new("export")];
    arguments.extend(traces);
    arguments.extend([Path::new("--out"), out]);
    let (code, error) = cuda_trace(&arguments);
    assert_eq!((code, error.as_str()), (0, ""));
}

/// Names of segments instead of paths: where a segment lay is not exported. Floating-point numbers
/// change a little on the way through text.
fn without_directory(mut answers: Vec<Value>, directory: &Path) -> Vec<Value> {
    let directory = format!("{}/", directory.display());
    for answer in &mut answers {
        *answer = serde_json::from_str(&answer.to_string().replace(&directory, "")).unwrap();
    }
    answers
}

pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Gaps of the whole run come first where it is read back.
fn without_gaps(mut answers: Vec<Value>) -> Vec<Value> {
    for answer in &mut answers {
        let mut told = gaps(answer);
        told.sort();
        answer["gaps"] = told.into();
    }
    answers
}

/// Where two values differ first.
fn difference(one: &Value, other: &Value, path: &str) -> Option<String> {
    match (one, other) {
        (Value::Object(fields), Value::Object(others)) if fields.keys().eq(others.keys()) => fields
            .iter()
            .find_map(|(key, value)| difference(value, &others[key], &format!("{path}/{key}"))),
        (Value::Array(values), Value::Array(others)) if values.len() == others.len() => {
            let mut pairs = values.iter().zip(others).enumerate();
            pairs.find_map(|(at, (one, other))| difference(one, other, &format!("{path}/{at}")))
        }
        _ => (one != other).then(|| format!("{path}: {one} instead of {other}")),
    }
}

#[test]
fn answers_from_tables_are_those_from_the_lines() {
    let directory = tempfile::tempdir().unwrap();
    let traces = directory.path().join("traces");
    fs::create_dir(&traces).unwrap();
    Scene::new(3, 4, 300).write(&traces);
    let other = data("vllm-h200.jsonl");
    let out = directory.path().join("tables");
    export(&[&traces, &other], &out);
    let expected = ask(&[&traces, &other], &ALL, &Window::default());
    assert_eq!(expected.len(), 2 * ALL.len());
    let expected = without_directory(expected, &traces);
    let found = || without_directory(ask(&[&out], &ALL, &Window::default()), &traces);
    assert_eq!(found(), expected);
    assert!(files(&out).iter().all(|file| file.extension().unwrap() == "parquet"));
    // A second time, over the first.
    export(&[&traces, &other], &out);
    assert_eq!(found(), expected);
}

#[test]
fn a_run_that_is_here_in_two_forms_is_answered_once_from_the_one_that_has_more_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let (traces, out) = (directory.path().join("traces"), directory.path().join("tables"));
    fs::create_dir(&traces).unwrap();
    Scene::new(3, 4, 30).write(&traces);
    export(&[&traces], &out);
    export(&[&traces], &directory.path().join("again"));
    let calls = || {
        let answers = ask(&[directory.path()], &[Name::Summary], &Window::default());
        assert_eq!(answers.len(), 1);
        answers[0]["figures"]["calls"].clone()
    };
    let not_read = || input::find(&[directory.path().to_owned()]).unwrap().not_read;
    let expected = calls();
    assert_eq!(expected["grade"], "exact");
    let name = "node_20261124T042800.642Z";
    assert_eq!(
        not_read(),
        [(); 2].map(|()| format!("tables of run {name} (its segments are read)"))
    );
    fs::remove_file(traces.join(super::scene::segment_name(2))).unwrap();
    assert_eq!(calls(), expected);
    let told = not_read();
    assert!(told[0].starts_with(&format!("the segments of run {name} (tables of it")), "{told:?}");
    assert_eq!(told[1], format!("tables of run {name} (other tables of it are)"));
}

/// What a trace lacks is in its tables too: figures read back have the grade that they had.
#[test]
fn what_a_trace_lacks_it_lacks_as_tables_too() {
    for seed in 0..24 {
        let mut random = Random(seed);
        let directory = tempfile::tempdir().unwrap();
        let traces = directory.path().join("traces");
        fs::create_dir(&traces).unwrap();
        let mut scene = Scene::new(seed, 3, 30);
        for _ in 0..=seed % 3 {
            let at = random.below(3);
            let lines = &mut scene.segments[at];
            if lines.is_empty() {
                continue;
            }
            let line = random.below(lines.len());
            match random.below(5) {
                0 => drop(lines.remove(line)),
                1 => lines[line].truncate(20),
                2 => lines.insert(line, lines[line].clone()),
                3 => lines.truncate(line),
                _ => lines.clear(),
            }
        }
        scene.write(&traces);
        if seed % 4 == 0 {
            fs::remove_file(traces.join(super::scene::segment_name(2))).unwrap();
        }
        let expected = ask(&[&traces], &ALL, &Window::default());
        let out = directory.path().join("tables");
        export(&[&traces], &out);
        let found = ask(&[&out], &ALL, &Window::default());
        let expected = without_directory(expected, &traces);
        let found = Value::from(without_gaps(without_directory(found, &traces)));
        let difference = difference(&found, &Value::from(without_gaps(expected.clone())), "");
        assert_eq!(difference, None, "{seed}: {:?}", gaps(&expected[0]));
    }
}

#[test]
fn without_its_meta_lines_a_table_of_calls_proves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (traces, out) = (directory.path().join("traces"), directory.path().join("tables"));
    fs::create_dir(&traces).unwrap();
    Scene::new(5, 2, 50).write(&traces);
    export(&[&traces], &out);
    let whole = &ask(&[&out], &[Name::Summary], &Window::default())[0];
    assert_eq!(whole["figures"]["calls"]["grade"], "exact");
    fs::remove_dir_all(out.join("meta")).unwrap();
    let calls = &ask(&[&out], &[Name::Summary], &Window::default())[0];
    assert_ne!(calls["figures"]["calls"]["grade"], "exact");
    assert_eq!(calls["figures"]["lines"]["value"], whole["figures"]["lines"]["value"]);
    assert!(gaps(calls).iter().any(|gap| gap.contains("/meta/")), "{:?}", gaps(calls));
    // Of another export of the same run.
    let second = directory.path().join("second");
    export(&[&traces], &second);
    fs::rename(second.join("meta"), out.join("meta")).unwrap();
    let mixed = &ask(&[&out], &[Name::Summary], &Window::default())[0];
    assert!(gaps(mixed).iter().any(|gap| gap.contains("another export")), "{:?}", gaps(mixed));
}

/// Whatever a damaged file holds, it is named, and no figure of it is exact.
#[test]
fn damaged_tables_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let (traces, out) = (directory.path().join("traces"), directory.path().join("tables"));
    fs::create_dir(&traces).unwrap();
    Scene::new(6, 2, 200).write(&traces);
    export(&[&traces], &out);
    let expected = &ask(&[&out], &[Name::Summary], &Window::default())[0];
    let file = files(&out.join("calls")).remove(0);
    let good = fs::read(&file).unwrap();
    let mut random = Random(9);
    for _ in 0..200 {
        let mut bad = good.clone();
        let at = random.below(bad.len());
        if random.below(4) == 0 {
            bad.truncate(at);
        } else {
            bad[at] ^= 1 << random.below(8);
        }
        fs::write(&file, &bad).unwrap();
        let found = input::find(std::slice::from_ref(&out)).unwrap();
        assert_eq!(found.runs.len(), 1);
        for run in &found.runs {
            let settings = analysis::questions::Settings::default();
            let mut asked = vec![Name::Summary.question(&settings).unwrap()];
            let context = analysis::pass::read(run, &Window::default(), &mut asked);
            let answer = asked.remove(0).finish(&context);
            let answer = analysis::answer::json::to_json(&answer, &context);
            let calls = &answer["figures"]["calls"];
            let is_right = calls["value"] == expected["figures"]["calls"]["value"];
            assert!(is_right || calls["grade"] != "exact", "{at}: {calls}");
            // Each column has a checksum, as pages have none.
            let is_told = gaps(&answer).len() > gaps(expected).len();
            let difference = difference(&answer, expected, "");
            assert!(is_told || difference.is_none(), "{at}: {difference:?}");
        }
    }
}

#[test]
fn what_cannot_be_exported_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (traces, out) = (directory.path().join("traces"), directory.path().join("tables"));
    fs::create_dir(&traces).unwrap();
    Scene::new(1, 1, 5).write(&traces);
    let export = Path::new("export");
    let (code, error) = cuda_trace(&[export, &traces]);
    assert_eq!(code, 1);
    assert!(error.contains("--out"), "{error}");
    let flags = [Path::new("--out"), &out, Path::new("--from"), Path::new("1s")];
    let (code, error) = cuda_trace(&[&[export, &traces], &flags[..]].concat());
    assert_eq!(code, 1);
    assert!(error.contains("whole runs"), "{error}");
    let twin = directory.path().join("twin");
    fs::create_dir(&twin).unwrap();
    for place in [&traces, &twin] {
        fs::copy(data("vllm-h200.jsonl"), place.join("x.jsonl")).unwrap();
    }
    let (one, other) = (traces.join("x.jsonl"), twin.join("x.jsonl"));
    let (code, error) = cuda_trace(&[export, &one, &other, Path::new("--out"), &out]);
    assert_eq!(code, 1);
    assert!(error.contains("two runs"), "{error}");
    assert!(!out.exists());
    // The directory is a file.
    fs::write(&out, "").unwrap();
    let (code, error) = cuda_trace(&[export, &traces, Path::new("--out"), &out]);
    assert_eq!(code, 1);
    assert!(error.contains("cannot write"), "{error}");
    // A table that is none of calls, and a file of somebody else.
    let foreign = directory.path().join("x.parquet");
    fs::write(&foreign, "PAR1").unwrap();
    let (code, error) = cuda_trace(&[Path::new("summary"), &foreign]);
    assert_eq!(code, 1);
    assert!(error.contains("not a Parquet file"), "{error}");
}

#[test]
fn several_paths_are_read() {
    let directory = tempfile::tempdir().unwrap();
    Scene::new(1, 1, 5).write(directory.path());
    let other = data("vllm-h200.jsonl");
    let (code, error) = cuda_trace(&[Path::new("summary,memory"), directory.path(), &other]);
    assert_eq!((code, error.as_str()), (0, ""));
}
