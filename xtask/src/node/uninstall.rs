//! `cargo xtask uninstall`: K3s with everything on it, and on request the container toolkit.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tasks::{
    command::{Command, find_on_path, in_short, is_on_path},
    ctx::{Ctx, State},
};

use crate::{
    cluster::{
        destroy::{confirm, remove_deployment},
        kubectl::Kubectl,
    },
    node::install::remove_toolkit,
};

/// K3s's installer leaves it beside K3s.
const SCRIPT: &str = "k3s-uninstall.sh";

const WARNING: &str = "This removes K3s with all that is in /var/lib/rancher/k3s: every image, every volume (model cache, \
     traces that were not uploaded) and everything else that runs on this cluster. Driver, CUDA, copies \
     of the kubeconfig and what is in S3 stay.";

/// Remove K3s from this machine, with all images and volumes
///
/// Asks first, and says what data goes. The pod goes before K3s, so that the tracer can upload.
#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    /// Also remove NVIDIA's container toolkit and its package repository
    #[arg(long)]
    toolkit: bool,

    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(ctx: &Ctx, Uninstall { toolkit, yes }: &Uninstall) -> Result<()> {
    confirm(ctx, *yes, WARNING)?;
    if is_on_path("k3s") {
        ctx.step("remove the deployment", || {
            let removed =
                remove_deployment(ctx, &Kubectl::of_this_node(), Duration::from_secs(300));
            if let Err(error) = removed {
                // A cluster that does not answer cannot upload anything either.
                eprintln!("note    the deployment is not removed first: {}", in_short(&error));
            }
            Ok(())
        })?;
    }
    ctx.step("remove K3s", || {
        let script = find_on_path(SCRIPT);
        let look = || {
            Ok(match find_on_path(SCRIPT) {
                Some(_) => State::Unmet("installed".to_owned()),
                None => State::Met("not installed".to_owned()),
            })
        };
        let remove = script.map(|script| Command::new("").path(&script).with_root());
        ctx.converge("K3s", look, remove.as_slice())
    })?;
    if *toolkit {
        ctx.step("remove the container toolkit", || remove_toolkit(ctx))?;
    }
    Ok(())
}
