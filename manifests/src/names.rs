//! Names that more than one object carries, or that people type.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub const NAMESPACE: &str = "vllm-tracing";

/// The value of the label `app`, by which everything is selected.
pub const APP: &str = "vllm";

pub const VLLM_CONTAINER: &str = "vllm";
pub const TRACER_CONTAINER: &str = "ebpf-tracer";

/// Never `vllm`: with service links on, that name gives the pod a VLLM_PORT that vLLM takes for its own.
pub const SERVICE: &str = "vllm-api";
pub const DEPLOYMENT: &str = "vllm";
/// Of the service account, its role and the binding of the two.
pub const ACCOUNT: &str = "vllm";
/// Settings of the tracer.
pub const SETTINGS: &str = "ebpf-tracer";
pub const MODEL_CACHE: &str = "vllm-model-cache";
pub const TRACES: &str = "vllm-traces";

pub const HF_SECRET: &str = "hf-token";
pub const HF_SECRET_KEY: &str = "token";

/// Optional; its keys are the names of the variables in [`AWS_SECRET_KEYS`].
pub const AWS_SECRET: &str = "aws-credentials";
pub const AWS_SECRET_KEYS: [&str; 3] =
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

pub const RUNTIME_CLASS: &str = "nvidia";
pub const GPU: &str = "nvidia.com/gpu";

pub const VLLM_PORT: i32 = 8000;
pub const VLLM_PORT_NAME: &str = "http";
/// Of `/healthz`, `/readyz` and `/metrics`.
pub const TRACER_PORT: i32 = 9420;
pub const TRACER_PORT_NAME: &str = "metrics";

/// What objects of this deployment are found by; a superset of [`selector`].
pub fn labels() -> BTreeMap<String, String> {
    let mut labels = selector();
    labels.extend(node_labels());
    labels
}

/// Of what belongs to the node and stays when the deployment goes.
pub(crate) fn node_labels() -> BTreeMap<String, String> {
    [("app.kubernetes.io/part-of", "k3s-vllm-tracing"), ("app.kubernetes.io/managed-by", "xtask")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Immutable in a Deployment, so nothing is ever added.
pub fn selector() -> BTreeMap<String, String> {
    [("app".to_owned(), APP.to_owned())].into()
}

/// The name, the namespace and the labels of an object of this deployment.
pub(crate) fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        labels: Some(labels()),
        ..ObjectMeta::default()
    }
}
