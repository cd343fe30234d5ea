//! The tracer's settings: a ConfigMap whose keys are the variables of the tracer.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use sha2::{Digest as _, Sha256};

use crate::{
    config::{Config, S3, Tracer},
    names::{SETTINGS, TRACER_PORT, metadata},
};

/// All that the ConfigMap can hold. The tracer reads those of the AWS SDK through it, the others itself: a test holds
/// them to the tracer's own list.
pub const NAMES: [&str; 23] = [
    "ATTACH_BY",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_REGION",
    "CUDA_LIBRARY_DIRS",
    "HTTP_ADDRESS",
    "LOG_FORMAT",
    "RING_BUFFER_SIZE",
    "RUST_LOG",
    "S3_BUCKET",
    "S3_ENDPOINT",
    "S3_PREFIX",
    "SHUTDOWN_TIMEOUT",
    "TARGET_PROCESS",
    "TRACE_DETAIL",
    "TRACE_DIR",
    "TRACE_DIR_LIMIT",
    "TRACE_FORMAT",
    "TRACE_FUNCTIONS",
    "TRACE_INTERVAL",
    "TRACE_RATE_LIMIT",
    "TRACE_SEGMENT_SIZE",
    "UPLOAD_ENABLED",
    "UPLOAD_INTERVAL",
];

pub fn settings(config: &Config) -> ConfigMap {
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
    let Tracer {
        tracer_image: _,
        tracer_pull_policy: _,
        tracer_cpu: _,
        tracer_memory: _,
        tracer_memory_limit: _,
        tracer_env: _,
        tracer_log,
        log_format,
        target_process,
        trace_interval,
        trace_dir,
        trace_functions,
        trace_detail,
        trace_rate_limit,
        attach_by,
        trace_format,
        trace_segment_size,
        trace_dir_limit,
        ring_buffer_size,
        cuda_library_dirs,
        shutdown_timeout,
    } = &config.tracer;
    let S3 {
        upload_enabled,
        s3_bucket,
        s3_prefix,
        s3_endpoint,
        upload_interval,
        aws_region,
        aws_ec2_metadata_disabled,
    } = &config.s3;
    [
        // All addresses of the pod, of either family: the kubelet probes from the node.
        ("HTTP_ADDRESS", Some(format!("[::]:{TRACER_PORT}"))),
        ("TARGET_PROCESS", Some(target_process.clone())),
        ("TRACE_INTERVAL", Some(trace_interval.clone())),
        ("TRACE_DIR", Some(trace_dir.clone())),
        ("TRACE_SEGMENT_SIZE", Some(trace_segment_size.to_string())),
        ("TRACE_DIR_LIMIT", Some(trace_dir_limit.to_string())),
        ("RING_BUFFER_SIZE", Some(ring_buffer_size.to_string())),
        ("SHUTDOWN_TIMEOUT", Some(shutdown_timeout.to_string())),
        ("UPLOAD_ENABLED", Some(upload_enabled.to_string())),
        ("UPLOAD_INTERVAL", Some(upload_interval.clone())),
        ("S3_PREFIX", Some(s3_prefix.clone())),
        ("S3_BUCKET", s3_bucket.clone()),
        ("S3_ENDPOINT", s3_endpoint.clone()),
        ("AWS_REGION", aws_region.clone()),
        ("AWS_EC2_METADATA_DISABLED", aws_ec2_metadata_disabled.then(|| "true".to_owned())),
        ("TRACE_FUNCTIONS", trace_functions.clone()),
        ("TRACE_DETAIL", trace_detail.clone()),
        ("TRACE_RATE_LIMIT", trace_rate_limit.map(|limit| limit.to_string())),
        ("ATTACH_BY", attach_by.clone()),
        ("TRACE_FORMAT", trace_format.clone()),
        ("CUDA_LIBRARY_DIRS", cuda_library_dirs.clone()),
        ("LOG_FORMAT", log_format.clone()),
        ("RUST_LOG", tracer_log.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}
