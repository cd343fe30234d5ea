//! NVIDIA's runtime in K3s's containerd: looked for when K3s starts, and at no other time.

use std::time::Duration;

use anyhow::Result;

use super::k3s::running;
use tasks::{
    advice::explained,
    command::{Command, is_on_path},
    ctx::{Ctx, State},
};

/// Written by K3s whenever it starts.
const CONTAINERD: &str = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";

/// Restarts K3s where the toolkit came after it.
pub(super) fn detect(ctx: &Ctx, limit: Duration) -> Result<()> {
    if ctx.dry_run && !is_on_path("k3s") {
        eprintln!(
            "note    K3s finds NVIDIA's runtime when it starts; if not, it is restarted once"
        );
        return Ok(());
    }
    let restart = Command::new("systemctl restart --no-block k3s").with_root();
    ctx.converge_within(limit, "NVIDIA's runtime", look, &[restart]).map_err(|error| {
        explained(
            format!("{error:#}"),
            "K3s finds no nvidia-container-runtime; one that a GPU operator has left in \
             /usr/local/nvidia/toolkit is preferred to that of the packages",
            "ls -l /usr/bin/nvidia-container-runtime /usr/local/nvidia/toolkit; sudo journalctl -u k3s -n 50",
        )
    })
}

/// In the configuration, and K3s up again after a restart.
fn look() -> Result<State> {
    let grep = Command::new("grep --quiet nvidia").arg(CONTAINERD).with_root().output()?;
    if !grep.is_success() {
        return Ok(State::Unmet("not in containerd's configuration".to_owned()));
    }
    Ok(match running()? {
        State::Met(_) => State::Met("configured".to_owned()),
        State::Unmet(state) => State::Unmet(format!("configured, but K3s is {state}")),
    })
}
