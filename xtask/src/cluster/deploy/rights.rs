//! Which capabilities the tracer gets: as few as the nodes need that its pod may come to.

use std::fs;

use anyhow::Result;
use tasks::{command::in_short, ctx::Ctx};

use crate::{
    cluster::{
        kubectl::Kubectl,
        objects::{List, Node, NodeInfo},
    },
    manifests::Settings,
};

/// The first kernel that attaches without perf events.
const LINKS: (u32, u32) = (6, 6);

/// Above it Debian's and Ubuntu's kernels refuse perf events to whoever lacks SYS_ADMIN.
const MAX_PARANOID: i32 = 2;

/// The variable of the flag below.
const PERF_EVENTS: &str = "PERF_EVENTS";
const WITHOUT_PERF_EVENTS: &str = "--perf-events=false";

/// Further flags of the manifests; none where settings decide it, or where it cannot be known.
pub(super) fn flags(ctx: &Ctx, kubectl: &Kubectl, settings: &Settings) -> Vec<&'static str> {
    let decides = |name: &str, value: &str| settings.value(name).is_some_and(|set| set == value);
    if settings.value(PERF_EVENTS).is_some()
        || decides("ATTACH_BY", "perf-events")
        || decides("TRACER_PROFILE", "privileged")
    {
        return Vec::new();
    }
    if ctx.dry_run {
        eprintln!(
            "note    the tracer gets SYS_ADMIN only if a node has a kernel before 6.6, or refuses \
             perf events without it; a dry run does not ask them"
        );
        return Vec::new();
    }
    match nodes(kubectl).map_err(|error| in_short(&error)).and_then(|nodes| reason(&nodes)) {
        Ok(kernels) => {
            eprintln!("ok      rights: BPF, PERFMON and SYS_PTRACE are enough for {kernels}");
            vec![WITHOUT_PERF_EVENTS]
        }
        Err(why) => {
            eprintln!(
                "note    the tracer gets SYS_ADMIN too: {why}\n        next:  {PERF_EVENTS}=false \
                 takes it away, {PERF_EVENTS}=true gives it without this note"
            );
            Vec::new()
        }
    }
}

/// Those with GPUs, as far as that is known: the pod asks for one.
fn nodes(kubectl: &Kubectl) -> Result<Vec<Node>> {
    let list: Option<List<Node>> = Kubectl::get(&kubectl.command("get nodes"))?;
    let nodes = list.unwrap_or_default().items;
    let has_gpus = |node: &&Node| node.known_gpus() > 0;
    let with_gpus: Vec<Node> = nodes.iter().filter(has_gpus).cloned().collect();
    Ok(if with_gpus.is_empty() { nodes } else { with_gpus })
}

/// The kernels, if SYS_ADMIN is not needed on any node; else why it is.
fn reason(nodes: &[Node]) -> Result<String, String> {
    let mut kernels = Vec::new();
    for Node { metadata, status } in nodes {
        let NodeInfo { kernel_version: kernel, os_image, .. } = &status.node_info;
        let name = &metadata.name;
        let Some(version) = version(kernel) else {
            return Err(format!("the node {name} does not tell its kernel"));
        };
        if version < LINKS {
            return Err(format!(
                "{name} has Linux {kernel}, and before 6.6 probes are attached by perf events"
            ));
        }
        // Of another machine only its system tells: Ubuntu's own setting is 4.
        match paranoid_here(name) {
            Some(level) if level > MAX_PARANOID => {
                return Err(format!(
                    "kernel.perf_event_paranoid is {level} on {name}: `sudo sysctl \
                     kernel.perf_event_paranoid={MAX_PARANOID}` makes it unnecessary"
                ));
            }
            None if os_image.contains("Ubuntu") => {
                return Err(format!(
                    "{name} has {os_image}, which refuses perf events to others unless \
                     kernel.perf_event_paranoid is {MAX_PARANOID} or less"
                ));
            }
            _ => {}
        }
        kernels.push(format!("Linux {kernel}"));
    }
    kernels.sort();
    kernels.dedup();
    if kernels.is_empty() {
        Err("the cluster has no node".to_owned())
    } else {
        Ok(kernels.join(", "))
    }
}

/// If that node is this machine.
fn paranoid_here(node: &str) -> Option<i32> {
    let system = rustix::system::uname();
    let here = system.nodename().to_string_lossy().to_lowercase();
    let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok()?;
    if here == node { level.trim().parse().ok() } else { None }
}

/// Major and minor.
fn version(kernel: &str) -> Option<(u32, u32)> {
    let mut parts = kernel.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(nodes: &[(&str, &str)]) -> Result<String, String> {
        let node = |&(kernel, os): &(&str, &str)| {
            let info = json!({ "kernelVersion": kernel, "osImage": os });
            let node =
                json!({ "metadata": { "name": "some-node" }, "status": { "nodeInfo": info } });
            serde_json::from_value(node).unwrap()
        };
        reason(&nodes.iter().map(node).collect::<Vec<Node>>())
    }

    #[test]
    fn one_node_that_needs_more_decides() {
        let debian = "Debian GNU/Linux 12 (bookworm)";
        assert_eq!(judged(&[("6.12.1-cloud-amd64", debian)]).unwrap(), "Linux 6.12.1-cloud-amd64");
        assert!(judged(&[("6.6.0", debian), ("10.0.0-rc1", debian)]).is_ok());
        for (nodes, why) in [
            (&[("6.8.0", debian), ("6.1.0-30-amd64", debian)][..], "has Linux 6.1.0-30-amd64"),
            (&[("5.15.0", debian)], "before 6.6"),
            (&[("6.8.0-45-generic", "Ubuntu 24.04.1 LTS")], "perf_event_paranoid"),
            (&[("", debian)], "does not tell its kernel"),
            (&[("linux", debian)], "does not tell its kernel"),
            (&[], "no node"),
        ] {
            let error = judged(nodes).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
