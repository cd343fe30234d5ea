//! `cargo xtask install`: a machine with an NVIDIA driver becomes a K3s node with usable GPUs.

mod airgap;
mod gpu;
mod k3s;
mod kubeconfig;
mod node;
mod preflight;
mod runtime;
mod toolkit;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Args;
use tasks::{
    command::Command,
    ctx::{Ctx, target_directory},
};

use crate::cluster::kubectl::Kubectl;
pub(crate) use toolkit::remove as remove_toolkit;

/// Make this machine a K3s node with usable GPUs
///
/// Looks first at what there is, installs only what is missing (NVIDIA's container toolkit, K3s, the
/// device plugin), and waits until the node offers its GPUs. An NVIDIA driver must be there. Run it
/// as an ordinary user: single commands get sudo.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Install from the files in DIR, without a network
    ///
    /// Needs k3s, install.sh, install.sh.sha256sum, sha256sum-amd64.txt,
    /// k3s-airgap-images-amd64.tar.zst and the four .deb files of NVIDIA's container toolkit:
    /// `cargo xtask install --dry-run` shows where they come from. Other archives of images there
    /// (*.tar, *.tar.gz, *.tar.zst), such as those of vLLM and of the device plugin, are imported too.
    #[arg(long, value_name = "DIR")]
    airgap: Option<PathBuf>,

    /// Oldest driver that the image of vLLM can use, if the one assumed for VLLM_IMAGE is wrong
    #[arg(long, value_name = "MAJOR")]
    minimum_driver: Option<u32>,

    /// Go on although this machine lacks something
    #[arg(long)]
    force: bool,

    /// Longest wait for K3s to start, for the node, and for its GPUs: for each of them
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
}

pub(crate) fn run(ctx: &Ctx, task: &Install) -> Result<()> {
    let Install { airgap, minimum_driver, force, timeout } = task;
    let (airgap, limit) = (airgap.as_deref(), Duration::from_secs(*timeout));
    ctx.step("look at this machine", || preflight::run(ctx, airgap, *minimum_driver, *force))?;
    // Before K3s, which looks for NVIDIA's runtime only when it starts.
    ctx.step("container toolkit", || toolkit::install(ctx, airgap))?;
    ctx.step("K3s", || k3s::install(ctx, airgap, limit))?;
    let kubectl = Kubectl::of_this_node();
    ctx.step("node", || node::wait(ctx, &kubectl, limit))?;
    ctx.step("NVIDIA's runtime in K3s", || runtime::detect(ctx, limit))?;
    ctx.step("runtime class and device plugin", || gpu::apply(ctx, &kubectl))?;
    ctx.step("GPUs", || gpu::wait(ctx, &kubectl, limit))?;
    ctx.step("kubeconfig", || kubeconfig::copy(ctx))?;
    if !ctx.dry_run {
        eprintln!("\ninstall: the node is ready; next: cargo xtask secrets, cargo xtask all");
    }
    Ok(())
}

/// Where downloads lie.
fn scratch() -> PathBuf {
    target_directory().join("xtask/install")
}

/// Into a file of [`scratch`].
fn download(file: &str, url: String) -> Command {
    Command::new("curl --fail --silent --show-error --location --retry 3 --create-dirs --output")
        .path(&scratch().join(file))
        .arg(url)
}
