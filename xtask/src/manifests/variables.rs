//! The variables that settings of the deployment can come from: `manifests` reads them, and a command
//! that is shown names those that are set.

use std::env;

const NAMES: [&str; 58] = [
    "ATTACH_BY",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_REGION",
    "CUDA_LIBRARY_DIRS",
    "DEVICE_PLUGIN_IMAGE",
    "DRAIN_TIMEOUT",
    "DTYPE",
    "ENFORCE_EAGER",
    "GPU_MEMORY_UTILIZATION",
    "GPUS",
    "HF_OFFLINE",
    "HF_TOKEN_OPTIONAL",
    "LOG_FORMAT",
    "MAX_MODEL_LEN",
    "MODEL",
    "MODEL_CACHE_DIR",
    "MODEL_CACHE_HOST_PATH",
    "MODEL_CACHE_SIZE",
    "NODE_PORT",
    "PERF_EVENTS",
    "RING_BUFFER_SIZE",
    "S3_ADDRESSING",
    "S3_BUCKET",
    "S3_CHECKSUMS",
    "S3_ENDPOINT",
    "S3_PREFIX",
    "SHM_SIZE",
    "SHUTDOWN_TIMEOUT",
    "STARTUP_TIMEOUT",
    "STORAGE_CLASS",
    "TARGET_PROCESS",
    "TENSOR_PARALLEL_SIZE",
    "TRACE_DETAIL",
    "TRACE_DIR",
    "TRACE_DIR_LIMIT",
    "TRACE_FORMAT",
    "TRACE_FUNCTIONS",
    "TRACE_INTERVAL",
    "TRACE_RATE_LIMIT",
    "TRACE_SEGMENT_SIZE",
    "TRACER_CPU",
    "TRACER_ENV",
    "TRACER_IMAGE",
    "TRACER_LOG",
    "TRACER_MEMORY",
    "TRACER_MEMORY_LIMIT",
    "TRACER_PROFILE",
    "TRACER_PULL_POLICY",
    "TRACES_SIZE",
    "UPLOAD_ENABLED",
    "UPLOAD_INTERVAL",
    "VLLM_ARGS",
    "VLLM_CPU",
    "VLLM_ENV",
    "VLLM_IMAGE",
    "VLLM_MEMORY",
    "VLLM_MEMORY_LIMIT",
    "VLLM_PULL_POLICY",
];

/// Those whose values people may hide passwords in.
pub(super) const HIDDEN: [&str; 3] = ["TRACER_ENV", "VLLM_ARGS", "VLLM_ENV"];

pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) is_hidden: bool,
}

/// Those that are set here; an empty one counts as unset.
pub(super) fn set() -> Vec<Variable> {
    let value = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let variable =
        |name| Some(Variable { name, value: value(name)?, is_hidden: HIDDEN.contains(&name) });
    NAMES.into_iter().filter_map(variable).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;
    use tasks::ctx::workspace_root;

    #[test]
    fn they_are_those_of_the_program_that_renders() {
        let sources = workspace_root().join("manifests/src");
        let parts = fs::read_dir(sources.join("config")).unwrap();
        let parts = parts.map(|part| part.unwrap().path()).filter(|part| part.is_file());
        let files = parts.chain([sources.join("config.rs")]);
        let text: String = files.map(|file| fs::read_to_string(file).unwrap()).collect();
        let read = text.split("env = \"").skip(1).map(|rest| rest.split('"').next().unwrap());
        assert_eq!(read.collect::<BTreeSet<_>>(), BTreeSet::from(NAMES));
    }
}
