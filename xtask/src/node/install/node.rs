//! Until the node is ready; if it does not become so, what its conditions, events and journal say.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Error, Result};
use tasks::{
    advice::{Advice, explained, of_output},
    command::{Command, in_short},
    ctx::Ctx,
};

use crate::cluster::{
    kubectl::Kubectl,
    objects::{List, Node},
};

const PAUSE: Duration = Duration::from_secs(2);

/// The installer returns before there is a node to wait for, so it is asked for again and again.
pub(super) fn wait(ctx: &Ctx, kubectl: &Kubectl, limit: Duration) -> Result<()> {
    if ctx.dry_run {
        eprintln!("would wait until the node is Ready, {} s at most", limit.as_secs());
        return Ok(());
    }
    let deadline = Instant::now() + limit;
    loop {
        let found = nodes(kubectl);
        if let Ok(nodes) = &found
            && let Some(node) = nodes.iter().find(|node| node.is_ready())
        {
            let version = &node.status.node_info.kubelet_version;
            eprintln!("done    {} is Ready, {version}", node.metadata.name);
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(late(kubectl, found, limit));
        }
        thread::sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now())));
    }
}

pub(super) fn nodes(kubectl: &Kubectl) -> Result<Vec<Node>> {
    let list: Option<List<Node>> = Kubectl::get(&kubectl.command("get nodes"))?;
    Ok(list.unwrap_or_default().items)
}

fn late(kubectl: &Kubectl, found: Result<Vec<Node>>, limit: Duration) -> Error {
    let mut what = format!("no node is Ready after {} s", limit.as_secs());
    let mut say = |line: String| {
        let _: std::fmt::Result = write!(what, "\n  {line}");
    };
    let mut disk_is_full = false;
    match found {
        Err(error) => say(format!("the API server does not answer: {}", in_short(&error))),
        Ok(nodes) if nodes.is_empty() => say("the API server has no node yet".to_owned()),
        Ok(nodes) => {
            for condition in nodes.iter().flat_map(|node| &node.status.conditions) {
                if (condition.r#type == "Ready") != (condition.status == "True") {
                    say(format!("{}: {}", condition.reason, condition.message));
                    disk_is_full |= condition.r#type == "DiskPressure";
                }
            }
        }
    }
    for event in warnings(kubectl) {
        say(format!("event: {event}"));
    }
    let journal = journal().unwrap_or_default();
    if !journal.is_empty() {
        say(format!("its journal ends with\n{journal}"));
    }
    if disk_is_full {
        return explained(what, "the disk is nearly full", "df -h /var/lib/rancher, and make room");
    }
    match of_output(&journal) {
        Some(Advice { cause, next }) => explained(what, cause, next),
        None => explained(
            what,
            "not known; mostly ufw (it must let 6443, 10.42.0.0/16 and 10.43.0.0/16 through), or \
             another Kubernetes",
            "sudo ufw status; sudo journalctl -u k3s -n 100",
        ),
    }
}

/// The last of them, from all namespaces.
fn warnings(kubectl: &Kubectl) -> Vec<String> {
    let get = kubectl.command("get events -A --field-selector type=Warning");
    let events = get.words("--sort-by=.lastTimestamp --no-headers").read().unwrap_or_default();
    let lines: Vec<&str> = events.lines().collect();
    lines[lines.len().saturating_sub(5)..].iter().map(|&line| line.to_owned()).collect()
}

/// Its last lines; none where there is no journal.
pub(super) fn journal() -> Option<String> {
    let output =
        Command::new("journalctl -u k3s -n 10 --no-pager -o cat").with_root().output().ok()?;
    let lines: Vec<String> = output.stdout.lines().map(|line| format!("    {line}")).collect();
    (output.is_success() && !lines.is_empty()).then(|| lines.join("\n"))
}
