//! `cargo xtask status`: what is there, what it does, and what is wrong with it.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use tasks::ctx::Ctx;

use crate::cluster::{
    Cluster,
    diagnosis::{Finding, diagnose, of_secrets, of_tracer},
    kubectl::{Kubectl, is_forbidden},
    objects::{ContainerStatus, List, Node, Pod},
    observe::Snapshot,
    secret,
    tracer::Status as Tracer,
};
use settings::names::{DEPLOYMENT, SECRETS_ANNOTATION, SERVICE, TRACER_CONTAINER, VLLM_CONTAINER};

/// Say what is deployed, how it does, and what is wrong
///
/// Exit code 1 if vLLM is not ready, or if anything is wrong: uploads that fail, calls that are
/// dropped, a tracer that does not answer.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Print it as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, Serialize)]
struct Overview {
    /// All of the pod is.
    ready: bool,
    /// It answers, whatever its tracer does.
    vllm_is_ready: bool,
    /// What and how, as text.
    lines: Vec<(String, String)>,
    findings: Vec<Finding>,
    tracer: Option<Tracer>,
}

pub(crate) fn run(ctx: &Ctx, Status { json, cluster }: &Status) -> Result<ExitCode> {
    let kubectl = Kubectl::find(ctx, cluster)?;
    let overview = Overview::of(&kubectl)?;
    if *json {
        println!("{}", serde_json::to_string_pretty(&overview).context("cannot print the status")?);
    } else {
        print!("{}", overview.to_text());
    }
    let is_well = overview.ready && overview.findings.is_empty();
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Overview {
    fn of(kubectl: &Kubectl) -> Result<Self> {
        // Those who may look at one namespace only need not see them.
        let nodes: Option<List<Node>> = match Kubectl::get(&kubectl.command("get nodes")) {
            Err(error) if is_forbidden(&error) => None,
            nodes => nodes?,
        };
        let nodes = nodes.unwrap_or_default();
        let snapshot = Snapshot::take(kubectl)?;
        let tracer = snapshot.ask_tracer(kubectl);
        let mut overview = Self::new(&nodes.items, &snapshot, tracer);
        let has_annotation = |pod: &Pod| pod.metadata.annotations.contains_key(SECRETS_ANNOTATION);
        if snapshot.current_pod().is_some_and(has_annotation) {
            overview.findings.extend(of_secrets(&snapshot, secret::digest(kubectl).as_deref()));
        }
        Ok(overview)
    }

    fn new(nodes: &[Node], snapshot: &Snapshot, tracer: Option<Result<Tracer, String>>) -> Self {
        let mut lines: Vec<(String, String)> =
            nodes.iter().map(|node| ("node".to_owned(), of_node(node))).collect();
        let mut say = |what: &str, text: String| lines.push((what.to_owned(), text));
        if let Some(deployment) = &snapshot.deployment {
            let state = if snapshot.is_complete() { "ready" } else { "not ready" };
            say("deployment", format!("{DEPLOYMENT}: {state}"));
            for container in [VLLM_CONTAINER, TRACER_CONTAINER] {
                say("image", deployment.image(container).unwrap_or("none").to_owned());
            }
        }
        for pod in &snapshot.pods {
            let containers: Vec<String> = pod.containers().map(ContainerStatus::describe).collect();
            let (name, phase) = (&pod.metadata.name, &pod.status.phase);
            let is_ready = if pod.is_ready() { "ready" } else { "not ready" };
            say("pod", format!("{name}: {phase}, {is_ready}: {}", containers.join("; ")));
        }
        for stopping in &snapshot.stopping {
            say("stopping", stopping.to_string());
        }
        for claim in &snapshot.claims {
            say("claim", format!("{}: {}", claim.metadata.name, claim.status.phase));
        }
        if let Some(port) = snapshot.node_port() {
            say("service", format!("{SERVICE}: http://localhost:{port} on the node"));
        }
        match &tracer {
            None => {}
            Some(Err(error)) => say("tracer", format!("does not answer: {error}")),
            Some(Ok(tracer)) => say("tracer", tracer_line(tracer)),
        }
        let mut findings = diagnose(snapshot);
        findings.extend(tracer.iter().flat_map(of_tracer));
        let (ready, vllm_is_ready) = (snapshot.is_complete(), snapshot.vllm_is_ready());
        Self { ready, vllm_is_ready, lines, findings, tracer: tracer.and_then(Result::ok) }
    }

    fn to_text(&self) -> String {
        let Self { ready, vllm_is_ready, lines, findings, tracer: _ } = self;
        let mut text = String::new();
        for (what, line) in lines {
            let _: std::fmt::Result = writeln!(text, "{what:<11} {line}");
        }
        for finding in findings {
            let _: std::fmt::Result = write!(text, "\n{finding}\n");
        }
        text.push_str(match (ready, vllm_is_ready, findings.is_empty()) {
            (true, _, true) => "\nready: cargo xtask test, cargo xtask verify\n",
            (true, ..) | (_, true, false) => "\nvLLM is ready, and not all is as it should be\n",
            (.., true) => "\nnot ready yet: cargo xtask logs -f vllm\n",
            (false, false, false) => "\nnot ready\n",
        });
        text
    }
}

fn of_node(node: &Node) -> String {
    let ready = if node.is_ready() { "Ready" } else { "not Ready" };
    let (name, version) = (&node.metadata.name, &node.status.node_info.kubelet_version);
    format!("{name}: {ready}, {version}, {} of {} GPUs usable", node.gpus(), node.known_gpus())
}

fn tracer_line(tracer: &Tracer) -> String {
    let traced = tracer.traced().count();
    let uploads = match &tracer.uploads {
        None => "uploads switched off".to_owned(),
        Some(uploads) => match &uploads.failing {
            Some(_) => "uploads fail".to_owned(),
            None => format!("{} objects in {}", uploads.stored, uploads.destination),
        },
    };
    format!(
        "{}: {traced} processes traced, {} calls, {} dropped, {} segments closed, {uploads}",
        tracer.phase,
        tracer.calls.recorded,
        tracer.dropped(),
        tracer.segments.closed
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_overview_has_a_line_for_each_thing_and_what_is_wrong_after_them() {
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": "gpu-node" },
            "status": {
                "conditions": [{ "type": "Ready", "status": "True" }],
                "capacity": { "nvidia.com/gpu": "1" }, "allocatable": { "nvidia.com/gpu": "1" },
                "nodeInfo": { "kubeletVersion": "v1.36.2+k3s1" },
            },
        }))
        .unwrap();
        let deployment = serde_json::from_value(json!({
            "metadata": { "name": "vllm", "generation": 1 },
            "spec": { "replicas": 1, "template": { "spec": {
                "initContainers": [{ "name": "ebpf-tracer", "image": "littleboy/tracer:1" }],
                "containers": [{ "name": "vllm", "image": "vllm/vllm-openai:v1" }],
            }}},
            "status": { "observedGeneration": 1, "updatedReplicas": 1 },
        }))
        .unwrap();
        let pod = serde_json::from_value(json!({
            "metadata": { "name": "vllm-1-a" },
            "status": { "phase": "Pending", "containerStatuses": [
                { "name": "vllm", "state": { "waiting": { "reason": "CreateContainerConfigError",
                  "message": "secret \"hf-token\" not found" } } }
            ]},
        }))
        .unwrap();
        let snapshot =
            Snapshot { deployment: Some(deployment), pods: vec![pod], ..Snapshot::default() };
        let text = Overview::new(&[node], &snapshot, None).to_text();
        insta::assert_snapshot!(text, @r#"
        node        gpu-node: Ready, v1.36.2+k3s1, 1 of 1 GPUs usable
        deployment  vllm: not ready
        image       vllm/vllm-openai:v1
        image       littleboy/tracer:1
        pod         vllm-1-a: Pending, not ready: vllm waiting (CreateContainerConfigError)

        vllm waits (CreateContainerConfigError): secret "hf-token" not found
          cause: a secret or a setting that the container refers to is missing
          next:  cargo xtask secrets

        not ready
        "#);
    }
}
