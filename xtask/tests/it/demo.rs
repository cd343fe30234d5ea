//! `demo --pod` where it cannot run: said before anything is built.

use crate::{stderr, xtask};

fn fails(engine: &str, arguments: &[&str]) -> String {
    let output =
        xtask().args(["demo", "--pod", "--engine", engine]).args(arguments).output().unwrap();
    assert!(!output.status.success());
    stderr(&output)
}

#[test]
fn without_podman_one_error_names_the_command_that_installs_it() {
    assert_eq!(
        fails("/nowhere/podman", &[]),
        "error: podman is not here (/nowhere/podman), and it plays the pod\n\
         next:  sudo apt-get install podman, of Debian 13, Ubuntu 24.04 or later; or name one with \
         --engine\n"
    );
    assert!(fails("docker", &[]).contains("only podman can"));
}

#[test]
fn what_a_pod_does_not_know_is_refused() {
    for option in [&["--keep-running"][..], &["--s3-outage", "5"]] {
        let said = fails("podman", option);
        assert!(said.contains("cannot be used with"), "{said}");
    }
}

/// `ci` must pass without podman, and say what it has not run.
#[test]
fn ci_says_that_the_pod_is_left_out_unless_it_is_required() {
    // It ends at once: there is no compiler on this PATH.
    let ci = |arguments: &[&str]| {
        let output = xtask()
            .args(["ci", "--engine", "/nowhere/podman"])
            .args(arguments)
            .env("PATH", "/nowhere")
            .output()
            .unwrap();
        stderr(&output)
    };
    let said = ci(&[]);
    assert!(said.starts_with("LEFT OUT: `cargo xtask demo --pod`: podman is not here"), "{said}");
    assert!(said.contains("== this machine"), "{said}");
    let said = ci(&["--require-pod"]);
    assert!(said.starts_with("error: podman is not here (/nowhere/podman)"), "{said}");
}
