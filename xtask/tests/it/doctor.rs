//! `doctor` on whatever machine runs the tests: its parts must agree with each other.

use serde_json::Value;

use crate::{stdout, xtask};

#[test]
fn json_agrees_with_the_exit_status() {
    let output = xtask().args(["doctor", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let ready = report["ready"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!ready)));

    let tracing = report["tracing"].as_array().unwrap();
    assert_eq!(ready, tracing.iter().all(|finding| finding["mark"] != "missing"));
    // This test was compiled here, so these are there.
    for topic in ["C compiler", "rustc", "cargo"] {
        let finding = tracing.iter().find(|finding| finding["topic"] == topic).unwrap();
        assert_eq!(finding["mark"], "ok", "{finding}");
    }
    for group in ["checking", "ebpf", "deploying", "measuring"] {
        for finding in report[group].as_array().unwrap() {
            assert_ne!(finding["mark"], "missing", "only tracing may lack something: {finding}");
        }
    }
}

#[test]
fn text_says_the_same_as_json() {
    let text = stdout(&xtask().arg("doctor").output().unwrap());
    let json = xtask().args(["doctor", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    for finding in report["tracing"].as_array().unwrap() {
        let topic = finding["topic"].as_str().unwrap();
        let found = finding["found"].as_str().unwrap();
        assert!(
            text.lines().any(|line| line.contains(topic) && line.contains(found)),
            "no line on {topic} in:\n{text}"
        );
    }
    let closing = text.lines().last().unwrap();
    assert_eq!(closing.starts_with("ready"), report["ready"] == true, "{closing}");
}
