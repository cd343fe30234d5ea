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

/// What is found on the machine that runs the tests is another on each, as is who runs them.
fn without_this_machine(shown: &str) -> String {
    let (_, rest) = shown.split_once("\n== container toolkit").expect("the second step is there");
    let (rest, _) = rest.split_once("\n== kubeconfig").expect("the last step is there");
    format!("\n== container toolkit{rest}")
}

#[test]
fn install() {
    insta::assert_snapshot!(without_this_machine(&shown(&["install"])));
}

#[test]
fn install_without_a_network() {
    let shown = shown(&["install", "--airgap", "/media/k3s"]);
    assert!(shown.contains("missing --airgap: DIR lacks k3s, "), "{shown}");
    insta::assert_snapshot!(without_this_machine(&shown));
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
    insta::assert_snapshot!(shown);
}

#[test]
fn secrets() {
    insta::assert_snapshot!(shown(&["secrets", "--aws"]));
}

#[test]
fn tasks_that_only_look_or_send_show_their_commands_too() {
    insta::assert_snapshot!(shown(&["test", "--parallel", "--", "--max-tokens", "8"]));
    let fetch = Machine::bare().run_with(&["-n", "fetch"], &[("S3_BUCKET", "traces")]);
    insta::assert_snapshot!(fetch.stderr, @"would run: cargo run --locked --package sidecar --bin ebpf-cuda-tracer -- fetch --out traces");
}

/// What is there already is looked at, and left alone.
#[test]
fn on_a_deployed_cluster_only_looks_are_run() {
    let machine = Machine::deployed();
    for (tool, answer) in [
        ("systemctl", "[ \"$1\" != is-active ] || echo inactive"),
        ("dpkg-query", ""),
        ("k3s-uninstall.sh", ""),
        ("journalctl", ""),
    ] {
        machine.tool(tool, answer);
    }
    let before = machine.files();
    for task in [
        "all",
        "deploy",
        "deploy --restart",
        "destroy --purge",
        "build",
        "secrets --aws",
        "install",
        "uninstall --toolkit",
        "test",
        "verify",
        "fetch",
    ] {
        machine.forget_calls();
        let arguments: Vec<&str> = ["-n"].into_iter().chain(task.split(' ')).collect();
        machine.run(&arguments).succeeds();
        for call in machine.calls() {
            assert!(LOOKS.iter().any(|look| call.contains(look)), "{task} ran {call}");
        }
        let seen = machine.files();
        assert_eq!(seen, before, "{task} has written something");
    }
}

/// All that may be run in a dry run.
const LOOKS: [&str; 13] = [
    "base64",
    " get ",
    " exec vllm-",
    " logs ",
    "podman version",
    "podman image inspect",
    "images ls",
    "k3s --version",
    "dpkg-query --show",
    "systemctl is-active",
    "systemctl cat",
    "nvidia-smi",
    "grep --quiet nvidia",
];
