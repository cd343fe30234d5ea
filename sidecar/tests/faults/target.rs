//! The same program without a tracer and with one.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{harness::Scene, stage::Stage};

/// What a program's end looks like from outside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    status: String,
    out: String,
    errors: String,
    counts: BTreeMap<String, u64>,
}

/// Counts go to a directory of their own.
pub(crate) fn run_alone(scene: &Scene, name: &str, mut command: Command) -> Seen {
    let counts = scene.path(&format!("counts-{name}"));
    fs::create_dir_all(&counts).unwrap();
    command.env("CUDA_STANDIN_COUNTS", &counts);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Seen {
        status: output.status.to_string(),
        out: text(&output.stdout).lines().map(without_times).collect(),
        errors: text(&output.stderr),
        counts: counted(&counts),
    }
}

/// Puts the counts to those of the case, so that the trace is compared with them.
pub(crate) fn run_traced(stage: &Stage, name: &str, command: Command) -> Seen {
    let seen = run_alone(&stage.scene, name, command);
    let from = stage.scene.path(&format!("counts-{name}"));
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let file = format!("{name}-{}", entry.file_name().to_string_lossy());
        fs::rename(entry.path(), stage.scene.counts_directory().join(file)).unwrap();
    }
    seen
}

fn counted(directory: &Path) -> BTreeMap<String, u64> {
    testbed::counts::sum(&testbed::counts::read(directory).unwrap())
}

/// Pids and times differ anyway.
fn without_times(line: &str) -> String {
    match serde_json::from_str(line) {
        Ok(Value::Object(mut fields)) => {
            fields.retain(|name, _| name == "calls");
            Value::Object(fields).to_string() + "\n"
        }
        _ => format!("{line}\n"),
    }
}
