//! What the kubelet does for the pod and podman does not, for whoever plays the pod.

use k8s_openapi::{
    api::core::v1::{Container, PodSpec, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde::Serialize;

use super::{HOST, host_port};
use settings::deployment::Config;

use crate::deployment::deployment;

/// Containers in the order in which they are started; they are stopped in the reverse order.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Duties {
    /// For the end of all containers together.
    pub grace_period_seconds: i64,
    pub containers: Vec<Watched>,
}

/// A container, and the probes that are sent to it. The next one starts when `startup` has passed.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Watched {
    pub name: String,
    pub startup: Option<Request>,
    pub readiness: Option<Request>,
    pub liveness: Option<Request>,
}

/// A probe over HTTP, by the port of this machine that leads to the container.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    pub address: String,
    pub path: String,
    pub period_seconds: i32,
    pub timeout_seconds: i32,
    /// So many in a row count.
    pub failures: i32,
}

/// Of the pod as [`super::render`] prints it.
pub fn duties(config: &Config) -> Duties {
    let pod = deployment(config).spec.and_then(|spec| spec.template.spec).unwrap_or_default();
    let PodSpec { init_containers, containers, termination_grace_period_seconds, .. } = pod;
    Duties {
        grace_period_seconds: termination_grace_period_seconds.unwrap_or(30),
        containers: init_containers
            .into_iter()
            .flatten()
            .chain(containers)
            .map(|container| watched(&container, config))
            .collect(),
    }
}

fn watched(container: &Container, config: &Config) -> Watched {
    let request = |probe: &Option<Probe>| request(probe.as_ref()?, container, config);
    Watched {
        name: container.name.clone(),
        startup: request(&container.startup_probe),
        readiness: request(&container.readiness_probe),
        liveness: request(&container.liveness_probe),
    }
}

/// None for a probe of another kind; there are only those over HTTP. Absent values are the defaults
/// of Kubernetes.
fn request(probe: &Probe, container: &Container, config: &Config) -> Option<Request> {
    let get = probe.http_get.as_ref()?;
    let port = match &get.port {
        IntOrString::Int(port) => *port,
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            ports.find(|port| port.name.as_ref() == Some(name))?.container_port
        }
    };
    Some(Request {
        address: format!("{HOST}:{}", host_port(port, config)),
        path: get.path.clone().unwrap_or_else(|| "/".to_owned()),
        period_seconds: probe.period_seconds.unwrap_or(10),
        timeout_seconds: probe.timeout_seconds.unwrap_or(1),
        failures: probe.failure_threshold.unwrap_or(3),
    })
}
