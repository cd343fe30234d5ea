//! What the README says in numbers, and that its commands are run.

use cuda::function::{KNOWN, Selection};

use crate::documentation::{read, shell};

/// By `cargo xtask ci` or `.ci/run`: the file that runs it, and how.
const BY_CI: [(&str, &str, &str); 4] = [
    ("cargo xtask demo", "xtask/src/develop/ci.rs", "demo::run(ctx, &demo::Demo::default())"),
    (
        "cargo xtask verify --traces target/demo/downloaded",
        "xtask/src/develop/ci.rs",
        "verify::left_by_demo",
    ),
    (
        "cargo xtask analyze summary,launches,memory target/demo/downloaded",
        "xtask/src/develop/ci.rs",
        "analyze::left_by_demo(ctx)",
    ),
    ("cargo xtask ci", ".ci/run", "\ncargo xtask ci --require-pod\n"),
];

/// What other tests take out of the README and run: the one-liners, and the start of the sidecar.
const BY_TESTS: [&str; 2] =
    ["target/demo/downloaded/trace_*.jsonl", "target/debug/ebpf-cuda-tracer"];

#[test]
fn every_command_is_run_by_ci_or_by_a_test() {
    let readme = read("README.md");
    let headings = readme.lines().filter_map(|line| line.strip_prefix("## "));
    // A test of its own runs these.
    let headings = headings.filter(|heading| *heading != "Deploy on a GPU node");
    let lines: Vec<String> = headings.flat_map(|heading| shell(&readme, heading)).collect();
    assert!(lines.len() > BY_CI.len(), "{lines:?}");
    for line in lines {
        let command = line.split_once("  #").map_or(&line[..], |(command, _)| command).trim();
        let by_ci = BY_CI.iter().find(|(known, ..)| *known == command);
        if let Some((_, file, call)) = by_ci {
            assert!(read(file).contains(call), "{file} does not run `{command}` any more");
        } else {
            assert!(BY_TESTS.iter().any(|part| command.contains(part)), "nobody runs `{command}`");
        }
    }
}

#[test]
fn size_of_the_default_set_is_that_of_the_code() {
    let readme = read("README.md");
    let default = Selection::default();
    let size = KNOWN.iter().filter(|name| default.contains(name)).count();
    let sentence = format!("by default {size} names over all versions of CUDA");
    assert!(readme.contains(&sentence), "README.md does not say `{sentence}`");
}
