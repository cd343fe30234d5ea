//! Answers against truths that owe nothing to this crate.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking; helpers are not `#[test]` functions"
)]

mod bad_input;
mod bucket;
mod command_line;
mod counts;
mod cupti;
mod diff;
mod engine;
mod engine_mutations;
mod export;
mod findings;
mod merge;
mod mutations;
mod nvml;
mod order;
mod perfetto;
mod random;
mod scene;
#[path = "../../../sidecar/tests/it/scripted.rs"]
#[expect(dead_code, reason = "the sidecar's tests use more of it")]
mod scripted;
mod segments;
mod startup;
mod tables;
mod timeline;

use std::path::{Path, PathBuf};

use analysis::{
    answer::json::to_json,
    input,
    pass::{self, Window},
    questions::{Name, Settings},
};
use serde_json::Value;

/// The JSON of each run, question by question.
fn ask(paths: &[&Path], questions: &[Name], window: &Window) -> Vec<Value> {
    let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
    let mut answers = Vec::new();
    for run in &input::find(&paths).unwrap().runs {
        let settings = Settings::default();
        let mut asked: Vec<_> =
            questions.iter().map(|name| name.question(&settings).unwrap()).collect();
        let context = pass::read(run, window, &mut asked);
        answers.extend(
            asked.into_iter().map(|question| to_json(&question.finish(&context), &context)),
        );
    }
    answers
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data").join(name)
}

/// What is said of a trace's gaps, in words.
fn gaps(answer: &Value) -> Vec<String> {
    let gaps = answer["gaps"].as_array().unwrap();
    gaps.iter().map(|gap| gap["text"].as_str().unwrap().to_owned()).collect()
}
