//! The tracer's variables have one list: the settings of the sidecar.

use std::{collections::BTreeSet, fs, path::Path};

use manifests::settings;

use crate::config;

/// Read by the AWS SDK, not by the sidecar itself.
const OF_THE_SDK: [&str; 2] = ["AWS_EC2_METADATA_DISABLED", "AWS_REGION"];

/// The value of a literal or of a constant at the beginning of `expression`.
fn named<'a>(expression: &'a str, source: &'a str) -> &'a str {
    let token = expression.split([',', ')']).next().unwrap();
    let literal = if token.starts_with('"') {
        token
    } else {
        let definition = format!("const {token}: &str = ");
        source.split_once(&definition).unwrap_or_else(|| panic!("no {definition}")).1
    };
    literal.split('"').nth(1).unwrap()
}

#[test]
fn every_variable_is_one_that_the_sidecar_reads() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sidecar/src/config.rs");
    let source = fs::read_to_string(&source).unwrap();
    let known: BTreeSet<&str> =
        source.split("env = ").skip(1).map(|rest| named(rest, &source)).collect();
    assert!(known.contains("TARGET_PROCESS"), "the list has moved: {known:?}");
    for name in settings::NAMES {
        assert!(known.contains(name) || OF_THE_SDK.contains(&name), "the sidecar has no {name}");
    }
    let missing: Vec<_> = known.iter().filter(|name| !settings::NAMES.contains(name)).collect();
    assert!(
        missing.is_empty(),
        "settings of the sidecar that a deployment cannot set: {missing:?}"
    );
}

#[test]
fn names_are_all_that_the_config_map_can_hold() {
    let flags = [
        "--s3-endpoint=http://minio:9000",
        "--s3-addressing=path",
        "--s3-checksums=never",
        "--aws-region=eu-central-1",
        "--aws-ec2-metadata-disabled=true",
        "--trace-functions=all",
        "--trace-detail=entry",
        "--trace-format=jsonl.zst",
        "--trace-rate-limit=1000",
        "--attach-by=auto",
        "--cuda-library-dirs=/lib",
        "--log-format=json",
        "--tracer-log=debug",
    ];
    let data = settings::settings(&config(&flags)).data.unwrap();
    assert_eq!(data.keys().collect::<Vec<_>>(), settings::NAMES.iter().collect::<Vec<_>>());
}
