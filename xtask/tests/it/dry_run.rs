//! `--dry-run`: the commands that would run are shown, and nothing changes.

use crate::scripted::{Machine, Run};

/// On a machine with none of the tools.
fn shown(arguments: &[&str]) -> String {
    let machine = Machine::bare();
    let before = machine.files();
    let run = machine.run(&[&["--dry-run"], arguments].concat());
    run.succeeds();
    assert_eq!(machine.files(), before, "{arguments:?} has written something");
    let Run { stdout, stderr, .. } = run;
    assert_eq!(stdout, "", "{arguments:?}");
    stderr
}

/// What is found on the machine that runs the tests is another on each.
fn without_preflight(shown: &str) -> String {
    let (_, rest) = shown.split_once("\n== container toolkit").expect("the next step is there");
    format!("\n== container toolkit{rest}")
}

#[test]
fn install() {
    insta::assert_snapshot!(without_preflight(&shown(&["install"])));
}

#[test]
fn all() {
    insta::assert_snapshot!(shown(&["all", "--s3-bucket", "traces"]));
}

#[test]
fn destroy() {
    insta::assert_snapshot!(shown(&["destroy"]));
    insta::assert_snapshot!("destroy_and_purge", shown(&["destroy", "--purge"]));
}

#[test]
fn uninstall() {
    let shown = shown(&["uninstall", "--toolkit"]);
    // Where K3s is installed its script would be run; here it is not.
    let (_, toolkit) = shown.split_once("\n== remove the container toolkit\n").unwrap();
    insta::assert_snapshot!(toolkit);
    assert!(shown.contains("every volume"), "{shown}");
}

#[test]
fn secrets() {
    insta::assert_snapshot!(shown(&["secrets", "--aws"]));
}

#[test]
fn tasks_that_only_look_or_send_show_their_commands_too() {
    insta::assert_snapshot!(shown(&["test", "--parallel", "--", "--max-tokens", "8"]));
    let fetch = Machine::bare().run_with(&["-n", "fetch"], &[("S3_BUCKET", "traces")]);
    insta::assert_snapshot!(fetch.stderr, @"would run: cargo run --quiet --locked --package sidecar -- fetch --out traces");
}

/// What is there already is looked at, and left alone.
#[test]
fn on_a_deployed_cluster_only_looks_are_run() {
    let machine = Machine::deployed();
    for task in ["all", "deploy", "destroy", "build"] {
        machine.forget_calls();
        machine.run(&["-n", task]).succeeds();
        for call in machine.calls() {
            let changes = [
                "apply",
                "delete",
                "import",
                "label",
                "cargo build",
                "podman build",
                "podman save",
            ];
            assert!(!changes.iter().any(|change| call.contains(change)), "{task} ran {call}");
        }
    }
}
