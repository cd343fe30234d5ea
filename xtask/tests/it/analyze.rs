//! `cargo xtask analyze`: the exit codes are those of `cuda-trace`.

use crate::scripted::Machine;

/// What `cargo run` ends with if the program ends with this code.
fn analyze(code: u8) -> Option<i32> {
    let machine = Machine::bare();
    machine.tool("cargo", &format!("echo 'error: as the program says it' >&2; exit {code}"));
    let run = machine.run(&["analyze", "summary", "traces"]);
    assert!(machine.has_called("--package analysis -- summary traces"), "{:?}", machine.calls());
    assert!(run.stderr.contains("error: as the program says it"), "{}", run.stderr);
    run.code
}

#[test]
fn the_codes_of_the_program_are_passed_on() {
    for code in [0, 1, 2, 3] {
        assert_eq!(analyze(code), Some(code.into()));
    }
    assert_eq!(analyze(101), Some(1), "cargo itself has failed");
}

#[test]
fn what_reads_buckets_is_built_for_who_asks_for_one() {
    let machine = Machine::bare();
    machine.tool("cargo", "exit 0");
    machine.run(&["analyze", "diff", "traces", "s3://traces/k3s-vllm"]);
    machine.run(&["analyze", "summary", "traces"]);
    let [bucket, directory] =
        ["diff traces s3://traces/k3s-vllm", "summary traces"].map(|arguments| {
            let calls = machine.calls();
            let call = calls.iter().find(|call| call.ends_with(arguments));
            call.unwrap_or_else(|| panic!("no {arguments} in {calls:?}")).clone()
        });
    assert!(!bucket.contains("--no-default-features"), "{bucket}");
    assert!(directory.contains("--no-default-features"), "{directory}");
}
