//! The command line itself: help, wrong usage, where output goes.

use std::fs;

use loadtest::record::RunResult;
use serde_json::{Value, json};

use crate::{
    command::{Ran, command, run, run_at, with_port},
    reply::{MODEL, healthy},
    server::Server,
};

#[test]
fn help_teaches_by_examples() {
    for (arguments, part) in [
        (&["--help"][..], "loadtest batch --count 20 --parallel --workers 4"),
        (&["single", "--help"], "loadtest single --chat --no-stream"),
        (&["batch", "--help"], "Percentiles are nearest rank"),
    ] {
        let ran = run(arguments);
        assert_eq!(ran.code, 0);
        assert!(ran.stdout.contains("Examples:") && ran.stdout.contains(part), "{}", ran.stdout);
    }
}

#[test]
fn wrong_usage_exits_with_2_and_names_the_option() {
    for (arguments, part) in [
        (&[][..], "Usage: loadtest <COMMAND>"),
        (&["batch", "--count", "0"], "'--count <N>'"),
        (&["batch", "--parallel", "--workers", "0"], "'--workers <N>'"),
        (&["batch", "--workers", "2"], "--parallel"),
        (&["single", "--max-tokens", "0"], "'--max-tokens <N>'"),
        (&["single", "--timeout", "0"], "give a positive number of seconds"),
        (&["single", "--port", "0"], "'--port <PORT>'"),
        (&["single", "--port", "70000"], "'--port <PORT>'"),
        (&["single", "--host", "http://localhost:30800"], "a URL goes to --base-url"),
        (&["single", "--count", "2"], "unexpected argument '--count'"),
        (&["batch", "--prompt", "a", "--prompts", "b"], "cannot be used with"),
        (
            &["batch", "--prompts", "no/such/file"],
            "error: cannot read the prompts from no/such/file: ",
        ),
        (&["single", "--api-key", "a b"], "error: the API key holds a character"),
    ] {
        let ran = run(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}");
        assert!(
            ran.stderr.contains(part) && ran.stdout.is_empty(),
            "{arguments:?}: {}",
            ran.stderr
        );
        assert!(ran.files().is_empty());
    }
}

#[test]
fn the_path_alone_goes_to_stdout() {
    let server = Server::start(healthy);
    for (test, prefix) in [("single", "single_prompt_result_"), ("batch", "batch_prompts_result_")]
    {
        let ran = run_at(server.port, &[test, "--model", MODEL, "--out", "results/today"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let path = ran.stdout.strip_suffix('\n').unwrap();
        let name = path.strip_prefix("results/today/").unwrap();
        let time = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(".json")).unwrap();
        assert!(time.len() == "20260131T120000Z".len() && time.ends_with('Z'), "{time}");
        let text = fs::read_to_string(ran.directory.path().join(path)).unwrap();
        let result: RunResult = serde_json::from_str(&text).unwrap();
        assert_eq!(result.settings.test, test);
        // What is read back is all that the types hold.
        let written: Value = serde_json::from_str(&text).unwrap();
        for (name, value) in serde_json::to_value(&result).unwrap().as_object().unwrap() {
            assert_eq!(&written[name], value, "{name}");
        }
        let names: Vec<_> =
            fs::read_dir(ran.directory.path().join("results/today")).unwrap().collect();
        assert_eq!(names.len(), 1);
    }
}

#[test]
fn json_alone_goes_to_stdout_when_asked_for() {
    let server = Server::start(healthy);
    let ran = run_at(server.port, &["batch", "--model", MODEL, "--count", "2", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(serde_json::from_str::<RunResult>(&ran.stdout).unwrap(), ran.result());
    assert!(ran.stderr.contains("result: ./batch_prompts_result_"), "{}", ran.stderr);
}

#[test]
fn figures_have_the_names_of_vllms_own_program_too() {
    let server = Server::start(healthy);
    let arguments = ["batch", "--model", MODEL, "--count", "2", "--json", "--percentiles", "90"];
    let ran = run_at(server.port, &arguments);
    let written: Value = serde_json::from_str(&ran.stdout).unwrap();
    let summary = ran.result().summary;
    for (name, expected) in [
        ("completed", json!(2)),
        ("model_id", json!(MODEL)),
        ("request_rate", json!("inf")),
        ("max_concurrency", json!(1)),
        ("duration", json!(summary.wall_seconds)),
        ("total_output_tokens", json!(10)),
        ("request_throughput", json!(summary.requests_per_second)),
        ("output_throughput", json!(summary.output_tokens_per_second)),
        ("mean_ttft_ms", json!(summary.ttft_ms.unwrap().mean)),
        ("median_tpot_ms", json!(summary.tpot_ms.unwrap().p50)),
        ("p90_itl_ms", json!(summary.itl_ms.unwrap().p90)),
        ("p99_e2el_ms", json!(summary.e2e_ms.unwrap().p99)),
    ] {
        assert_eq!(written[name], expected, "{name}");
    }
    assert!(written["std_ttft_ms"].is_f64() && written["request_goodput"].is_null(), "{written}");
}

#[test]
fn runs_are_gathered_under_their_labels() {
    let server = Server::start(healthy);
    let directory = tempfile::tempdir().unwrap();
    let (lines, csv) = (directory.path().join("runs.jsonl"), directory.path().join("runs.csv"));
    let paths = ["--append", lines.to_str().unwrap(), "--csv", csv.to_str().unwrap()];
    for label in ["one", "two, with a comma"] {
        let arguments = ["batch", "--model", MODEL, "--count", "2", "--label", label];
        assert_eq!(run_at(server.port, &[&arguments[..], &paths].concat()).code, 0);
    }
    let text = fs::read_to_string(&lines).unwrap();
    let labels: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .inspect(|run| assert_eq!((&run["requests"], &run["completed"]), (&json!([]), &json!(2))))
        .map(|run| run["label"].clone())
        .collect();
    assert_eq!(labels, ["one", "two, with a comma"]);
    let text = fs::read_to_string(&csv).unwrap();
    let rows: Vec<&str> = text.lines().collect();
    assert!(rows.len() == 3 && rows[0].starts_with("date,label,model_id"), "{text}");
    assert!(rows[2].contains(",\"two, with a comma\","), "{text}");
}

#[test]
fn the_answer_and_the_table_are_shown() {
    let server = Server::start(healthy);
    let ran = run_at(server.port, &["single", "--model", MODEL, "--prompt", "count"]);
    for part in [
        "prompt      count\n",
        "answer      one two three\n",
        "tokens      4 in, 5 out\n",
        "TTFT ms",
        "p99",
    ] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_found_before_the_run() {
    let server = Server::start(healthy);
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let ran = run_at(server.port, &["single", "--model", MODEL, "--out", path]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.starts_with(&format!("error: cannot create {path}: ")), "{}", ran.stderr);
    assert!(server.seen().is_empty());
}

#[test]
fn a_key_is_sent_and_never_shown() {
    let server = Server::start(healthy);
    let directory = tempfile::tempdir().unwrap();
    let port = server.port.to_string();
    let mut command = command(&directory, &with_port(&["single", "--json"], &port));
    let ran = Ran::of(command.env("VLLM_API_KEY", "secret-7\n").output().unwrap(), directory);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(server.seen().len(), 2);
    assert!(
        server.seen().iter().all(|seen| seen.header("authorization") == Some("Bearer secret-7"))
    );
    assert!(!ran.stdout.contains("secret-7") && !ran.stderr.contains("secret-7"));
    let help = run(&["single", "--api-key", "bad key", "--help"]);
    assert!(!help.stdout.contains("bad key"));
}
