//! `build` against scripts.

use crate::scripted::Machine;

#[test]
fn the_image_is_built_imported_pinned_and_named() {
    let machine = Machine::node();
    let run = machine.run(&["build"]);
    run.succeeds();
    assert!(run.stderr.contains("done    image in K3s: sha256:abc123, pinned"), "{}", run.stderr);
    assert!(
        run.stderr.contains("size    0.0 MB") && run.stderr.contains("start   "),
        "{}",
        run.stderr
    );
    let first = run.stdout;
    machine.forget_calls();
    let again = machine.run(&["build"]);
    assert_eq!(again.stdout, first, "the tag is that of the content");
    assert!(!machine.calls().iter().any(|call| call.contains("podman build")));
}

#[test]
fn another_image_under_the_name_is_imported_over() {
    let machine = Machine::node();
    machine.run(&["build"]).succeeds();
    machine
        .tool("k3s", r#"case "$*" in *inspecti*) echo '{"status":{"id":"sha256:other"}}' ;; esac"#);
    machine.run(&["build"]).fails_with(&["still it has sha256:other, not sha256:abc123"]);
}

#[test]
fn an_import_that_fails_says_why() {
    let machine = Machine::node();
    machine.state(
        "import_error",
        "ctr: failed to dial \"/run/k3s/containerd/containerd.sock\": no such file or directory",
    );
    machine
        .run(&["build"])
        .fails_with(&["K3s's containerd does not run", "cargo xtask build --no-import"]);
}

#[test]
fn an_engine_without_its_daemon_is_passed_over_or_explained() {
    let docker = "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?' >&2; exit 1";
    let machine = Machine::node();
    machine.tool("docker", docker);
    machine.remove_tool("podman");
    machine.run(&["build", "--no-import"]).fails_with(
        &[
            "neither podman, docker nor buildah works here",
            "sudo apt-get install podman",
            "its daemon does not run",
        ]
        .map(|text| text.strip_prefix("sudo ").unwrap_or(text)),
    );
}

#[test]
fn without_k3s_the_way_out_is_said_before_the_build() {
    let machine = Machine::node();
    machine.remove_tool("k3s");
    machine.run(&["build"]).fails_with(&["`k3s` is not on PATH", "--no-import"]);
    assert_eq!(machine.calls(), [""; 0]);
    machine.run(&["build", "--no-import"]).succeeds();
}

#[test]
fn certificates_that_are_none_are_refused() {
    let machine = Machine::node();
    machine.state("ca.pem", "not a certificate");
    let file = machine.path("state").join("ca.pem");
    let file = file.to_str().unwrap();
    machine
        .run(&["build", "--no-import", "--ca-file", file])
        .fails_with(&["holds no certificate in PEM form"]);
}
