//! `cargo xtask install`: a machine with an NVIDIA driver becomes a K3s node with usable GPUs.

mod gpu;
mod k3s;
mod node;
mod preflight;
mod toolkit;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Args;

use crate::{
    cluster::{Cluster, kubectl::Kubectl},
    ctx::{Ctx, target_directory},
};

/// Make this machine a K3s node with usable GPUs: container toolkit, K3s, device plugin
///
/// Looks first at what there is, installs only what is missing, and waits until the node offers its
/// GPUs. An NVIDIA driver must be there. Single commands get sudo; run it as an ordinary user.
#[derive(Debug, Args)]
pub(crate) struct Install {
    #[command(flatten)]
    cluster: Cluster,

    /// Install from the files in DIR, without a network
    ///
    /// Needs k3s, install.sh, sha256sum-amd64.txt, k3s-airgap-images-amd64.tar.zst and the four .deb
    /// files of NVIDIA's container toolkit.
    #[arg(long, value_name = "DIR")]
    airgap: Option<PathBuf>,

    /// Oldest driver that the image of vLLM can use, if the one assumed for VLLM_IMAGE is wrong
    #[arg(long, value_name = "MAJOR")]
    minimum_driver: Option<u32>,

    /// Go on although this machine lacks something
    #[arg(long)]
    force: bool,

    /// Longest wait for the node, and again for its GPUs
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
}

pub(crate) fn run(ctx: &Ctx, task: &Install) -> Result<()> {
    let Install { cluster, airgap, minimum_driver, force, timeout } = task;
    let (airgap, limit) = (airgap.as_deref(), Duration::from_secs(*timeout));
    ctx.step("look at this machine", || preflight::run(ctx, *minimum_driver, *force))?;
    // Before K3s, which looks for NVIDIA's runtime only when it starts.
    ctx.step("container toolkit", || toolkit::install(ctx, airgap))?;
    ctx.step("K3s", || k3s::install(ctx, airgap, limit))?;
    ctx.step("NVIDIA's runtime in K3s", || k3s::detect_runtime(ctx))?;
    let kubectl = Kubectl::find(ctx, cluster)?;
    ctx.step("node", || node::wait(ctx, &kubectl, limit))?;
    ctx.step("runtime class and device plugin", || gpu::apply(ctx, &kubectl))?;
    ctx.step("GPUs", || gpu::wait(ctx, &kubectl, limit))?;
    if !ctx.dry_run {
        eprintln!("\ninstall: the node is ready; next: cargo xtask secrets, cargo xtask all");
    }
    Ok(())
}

/// The other way round.
pub(crate) fn toolkit_removal(ctx: &Ctx) -> Result<()> {
    toolkit::remove(ctx)
}

/// Where downloads lie.
fn scratch() -> PathBuf {
    target_directory().join("xtask/install")
}
