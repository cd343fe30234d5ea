//! Two ranks of a real engine, of which one at a time was stopped for a known time.
//!
//! `data/h200-two-ranks.jsonl.zst` is a cut of a run of vLLM 0.26.0 on two H200: two seconds, those
//! outermost calls of both workers that steps are made of, without the fields that nobody reads here.
//! It begins within a step. Beside it stands when which worker was stopped by SIGSTOP, and for how
//! long. Between these times nothing was done to them.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{fs, path::Path};

use analysis::{
    answer::json,
    input,
    pass::{self, Window},
    questions::{Name, Settings},
};
use serde_json::Value;

const MILLISECOND: i64 = 1_000_000;

#[test]
fn a_stopped_rank_is_named_and_no_other_time() {
    let answer = ranks("h200-two-ranks.jsonl.zst");
    let late = answer["late"].as_array().unwrap();
    let stops = stops();
    assert_eq!(late.len(), stops.len(), "{late:#?}");
    for (late, stop) in late.iter().zip(&stops) {
        assert_eq!(late["rank"], stop["rank"]);
        assert_eq!(late["side"], "host");
        let [from, to] = ["from_unix_ns", "to_unix_ns"].map(|it| late[it].as_i64().unwrap());
        let [stopped, gone_on] =
            ["stop_before_ns", "cont_after_ns"].map(|it| stop[it].as_i64().unwrap());
        // Silent from the call before to the one behind.
        assert!(from < stopped + MILLISECOND && gone_on - MILLISECOND < to, "{late} {stop}");
        let silent = late["silent_ns"].as_i64().unwrap();
        assert_eq!(silent, to - from);
        let late = late["late_ns"].as_i64().unwrap();
        assert!(late > 2 * MILLISECOND && late <= silent, "{late}");
    }
}

#[test]
fn steps_of_both_ranks_are_matched() {
    let answer = ranks("h200-two-ranks.jsonl.zst");
    let figure = |name: &str| answer["figures"][name]["value"].as_u64().unwrap();
    // Both ends of the cut lie within a step.
    assert_eq!(figure("steps_compared"), 305);
    assert!(figure("steps_unlike") <= 2);
    let ranks = answer["ranks"].as_array().unwrap();
    assert_eq!(ranks.iter().map(|it| &it["rank"]).collect::<Vec<_>>(), [0, 1]);
    // In most steps none is far behind.
    for rank in ranks {
        assert!(rank["late_p50_ns"].as_i64().unwrap() < 3 * MILLISECOND, "{rank}");
    }
}

#[test]
fn one_rank_alone_has_nobody_to_be_compared_with() {
    let answer = ranks("h200-graphs.jsonl.zst");
    assert_eq!(answer["late"].as_array().unwrap().len(), 0);
    assert_eq!(answer["figures"]["late"]["value"], Value::Null);
    assert_eq!(answer["figures"]["late"]["grade"], "unknown");
}

fn ranks(name: &str) -> Value {
    let found = input::find(&[data().join(name)]).unwrap();
    let mut asked = vec![Name::Ranks.question(&Settings::default()).unwrap()];
    let context = pass::read(&found.runs[0], &Window::default(), &mut asked);
    let answer = asked.remove(0).finish(&context);
    json::to_json(&answer, &context)
}

fn stops() -> Vec<Value> {
    let text = fs::read_to_string(data().join("h200-two-ranks.delays.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn data() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}
