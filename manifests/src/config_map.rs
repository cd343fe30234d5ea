//! The ConfigMap whose keys are the variables of the tracer.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use settings::{
    deployment::{Config, Sdk},
    names::{SETTINGS, TRACER_PORT},
};
use sha2::{Digest as _, Sha256};

use crate::labels::metadata;

pub fn config_map(config: &Config) -> ConfigMap {
    ConfigMap {
        metadata: metadata(SETTINGS),
        data: Some(variables(config)),
        ..ConfigMap::default()
    }
}

/// Changes when a setting does. A pod keeps the variables it was started with; with this in its
/// template a changed setting makes a new pod.
pub(crate) fn digest(config: &Config) -> String {
    let mut hash = Sha256::new();
    for (name, value) in variables(config) {
        hash.update(format!("{name}={value}\0"));
    }
    let hash: [u8; 32] = hash.finalize().into();
    let (first, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
    format!("{:016x}", u64::from_be_bytes(*first))
}

fn variables(config: &Config) -> BTreeMap<String, String> {
    let Sdk { aws_region, aws_ec2_metadata_disabled } = &config.sdk;
    let mut variables = config.variables.clone();
    let own = [
        // All addresses of the pod, of either family: the kubelet probes from the node.
        (settings::HTTP_ADDRESS, Some(format!("[::]:{TRACER_PORT}"))),
        ("RUST_LOG", config.tracer.tracer_log.clone()),
        ("AWS_REGION", aws_region.clone()),
        ("AWS_EC2_METADATA_DISABLED", aws_ec2_metadata_disabled.then(|| "true".to_owned())),
    ];
    variables.extend(own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    variables
}
