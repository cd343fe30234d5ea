//! The command line of `manifests`.

use std::ffi::OsString;

use clap::{
    Command, CommandFactory as _, FromArgMatches as _, Parser, builder::Resettable,
    error::ErrorKind,
};
use settings::{
    deployment::{Config, with_defaults},
    name_the_variable, without_empty,
};

use crate::component::{Component, named};

/// Prints the objects of the deployment in the order of application, as YAML on stdout.
///
/// Every setting is a flag or an environment variable; the flag overrides it. An empty variable
/// counts as unset.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(name = "manifests", version, after_help = EXAMPLES)]
pub struct Cli {
    /// Only these objects: names separated by commas, `node` or `app`
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = named)]
    pub only: Vec<Vec<Component>>,

    /// Print nothing; fail if a setting is wrong or an object would not read back the same
    #[arg(long)]
    pub check: bool,

    /// Print what `podman kube play` understands: claims, settings, and the pod adapted
    #[arg(long, conflicts_with = "only")]
    pub for_podman: bool,

    /// Print as JSON what the kubelet does for the pod and podman does not
    ///
    /// Containers in the order of their start, their probes by the ports of this machine, and the
    /// grace period.
    #[arg(long, conflicts_with_all = ["only", "for_podman"])]
    pub kubelet: bool,

    #[command(flatten, next_help_heading = "Pod and node")]
    pub config: Config,
}

const EXAMPLES: &str = "\
Examples:
  S3_BUCKET=my-traces manifests | kubectl apply -f -
  manifests --only node
  manifests --s3-bucket my-traces --model Qwen/Qwen2.5-0.5B --hf-token-optional true --only deployment

Names of --only:
  namespace, runtime-class, device-plugin, service-account, role, role-binding, config-map,
  model-cache, traces, service, deployment; node: runtime-class and device-plugin; app: the others";

/// Flags whose values are not shown.
const HIDDEN: [&str; 2] = ["tracer-env", "vllm-env"];

impl Cli {
    /// With the defaults of a deployment.
    pub fn command_line() -> Command {
        with_defaults(Self::command())
    }

    /// Reads arguments and environment; the first argument is the program's name. An error names the
    /// setting, the value and what is accepted; `--help` and `--version` are "errors" too.
    pub fn parse_from(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        match Self::parse(without_empty(Self::command_line()), &arguments) {
            // A variable shows in the help also when it is empty.
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                Self::parse(Self::command_line(), &arguments)
            }
            result => result,
        }
    }

    /// Reads flags alone, whatever the environment holds.
    pub fn from_flags<'a>(flags: impl IntoIterator<Item = &'a str>) -> Result<Self, clap::Error> {
        let arguments: Vec<OsString> =
            ["manifests"].into_iter().chain(flags).map(Into::into).collect();
        Self::parse(Self::command_line().mut_args(|arg| arg.env(Resettable::Reset)), &arguments)
    }

    /// The components asked for: all, unless some are named.
    pub fn asked(&self) -> Vec<Component> {
        if self.only.is_empty() { Component::ALL.into() } else { self.only.concat() }
    }

    fn parse(command: Command, arguments: &[OsString]) -> Result<Self, clap::Error> {
        let complain = |error| name_the_variable(Self::command_line(), error, &HIDDEN);
        let matches = command.try_get_matches_from(arguments).map_err(complain)?;
        let cli = Self::from_arg_matches(&matches).map_err(complain)?;
        Ok(Self { config: cli.config.with_variables(&matches), ..cli })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command_line().debug_assert();
    }

    #[test]
    fn every_setting_has_a_flag_and_a_variable_of_the_same_name() {
        let command = Cli::command_line();
        let own = ["only", "check", "for-podman", "kubelet", "help", "version"];
        let exceptions = [("profile", "TRACER_PROFILE")];
        let mut seen = BTreeSet::new();
        for arg in command.get_arguments() {
            let flag = arg.get_long().unwrap();
            if own.contains(&flag) {
                continue;
            }
            let variable = arg.get_env().unwrap_or_else(|| panic!("--{flag} has no variable"));
            let variable = variable.to_str().unwrap();
            let expected = flag.to_uppercase().replace('-', "_");
            assert!(variable == expected || exceptions.contains(&(flag, variable)), "{flag}");
            assert!(seen.insert(variable.to_owned()), "{variable} twice");
        }
        assert!(seen.len() > 40, "{seen:?}");
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let Config { profile: _, vllm, tracer, variables, node_port, .. } =
            Cli::from_flags([]).unwrap().config;
        assert_eq!(vllm.model, "meta-llama/Llama-2-7b-hf");
        assert_eq!((vllm.gpus, vllm.max_model_len, vllm.dtype.as_str()), (1, 2048, "float16"));
        assert_eq!((vllm.vllm_cpu.as_str(), vllm.vllm_memory.as_str()), ("4", "12Gi"));
        assert_eq!((tracer.tracer_cpu.as_str(), tracer.tracer_memory.as_str()), ("500m", "512Mi"));
        for (name, value) in [
            ("TARGET_PROCESS", "python"),
            ("TRACE_INTERVAL", "60"),
            ("S3_PREFIX", "k3s-vllm/"),
            ("UPLOAD_INTERVAL", "120"),
            ("SHUTDOWN_TIMEOUT", "60"),
        ] {
            assert_eq!(variables[name], value);
        }
        assert_eq!(node_port, 30800);
    }

    #[test]
    fn an_error_names_the_variable_the_value_and_what_is_accepted() {
        for (flag, expected) in [
            (
                "--node-port=8000",
                "NODE_PORT (or --node-port) is \"8000\": accepted: 30000 to 32767",
            ),
            (
                "--profile=root",
                "TRACER_PROFILE (or --profile) is \"root\": accepted: default, privileged",
            ),
            ("--vllm-memory=512m", "VLLM_MEMORY (or --vllm-memory) is \"512m\": m is a thousandth"),
            (
                "--vllm-args=--port=1",
                "VLLM_ARGS (or --vllm-args) is \"--port=1\": --port cannot go here",
            ),
            ("--max-model-len=0", "MAX_MODEL_LEN (or --max-model-len) is \"0\": 0 is not in 1.."),
            ("--trace-functions=cuLunchKernel", "TRACE_FUNCTIONS (or --trace-functions) is"),
            ("--log-format=xml", "is \"xml\": accepted: human, json"),
            ("--only=pod", "--only is \"pod\": accepted: namespace"),
        ] {
            let message = Cli::from_flags([flag]).unwrap_err().to_string();
            assert!(message.contains(expected), "{flag}: {message}");
        }
    }
}
