//! Names and ports that the cluster knows, or that people type.

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

/// Of the pod: changes when a secret does that it was started with.
pub const SECRETS_ANNOTATION: &str = "vllm-tracing/secrets";

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
/// Of every node; leads to vLLM unless the setting of this name says another.
pub const NODE_PORT: u16 = 30800;

/// The tracer's image, without a tag. The registry in front, because containerd adds it where it is left
/// out, and podman another one.
pub const IMAGE: &str = "docker.io/littleboy/ebpf-cuda-tracer";
/// The tracer's program in its image.
pub const TRACER_PROGRAM: &str = "/ebpf-cuda-tracer";

/// Whom the API server takes for the owner of what is applied.
pub const FIELD_MANAGER: &str = "vllm-tracing-xtask";
