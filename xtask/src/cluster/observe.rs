//! One look at everything in the namespace that can explain why vLLM is not ready.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    kubectl::Kubectl,
    objects::{Claim, ContainerStatus, Deployment, Event, List, Pod, Service},
};
use settings::names::DEPLOYMENT;
use tasks::command::Command;

#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) deployment: Option<Deployment>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) services: Vec<Service>,
    pub(crate) events: Vec<Event>,
    /// By container: the end of its log; of one that has been restarted, of its last life.
    pub(crate) logs: BTreeMap<String, String>,
}

impl Snapshot {
    pub(crate) fn take(kubectl: &Kubectl) -> Result<Self> {
        let get = |get: &Command| {
            let list: Option<List<Value>> = Kubectl::get(get)?;
            anyhow::Ok(list.unwrap_or_default().items)
        };
        let objects = get(&Self::command(kubectl))?;
        let mut deployments: Vec<Deployment> = of_kind(&objects, "Deployment")?;
        let mut pods: Vec<Pod> = of_kind(&objects, "Pod")?;
        let name = format!("{DEPLOYMENT}-");
        pods.retain(|pod| pod.metadata.name.starts_with(&name));
        let mut snapshot = Self {
            deployment: deployments
                .iter()
                .position(|deployment| deployment.metadata.name == DEPLOYMENT)
                .map(|index| deployments.swap_remove(index)),
            pods,
            claims: of_kind(&objects, "PersistentVolumeClaim")?,
            services: of_kind(&objects, "Service")?,
            events: get(&kubectl.namespaced("get events --sort-by=.lastTimestamp"))?
                .into_iter()
                .filter_map(parse)
                .collect(),
            logs: BTreeMap::new(),
        };
        snapshot.logs = snapshot.logs_of_troubled(kubectl);
        Ok(snapshot)
    }

    /// What it looks at first; events and logs explain the rest.
    pub(crate) fn command(kubectl: &Kubectl) -> Command {
        kubectl.namespaced("get deployments,pods,persistentvolumeclaims,services")
    }

    /// The pod that is to stay: others are on their way out, or were evicted.
    pub(crate) fn pod(&self) -> Option<&Pod> {
        let staying = || self.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        staying().find(|pod| pod.status.phase != "Failed").or_else(|| staying().next())
    }

    /// The same, but none of an earlier spec: that is on its way out, whatever is wrong with it.
    pub(crate) fn current_pod(&self) -> Option<&Pod> {
        let has_made_one = self.deployment.as_ref().is_none_or(Deployment::has_its_pod);
        self.pod().filter(|_| has_made_one)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.deployment.as_ref().is_some_and(Deployment::is_complete)
    }

    pub(crate) fn node_port(&self) -> Option<u16> {
        let service =
            self.services.iter().find(|one| one.metadata.name == settings::names::SERVICE)?;
        service.spec.ports.iter().find_map(|port| port.node_port)
    }

    fn logs_of_troubled(&self, kubectl: &Kubectl) -> BTreeMap<String, String> {
        let Some(pod) = self.current_pod() else { return BTreeMap::new() };
        let troubled = pod.containers().filter(|container| !container.ready);
        troubled
            .filter_map(|container| {
                Some((container.name.clone(), log(kubectl, &pod.metadata.name, container)?))
            })
            .collect()
    }
}

/// None of one that has written nothing, or has not been started.
fn log(kubectl: &Kubectl, pod: &str, container: &ContainerStatus) -> Option<String> {
    let logs = |more: &str| {
        let command = kubectl.namespaced("logs").arg(pod).arg("-c").arg(&container.name);
        let output = command.words("--tail=60").words(more).output().ok()?;
        (output.is_success() && !output.stdout.trim().is_empty()).then_some(output.stdout)
    };
    let has_ended = container.state.running.is_none() || container.restart_count > 0;
    if !has_ended {
        return logs("");
    }
    logs("--previous").or_else(|| logs(""))
}

fn of_kind<T: DeserializeOwned>(objects: &[Value], kind: &str) -> Result<Vec<T>> {
    let of_kind = objects.iter().filter(|object| object["kind"] == kind);
    of_kind
        .map(|object| {
            serde_json::from_value(object.clone()).with_context(|| format!("cannot read a {kind}"))
        })
        .collect()
}

fn parse<T: DeserializeOwned>(value: Value) -> Option<T> {
    serde_json::from_value(value).ok()
}
