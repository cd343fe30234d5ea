//! What a deployment adds to the tracer's own settings: its container, and variables of the AWS SDK.

use clap::{ArgAction, Args};

use crate::{boolean, log_filter, names::IMAGE};

use super::{
    PullPolicy,
    values::{Memory, Variables, cpu, digest, image, memory, region, variables},
};

#[derive(Debug, Clone, PartialEq, Args)]
pub struct Tracer {
    /// Image of the tracer; `cargo xtask build` prints the one that it imported
    #[arg(long, env = "TRACER_IMAGE", value_name = "IMAGE", value_parser = image,
          default_value_t = format!("{IMAGE}:{}", env!("CARGO_PKG_VERSION")))]
    pub tracer_image: String,

    /// When the tracer's image is pulled; it is imported, so a pull would only hide that it is missing
    #[arg(long, env = "TRACER_PULL_POLICY", default_value = "Never", value_name = "POLICY")]
    pub tracer_pull_policy: PullPolicy,

    /// Processor time requested for the tracer, in cores
    #[arg(long, env = "TRACER_CPU", default_value = "500m", value_name = "CORES",
          value_parser = cpu)]
    pub tracer_cpu: String,

    /// Memory requested for the tracer
    #[arg(long, env = "TRACER_MEMORY", default_value = "512Mi", value_name = "SIZE",
          value_parser = memory)]
    pub tracer_memory: Memory,

    /// Memory at which the tracer is killed; its ring buffer counts
    #[arg(long, env = "TRACER_MEMORY_LIMIT", default_value = "512Mi", value_name = "SIZE",
          value_parser = memory)]
    pub tracer_memory_limit: Memory,

    /// More variables of the tracer's container: NAME=VALUE, as a shell would split them
    #[arg(long, env = "TRACER_ENV", hide_env_values = true, default_value = "", value_name = "VARIABLES",
          hide_default_value = true, value_parser = variables)]
    pub tracer_env: Variables,

    /// Any text that changes with the secrets, as the pod takes them when it starts; `deploy` makes it
    #[arg(long, env = "SECRETS_DIGEST", value_name = "TEXT", value_parser = digest)]
    pub secrets_digest: Option<String>,

    /// Log level of the tracer: off, error, warn, info, debug or trace, for all or by module
    #[arg(long, env = "TRACER_LOG", value_name = "FILTER", value_parser = log_filter)]
    pub tracer_log: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Args)]
pub struct Sdk {
    /// Region of the bucket; absent: of the instance, or us-east-1
    #[arg(long, env = "AWS_REGION", value_name = "REGION", value_parser = region)]
    pub aws_region: Option<String>,

    /// Never asks for the role of the instance: fails sooner where there is none
    #[arg(long, env = "AWS_EC2_METADATA_DISABLED", default_value = "false", value_name = "BOOL",
          value_parser = boolean, action = ArgAction::Set)]
    pub aws_ec2_metadata_disabled: bool,
}
