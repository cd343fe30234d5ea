//! `cargo xtask uninstall`: K3s with everything on it, and on request the container toolkit.

use std::{path::Path, time::Duration};

use anyhow::Result;
use clap::Args;

use crate::{
    cluster::{Cluster, kubectl::Kubectl},
    command::Command,
    ctx::{Ctx, State},
    destroy::{confirm, remove_deployment},
    install::toolkit_removal,
};

const SCRIPT: &str = "/usr/local/bin/k3s-uninstall.sh";

const WARNING: &str = "This removes K3s with all that is in /var/lib/rancher/k3s: every image, every volume (model cache, \
     traces that were not uploaded) and everything else that runs on this cluster. Driver, CUDA and \
     what is in S3 stay.";

/// Remove K3s from this machine, with all its images and volumes; asks first
#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    #[command(flatten)]
    cluster: Cluster,

    /// Also remove NVIDIA's container toolkit and its package repository
    #[arg(long)]
    toolkit: bool,

    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(ctx: &Ctx, Uninstall { cluster, toolkit, yes }: &Uninstall) -> Result<()> {
    confirm(ctx, *yes, WARNING)?;
    ctx.step("remove the deployment", || {
        // What is not deployed, or on a cluster that does not answer, cannot upload anything.
        let removed = Kubectl::find(ctx, cluster)
            .and_then(|kubectl| remove_deployment(ctx, &kubectl, Duration::from_secs(300)));
        if let Err(error) = removed {
            eprintln!("note    the deployment is not removed first: {error:#}");
        }
        Ok(())
    })?;
    ctx.step("remove K3s", || {
        let look = || {
            Ok(if Path::new(SCRIPT).exists() {
                State::Unmet("installed".to_owned())
            } else {
                State::Met("not installed".to_owned())
            })
        };
        ctx.converge("K3s", look, &[Command::new(SCRIPT).with_root()])
    })?;
    if *toolkit {
        ctx.step("remove the container toolkit", || toolkit_removal(ctx))?;
    }
    Ok(())
}
