//! What keeps a pod from being made, from being placed on a node, or from starting there.

use super::{Finding, LONG, SHORT};
use tasks::advice::of_output;

use crate::cluster::{
    objects::{Deployment, Pod},
    observe::Snapshot,
};

/// No pod at all: the reason stands at the replica set only. While a pod before it is stopping none is
/// tried, and what is told of the replica set is of earlier.
pub(super) fn creation(snapshot: &Snapshot) -> Option<Finding> {
    let is_seen = snapshot.deployment.as_ref().is_some_and(Deployment::is_seen);
    let set = snapshot.replica_set.as_ref().filter(|_| is_seen && snapshot.stopping.is_empty())?;
    let failure = set.failure()?;
    // The condition keeps the words of the first failure.
    let event = snapshot.still_failing(&set.metadata, &["FailedCreate"], &["SuccessfulCreate"]);
    let message = event.map_or(&failure.message, |event| &event.message);
    let what = format!("the pod is not created: {message}");
    if let Some(advice) = of_output(message) {
        return Some(Finding::advised(what, advice, SHORT));
    }
    let (cause, next) = if message.contains("serviceaccount") {
        ("the service account is not there (yet)", "cargo xtask deploy")
    } else if message.contains("RuntimeClass") {
        ("the RuntimeClass nvidia is missing", "cargo xtask install")
    } else if message.contains("exceeded quota") {
        ("a quota of the namespace is used up", "kubectl describe quota -n vllm-tracing")
    } else {
        ("the API server refuses the pod", "cargo xtask manifests, to compare with the message")
    };
    Some(Finding::new(what, cause, next, SHORT))
}

pub(super) fn scheduling(pod: &Pod) -> Option<Finding> {
    if pod.status.reason == "Evicted" {
        return Some(Finding::new(
            format!("the pod was evicted: {}", pod.status.message),
            "the node ran short of a resource, mostly of disk",
            "df -h /var/lib/rancher; kubectl describe node",
            SHORT,
        ));
    }
    if pod.status.reason == "UnexpectedAdmissionError" {
        return Some(Finding::new(
            format!("the node refuses the pod: {}", pod.status.message),
            "the device plugin had not registered the GPU again after a restart of K3s",
            "kubectl delete pod -n vllm-tracing -l app=vllm",
            SHORT,
        ));
    }
    let condition =
        pod.condition("PodScheduled").filter(|condition| condition.reason == "Unschedulable")?;
    let message = &condition.message;
    let what = format!("no node takes the pod: {message}");
    let (cause, next) = if message.contains("Insufficient nvidia.com/gpu") {
        (
            "no GPU is free: another pod has it, or the device plugin has not announced any",
            "kubectl describe nodes | grep -A8 'Allocated resources'; `cargo xtask install` repairs \
             the device plugin",
        )
    } else if message.contains("Insufficient memory") || message.contains("Insufficient cpu") {
        (
            "the node has less free memory or fewer free CPUs than the pod requests",
            "kubectl describe nodes; deploy again with a smaller VLLM_MEMORY or VLLM_CPU",
        )
    } else if message.contains("PersistentVolumeClaim") || message.contains("persistentvolumeclaim")
    {
        ("a claim has no volume", "kubectl describe pvc -n vllm-tracing")
    } else if message.contains("disk-pressure") {
        ("the node's disk is nearly full", "df -h /var/lib/rancher; sudo k3s crictl rmi --prune")
    } else if message.contains("untolerated taint") {
        (
            "every node has a taint that keeps the pod away",
            "kubectl describe nodes | grep -A3 Taints",
        )
    } else if message.contains("volume node affinity") {
        (
            "the volume lies on a node that is gone or has another name now",
            "`cargo xtask destroy --purge` deletes the volume with its data; then deploy again",
        )
    } else {
        ("no node has what the pod asks for", "kubectl describe nodes")
    };
    Some(Finding::new(what, cause, next, LONG))
}

/// What the kubelet reports once volumes and network are there.
const UNDER_WAY: [&str; 4] = ["Pulling", "Pulled", "Created", "Started"];

/// Between the node's acceptance and the first container.
pub(super) fn sandbox(pod: &Pod, snapshot: &Snapshot) -> Option<Finding> {
    if pod.containers().any(|container| container.state.running.is_some()) {
        return None;
    }
    let failing = |reason: &str| snapshot.still_failing(&pod.metadata, &[reason], &UNDER_WAY);
    if let Some(event) = failing("FailedCreatePodSandBox") {
        let what = format!("the pod does not start: {}", event.message);
        if event.message.contains("no runtime for \"nvidia\"") {
            return Some(Finding::new(
                what,
                "K3s has not found NVIDIA's runtime: it looks only when it starts, and the toolkit \
                 came later",
                "sudo systemctl restart k3s; if that does not help, cargo xtask install",
                SHORT,
            ));
        }
        return Some(Finding::new(
            what,
            "the container runtime cannot set up the pod",
            "sudo journalctl -u k3s -n 50",
            LONG,
        ));
    }
    let event = failing("FailedMount")?;
    Some(Finding::new(
        format!("a volume is not mounted: {}", event.message),
        "a volume, secret or configuration that the pod mounts is not there",
        "kubectl describe pod -n vllm-tracing -l app=vllm",
        LONG,
    ))
}

/// Waiting for the first consumer is no trouble; failing to make the volume is.
pub(super) fn claims(snapshot: &Snapshot) -> Vec<Finding> {
    let pending = snapshot.claims.iter().filter(|claim| claim.status.phase == "Pending");
    pending
        .filter_map(|claim| {
            let name = &claim.metadata.name;
            let events = snapshot.events_of(&claim.metadata);
            let event = events.iter().rev().find(|event| event.reason.contains("Failed"))?;
            let message = &event.message;
            let (cause, next) = if message.contains("storageclass") {
                (
                    "the cluster has no such storage class; K3s has local-path unless it was disabled",
                    "kubectl get storageclass; deploy again with one of them as STORAGE_CLASS",
                )
            } else if message.contains("NodePath only supports") {
                ("local-path has no shared volumes", "deploy again with another STORAGE_CLASS")
            } else {
                (
                    "the volume is not provisioned",
                    "kubectl logs -n kube-system -l app=local-path-provisioner",
                )
            };
            Some(Finding::new(format!("the claim {name} is pending: {message}"), cause, next, LONG))
        })
        .collect()
}
