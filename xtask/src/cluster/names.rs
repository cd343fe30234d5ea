//! Names that the cluster knows; `manifests/src/names.rs` has them for the objects.

pub(crate) const NAMESPACE: &str = "vllm-tracing";
/// Selects the pods.
pub(crate) const SELECTOR: &str = "app=vllm";
pub(crate) const DEPLOYMENT: &str = "vllm";
pub(crate) const VLLM: &str = "vllm";
pub(crate) const TRACER: &str = "ebpf-tracer";
pub(crate) const SERVICE: &str = "vllm-api";
pub(crate) const NODE_PORT: u16 = 30800;

pub(crate) const HF_SECRET: &str = "hf-token";
pub(crate) const HF_SECRET_KEY: &str = "token";
pub(crate) const AWS_SECRET: &str = "aws-credentials";
pub(crate) const AWS_SECRET_KEYS: [&str; 3] =
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

pub(crate) const GPU: &str = "nvidia.com/gpu";
pub(crate) const RUNTIME_CLASS: &str = "nvidia";

/// Without a tag; the registry in front, because containerd adds it where it is left out, and
/// podman another one.
pub(crate) const IMAGE: &str = "docker.io/littleboy/ebpf-cuda-tracer";
/// The settings of the tracer: a ConfigMap.
pub(crate) const SETTINGS: &str = "ebpf-tracer";
/// Of the service account, its role and the binding of the two.
pub(crate) const ACCOUNT: &str = "vllm";
/// The sidecar's program in its image.
pub(crate) const TRACER_PROGRAM: &str = "/ebpf-cuda-tracer";

/// Whom the API server takes for the owner of what is applied.
pub(crate) const FIELD_MANAGER: &str = "vllm-tracing-xtask";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use tasks::ctx::workspace_root;

    #[test]
    fn objects_carry_the_same_names() {
        let source = fs::read_to_string(workspace_root().join("manifests/src/names.rs")).unwrap();
        for (name, value) in [
            ("NAMESPACE", NAMESPACE),
            ("APP", SELECTOR.strip_prefix("app=").unwrap()),
            ("DEPLOYMENT", DEPLOYMENT),
            ("VLLM_CONTAINER", VLLM),
            ("TRACER_CONTAINER", TRACER),
            ("SERVICE", SERVICE),
            ("SETTINGS", SETTINGS),
            ("ACCOUNT", ACCOUNT),
            ("HF_SECRET", HF_SECRET),
            ("HF_SECRET_KEY", HF_SECRET_KEY),
            ("AWS_SECRET", AWS_SECRET),
            ("GPU", GPU),
            ("RUNTIME_CLASS", RUNTIME_CLASS),
        ] {
            let line = format!("pub const {name}: &str = {value:?};");
            assert!(source.contains(&line), "manifests/src/names.rs does not say `{line}`");
        }
        for key in AWS_SECRET_KEYS {
            assert!(source.contains(&format!("{key:?}")), "{key}");
        }
    }
}
