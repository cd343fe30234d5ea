//! Variables and flags: documented, checked before anything starts, and empty ones ignored.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use crate::command::{binary, clean, run, sidecar};

const DEFAULTS: [(&str, &str); 24] = [
    ("TARGET_PROCESS", "python"),
    ("S3_BUCKET", ""),
    ("S3_PREFIX", "k3s-vllm/"),
    ("S3_ENDPOINT", ""),
    ("S3_ADDRESSING", "auto"),
    ("S3_CHECKSUMS", "auto"),
    ("S3_STORAGE_CLASS", ""),
    ("TRACE_INTERVAL", "60"),
    ("TRACE_DIR", "/traces"),
    ("UPLOAD_ENABLED", "true"),
    ("UPLOAD_INTERVAL", "120"),
    ("TRACE_FUNCTIONS", "default"),
    ("TRACE_DETAIL", "call"),
    ("TRACE_RATE_LIMIT", "0"),
    ("ATTACH_BY", "auto"),
    ("TRACE_FORMAT", "jsonl"),
    ("TRACE_SEGMENT_SIZE", "256Mi"),
    ("TRACE_DIR_LIMIT", "8Gi"),
    ("RING_BUFFER_SIZE", "16Mi"),
    ("CUDA_LIBRARY_DIRS", ""),
    ("SHUTDOWN_TIMEOUT", "20"),
    ("HTTP_ADDRESS", "127.0.0.1:9420"),
    ("LOG_FORMAT", "human"),
    ("RUST_LOG", "info,aws_config=error"),
];

/// What the help says of a variable, from its own line to the next flag.
fn described<'a>(help: &'a str, variable: &str) -> &'a str {
    // The value of one that may hold a password is not shown.
    let start = ['=', ']']
        .into_iter()
        .find_map(|end| help.find(&format!("[env: {variable}{end}")))
        .unwrap_or_else(|| panic!("{variable} is not in\n{help}"));
    let rest = &help[start..];
    rest.split("\n      --").next().unwrap()
}

#[test]
fn the_help_lists_every_variable_with_its_default() {
    let ran = sidecar(&["--help"], &[]);
    assert_eq!(ran.code, 0);
    for (variable, default) in DEFAULTS {
        let described = described(&ran.stdout, variable);
        assert_eq!(described.contains("[default: "), !default.is_empty(), "{described}");
        if !default.is_empty() {
            assert!(described.contains(&format!("[default: {default}]")), "{described}");
        }
    }
    assert_eq!(ran.stdout.matches("[env: ").count(), DEFAULTS.len(), "one is missing above");
}

#[test]
fn the_help_lists_empty_variables_too() {
    let ran = sidecar(&["--help"], &[("S3_ENDPOINT", ""), ("TRACE_DIR", "")]);
    described(&ran.stdout, "S3_ENDPOINT");
    described(&ran.stdout, "TRACE_DIR");
}

#[test]
fn the_help_of_a_subcommand_lists_what_it_needs() {
    for subcommand in ["fetch", "check-s3"] {
        let ran = sidecar(&[subcommand, "--help"], &[]);
        let all = ["S3_BUCKET", "S3_PREFIX", "S3_ENDPOINT", "S3_ADDRESSING", "S3_CHECKSUMS"];
        for variable in all {
            described(&ran.stdout, variable);
        }
        assert_eq!(ran.stdout.contains("--out <DIR>"), subcommand == "fetch", "{}", ran.stdout);
    }
    let ran = sidecar(&["status", "--help"], &[]);
    described(&ran.stdout, "HTTP_ADDRESS");
    assert!(ran.stdout.contains("--json"), "{}", ran.stdout);
}

#[test]
fn an_invalid_value_names_the_variable_the_value_and_what_is_accepted() {
    for (variable, value, accepted) in [
        ("TARGET_PROCESS", " ", "accepted: a part of a process's executable"),
        ("S3_BUCKET", "s3://traces", "accepted: the bucket's name alone, without s3://"),
        ("S3_BUCKET", "traces/vllm", "what follows it goes into S3_PREFIX"),
        ("S3_BUCKET", "a", "accepted: 3 to 63 letters"),
        ("S3_PREFIX", "/vllm", "accepted: a key prefix such as k3s-vllm/"),
        ("S3_PREFIX", "a/../b", "accepted: a key prefix such as k3s-vllm/"),
        ("S3_PREFIX", "day={day}/", "fields are {date}, {hour}, {node}, {pod} and {host}"),
        ("S3_ENDPOINT", "minio:9000", "accepted: a URL such as http://minio:9000"),
        ("S3_ADDRESSING", "vhost", "accepted: auto, path, host"),
        ("S3_CHECKSUMS", "sha1", "accepted: auto, always, never"),
        ("S3_STORAGE_CLASS", "cold", "accepted: a storage class such as STANDARD_IA"),
        ("S3_STORAGE_CLASS", "GLACIER", "by a lifecycle rule of the bucket"),
        ("TRACE_INTERVAL", "soon", "accepted: seconds, 0.1 to 86400"),
        ("TRACE_INTERVAL", "0", "accepted: seconds, 0.1 to 86400"),
        ("UPLOAD_INTERVAL", "-1", "accepted: seconds, 0.1 to 86400"),
        ("UPLOAD_ENABLED", "maybe", "accepted: true, false"),
        ("TRACE_FUNCTIONS", "launhc", "`launch`"),
        ("TRACE_DETAIL", "all", "accepted: call, entry"),
        ("TRACE_SEGMENT_SIZE", "1", "accepted: 64Ki to 4Gi"),
        ("TRACE_DIR_LIMIT", "8GB", "accepted: bytes, such as 268435456, 64Ki, 256Mi or 8Gi"),
        ("RING_BUFFER_SIZE", "3Mi", "accepted: a power of two from 256Ki to 1Gi"),
        ("CUDA_LIBRARY_DIRS", "lib", "accepted: absolute paths, separated by colons"),
        ("SHUTDOWN_TIMEOUT", "never", "accepted: seconds"),
        ("HTTP_ADDRESS", "localhost:9420", "accepted: an IP address and a port"),
        ("HTTP_ADDRESS", ":9420", "or nothing to turn it off"),
        ("LOG_FORMAT", "xml", "accepted: human, json"),
        ("RUST_LOG", "sidecar=loud", "accepted: off, error, warn"),
        ("RUST_LOG", "verbose", "\"verbose\" is no level; accepted: off, error, warn"),
        ("TARGET_PROCESS", "vllm\nserve", "control character '\\n'"),
        ("TRACE_DIR", "/traces\n", "control character '\\n'"),
    ] {
        let ran = sidecar(&[], &[("UPLOAD_ENABLED", "false"), (variable, value)]);
        assert_eq!(ran.code, 2, "{variable}={value}: {}", ran.stderr);
        let flag = format!("--{}", variable.to_lowercase().replace('_', "-"));
        let named = format!("error: {variable} (or {flag}) is {value:?}: ");
        assert!(ran.stderr.starts_with(&named) && ran.stderr.contains(accepted), "{}", ran.stderr);
        assert!(ran.stdout.is_empty());
    }
}

#[test]
fn the_endpoint_variables_of_the_sdk_are_checked_too() {
    for variable in ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"] {
        let ran = sidecar(&[], &[("UPLOAD_ENABLED", "false"), (variable, "minio")]);
        assert_eq!(ran.code, 2);
        let expected = format!("error: {variable} is \"minio\": accepted: a URL");
        assert!(ran.stderr.starts_with(&expected), "{}", ran.stderr);
    }
}

#[test]
fn an_endpoint_that_names_the_bucket_already_is_refused_before_anything_is_sent() {
    for variable in ["S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"] {
        for endpoint in ["http://traces.store.invalid:9000", "http://store.invalid:9000/traces"] {
            for arguments in [&[][..], &["check-s3"], &["fetch"]] {
                let variables = [("S3_BUCKET", "traces"), (variable, endpoint)];
                let ran = sidecar(arguments, &variables);
                assert_eq!(ran.code, 2, "{}", ran.stderr);
                let expected =
                    format!("S3_ENDPOINT is {endpoint:?}: it names the bucket traces already");
                assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
                assert!(ran.stderr.contains("such as http://store.invalid:9000"), "{}", ran.stderr);
            }
        }
    }
}

#[test]
fn a_value_that_is_not_text_names_the_variable() {
    let mut command = clean(&binary());
    command.env("S3_BUCKET", OsStr::from_bytes(b"\xff"));
    let ran = run(command);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.starts_with("error: S3_BUCKET is \"\u{fffd}\": accepted: UTF-8"),
        "{}",
        ran.stderr
    );
}

#[test]
fn uploads_need_a_bucket() {
    for variables in [&[][..], &[("S3_BUCKET", "")], &[("S3_BUCKET", ""), ("UPLOAD_ENABLED", "")]] {
        let ran = sidecar(&[], variables);
        assert_eq!(ran.code, 2);
        assert!(ran.stderr.starts_with("error: S3_BUCKET is not set: "), "{}", ran.stderr);
        assert!(ran.stderr.contains("or UPLOAD_ENABLED=false to keep them"), "{}", ran.stderr);
    }
    for (subcommand, expected) in [
        ("fetch", "set it to the bucket to download from"),
        ("check-s3", "set it to the bucket to check"),
    ] {
        let ran = sidecar(&[subcommand], &[("UPLOAD_ENABLED", "false")]);
        assert_eq!(ran.code, 2);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
}
