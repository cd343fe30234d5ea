//! What is read of Kubernetes objects: only the fields that a task looks at.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::time::Time;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) generation: u64,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) creation_timestamp: Time,
    /// Until when it may take to go.
    pub(crate) deletion_timestamp: Option<Time>,
    /// How much earlier than that its deletion was asked for.
    pub(crate) deletion_grace_period_seconds: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Condition {
    pub(crate) r#type: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Namespace {
    pub(crate) metadata: Metadata,
    pub(crate) status: NamespaceStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NamespaceStatus {
    pub(crate) phase: String,
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) metadata: Metadata,
    pub(crate) status: PodStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodStatus {
    pub(crate) phase: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) init_container_statuses: Vec<ContainerStatus>,
    pub(crate) container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ContainerStatus {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) ready: bool,
    pub(crate) restart_count: u32,
    pub(crate) state: ContainerState,
    pub(crate) last_state: ContainerState,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerState {
    pub(crate) waiting: Option<Waiting>,
    pub(crate) running: Option<serde_json::Value>,
    pub(crate) terminated: Option<Terminated>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Waiting {
    pub(crate) reason: String,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Terminated {
    pub(crate) reason: String,
    pub(crate) exit_code: i32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Event {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) involved_object: Involved,
    metadata: Metadata,
    first_timestamp: Time,
    last_timestamp: Time,
    #[serde(rename = "eventTime")]
    noted: Time,
    series: Option<Series>,
}

/// The same event again and again.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Series {
    last_observed_time: Time,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Involved {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReplicaSet {
    pub(crate) metadata: Metadata,
    pub(crate) status: ReplicaSetStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReplicaSetStatus {
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Deployment {
    pub(crate) metadata: Metadata,
    pub(crate) spec: DeploymentSpec,
    pub(crate) status: DeploymentStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DeploymentSpec {
    pub(crate) replicas: u32,
    pub(crate) template: Template,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Template {
    pub(crate) spec: TemplateSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct TemplateSpec {
    pub(crate) init_containers: Vec<Container>,
    pub(crate) containers: Vec<Container>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct DeploymentStatus {
    pub(crate) observed_generation: u64,
    pub(crate) updated_replicas: u32,
    pub(crate) ready_replicas: u32,
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Claim {
    pub(crate) metadata: Metadata,
    pub(crate) status: ClaimStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ClaimStatus {
    pub(crate) phase: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    pub(crate) metadata: Metadata,
    pub(crate) spec: ServiceSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceSpec {
    pub(crate) ports: Vec<ServicePort>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServicePort {
    pub(crate) node_port: Option<u16>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) metadata: Metadata,
    pub(crate) status: NodeStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NodeStatus {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) capacity: BTreeMap<String, String>,
    pub(crate) allocatable: BTreeMap<String, String>,
    pub(crate) node_info: NodeInfo,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NodeInfo {
    pub(crate) kubelet_version: String,
    pub(crate) kernel_version: String,
    pub(crate) os_image: String,
}

impl Pod {
    /// Native sidecars are listed with the init containers.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.status.init_container_statuses.iter().chain(&self.status.container_statuses)
    }

    pub(crate) fn container(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers().find(|container| container.name == name)
    }

    pub(crate) fn condition(&self, r#type: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.r#type == r#type)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|condition| condition.status == "True")
    }
}

impl Event {
    /// When it was seen last: each source of events has another field for it.
    pub(crate) fn time(&self) -> Time {
        let series = self.series.as_ref().map(|series| series.last_observed_time);
        [self.last_timestamp, self.noted, self.first_timestamp, self.metadata.creation_timestamp]
            .into_iter()
            .chain(series)
            .max()
            .unwrap_or_default()
    }
}

impl ReplicaSet {
    /// The controller counts them up.
    pub(crate) fn revision(&self) -> u64 {
        let revision = self.metadata.annotations.get("deployment.kubernetes.io/revision");
        revision.and_then(|revision| revision.parse().ok()).unwrap_or(0)
    }

    /// What keeps it from making its pod now; the controller takes it back when it has made one.
    pub(crate) fn failure(&self) -> Option<&Condition> {
        let mut all = self.status.conditions.iter();
        all.find(|condition| condition.r#type == "ReplicaFailure" && condition.status == "True")
    }
}

impl ContainerStatus {
    /// `running`, `waiting: reason` or `ended: reason`, and whether it is ready.
    pub(crate) fn describe(&self) -> String {
        let ContainerState { waiting, running, terminated } = &self.state;
        let state = match (waiting, running, terminated) {
            (Some(waiting), ..) => format!("waiting ({})", waiting.reason),
            (_, Some(_), _) if self.ready => "ready".to_owned(),
            (_, Some(_), _) => "running, not ready".to_owned(),
            (.., Some(ended)) => format!("ended ({}, exit code {})", ended.reason, ended.exit_code),
            _ => "not started".to_owned(),
        };
        match self.restart_count {
            0 => format!("{} {state}", self.name),
            count => format!("{} {state}, {count} restarts", self.name),
        }
    }
}

impl Deployment {
    /// The pods of the last spec are there and ready.
    pub(crate) fn is_complete(&self) -> bool {
        let DeploymentStatus { updated_replicas, ready_replicas, .. } = self.status;
        let wanted = self.spec.replicas;
        self.has_its_pod() && updated_replicas == wanted && ready_replicas == wanted
    }

    /// The controller has seen the last spec.
    pub(crate) fn is_seen(&self) -> bool {
        self.status.observed_generation >= self.metadata.generation
    }

    /// It has also made a pod of it.
    pub(crate) fn has_its_pod(&self) -> bool {
        self.is_seen() && self.status.updated_replicas > 0
    }

    pub(crate) fn image(&self, container: &str) -> Option<&str> {
        let TemplateSpec { init_containers, containers } = &self.spec.template.spec;
        let mut all = init_containers.iter().chain(containers);
        all.find(|one| one.name == container).map(|one| one.image.as_str())
    }
}

impl Node {
    pub(crate) fn is_ready(&self) -> bool {
        let mut conditions = self.status.conditions.iter();
        conditions.any(|condition| condition.r#type == "Ready" && condition.status == "True")
    }

    /// GPUs that pods can have.
    pub(crate) fn gpus(&self) -> u32 {
        count(&self.status.allocatable)
    }

    /// Names by which a device plugin with a configuration of its own offers parts of GPUs.
    pub(crate) fn other_gpu_names(&self) -> Vec<&str> {
        let is_other = |(name, count): &(&String, &String)| {
            name.starts_with("nvidia.com/")
                && name.as_str() != settings::names::GPU
                && *count != "0"
        };
        self.status.capacity.iter().filter(is_other).map(|(name, _)| name.as_str()).collect()
    }

    /// GPUs that the device plugin has seen, healthy or not.
    pub(crate) fn known_gpus(&self) -> u32 {
        count(&self.status.capacity)
    }
}

fn count(resources: &BTreeMap<String, String>) -> u32 {
    resources.get(settings::names::GPU).and_then(|count| count.parse().ok()).unwrap_or(0)
}
