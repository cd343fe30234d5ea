//! The program: data on stdout, errors on stderr, exit codes.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    process::{Command, Output},
};

use crate::yaml11_reader::read;

/// Runs it with no variables but these.
fn manifests(variables: &[(&str, &str)], flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_manifests"))
        .env_clear()
        .envs(variables.iter().copied())
        .args(flags)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn all_objects_are_printed_in_the_order_of_application() {
    let output = manifests(&[("S3_BUCKET", "my-traces"), ("S3_PREFIX", "my-experiment/")], &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    let documents = read(text(&output.stdout));
    let kinds: Vec<&str> =
        documents.iter().map(|document| document["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "Namespace",
            "RuntimeClass",
            "DaemonSet",
            "ServiceAccount",
            "Role",
            "RoleBinding",
            "ConfigMap",
            "PersistentVolumeClaim",
            "PersistentVolumeClaim",
            "Service",
            "Deployment",
        ]
    );
    assert_eq!(documents[6]["data"]["S3_BUCKET"], "my-traces");
    assert_eq!(documents[6]["data"]["S3_PREFIX"], "my-experiment/");
}

#[test]
fn a_flag_overrides_a_variable_and_an_empty_variable_is_none() {
    let variables = [("S3_BUCKET", "from-variable"), ("S3_PREFIX", ""), ("NODE_PORT", "30900")];
    let output = manifests(&variables, &["--s3-bucket=from-flag", "--only=config-map,service"]);
    let documents = read(text(&output.stdout));
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[0]["data"]["S3_BUCKET"], "from-flag");
    assert_eq!(documents[0]["data"]["S3_PREFIX"], "k3s-vllm/");
    assert_eq!(documents[1]["spec"]["ports"][0]["nodePort"], 30900);
}

#[test]
fn the_log_of_another_program_does_not_reach_the_cluster() {
    let output =
        manifests(&[("S3_BUCKET", "traces"), ("RUST_LOG", "trace")], &["--only=config-map"]);
    assert!(!text(&output.stdout).contains("RUST_LOG"));
}

#[test]
fn check_prints_nothing_on_stdout() {
    let output = manifests(&[("S3_BUCKET", "traces")], &["--check"]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), "");
    assert_eq!(text(&output.stderr), "11 objects are as they should be\n");
}

#[test]
fn a_missing_bucket_is_an_error_with_the_way_out() {
    let output = manifests(&[], &["--check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).starts_with("error: S3_BUCKET is not set: "),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn a_wrong_variable_is_named() {
    let output = manifests(&[("S3_BUCKET", "s3://traces")], &[]);
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    assert!(
        message
            .contains("S3_BUCKET (or --s3-bucket) is \"s3://traces\": accepted: the bucket's name"),
        "{message}"
    );
}

#[test]
fn the_example_of_the_help_is_accepted() {
    let flags = ["--s3-bucket=my-traces", "--model=Qwen/Qwen2.5-0.5B", "--hf-token-optional=true"];
    let output = manifests(&[], &[&flags[..], &["--only=deployment"]].concat());
    assert!(text(&output.stdout).contains("- Qwen/Qwen2.5-0.5B\n"));
    assert!(text(&output.stdout).contains("optional: true\n"));
}

#[test]
fn neither_help_nor_errors_repeat_what_may_be_a_secret() {
    let secrets = "X_TOKEN=planted";
    let variables = [
        ("TRACER_ENV", secrets),
        ("VLLM_ENV", secrets),
        ("VLLM_ARGS", "--hf-token planted"),
        ("S3_ENDPOINT", "http://me:planted@host"),
    ];
    for (flags, code) in
        [(&["--help"][..], 0), (&["--check"], 2), (&["--tracer-env=X-Y=planted"], 2)]
    {
        let output = manifests(&variables, flags);
        assert_eq!(output.status.code(), Some(code), "{flags:?}");
        for said in [text(&output.stdout), text(&output.stderr)] {
            assert!(!said.contains("planted"), "{flags:?}: {said}");
        }
    }
}

#[test]
fn a_secret_that_is_no_text_is_not_repeated_either() {
    let value = OsStr::from_bytes(b"X=planted\xff");
    let mut program = Command::new(env!("CARGO_BIN_EXE_manifests"));
    let output = program.env_clear().env("TRACER_ENV", value).output().unwrap();
    let said = text(&output.stderr);
    assert!(said.contains("TRACER_ENV is") && said.contains("accepted: UTF-8"), "{said}");
    assert!(!said.contains("planted"), "{said}");
}
