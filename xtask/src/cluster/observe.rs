//! One look at everything in the namespace that can explain why vLLM is not ready.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    kubectl::Kubectl,
    objects::{
        Claim, ContainerStatus, Deployment, Event, Involved, List, Metadata, Pod, ReplicaSet,
        Service,
    },
    stopping::Stopping,
    tracer::Status,
};
use settings::names::{DEPLOYMENT, TRACER_CONTAINER, VLLM_CONTAINER};
use tasks::command::{Command, in_short};

#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) deployment: Option<Deployment>,
    /// Of the last spec of the deployment, as far as the controller has got.
    pub(crate) replica_set: Option<ReplicaSet>,
    pub(crate) pods: Vec<Pod>,
    /// Pods on their way out, with what they still do.
    pub(crate) stopping: Vec<Stopping>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) services: Vec<Service>,
    /// Of objects that are there, in the order of time.
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
        let mut replica_sets: Vec<ReplicaSet> = of_kind(&objects, "ReplicaSet")?;
        let name = format!("{DEPLOYMENT}-");
        pods.retain(|pod| pod.metadata.name.starts_with(&name));
        replica_sets.retain(|set| set.metadata.name.starts_with(&name));
        let events = get(&kubectl.namespaced("get events"))?.into_iter().filter_map(parse);
        let mut snapshot = Self {
            deployment: deployments
                .iter()
                .position(|deployment| deployment.metadata.name == DEPLOYMENT)
                .map(|index| deployments.swap_remove(index)),
            replica_set: replica_sets.into_iter().max_by_key(ReplicaSet::revision),
            stopping: Stopping::of_all(kubectl, &pods),
            pods,
            claims: of_kind(&objects, "PersistentVolumeClaim")?,
            services: of_kind(&objects, "Service")?,
            events: events.collect(),
            logs: BTreeMap::new(),
        };
        snapshot.keep_events_of_what_is_there();
        snapshot.logs = snapshot.logs_of_troubled(kubectl);
        Ok(snapshot)
    }

    /// What it looks at first; events and logs explain the rest.
    pub(crate) fn command(kubectl: &Kubectl) -> Command {
        kubectl.namespaced("get deployments,replicasets,pods,persistentvolumeclaims,services")
    }

    /// Kubernetes keeps events for an hour, and names are given again: the uid tells whose they are.
    pub(crate) fn keep_events_of_what_is_there(&mut self) {
        let metadata = |one: &Metadata| one.uid.clone();
        let uids: BTreeSet<String> = (self.deployment.iter().map(|one| metadata(&one.metadata)))
            .chain(self.replica_set.iter().map(|one| metadata(&one.metadata)))
            .chain(self.pods.iter().map(|one| metadata(&one.metadata)))
            .chain(self.claims.iter().map(|one| metadata(&one.metadata)))
            .collect();
        self.events.retain(|event| uids.contains(&event.involved_object.uid));
        self.events.sort_by_key(Event::time);
    }

    /// In the order of time.
    pub(crate) fn events_of(&self, object: &Metadata) -> Vec<&Event> {
        let is_its = |event: &&Event| {
            let Involved { name, uid, .. } = &event.involved_object;
            *name == object.name && *uid == object.uid
        };
        self.events.iter().filter(is_its).collect()
    }

    /// The last event of failure, unless things went on after it, or in the same second.
    pub(crate) fn still_failing(
        &self,
        object: &Metadata,
        failures: &[&str],
        progress: &[&str],
    ) -> Option<&Event> {
        let events = self.events_of(object);
        let last = |reasons: &[&str]| {
            events.iter().rev().find(|event| reasons.contains(&event.reason.as_str())).copied()
        };
        let failure = last(failures)?;
        last(progress).is_none_or(|event| event.time() < failure.time()).then_some(failure)
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

    /// Whether vLLM answers, whatever its tracer does.
    pub(crate) fn vllm_is_ready(&self) -> bool {
        let vllm = self.current_pod().and_then(|pod| pod.container(VLLM_CONTAINER));
        vllm.is_some_and(|vllm| vllm.ready)
    }

    /// What the tracer says; none where it does not run, which its container tells.
    pub(crate) fn ask_tracer(&self, kubectl: &Kubectl) -> Option<Result<Status, String>> {
        let pod = self.pod()?;
        pod.container(TRACER_CONTAINER)?.state.running.as_ref()?;
        Some(Status::ask(kubectl, &pod.metadata.name).map_err(|error| in_short(&error)))
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
