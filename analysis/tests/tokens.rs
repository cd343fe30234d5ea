//! Load tests beside the steps of a real engine.
//!
//! `data/` holds a cut of a run of vLLM 0.20.2 on an H200, the result of the load test that ran
//! meanwhile (without texts), and what vLLM logged of each iteration. The whole runs are checked too
//! where they are at hand: `cargo test --release -p analysis --test tokens -- --ignored`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use analysis::{
    answer::json,
    input,
    pass::{self, Window},
    questions::{Name, Settings},
};
use serde_json::{Value, json};

const PARTS: [&str; 6] = ["before_ns", "queue_ns", "host_ns", "gpu_ns", "wait_ns", "after_ns"];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The answers to `steps` and `tokens`.
fn ask(trace: &Path, load: &[PathBuf]) -> [Value; 2] {
    let found = input::find(&[trace.to_owned()]).unwrap();
    let settings = Settings { load: load.to_vec(), ..Settings::default() };
    let names = [Name::Steps, Name::Tokens];
    let mut asked: Vec<_> = names.iter().map(|name| name.question(&settings).unwrap()).collect();
    let context = pass::read(&found.runs[0], &Window::default(), &mut asked);
    let mut answers =
        asked.into_iter().map(|question| json::to_json(&question.finish(&context), &context));
    [answers.next().unwrap(), answers.next().unwrap()]
}

fn rows<'a>(answer: &'a Value, table: &str) -> &'a Vec<Value> {
    answer[table].as_array().unwrap()
}

fn integer(row: &Value, column: &str) -> i64 {
    row[column].as_i64().unwrap_or_else(|| panic!("{column}: {row}"))
}

fn figure(answer: &Value, name: &str) -> f64 {
    answer["figures"][name]["value"].as_f64().unwrap_or_else(|| panic!("{name}"))
}

/// Requests that got their first token in an iteration, and all that got one, as vLLM counted them.
fn iterations(log: &str) -> Vec<[usize; 2]> {
    let count = |line: &str, behind: &str| -> Option<usize> {
        line.split_once(behind)?.0.rsplit(' ').next()?.parse().ok()
    };
    let iteration = |line: &str| {
        let context = count(line, " context requests, ")?;
        Some([context, context + count(line, " generation requests, ")?])
    };
    log.lines().filter_map(iteration).filter(|counts| counts[1] > 0).collect()
}

/// Each request begins and ends in the iterations that vLLM's log says. Returns how many iterations
/// had no other request, and so have the same counts.
fn check_iterations([steps, tokens]: &[Value; 2], iterations: &[[usize; 2]]) -> usize {
    let steps = rows(steps, "steps");
    assert_eq!(steps.len(), iterations.len());
    let place = |row: &Value, column: &str| {
        let begun = integer(row, column);
        steps.iter().position(|step| integer(step, "start_unix_ns") == begun).unwrap()
    };
    let mut found = vec![[0, 0]; steps.len()];
    for request in rows(tokens, "requests") {
        let first = place(request, "first_step_unix_ns");
        let last = place(request, "last_step_unix_ns");
        if request["match"] == "matched" {
            assert!(iterations[first][0] > 0, "no prompt was in the step: {request}");
        }
        found[first][0] += 1;
        found[first..=last].iter_mut().for_each(|counts| counts[1] += 1);
    }
    for (found, told) in found.iter().zip(iterations) {
        assert!(found[0] <= told[0] && found[1] <= told[1], "{found:?} {told:?}");
    }
    found.iter().zip(iterations).filter(|(found, told)| found == told).count()
}

/// Parts of each token and of all of them are what the client saw.
fn check_sums(tokens: &Value) {
    for table in ["slowest_first", "slowest_next"] {
        assert!(!rows(tokens, table).is_empty());
        for row in rows(tokens, table) {
            let sum: i64 = PARTS.iter().map(|part| integer(row, part)).sum();
            assert_eq!(sum, integer(row, "took_ns"), "{row}");
        }
    }
    let parts = rows(tokens, "parts");
    for column in ["ttft_ns", "itl_ns"] {
        let ns = |row: &Value| row[column].as_f64().unwrap();
        let (total, parts) = parts.split_last().unwrap();
        assert_eq!(total["part"], "total");
        let sum: f64 = parts.iter().map(ns).sum();
        assert!((sum - ns(total)).abs() < 1.0, "{sum} {total}");
    }
}

#[test]
fn tokens_of_a_real_engine_are_those_of_its_iterations() {
    let load = data("h200-graphs.load.json");
    let answers = ask(&data("h200-graphs.jsonl.zst"), std::slice::from_ref(&load));
    let log = fs::read_to_string(data("h200-graphs.log")).unwrap();
    let tokens = &answers[1];
    // The cut begins within the third of six rounds of 16 requests, and ends within the last.
    let requests = rows(tokens, "requests");
    assert_eq!(requests.len(), 32);
    assert!(check_iterations(&answers, &iterations(&log)) >= 120);
    check_sums(tokens);
    let client: Value = serde_json::from_str(&fs::read_to_string(load).unwrap()).unwrap();
    for request in requests {
        let index = usize::try_from(integer(request, "request")).unwrap();
        let offsets = client["requests"][index - 1]["chunk_offsets_ms"].as_array().unwrap();
        let ms = |at: usize| offsets[at].as_f64().unwrap();
        assert!((ms(0) * 1e6 - integer(request, "ttft_ns") as f64).abs() < 2.0);
        let decode = ms(offsets.len() - 1) - ms(0);
        assert!((decode * 1e6 - integer(request, "decode_ns") as f64).abs() < 2.0);
    }
    assert!(figure(tokens, "ttft_unexplained") < 0.02);
    assert!(figure(tokens, "itl_unexplained") < 0.02);
    assert!(figure(tokens, "tokens_matched") >= 1000.0, "{}", tokens["figures"]);
}

/// The same tokens at times at which the engine did something else.
#[test]
fn a_load_test_of_another_time_or_server_is_named_and_not_used() {
    let text = fs::read_to_string(data("h200-graphs.load.json")).unwrap();
    let moved = |seconds: f64| {
        let mut load: Value = serde_json::from_str(&text).unwrap();
        for request in load["requests"].as_array_mut().unwrap() {
            #[expect(clippy::cast_possible_truncation, reason = "a time of this century")]
            let start = integer(request, "start_unix_ns") + (seconds * 1e9) as i64;
            request["start_unix_ns"] = json!(start);
        }
        load
    };
    let directory = tempfile::tempdir().unwrap();
    for (number, (seconds, part)) in [
        (86_400.0, "the trace holds calls from"),
        (-3600.0, "the trace holds calls from"),
        // Within the trace, but against its steps.
        (-0.19, "another server, or its clock is wrong"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = directory.path().join(format!("{number}.json"));
        fs::write(&path, moved(seconds).to_string()).unwrap();
        let [_, tokens] = ask(&data("h200-graphs.jsonl.zst"), &[path]);
        let problem = rows(&tokens, "loads")[0]["problem"].as_str().unwrap();
        assert!(problem.contains(part), "{seconds}: {problem}");
        assert!(tokens["sentences"][0].as_str().unwrap().contains(part));
        assert!(rows(&tokens, "requests").is_empty() && rows(&tokens, "slowest_next").is_empty());
    }
    // A good one beside a bad one is used.
    let bad = directory.path().join("bad.json");
    fs::write(&bad, "{\"tool\": 5}").unwrap();
    let [_, tokens] = ask(&data("h200-graphs.jsonl.zst"), &[bad, data("h200-graphs.load.json")]);
    assert!(rows(&tokens, "loads")[0]["problem"].is_string());
    assert_eq!(rows(&tokens, "requests").len(), 32);
}

/// The times of `vllm bench serve` are those of the monotonic clock that the trace has too.
#[test]
fn a_monotonic_clock_is_that_of_the_trace() {
    let text = fs::read_to_string(data("h200-graphs.load.json")).unwrap();
    let ours: Value = serde_json::from_str(&text).unwrap();
    // Of the segment's opening line: wall clock less monotonic clock.
    let offset = 1_795_999_179_677_696_712_i64 - 423_749_393_006;
    let requests = ours["requests"].as_array().unwrap();
    let of = |value: fn(&Value, i64) -> Value| -> Vec<Value> {
        requests.iter().map(|request| value(request, offset)).collect()
    };
    let bench = |date: &str| {
        json!({"date": date, "backend": "openai",
            "start_times": of(|it, offset| json!((integer(it, "start_unix_ns") - offset) as f64 / 1e9)),
            "ttfts": of(|it, _| json!(it["chunk_offsets_ms"][0].as_f64().unwrap() / 1e3)),
            "itls": of(|it, _| {
                let offsets = it["chunk_offsets_ms"].as_array().unwrap();
                let gap = |pair: &[Value]| (pair[1].as_f64().unwrap() - pair[0].as_f64().unwrap()) / 1e3;
                offsets.windows(2).map(gap).collect()
            }),
            "output_lens": of(|it, _| it["output_tokens"].clone())})
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bench.json");
    // It ended at 00:40:24 UTC; written in Berlin.
    fs::write(&path, bench("20261130-014026").to_string()).unwrap();
    let [_, theirs] = ask(&data("h200-graphs.jsonl.zst"), std::slice::from_ref(&path));
    let [_, ours] = ask(&data("h200-graphs.jsonl.zst"), &[data("h200-graphs.load.json")]);
    assert_eq!(rows(&theirs, "requests").len(), 32);
    for name in ["tokens", "tokens_matched", "tokens_ambiguous"] {
        assert_eq!(figure(&theirs, name).to_bits(), figure(&ours, name).to_bits(), "{name}");
    }
    fs::write(&path, bench("20261130-015526").to_string().replace("015526", "013326")).unwrap();
    let [_, theirs] = ask(&data("h200-graphs.jsonl.zst"), &[path]);
    let problem = rows(&theirs, "loads")[0]["problem"].as_str().unwrap();
    assert!(problem.contains("another machine"), "{problem}");
}

#[test]
fn without_a_load_test_the_way_out_is_told() {
    let error = Name::Tokens.question(&Settings::default()).err().unwrap();
    assert!(error.to_string().contains("--load FILE"), "{error}");
    let load = vec![PathBuf::from("/nonexistent/load.json")];
    let error = Name::Tokens.question(&Settings { load, ..Settings::default() }).err().unwrap();
    assert!(format!("{error:#}").contains("cannot read /nonexistent/load.json"), "{error:#}");
}

/// The directories of the whole runs lie beside the repository.
#[test]
#[ignore = "needs the whole runs beside the repository"]
fn whole_runs() {
    for name in ["vllm-0.20.2-llama-2-7b-h200-graphs", "vllm-0.20.2-llama-2-7b-h200-eager"] {
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
        let answers = ask(&run, &[run.join("load-1.json"), run.join("load-2.json")]);
        let log = Command::new("xz").arg("-dc").arg(run.join("vllm.log.xz")).output().unwrap();
        let iterations = iterations(&String::from_utf8_lossy(&log.stdout));
        assert_eq!(check_iterations(&answers, &iterations), iterations.len());
        check_sums(&answers[1]);
        assert_eq!(rows(&answers[1], "requests").len(), 128);
    }
}
