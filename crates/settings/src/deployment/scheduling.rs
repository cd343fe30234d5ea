//! Where the pod may run, before which others, and by which right its images are pulled.

use clap::Args;

use super::values::{ObjectNames, Selectors, Taints, dns_name, object_names, selectors, taints};

#[derive(Debug, Clone, PartialEq, Args)]
pub struct Scheduling {
    /// Labels that a node must have: KEY=VALUE, separated by commas
    #[arg(long, env = "NODE_SELECTOR", default_value = "", value_name = "LABELS",
          hide_default_value = true, value_parser = selectors)]
    pub node_selector: Selectors,

    /// Taints that keep the pod from no node, beside nvidia.com/gpu: KEY, KEY=VALUE or either with :EFFECT, separated by commas
    #[arg(long, env = "TOLERATIONS", default_value = "", value_name = "TAINTS",
          hide_default_value = true, value_parser = taints)]
    pub tolerations: Taints,

    /// Secrets of the namespace by which images are pulled, separated by commas
    #[arg(long, env = "IMAGE_PULL_SECRETS", default_value = "", value_name = "NAMES",
          hide_default_value = true, value_parser = object_names)]
    pub image_pull_secrets: ObjectNames,

    /// Priority class of the pod; absent: the default of the cluster
    #[arg(long, env = "PRIORITY_CLASS", value_name = "NAME", value_parser = dns_name)]
    pub priority_class: Option<String>,
}
