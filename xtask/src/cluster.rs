//! Tasks on a K3s cluster, and what they share: how to reach it, and the names of what is deployed there.

pub(crate) mod all;
pub(crate) mod deploy;
pub(crate) mod destroy;
pub(crate) mod fetch;
pub(crate) mod logs;
pub(crate) mod secrets;
pub(crate) mod status;
pub(crate) mod test;
pub(crate) mod verify;

mod aws_profile;
mod bucket;
mod diagnosis;
pub(crate) mod kubectl;
pub(crate) mod objects;
mod observe;
mod secret;
mod stopping;
mod time;
pub(crate) mod tracer;

use std::path::PathBuf;

use clap::Args;

/// Which cluster.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct Cluster {
    /// File that says how to reach the cluster
    ///
    /// Without it: that of KUBECONFIG, else K3s's own /etc/rancher/k3s/k3s.yaml, else ~/.kube/config.
    #[arg(long, value_name = "FILE", display_order = 800)]
    pub(crate) kubeconfig: Option<PathBuf>,
}
