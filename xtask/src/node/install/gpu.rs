//! The runtime class and NVIDIA's device plugin, and the wait for the GPUs that it announces.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Error, Result};

use super::node::nodes;
use tasks::{advice::explained, ctx::Ctx};

use crate::{
    cluster::{
        deploy::apply_rendered,
        kubectl::Kubectl,
        objects::{ContainerStatus, List, Node, Pod},
    },
    manifests,
};
use settings::names::{GPU, RUNTIME_CLASS};

const PAUSE: Duration = Duration::from_secs(2);

const PLUGIN: &str = "-n kube-system -l name=nvidia-device-plugin-ds";

/// What the plugin logs where the runtime has not shown it the driver.
const WITHOUT_DRIVER: [&str; 3] = [
    "could not load NVML library",
    "Incompatible strategy detected",
    "did you configure the NVIDIA Container Toolkit",
];

pub(super) fn apply(ctx: &Ctx, kubectl: &Kubectl) -> Result<()> {
    if !ctx.dry_run {
        refuse_other_names(&nodes(kubectl)?)?;
    }
    apply_rendered(ctx, kubectl, &manifests::program().words("--only node"))
}

/// By time-slicing or MIG: a second plugin beside that one would offer each GPU twice.
fn refuse_other_names(nodes: &[Node]) -> Result<()> {
    for node in nodes.iter().filter(|node| node.known_gpus() == 0) {
        let names = node.other_gpu_names();
        if !names.is_empty() {
            return Err(explained(
                format!("{} offers its GPUs as {}", node.metadata.name, names.join(", ")),
                format!(
                    "a device plugin with a configuration of its own runs; the pod asks for {GPU}"
                ),
                format!(
                    "let it offer {GPU} (renameByDefault: false for time-slicing, \
                     migStrategy: single or none for MIG), and repeat"
                ),
            ));
        }
    }
    Ok(())
}

/// GPUs that pods can have; zero for a while after every restart of K3s.
pub(super) fn wait(ctx: &Ctx, kubectl: &Kubectl, limit: Duration) -> Result<()> {
    if ctx.dry_run {
        eprintln!("would wait until the node offers {GPU}, {} s at most", limit.as_secs());
        return Ok(());
    }
    let deadline = Instant::now() + limit;
    loop {
        let nodes = nodes(kubectl)?;
        if let Some(node) = nodes.iter().find(|node| node.gpus() > 0) {
            eprintln!("done    {}: {} GPUs", node.metadata.name, node.gpus());
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(late(kubectl, nodes.iter().map(Node::known_gpus).sum(), limit));
        }
        thread::sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now())));
    }
}

fn late(kubectl: &Kubectl, known: u32, limit: Duration) -> Error {
    let pods: Option<List<Pod>> =
        Kubectl::get(&kubectl.command("get pods").words(PLUGIN)).unwrap_or_default();
    let pods = pods.unwrap_or_default().items;
    let log = kubectl.command("logs").words(PLUGIN).words("--tail=30").output();
    let log = log.map(|output| output.stdout).unwrap_or_default();
    let mut what = format!("no node offers {GPU} after {} s", limit.as_secs());
    for pod in &pods {
        let containers: Vec<String> = pod.containers().map(ContainerStatus::describe).collect();
        let _: std::fmt::Result =
            write!(what, "\n  {}: {}", pod.metadata.name, containers.join("; "));
    }
    if let Some(line) = log.lines().rev().find(|line| !line.trim().is_empty()) {
        let _: std::fmt::Result = write!(what, "\n  it says: {}", line.trim());
    }
    let (cause, next) = cause(&pods, &log, known);
    explained(what, cause, next)
}

/// In the plugin's own words.
fn cause(pods: &[Pod], log: &str, known: u32) -> (String, &'static str) {
    let says = |text: &str| log.contains(text);
    if known > 0 {
        return (
            format!("{known} GPUs are known, and none is healthy"),
            "nvidia-smi; sudo dmesg | grep -i xid",
        );
    }
    if pods.is_empty() {
        return (
            "the device plugin has no pod".to_owned(),
            "kubectl describe daemonset -n kube-system nvidia-device-plugin-daemonset",
        );
    }
    if WITHOUT_DRIVER.iter().any(|text| says(text)) {
        return (
            format!("the plugin sees no driver: it does not run by the runtime {RUNTIME_CLASS}"),
            "sudo systemctl restart k3s, then cargo xtask install",
        );
    }
    if says("No devices found") {
        return ("the driver shows the plugin no GPU".to_owned(), "nvidia-smi on the node");
    }
    (
        "the device plugin does not run yet".to_owned(),
        "kubectl describe pods -n kube-system -l name=nvidia-device-plugin-ds",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_plugin_logs_decides() {
        let pods = [Pod::default()];
        let log = "I1124 main.go:279] No devices found. Waiting indefinitely.";
        assert_eq!(cause(&pods, log, 0).1, "nvidia-smi on the node");
        let log = "E1124 factory.go:87] Incompatible strategy detected auto\nE1124 factory.go:88] If this is a GPU node, did you configure the NVIDIA Container Toolkit?";
        assert!(cause(&pods, log, 0).1.starts_with("sudo systemctl restart k3s"));
        assert!(cause(&pods, "", 2).0.starts_with("2 GPUs are known"));
        assert!(cause(&[], "", 0).0.contains("no pod"));
    }
}
