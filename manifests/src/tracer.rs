//! The tracer's container: a native sidecar.

use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapEnvSource, Container, ContainerPort, EnvFromSource, EnvVar,
        EnvVarSource, ObjectFieldSelector, ResourceRequirements, SecurityContext, VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use settings::{
    deployment::{Config, Memory, Profile, Tracer},
    names::{
        AWS_SECRET, AWS_SECRET_KEYS, SETTINGS, TRACER_CONTAINER, TRACER_PORT, TRACER_PORT_NAME,
    },
    rights::{ALWAYS, SYS_ADMIN},
};

use crate::{
    probe,
    vllm::{from_secret, literal},
};

pub(crate) const TRACES_VOLUME: &str = "traces";

/// `restartPolicy: Always` makes an init container a sidecar: vLLM starts once its startup probe
/// passes, so that no CUDA call is missed, and it is stopped only after vLLM.
pub(crate) fn container(config: &Config) -> Container {
    let tracer = &config.tracer;
    Container {
        name: TRACER_CONTAINER.to_owned(),
        image: Some(tracer.tracer_image.clone()),
        image_pull_policy: Some(tracer.tracer_pull_policy.as_str().to_owned()),
        restart_policy: Some("Always".to_owned()),
        env: Some(variables(tracer)),
        env_from: Some(vec![EnvFromSource {
            config_map_ref: Some(ConfigMapEnvSource {
                name: SETTINGS.to_owned(),
                ..ConfigMapEnvSource::default()
            }),
            ..EnvFromSource::default()
        }]),
        ports: Some(vec![ContainerPort {
            container_port: TRACER_PORT,
            name: Some(TRACER_PORT_NAME.to_owned()),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        // Asks whether the tracer watches, never whether there is something to see: vLLM waits for it.
        startup_probe: Some(probe::http_get("/readyz", TRACER_PORT_NAME, 1, 1, 60)),
        liveness_probe: Some(probe::http_get("/healthz", TRACER_PORT_NAME, 10, 5, 6)),
        // No readiness probe: it would count for the pod, and take vLLM's API away while the tracer has a fault.
        resources: Some(resources(tracer)),
        security_context: Some(security_context(config)),
        volume_mounts: Some(vec![VolumeMount {
            name: TRACES_VOLUME.to_owned(),
            mount_path: config.typed("TRACE_DIR").to_owned(),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

/// Credentials from the secret where there is one; else the AWS SDK looks on, as far as the role of the instance.
fn variables(tracer: &Tracer) -> Vec<EnvVar> {
    let credentials = AWS_SECRET_KEYS.map(|key| from_secret(key, AWS_SECRET, key, true));
    let given = tracer.tracer_env.0.iter().map(|(name, value)| EnvVar {
        name: name.clone(),
        value: Some(literal(value)),
        ..EnvVar::default()
    });
    // For fields in S3_PREFIX.
    let places = [("NODE_NAME", "spec.nodeName"), ("POD_NAME", "metadata.name")];
    let places = places.map(|(name, path)| from_field(name, path));
    credentials.into_iter().chain(places).chain(given).collect()
}

fn from_field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

/// No limit of processor time: a throttled reader loses events.
fn resources(tracer: &Tracer) -> ResourceRequirements {
    let memory = |size: &Memory| ("memory".to_owned(), Quantity(size.to_string()));
    ResourceRequirements {
        limits: Some([memory(&tracer.tracer_memory_limit)].into()),
        requests: Some(
            [
                ("cpu".to_owned(), Quantity(tracer.tracer_cpu.clone())),
                memory(&tracer.tracer_memory),
            ]
            .into(),
        ),
        ..ResourceRequirements::default()
    }
}

/// Always uid 0: containerd gives added capabilities to root only.
fn security_context(config: &Config) -> SecurityContext {
    let common = SecurityContext {
        read_only_root_filesystem: Some(true),
        run_as_group: Some(0),
        run_as_user: Some(0),
        ..SecurityContext::default()
    };
    match config.profile {
        Profile::Default => SecurityContext {
            // Kubernetes refuses this beside CAP_SYS_ADMIN only where that is spelt so.
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                add: Some(capabilities(config.perf_events)),
                drop: Some(vec!["ALL".to_owned()]),
            }),
            ..common
        },
        Profile::Privileged => SecurityContext { privileged: Some(true), ..common },
    }
}

fn capabilities(perf_events: bool) -> Vec<String> {
    let perf_events = perf_events.then_some(SYS_ADMIN);
    ALWAYS
        .into_iter()
        .chain(perf_events)
        .map(|capability| capability.short_name().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_perf_events_three_capabilities_are_enough() {
        assert_eq!(capabilities(true), ["BPF", "PERFMON", "SYS_PTRACE", "SYS_ADMIN"]);
        assert_eq!(capabilities(false), ["BPF", "PERFMON", "SYS_PTRACE"]);
    }
}
