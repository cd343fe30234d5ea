//! The deployment as `podman kube play` understands it, for trying the pod on a machine without a cluster.
//!
//! Podman 5.4 takes a native sidecar for a step to wait for, runs probes by a command inside the
//! container, and refuses some references to fields. All else stays: images, arguments, variables,
//! capabilities, volumes and the shared process namespace are what is tried.

mod kubelet;

use anyhow::Result;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Container, EnvVar, PodSpec},
};
use settings::{
    deployment::Config,
    names::{ACCOUNT, GPU, NAMESPACE, VLLM_PORT},
};

use crate::{
    config_map::config_map,
    deployment::deployment,
    storage::{model_cache, traces},
    yaml::to_yaml,
};
pub use kubelet::{Duties, Request, Watched, duties};

/// Where ports of the pod are reached; never from another machine.
const HOST: &str = "127.0.0.1";

/// What the pod needs there: claims, which become volumes of podman, settings and the deployment.
pub fn render(config: &Config) -> Result<Vec<String>> {
    config.check()?;
    let mut documents = vec![to_yaml(&config_map(config))?];
    if let Some(claim) = model_cache(config) {
        documents.push(to_yaml(&claim)?);
    }
    documents.push(to_yaml(&traces(config))?);
    documents.push(to_yaml(&for_podman(deployment(config), config))?);
    Ok(documents)
}

/// Changes what podman cannot do or this machine does not have.
pub fn for_podman(mut deployment: Deployment, config: &Config) -> Deployment {
    let pod = deployment.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
    if let Some(pod) = pod {
        sidecars_to_containers(pod);
        pod.runtime_class_name = None;
        pod.tolerations = None;
        pod.node_selector = None;
        pod.priority_class_name = None;
        pod.image_pull_secrets = None;
        for container in &mut pod.containers {
            adapt(container, config);
        }
    }
    deployment
}

/// In front of the others, as podman starts containers in order.
fn sidecars_to_containers(pod: &mut PodSpec) {
    let is_sidecar = |container: &Container| container.restart_policy.as_deref() == Some("Always");
    let (mut sidecars, others): (Vec<_>, Vec<_>) =
        pod.init_containers.take().into_iter().flatten().partition(is_sidecar);
    for sidecar in &mut sidecars {
        sidecar.restart_policy = None;
    }
    sidecars.append(&mut pod.containers);
    pod.containers = sidecars;
    pod.init_containers = (!others.is_empty()).then_some(others);
}

fn adapt(container: &mut Container, config: &Config) {
    // Run by whoever plays the pod: podman would run `curl` inside the image.
    container.startup_probe = None;
    container.readiness_probe = None;
    container.liveness_probe = None;
    // Images are built here.
    container.image_pull_policy = Some("Never".to_owned());
    if let Some(resources) = &mut container.resources {
        for amounts in [&mut resources.limits, &mut resources.requests] {
            if let Some(map) = amounts {
                map.remove(GPU);
                if map.is_empty() {
                    *amounts = None;
                }
            }
        }
    }
    for port in container.ports.iter_mut().flatten() {
        port.host_ip = Some(HOST.to_owned());
        port.host_port = Some(host_port(port.container_port, config));
    }
    container.env.iter_mut().flatten().for_each(replace_references);
}

/// There is no service, so its port is one of this machine.
fn host_port(port: i32, config: &Config) -> i32 {
    if port == VLLM_PORT { config.node_port } else { port }
}

fn replace_references(variable: &mut EnvVar) {
    let Some(source) = &mut variable.value_from else { return };
    if let Some(secret) = &mut source.secret_key_ref {
        // There is no Hugging Face to ask.
        secret.optional = Some(true);
    }
    let path = source.field_ref.as_ref().map(|field| field.field_path.as_str());
    let value = match path {
        Some("metadata.namespace") => NAMESPACE,
        Some("spec.nodeName") => "localhost",
        Some("spec.serviceAccountName") => ACCOUNT,
        Some("status.hostIP" | "status.podIP") => HOST,
        // Podman knows the name and the uid itself.
        _ => return,
    };
    variable.value = Some(value.to_owned());
    variable.value_from = None;
}
