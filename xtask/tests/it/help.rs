//! The tasks are found by asking for them.

use crate::{stderr, stdout, xtask};

#[test]
fn help_names_the_tasks_as_they_are_typed() {
    let output = xtask().arg("--help").output().unwrap();
    assert!(output.status.success());
    let help = stdout(&output);
    assert!(help.contains("Usage: cargo xtask [OPTIONS] <COMMAND>"), "{help}");
    let on_the_cluster = ["install", "all", "build", "deploy", "test", "verify", "status", "logs"];
    let and_after = ["fetch", "destroy", "uninstall", "secrets", "manifests"];
    for task in on_the_cluster.into_iter().chain(and_after) {
        assert!(help.contains(&format!("\n  {task} ")), "no task {task} in:\n{help}");
    }
    for task in ["demo", "bench", "doctor", "ci", "ebpf"] {
        assert!(help.contains(&format!("\n  {task} ")), "no task {task} in:\n{help}");
    }
    // They stand in the order in which a newcomer needs them, and a line each.
    let position = |task: &str| help.find(&format!("\n  {task} ")).unwrap();
    let path =
        ["demo", "install", "secrets", "all", "build", "deploy", "test", "verify", "destroy"];
    assert!(path.map(position).is_sorted(), "{help}");
    assert!(help.contains("On a GPU node:   cargo xtask install, then secrets, then"), "{help}");
    assert!(help.lines().all(|line| line.len() <= 100), "{help}");
}

#[test]
fn misspelt_task_is_a_usage_error_with_a_hint() {
    let output = xtask().arg("docter").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("doctor"), "{}", stderr(&output));
}

#[test]
fn what_cannot_be_shown_without_running_it_refuses_a_dry_run() {
    for task in ["demo", "ci", "bench probe", "ebpf build", "ebpf check", "test-faults"] {
        let output = xtask().arg("--dry-run").args(task.split(' ')).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{task}: {said}");
        assert!(said.starts_with("error: ") && said.lines().count() == 1, "{task}: {said}");
        assert!(said.contains(" cannot be "), "{task}: {said}");
    }
}
