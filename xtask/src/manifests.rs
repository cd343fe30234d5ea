//! `cargo xtask manifests`: what would be applied, by the program that renders it.

use anyhow::Result;
use clap::Args;

use crate::command::Command;

/// Print the manifests as YAML, in the order in which they are applied
///
/// Every setting is a flag or an environment variable: `cargo xtask manifests --help` lists them.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Manifests {
    /// For the program that renders them: --help, --profile, --only, --check, or a setting
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

/// What is deployed.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct Settings {
    /// Settings, as flags of `cargo xtask manifests`: they come last
    ///
    /// Each is an environment variable too: S3_BUCKET=traces, or --s3-bucket traces.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "SETTINGS")]
    pub(crate) settings: Vec<String>,
}

pub(crate) fn run(Manifests { arguments }: &Manifests) -> Result<()> {
    program().args(arguments.iter().cloned()).run_for_output()
}

/// Heavy in types, so a program of its own.
pub(crate) fn program() -> Command {
    Command::new("cargo run --quiet --locked --package manifests --")
}

impl Settings {
    /// Whether a flag or its variable says something.
    pub(crate) fn says(&self, flag: &str) -> bool {
        let with_value = format!("--{flag}=");
        let variable = flag.to_uppercase().replace('-', "_");
        self.settings.iter().any(|one| {
            one.starts_with(&with_value) || one[..] == with_value[..with_value.len() - 1]
        }) || std::env::var_os(variable).is_some_and(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_a_flag_of_either_form() {
        let settings = |words: &[&str]| Settings {
            settings: words.iter().map(|&word| word.to_owned()).collect(),
        };
        assert!(settings(&["--tracer-image=a:b"]).says("tracer-image"));
        assert!(settings(&["--model", "m", "--tracer-image", "a:b"]).says("tracer-image"));
        assert!(!settings(&["--tracer-image-x=a:b"]).says("tracer-image"));
    }
}
