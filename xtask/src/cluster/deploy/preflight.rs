//! Before anything is applied: would the API server take all of it, and could a node take the pod?
//!
//! With one pod on one GPU the old one has gone when the new one is refused.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;
use tasks::{advice::explained, command::Command};

use crate::cluster::{
    kubectl::{Kubectl, is_forbidden},
    objects::{List, Namespace, Node},
};
use settings::names::{GPU, NAMESPACE};

/// Where a namespace says which pods it takes.
const LEVEL: &str = "pod-security.kubernetes.io/enforce";
const NEEDED_LEVEL: &str = "privileged";

/// The part of the deployment that asks for resources.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    init_containers: Vec<Container>,
    containers: Vec<Container>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    resources: Resources,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resources {
    requests: BTreeMap<String, String>,
}

/// `dry`: applies on the server without keeping anything. In a namespace that is not there yet nothing
/// can be tried, and nothing is lost.
pub(super) fn check(kubectl: &Kubectl, namespace: Option<&Namespace>, dry: &Command) -> Result<()> {
    let Some(namespace) = namespace else { return Ok(()) };
    let answer = dry.read().context("nothing was applied")?;
    note_level(namespace);
    let objects: List<Value> = serde_json::from_str(&answer)
        .with_context(|| format!("cannot read what `{}` answers", dry.shown()))?;
    let Some(deployment) = objects.items.iter().find(|one| one["kind"] == "Deployment") else {
        return Ok(());
    };
    let spec = &deployment["spec"]["template"]["spec"];
    let spec: PodSpec = serde_json::from_value(spec.clone()).context("cannot read the pod")?;
    let nodes: Option<List<Node>> = match Kubectl::get(&kubectl.command("get nodes")) {
        // Then the scheduler tells, later.
        Err(error) if is_forbidden(&error) => return Ok(()),
        nodes => nodes?,
    };
    fits(&spec, &nodes.unwrap_or_default().items)
}

/// What the manifests are about to change of what others may have set.
fn note_level(namespace: &Namespace) {
    let level = namespace.metadata.labels.get(LEVEL);
    if let Some(level) = level.filter(|level| *level != NEEDED_LEVEL) {
        eprintln!(
            "change  namespace {NAMESPACE}: it enforces pod security {level}, and {NEEDED_LEVEL} from now on, \
             which the tracer's capabilities need"
        );
    }
}

/// Whether one node has enough of each resource, were it free; as much as that is certain.
fn fits(spec: &PodSpec, nodes: &[Node]) -> Result<()> {
    for (resource, what, setting) in
        [(GPU, "GPUs", "GPUS"), ("memory", "memory", "VLLM_MEMORY"), ("cpu", "CPUs", "VLLM_CPU")]
    {
        // The tracer is an init container, and runs beside vLLM.
        let requests = spec.init_containers.iter().chain(&spec.containers);
        let requests = requests.filter_map(|one| one.resources.requests.get(resource));
        let asked: f64 = requests.filter_map(|text| quantity(text)).sum();
        let there = nodes.iter().filter_map(|node| node.status.allocatable.get(resource));
        let there: Vec<f64> = there.filter_map(|text| quantity(text)).collect();
        // A node without GPUs lists none.
        let is_known = !there.is_empty() || (resource == GPU && !nodes.is_empty());
        let most = there.into_iter().fold(0.0, f64::max);
        if is_known && asked > most {
            let shown = |amount: f64| {
                if resource == "memory" {
                    format!("{:.1} GiB of memory", amount / f64::from(1 << 30))
                } else {
                    format!("{amount} {what}")
                }
            };
            return Err(explained(
                format!(
                    "nothing was applied: the pod asks for {}, and the largest node has {}",
                    shown(asked),
                    shown(most)
                ),
                "no node could take it, and the pod that runs would have gone first",
                format!("kubectl describe nodes; deploy with a smaller {setting}"),
            ));
        }
    }
    Ok(())
}

/// An amount as Kubernetes writes it.
fn quantity(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(digits.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(gpus: &str, memory: &str, allocatable: &[Value]) -> Result<()> {
        let spec = json!({
            "initContainers": [{ "resources": { "requests": { "memory": "512Mi", "cpu": "500m" } } }],
            "containers": [{ "resources": { "requests": { GPU: gpus, "memory": memory, "cpu": "4" } } }],
        });
        let node = |allocatable: &Value| {
            serde_json::from_value(json!({ "status": { "allocatable": allocatable } })).unwrap()
        };
        let nodes: Vec<Node> = allocatable.iter().map(node).collect();
        fits(&serde_json::from_value(spec).unwrap(), &nodes)
    }

    #[test]
    fn what_no_node_has_is_said_before_the_old_pod_goes() {
        let node = json!({ GPU: "1", "memory": "16777216Ki", "cpu": "8" });
        let bare = json!({ "memory": "64Gi", "cpu": "4500m" });
        judged("1", "12Gi", std::slice::from_ref(&node)).unwrap();
        judged("1", "15872Mi", &[bare.clone(), node.clone()]).unwrap();
        // Where nothing is known of a node nothing is certain.
        judged("1", "12Gi", &[]).unwrap();
        for (gpus, memory, nodes, what) in [
            ("2", "12Gi", &[node.clone()][..], "asks for 2 GPUs, and the largest node has 1 GPUs"),
            ("1", "12Gi", &[bare], "has 0 GPUs"),
            (
                "1",
                "16Gi",
                &[node],
                "asks for 16.5 GiB of memory, and the largest node has 16.0 GiB",
            ),
        ] {
            let error = judged(gpus, memory, nodes).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("smaller"), "{error}");
        }
    }
}
