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
