//! Until the node is ready; if it does not become so, what its conditions, events and journal say.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    cluster::{
        kubectl::Kubectl,
        objects::{List, Node},
    },
    command::Command,
    ctx::Ctx,
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
            bail!("no node is Ready after {} s{}", limit.as_secs(), diagnosis(kubectl, found));
        }
        thread::sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now())));
    }
}

pub(super) fn nodes(kubectl: &Kubectl) -> Result<Vec<Node>> {
    let list: Option<List<Node>> = Kubectl::get(&kubectl.command("get nodes"))?;
    Ok(list.unwrap_or_default().items)
}

fn diagnosis(kubectl: &Kubectl, found: Result<Vec<Node>>) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        let _: std::fmt::Result = write!(text, "\n  {line}");
    };
    let mut next = "sudo journalctl -u k3s -n 100";
    match found {
        Err(error) => say(format!("the API server does not answer: {error:#}")),
        Ok(nodes) if nodes.is_empty() => say("the API server has no node yet".to_owned()),
        Ok(nodes) => {
            for condition in nodes.iter().flat_map(|node| &node.status.conditions) {
                let is_wrong = (condition.r#type == "Ready") != (condition.status == "True");
                if is_wrong {
                    say(format!("{}: {}", condition.reason, condition.message));
                }
                if is_wrong && condition.r#type == "DiskPressure" {
                    next = "df -h /var/lib/rancher, and make room";
                }
            }
        }
    }
    let events = kubectl.command("get events -A --field-selector type=Warning");
    if let Ok(events) = events.words("--sort-by=.lastTimestamp --no-headers").read() {
        let lines: Vec<&str> = events.lines().collect();
        for line in &lines[lines.len().saturating_sub(5)..] {
            say(format!("event: {line}"));
        }
    }
    if let Some(end) = journal() {
        say(format!("journal of k3s:\n{end}"));
    }
    let _: std::fmt::Result = write!(
        text,
        "\ncause: mostly a full disk, ufw (ports 6443, 10.42.0.0/16, 10.43.0.0/16) or another Kubernetes\n\
         next:  {next}"
    );
    text
}

/// Its last lines; none where there is no journal.
pub(super) fn journal() -> Option<String> {
    let output =
        Command::new("journalctl -u k3s -n 10 --no-pager -o cat").with_root().output().ok()?;
    let lines: Vec<String> = output.stdout.lines().map(|line| format!("    {line}")).collect();
    (output.is_success() && !lines.is_empty()).then(|| lines.join("\n"))
}
