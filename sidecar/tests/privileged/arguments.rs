//! Each function of the default set, with the parameters of CUDA's headers placed by a C compiler:
//! its lines say what the callee saw, no more and no less.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use cuda::function::Selection;
use serde_json::{Map, Value};
use testbed::{libraries::Driver, signatures};

use crate::harness::Scene;

type Fields = Map<String, Value>;

#[test]
fn fields_are_what_the_callee_saw() {
    for driver in [Driver::R550, Driver::R580] {
        compare(driver, "ok");
    }
}

#[test]
fn what_a_failed_call_would_have_given_is_null() {
    compare(Driver::R580, "failing");
}

#[test]
fn what_cannot_be_read_is_null() {
    compare(Driver::R580, "unreadable");
}

/// Calls all functions; every line must be what its callee printed.
fn compare(driver: Driver, mode: &str) {
    let scene = Scene::new(driver);
    let program = signatures::install(&scene.libraries(), driver).unwrap();
    let sidecar = scene.sidecar(&[]);
    let output = scene.program(&program, &[]).env("CUDA_STANDIN_MODE", mode).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    sidecar.stop();
    scene.whole_report();

    let expected = objects(&String::from_utf8(output.stdout).unwrap());
    let names: BTreeSet<&str> = expected.iter().map(|call| text(call, "func")).collect();
    assert_eq!(names, Selection::default().known().collect(), "what the tables declare");
    let actual = calls(&scene.segments());
    assert_eq!(actual.len(), expected.len(), "{mode}: calls");
    let mut wrong = BTreeMap::new();
    for (expected, actual) in expected.iter().zip(&actual) {
        assert_eq!(text(expected, "func"), text(actual, "func"), "{mode}: the order of calls");
        let keys: BTreeSet<_> = expected.keys().chain(actual.keys()).collect();
        for key in keys.into_iter().filter(|key| expected.get(*key) != actual.get(*key)) {
            let show = |fields: &Fields| {
                fields.get(key).map_or_else(|| "no such field".to_owned(), Value::to_string)
            };
            let difference = format!("{}, not {}", show(actual), show(expected));
            wrong.entry(format!("{}: {key}", text(expected, "func"))).or_insert(difference);
        }
    }
    assert!(wrong.is_empty(), "{driver:?}, {mode}: {wrong:#?}");
}

fn objects(lines: &str) -> Vec<Fields> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(fields: &'a Fields, key: &str) -> &'a str {
    fields[key].as_str().unwrap()
}

/// The call lines as they are in the files, where null is not absent. Without what the callee
/// cannot know; a kernel's name in the place of its number.
fn calls(segments: &[impl AsRef<Path>]) -> Vec<Fields> {
    let mut names: BTreeMap<Option<u64>, Value> = BTreeMap::new();
    let mut calls = Vec::new();
    for segment in segments {
        for mut line in objects(&fs::read_to_string(segment).unwrap()) {
            if line["type"] != "meta" {
                for key in ["ts", "pid", "tid", "dur_us"] {
                    assert!(line.remove(key).is_some(), "no {key} in {line:?}");
                }
                if let Some(kernel) = line.get_mut("kernel") {
                    *kernel = names[&kernel.as_u64()].clone();
                }
                calls.push(line);
            } else if line["func"] == "kernel" {
                names.insert(line["id"].as_u64(), line["name"].clone());
            }
        }
    }
    calls
}
