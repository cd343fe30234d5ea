//! The deployment: one pod, vLLM with the tracer beside it.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy},
        core::v1::{
            EmptyDirVolumeSource, HostPathVolumeSource, LocalObjectReference,
            PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec,
            SeccompProfile, Toleration, Volume,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
    },
};
use settings::{
    deployment::{Config, Profile, Taint},
    names::{
        ACCOUNT, DEPLOYMENT, GPU, MODEL_CACHE, RUNTIME_CLASS, SECRETS_ANNOTATION, TRACER_PORT,
        TRACES, VLLM_CONTAINER,
    },
};

use crate::{
    config_map,
    labels::{self, metadata},
    tracer, vllm,
};

/// How long vLLM's processes take to end once their requests have: Python, CUDA contexts, the engine.
const VLLM_EXIT: u32 = 30;
/// What the kubelet needs around the two containers.
const KUBELET_MARGIN: u32 = 10;
/// Pulling an image of ten gigabytes, before vLLM's own start.
const IMAGE_PULL: u32 = 1800;

pub fn deployment(config: &Config) -> Deployment {
    Deployment {
        metadata: metadata(DEPLOYMENT),
        spec: Some(DeploymentSpec {
            // Above the time that the startup probe gives, or the deployment fails first.
            progress_deadline_seconds: Some(seconds(IMAGE_PULL + config.vllm.startup_timeout)),
            replicas: Some(1),
            selector: LabelSelector {
                match_labels: Some(labels::selector()),
                ..LabelSelector::default()
            },
            // The new pod needs the GPU of the old one: a rolling update would wait for ever.
            strategy: Some(DeploymentStrategy {
                type_: Some("Recreate".to_owned()),
                ..DeploymentStrategy::default()
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    annotations: Some(annotations(config)),
                    labels: Some(labels::labels()),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(config)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// The kubelet stops vLLM first and the tracer after it, both within one period. What vLLM takes is
/// lost to the tracer, which needs the rest to close, upload and delete what it has written.
pub(crate) fn grace_period(config: &Config) -> u32 {
    let timeout = config.settings.shutdown_timeout;
    let shutdown = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
    // A day at most.
    let shutdown = u32::try_from(shutdown).unwrap_or(u32::MAX);
    config.vllm.drain_timeout + VLLM_EXIT + shutdown + KUBELET_MARGIN
}

/// GPU nodes are often kept free of pods that need no GPU.
pub(crate) fn tolerations() -> Vec<Toleration> {
    vec![Toleration {
        effect: Some("NoSchedule".to_owned()),
        key: Some(GPU.to_owned()),
        operator: Some("Exists".to_owned()),
        ..Toleration::default()
    }]
}

fn tolerated(config: &Config) -> Vec<Toleration> {
    let taints = config.scheduling.tolerations.0.iter();
    let toleration = |Taint { key, value, effect }: &Taint| Toleration {
        effect: effect.clone(),
        key: Some(key.clone()),
        operator: Some(if value.is_some() { "Equal" } else { "Exists" }.to_owned()),
        value: value.clone(),
        ..Toleration::default()
    };
    taints.map(toleration).collect()
}

fn node_selector(config: &Config) -> Option<BTreeMap<String, String>> {
    let labels = &config.scheduling.node_selector.0;
    (!labels.is_empty()).then(|| labels.iter().cloned().collect())
}

fn image_pull_secrets(config: &Config) -> Option<Vec<LocalObjectReference>> {
    let names = &config.scheduling.image_pull_secrets.0;
    let reference = |name: &String| LocalObjectReference { name: name.clone() };
    (!names.is_empty()).then(|| names.iter().map(reference).collect())
}

fn annotations(config: &Config) -> BTreeMap<String, String> {
    let secrets = config.tracer.secrets_digest.clone();
    [
        ("kubectl.kubernetes.io/default-container", VLLM_CONTAINER.to_owned()),
        ("prometheus.io/scrape", "true".to_owned()),
        ("prometheus.io/port", TRACER_PORT.to_string()),
        ("vllm-tracing/settings", config_map::digest(config)),
    ]
    .into_iter()
    .chain(secrets.map(|digest| (SECRETS_ANNOTATION, digest)))
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

fn pod(config: &Config) -> PodSpec {
    let is_default = config.profile == Profile::Default;
    PodSpec {
        automount_service_account_token: Some(false),
        containers: vec![vllm::container(config)],
        // Else every service of the namespace becomes variables, and vLLM warns of or stumbles over
        // those that begin with VLLM_.
        enable_service_links: Some(false),
        host_pid: (!is_default).then_some(true),
        image_pull_secrets: image_pull_secrets(config),
        // A native sidecar: runs before vLLM starts and until after it has ended.
        init_containers: Some(vec![tracer::container(config)]),
        node_selector: node_selector(config),
        priority_class_name: config.scheduling.priority_class.clone(),
        runtime_class_name: Some(RUNTIME_CLASS.to_owned()),
        security_context: is_default.then(|| PodSecurityContext {
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        service_account_name: Some(ACCOUNT.to_owned()),
        // The tracer sees vLLM's processes and no others of the node.
        share_process_namespace: is_default.then_some(true),
        termination_grace_period_seconds: Some(grace_period(config).into()),
        tolerations: Some([tolerations(), tolerated(config)].concat()),
        volumes: Some(volumes(config)),
        ..PodSpec::default()
    }
}

fn volumes(config: &Config) -> Vec<Volume> {
    let claim = |name: &str| {
        Some(PersistentVolumeClaimVolumeSource {
            claim_name: name.to_owned(),
            ..PersistentVolumeClaimVolumeSource::default()
        })
    };
    let host_path = config.storage.model_cache_host_path.as_ref();
    vec![
        Volume {
            name: vllm::CACHE_VOLUME.to_owned(),
            host_path: host_path.map(|path| HostPathVolumeSource {
                path: path.clone(),
                type_: Some("Directory".to_owned()),
            }),
            persistent_volume_claim: if host_path.is_none() { claim(MODEL_CACHE) } else { None },
            ..Volume::default()
        },
        Volume {
            name: vllm::SHARED_MEMORY_VOLUME.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: Some(Quantity(config.vllm.shm_size.to_string())),
            }),
            ..Volume::default()
        },
        Volume {
            name: tracer::TRACES_VOLUME.to_owned(),
            persistent_volume_claim: claim(TRACES),
            ..Volume::default()
        },
    ]
}

fn seconds(seconds: u32) -> i32 {
    i32::try_from(seconds).expect("every setting in seconds is at most a day")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    fn config(flags: &[&str]) -> Config {
        Cli::from_flags(flags.iter().copied()).unwrap().config
    }

    /// Whatever vLLM may take, the tracer's time to upload is left.
    #[test]
    fn the_grace_period_has_room_for_both_containers() {
        assert_eq!(grace_period(&config(&[])), 100);
        let config = config(&["--drain-timeout=300", "--shutdown-timeout=90"]);
        assert_eq!(grace_period(&config), 300 + VLLM_EXIT + 90 + KUBELET_MARGIN);
    }

    #[test]
    fn a_changed_setting_of_the_tracer_makes_a_new_pod() {
        let annotation = |flags| annotations(&config(flags)).remove("vllm-tracing/settings");
        assert_ne!(annotation(&[]), annotation(&["--trace-interval=30"]));
        assert_eq!(annotation(&[]), annotation(&["--trace-interval=60"]));
        let secrets = |flags| annotations(&config(flags)).remove(SECRETS_ANNOTATION);
        assert_eq!(secrets(&["--secrets-digest=0123"]).as_deref(), Some("0123"));
        assert_eq!(secrets(&[]), None);
    }

    #[test]
    fn the_deployment_does_not_give_up_before_the_startup_probe() {
        for timeout in ["60", "61", "86400"] {
            let flag = format!("--startup-timeout={timeout}");
            let spec = deployment(&config(&[&flag])).spec.unwrap();
            let probe = spec.template.spec.unwrap().containers[0].startup_probe.clone().unwrap();
            let waits = probe.period_seconds.unwrap() * probe.failure_threshold.unwrap();
            assert!(waits >= timeout.parse().unwrap());
            assert!(spec.progress_deadline_seconds.unwrap() > waits);
        }
    }
}
