//! `cargo xtask manifests`: what would be applied, by the program that renders it.

mod variables;

use anyhow::Result;
use clap::Args;

use crate::{advice::explained, command::Command};
use variables::Variable;

/// Print the objects of the deployment as YAML, in the order of application
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
    /// What is deployed: flags of `cargo xtask manifests`, behind all other flags
    ///
    /// Each is an environment variable too: S3_BUCKET=traces, or --s3-bucket traces.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "SETTINGS")]
    settings: Vec<String>,
}

pub(crate) fn run(Manifests { arguments }: &Manifests) -> Result<()> {
    program().args(arguments.iter().cloned()).run_as_it_is()
}

/// Heavy in types, so a program of its own.
pub(crate) fn program() -> Command {
    Command::new("cargo run --locked --package manifests --")
}

impl Settings {
    /// What prints the objects of the deployment; `more` are further flags.
    pub(crate) fn render(&self, more: &[&str]) -> Command {
        let render = variables::set().into_iter().fold(program(), |render, variable| {
            let Variable { name, value, is_hidden } = variable;
            if is_hidden {
                render.secret_variable(name, value)
            } else {
                render.variable(name, value)
            }
        });
        render.words("--only app").args(more.iter().copied()).args(self.settings.iter().cloned())
    }

    /// Whether they say which image of the tracer to deploy.
    pub(crate) fn name_an_image(&self) -> bool {
        let is_flag = |one: &String| one == "--tracer-image" || one.starts_with("--tracer-image=");
        self.settings.iter().any(is_flag)
            || variables::set().iter().any(|variable| variable.name == "TRACER_IMAGE")
    }

    /// All that stands behind a setting goes to the other program: fails if it was meant for the task,
    /// as a `--dry-run` there would be.
    pub(crate) fn check<Task: Args>(&self) -> Result<()> {
        let task = Task::augment_args(clap::Command::new("task"));
        let flags = task.get_arguments().filter_map(|arg| Some(format!("--{}", arg.get_long()?)));
        let own: Vec<String> = flags.chain(["--dry-run", "-n"].map(str::to_owned)).collect();
        for setting in &self.settings {
            let flag = setting.split('=').next().unwrap_or(setting);
            if own.iter().any(|one| one == flag) {
                return Err(explained(
                    format!("{flag} stands behind a setting"),
                    "all that follows a setting is taken for settings",
                    format!("put {flag} in front of {}", self.settings[0]),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::Deploy;

    fn settings(words: &[&str]) -> Settings {
        Settings { settings: words.iter().map(|&word| word.to_owned()).collect() }
    }

    #[test]
    fn an_image_is_named_by_a_flag_of_either_form() {
        assert!(settings(&["--tracer-image=a:b"]).name_an_image());
        assert!(settings(&["--model", "m", "--tracer-image", "a:b"]).name_an_image());
        assert!(!settings(&["--tracer-image-x=a:b"]).name_an_image());
    }

    #[test]
    fn flags_of_the_task_do_not_get_lost_among_settings() {
        settings(&["--s3-bucket", "traces", "--startup-timeout=5"]).check::<Deploy>().unwrap();
        for flag in ["--dry-run", "-n", "--timeout", "--timeout=5", "--kubeconfig"] {
            let error = settings(&["--s3-bucket", "traces", flag]).check::<Deploy>().unwrap_err();
            let expected = format!("put {} in front of --s3-bucket", flag.trim_end_matches("=5"));
            assert!(error.to_string().contains(&expected), "{error}");
        }
    }
}
