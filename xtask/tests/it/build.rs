//! `build` against scripts.

use std::{
    fs,
    process::Command,
    time::{Duration, SystemTime},
};

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
    for change in ["podman build", "images import", "images label"] {
        assert!(!machine.has_called(change), "{change}");
    }
    let (_, tag) = first.trim().rsplit_once(':').unwrap();
    let is_hex = |tag: &str| tag.len() == 12 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hex(tag), "{tag}");
}

#[test]
fn other_content_has_another_tag() {
    let tag = |program: &str| {
        let machine = Machine::node();
        let cargo = include_str!("scripted/cargo.sh").replace("echo program", program);
        machine.tool("cargo", &cargo);
        // The same on every machine: this one's certificates would not be.
        machine.state("ca.pem", "-----BEGIN CERTIFICATE-----\n");
        let file = machine.path("state").join("ca.pem");
        machine.run(&["build", "--no-import", "--ca-file", file.to_str().unwrap()]).stdout
    };
    let first = tag("echo program");
    assert_eq!(tag("echo program"), first, "on another machine, in another directory");
    assert_ne!(tag("echo other"), first);
}

/// What an engine reads of the files that become the image: names, modes, times and bytes. Owners are
/// those that the engine sets.
fn content_of_the_image(machine: &Machine) -> Vec<u8> {
    let tree = machine.path("target/xtask/image/context/root");
    let tar = Command::new("tar")
        .args(["--sort=name", "--owner=0", "--group=0", "--format=posix"])
        .args(["--pax-option=delete=atime,delete=ctime", "-cf", "-", "-C"])
        .arg(&tree)
        .arg(".")
        .output()
        .unwrap();
    assert!(tar.status.success(), "{tar:?}");
    tar.stdout
}

#[test]
fn the_files_of_the_image_are_the_same_byte_for_byte_from_any_directory_umask_and_time() {
    let built = |umask: &str, age: u64| {
        let machine = Machine::node();
        machine.state("ca.pem", "-----BEGIN CERTIFICATE-----\n");
        let certificates = machine.path("state").join("ca.pem");
        let modified = SystemTime::now() - Duration::from_secs(age);
        fs::File::open(&certificates).unwrap().set_modified(modified).unwrap();
        let build = format!(
            "umask {umask}; exec {} build --no-import --ca-file {}",
            env!("CARGO_BIN_EXE_xtask"),
            certificates.display()
        );
        machine.run_command(Command::new("/bin/sh").args(["-c", &build]), &[]).succeeds();
        content_of_the_image(&machine)
    };
    let first = built("022", 0);
    let has = |part: &str| first.windows(part.len()).any(|bytes| bytes == part.as_bytes());
    for part in [
        "./ebpf-cuda-tracer",
        "./etc/ssl/certs/ca-certificates.crt",
        "./usr/share/sbom/ebpf-cuda-tracer.cdx.json",
        "\"bomFormat\": \"CycloneDX\"",
    ] {
        assert!(has(part), "no {part} in the image");
    }
    assert!(first == built("077", 1_000_000), "another umask and other times change it");
    assert!(first == built("002", 0));
}

#[test]
fn another_image_under_the_name_is_imported_over() {
    let machine = Machine::node();
    machine.run(&["build"]).succeeds();
    machine
        .tool("k3s", r#"case "$*" in *inspecti*) echo '{"status":{"id":"sha256:other"}}' ;; esac"#);
    machine.run(&["build"]).fails_with(&["still it has sha256:other, not sha256:abc123"]);
    assert!(machine.has_called("images import"));
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
    machine.run(&["build", "--no-import"]).fails_with(&[
        "none of podman, docker and buildah works here",
        "Is the docker daemon running?",
        "apt-get install podman",
    ]);
    // Asked for by name, its own trouble is explained.
    machine.run(&["build", "--no-import", "--engine", "docker"]).fails_with(&[
        "docker does not work here",
        "cause: Docker is installed",
        "systemctl start docker",
    ]);
    // The next one that works is taken.
    machine.tool("podman", include_str!("scripted/podman.sh"));
    machine.run(&["build", "--no-import"]).succeeds();
}

#[test]
fn manifests_name_the_image_that_was_built_last() {
    let machine = Machine::node();
    machine.run(&["build"]).succeeds();
    let image = machine.read("pinned");
    let run = machine.run(&["manifests", "--s3-bucket", "traces"]);
    run.succeeds();
    // All that is on stdout is for kubectl.
    let expected = format!(
        "kind: Deployment #  run --locked --package manifests -- --tracer-image {} --s3-bucket traces\n",
        image.trim()
    );
    assert_eq!(run.stdout, expected);
    machine.forget_calls();
    machine.run(&["manifests", "--s3-bucket", "traces", "--tracer-image", "a/b:1"]).succeeds();
    assert!(!machine.has_called(image.trim()), "{:?}", machine.calls());
}

#[test]
fn without_k3s_the_way_out_is_said_before_the_build() {
    let machine = Machine::node();
    machine.remove_tool("k3s");
    machine.run(&["build"]).fails_with(&["`k3s` is not on PATH", "cause: ", "--no-import"]);
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
