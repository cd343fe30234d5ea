//! Counts against those of a program that knows nothing of traces: as `jq -r .func | sort | uniq -c`.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use analysis::{pass::Window, questions::Name};
use serde_json::Value;

use super::{ask, data, scene::Scene};

/// Lines by function, as any JSON reader counts them.
fn lines_by_function(text: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["type"] != "meta" {
            *counts.entry(line["func"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    counts
}

fn found(answer: &Value, column: &str) -> BTreeMap<String, u64> {
    let rows = answer["functions"].as_array().unwrap();
    rows.iter()
        .map(|row| (row["function"].as_str().unwrap().to_owned(), row[column].as_u64().unwrap()))
        .collect()
}

#[test]
fn functions_of_a_real_trace_are_counted_as_jq_counts_them() {
    let file = data("vllm-h200.jsonl");
    let answer = &ask(&[&file], &[Name::Summary], &Window::default())[0];
    let expected = lines_by_function(&fs::read_to_string(file).unwrap());
    assert!(expected.len() > 20);
    assert_eq!(found(answer, "lines"), expected);
    assert_eq!(found(answer, "calls"), expected);
    assert_eq!(answer["figures"]["calls"]["value"], expected.values().sum::<u64>());
}

#[test]
fn compressed_and_plain_segments_of_one_run_are_one_trace() {
    let directory = tempfile::tempdir().unwrap();
    let scene = Scene::new(1, 3, 40);
    scene.write(directory.path());
    let all: String = scene.segments.concat().concat();
    let plain = directory.path().join("trace_node_20261124T042800.642Z_000002.jsonl");
    let text = fs::read(&plain).unwrap();
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let compressed = ruzstd::encoding::compress_to_vec(&text[..], level);
    fs::write(plain.with_extension("jsonl.zst"), compressed).unwrap();
    fs::remove_file(plain).unwrap();
    let answer = &ask(&[directory.path()], &[Name::Summary], &Window::default())[0];
    assert_eq!(found(answer, "calls"), lines_by_function(&all));
    assert_eq!(answer["figures"]["calls"]["grade"], "exact");
    assert_eq!(answer["gaps"], Value::Array(Vec::new()));
}

/// The plain format of old: entries without thread, with times of three decimals.
#[test]
fn entries_without_anything_else_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("old.jsonl");
    let mut text = String::new();
    for number in 0..1000 {
        let (api, func) = match number % 4 {
            0 => ("cuda_runtime", "cudaLaunchKernel"),
            1 | 2 => ("cuda_api", "cuLaunchKernel"),
            _ => ("cuda_api", "cuGraphLaunch"),
        };
        let _: std::fmt::Result = writeln!(
            text,
            "{{\"ts\":{}.{:03},\"pid\":728,\"type\":\"{api}\",\"func\":\"{func}\",\"phase\":\"entry\"}}",
            3528 + number / 1000,
            number % 1000
        );
    }
    fs::write(&file, &text).unwrap();
    let [summary, launches] =
        &ask(&[&file], &[Name::Summary, Name::Launches], &Window::default())[..]
    else {
        panic!()
    };
    assert_eq!(found(summary, "calls"), lines_by_function(&text));
    assert_eq!(launches["figures"]["launches"]["value"], 500);
    assert_eq!(launches["figures"]["replays"]["value"], 250);
    let row = &summary["functions"][0];
    assert_eq!(row["grades"]["total_ns"]["grade"], "unknown");
    assert_eq!(summary["figures"]["first_call_unix_ns"]["grade"], "unknown");
}

#[test]
fn kernels_that_ran_as_often_as_each_other_are_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let launch = |ts: u32, kernel: u32, dur_us: u32| {
        format!(
            r#"{{"ts":{ts}.0,"pid":7,"tid":7,"type":"cuda_api","func":"cuLaunchKernel","phase":"call","dur_us":{dur_us}.0,"ret":0,"depth":0,"function":"0x{kernel}","kernel":{kernel},"grid":[1,1,1],"block":[1,1,1],"shared_bytes":0,"stream":"0x0"}}"#
        ) + "\n"
    };
    let file = directory.path().join("ties.jsonl");
    let write = |launches: &[(u32, u32)]| {
        let numbered = (1..).zip(launches);
        let lines = numbered.map(|(ts, &(kernel, dur_us))| launch(ts, kernel, dur_us));
        fs::write(&file, lines.collect::<String>()).unwrap();
        ask(&[&file], &[Name::Launches], &Window::default()).remove(0)
    };
    let answer = write(&[(1, 5), (2, 9), (1, 5), (2, 9), (3, 50)]);
    let headline = &answer["headlines"][0];
    assert_eq!(headline["title"], "which kernel ran most?");
    assert_eq!(headline["value"], "kernel 2, whose line is missing");
    let detail = headline["detail"].as_str().unwrap();
    assert!(detail.starts_with("2 kernels ran 2 times each; of them this one took"), "{detail}");
    assert!(
        answer["sentences"][0]
            .as_str()
            .unwrap()
            .starts_with("2 kernels ran most often: 2 times each")
    );
    let answer = write(&[(1, 5), (2, 9), (1, 5)]);
    let detail = answer["headlines"][0]["detail"].as_str().unwrap();
    assert!(detail.starts_with("It ran 2 times, "), "{detail}");
}
