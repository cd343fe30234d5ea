//! The settings of a deployment: those of its objects, and those of the tracer in it.

mod check;
mod scheduling;
mod tracer;
mod values;
mod vllm;

use std::collections::BTreeMap;

use crate::{Settings, boolean, names::NODE_PORT, variables};
use clap::{ArgAction, ArgMatches, Args, Command, ValueEnum};

pub use scheduling::Scheduling;
pub use tracer::{Sdk, Tracer};
pub use values::{Memory, ObjectNames, Selectors, Taint, Taints, Variables, Words};
pub use vllm::{Dtype, SHARED_MEMORY_PATH, VARIABLES as VLLM_VARIABLES, Vllm};

use values::{absolute_path, dns_name, image, memory, node_port};

#[derive(Debug, Clone, PartialEq, Args)]
pub struct Config {
    /// Rights of the tracer: capabilities, or all of the node
    #[arg(long, env = "TRACER_PROFILE", default_value = "default", value_name = "PROFILE")]
    pub profile: Profile,

    /// Gives the tracer SYS_ADMIN, which perf events need; `cargo xtask deploy` asks the nodes
    ///
    /// Kernels before 6.6 attach uprobes through perf events. On 6.6 or later, where
    /// kernel.perf_event_paranoid is 2 or less, false takes the capability away. `deploy` does so by
    /// itself where all nodes with GPUs are such, unless this is set.
    #[arg(long, env = "PERF_EVENTS", default_value = "true", value_name = "BOOL",
          value_parser = boolean, action = ArgAction::Set)]
    pub perf_events: bool,

    /// Port of every node that leads to vLLM
    #[arg(long, env = "NODE_PORT", default_value_t = i32::from(NODE_PORT), value_name = "PORT",
          value_parser = node_port)]
    pub node_port: i32,

    /// Image of NVIDIA's device plugin
    #[arg(long, env = "DEVICE_PLUGIN_IMAGE", value_name = "IMAGE", value_parser = image,
          default_value = "nvcr.io/nvidia/k8s-device-plugin:v0.20.0")]
    pub device_plugin_image: String,

    #[command(flatten, next_help_heading = "vLLM")]
    pub vllm: Vllm,

    #[command(flatten, next_help_heading = "Tracer")]
    pub tracer: Tracer,

    #[command(flatten, next_help_heading = "Tracing and upload")]
    pub settings: Settings,

    /// The same, as the tracer reads them.
    #[arg(skip)]
    pub variables: BTreeMap<String, String>,

    #[command(flatten, next_help_heading = "AWS SDK")]
    pub sdk: Sdk,

    #[command(flatten, next_help_heading = "Storage")]
    pub storage: Storage,

    #[command(flatten, next_help_heading = "Scheduling")]
    pub scheduling: Scheduling,
}

/// Seconds of `SHUTDOWN_TIMEOUT`: a pod may take longer to stop than somebody at a terminal waits.
const SHUTDOWN_TIMEOUT: &str = "60";

/// Variables whose values people may hide passwords in.
pub const SECRET_VARIABLES: [&str; 3] = ["TRACER_ENV", "VLLM_ARGS", "VLLM_ENV"];

/// Gives settings of the tracer, which a command has by [`Config`], the defaults of a deployment.
pub fn with_defaults(command: Command) -> Command {
    command.mut_arg("shutdown_timeout", |arg| arg.default_value(SHUTDOWN_TIMEOUT))
}

/// Every variable that a deployment can be described by.
pub fn names() -> Vec<String> {
    variables::names_of(&Config::augment_args(Command::new("deployment")))
}

impl Config {
    /// Adds what only the command line tells.
    #[must_use]
    pub fn with_variables(self, matches: &ArgMatches) -> Self {
        Self { variables: variables::variables(matches), ..self }
    }
}

#[derive(Debug, Clone, PartialEq, Args)]
pub struct Storage {
    /// Size of the claim for models and compiled graphs; K3s's local path does not enforce it
    #[arg(long, env = "MODEL_CACHE_SIZE", default_value = "50Gi", value_name = "SIZE",
          value_parser = memory)]
    pub model_cache_size: Memory,

    /// Directory of the node to use for models instead of a claim
    #[arg(long, env = "MODEL_CACHE_HOST_PATH", value_name = "DIR", value_parser = absolute_path)]
    pub model_cache_host_path: Option<String>,

    /// Size of the claim for traces that wait for upload
    #[arg(long, env = "TRACES_SIZE", default_value = "20Gi", value_name = "SIZE",
          value_parser = memory)]
    pub traces_size: Memory,

    /// Storage class of the claims; absent: the default of the cluster
    #[arg(long, env = "STORAGE_CLASS", value_name = "NAME", value_parser = dns_name)]
    pub storage_class: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// The pod's processes are shared; the tracer has the three or four capabilities it needs
    Default,
    /// hostPID and a privileged tracer: where the default profile is not let through
    Privileged,
}

/// When an image is pulled; the spelling is that of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PullPolicy {
    #[value(name = "Always")]
    Always,
    #[value(name = "IfNotPresent")]
    IfNotPresent,
    #[value(name = "Never")]
    Never,
}

impl PullPolicy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}
