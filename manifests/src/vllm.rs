//! vLLM's container.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, EnvVar, EnvVarSource, ResourceRequirements, SecretKeySelector,
        SecurityContext, VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use settings::{
    deployment::{Config, SHARED_MEMORY_PATH, Vllm},
    names::{GPU, HF_SECRET, HF_SECRET_KEY, VLLM_CONTAINER, VLLM_PORT, VLLM_PORT_NAME},
};

use crate::{probe, tracer};

pub(crate) const CACHE_VOLUME: &str = "model-cache";
pub(crate) const SHARED_MEMORY_VOLUME: &str = "shm";

/// How often vLLM is asked whether it has started.
const STARTUP_PERIOD: u32 = 10;

pub(crate) fn container(config: &Config) -> Container {
    let vllm = &config.vllm;
    Container {
        name: VLLM_CONTAINER.to_owned(),
        image: Some(vllm.vllm_image.clone()),
        image_pull_policy: Some(vllm.vllm_pull_policy.as_str().to_owned()),
        // Named, as images differ in their entrypoint. No shell, which would keep signals to itself.
        command: Some(["vllm", "serve"].map(str::to_owned).into()),
        args: Some(arguments(vllm)),
        env: Some(variables(vllm)),
        ports: Some(vec![ContainerPort {
            container_port: VLLM_PORT,
            name: Some(VLLM_PORT_NAME.to_owned()),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        // Until the model is loaded the port is closed, and that is no failure.
        startup_probe: Some(probe::http_get(
            "/health",
            VLLM_PORT_NAME,
            i32::try_from(STARTUP_PERIOD).expect("it is 10"),
            5,
            i32::try_from(vllm.startup_timeout.div_ceil(STARTUP_PERIOD))
                .expect("the timeout is at most a day"),
        )),
        readiness_probe: Some(probe::http_get("/health", VLLM_PORT_NAME, 5, 5, 3)),
        // Slow is not dead: a full batch may delay an answer.
        liveness_probe: Some(probe::http_get("/health", VLLM_PORT_NAME, 15, 10, 4)),
        resources: Some(resources(vllm)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts(config)),
        ..Container::default()
    }
}

fn arguments(vllm: &Vllm) -> Vec<String> {
    let mut arguments = vec![
        vllm.model.clone(),
        "--host=0.0.0.0".to_owned(),
        format!("--port={VLLM_PORT}"),
        format!("--gpu-memory-utilization={}", vllm.gpu_memory_utilization),
        format!("--max-model-len={}", vllm.max_model_len),
        format!("--dtype={}", vllm.dtype.as_str()),
        format!("--tensor-parallel-size={}", vllm.tensor_parallel()),
    ];
    if vllm.enforce_eager {
        arguments.push("--enforce-eager".to_owned());
    }
    if vllm.drain_timeout > 0 {
        arguments.push(format!("--shutdown-timeout={}", vllm.drain_timeout));
    }
    // Last, as the last of two that contradict each other holds.
    arguments.extend(vllm.vllm_args.0.iter().cloned());
    arguments.iter().map(|argument| literal(argument)).collect()
}

/// As Kubernetes must see a text to take it as it is: in arguments and variables it puts the values of
/// variables in the place of their names, secrets too.
pub(crate) fn literal(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        escaped.push_str(before);
        rest = from.trim_start_matches('$');
        let dollars = &from[..from.len() - rest.len()];
        escaped.push_str(dollars);
        if dollars.len() > 1 || rest.starts_with('(') {
            escaped.push_str(dollars);
        }
    }
    escaped + rest
}

fn variables(vllm: &Vllm) -> Vec<EnvVar> {
    let plain = |name: &str, value: String| EnvVar {
        name: name.to_owned(),
        value: Some(literal(&value)),
        ..EnvVar::default()
    };
    let cache = vllm.model_cache_dir.trim_end_matches('/');
    let mut variables = vec![
        from_secret("HF_TOKEN", HF_SECRET, HF_SECRET_KEY, vllm.hf_token_optional),
        plain("HF_HOME", format!("{cache}/huggingface")),
    ];
    if vllm.hf_offline {
        variables.push(plain("HF_HUB_OFFLINE", "1".to_owned()));
    }
    variables.extend(vllm.vllm_env.0.iter().map(|(name, value)| plain(name, value.clone())));
    variables
}

/// A variable from a key of a secret; without the secret the container starts only if it is optional.
pub(crate) fn from_secret(name: &str, secret: &str, key: &str, optional: bool) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                key: key.to_owned(),
                name: secret.to_owned(),
                optional: optional.then_some(true),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

/// No limit of processor time: throttling would be measured as vLLM's own slowness.
fn resources(vllm: &Vllm) -> ResourceRequirements {
    let mut limits = BTreeMap::from([(GPU.to_owned(), Quantity(vllm.gpus.to_string()))]);
    if let Some(limit) = &vllm.vllm_memory_limit {
        limits.insert("memory".to_owned(), Quantity(limit.to_string()));
    }
    let requests = [
        ("cpu", vllm.vllm_cpu.clone()),
        ("memory", vllm.vllm_memory.to_string()),
        (GPU, vllm.gpus.to_string()),
    ];
    ResourceRequirements {
        limits: Some(limits),
        requests: Some(requests.map(|(name, value)| (name.to_owned(), Quantity(value))).into()),
        ..ResourceRequirements::default()
    }
}

fn mounts(config: &Config) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    vec![
        // Models of Hugging Face, and what vLLM and Triton compile.
        mount(CACHE_VOLUME, &config.vllm.model_cache_dir, false),
        mount(SHARED_MEMORY_VOLUME, SHARED_MEMORY_PATH, false),
        // For people: the tracer's image has no shell to look with.
        mount(tracer::TRACES_VOLUME, config.typed("TRACE_DIR"), true),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kubelet does: k8s.io/kubernetes/third_party/forked/golang/expansion.
    fn expanded(text: &str) -> String {
        let (mut expanded, mut rest) = (String::new(), text);
        while let Some(c) = rest.chars().next() {
            if let Some(behind) = rest.strip_prefix("$$") {
                expanded.push('$');
                rest = behind;
            } else if rest.starts_with("$(") && rest.contains(')') {
                expanded.push_str("EXPANDED");
                rest = &rest[rest.find(')').unwrap() + 1..];
            } else {
                expanded.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        expanded
    }

    #[test]
    fn no_text_is_expanded_by_kubernetes() {
        for text in ["a$$b", "$$(A)", "$(A)", "pa$$w0rd", "x$", "$$$(A)", "$x$$", "", "\u{e4}$(A)$"]
        {
            assert_eq!(expanded(&literal(text)), text);
        }
        assert_eq!(literal("a$b"), "a$b");
    }
}
