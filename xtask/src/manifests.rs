//! `cargo xtask manifests`: what would be applied, by the program that renders it.

mod variables;

use anyhow::Result;
use clap::Args;
use settings::deployment::SECRET_VARIABLES;
use tasks::{advice::explained, command::Command};
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

fn flag_of(variable: &str) -> String {
    format!("--{}", variable.to_lowercase().replace('_', "-"))
}

/// Heavy in types, so a program of its own.
pub(crate) fn program() -> Command {
    Command::new("cargo run --locked --package manifests --")
}

impl Settings {
    /// What prints the objects of the deployment; `more` are further flags.
    pub(crate) fn render(&self, more: &[&str]) -> Command {
        let (hidden, shown) = self.hidden_and_shown();
        let set = variables::set().into_iter();
        // A flag comes before the variable.
        let set = set.filter(|set| !hidden.iter().any(|(name, _)| *name == set.name));
        let render = set.fold(program(), |render, variable| {
            let Variable { name, value, is_hidden } = variable;
            if is_hidden {
                render.secret_variable(&name, value)
            } else {
                render.variable(&name, value)
            }
        });
        let render = hidden
            .into_iter()
            .fold(render, |render, (name, value)| render.secret_variable(name, value));
        render.words("--only app").args(more.iter().copied()).args(shown)
    }

    /// Flags whose values people may hide passwords in go to the other program as variables: other
    /// users of the machine see its arguments.
    fn hidden_and_shown(&self) -> (Vec<(&'static str, String)>, Vec<String>) {
        let (mut hidden, mut shown) = (Vec::new(), Vec::new());
        let mut words = self.settings.iter();
        while let Some(word) = words.next() {
            let (flag, value) =
                word.split_once('=').map_or((&word[..], None), |(flag, value)| (flag, Some(value)));
            let Some(name) = SECRET_VARIABLES.into_iter().find(|name| flag_of(name) == flag) else {
                shown.push(word.clone());
                continue;
            };
            match value.map(str::to_owned).or_else(|| words.next().cloned()) {
                Some(value) => hidden.push((name, value)),
                // The program says that a value is needed.
                None => shown.push(word.clone()),
            }
        }
        (hidden, shown)
    }

    /// What a setting is, by its flag or its variable; nothing if it is left to its default.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let flag = if name == "TRACER_PROFILE" { "--profile".to_owned() } else { flag_of(name) };
        let mut words = self.settings.iter();
        while let Some(word) = words.next() {
            if *word == flag {
                return words.next().cloned();
            }
            if let Some(value) = word.strip_prefix(&flag).and_then(|rest| rest.strip_prefix('=')) {
                return Some(value.to_owned());
            }
        }
        let set = variables::set().into_iter().find(|variable| variable.name == name);
        set.map(|variable| variable.value)
    }

    /// Whether they say which image of the tracer to deploy.
    pub(crate) fn name_an_image(&self) -> bool {
        self.value("TRACER_IMAGE").is_some()
    }

    /// All that stands behind a setting goes to the other program: fails if it was meant for the task,
    /// as a `--dry-run` there would be.
    pub(crate) fn check<Task: Args>(&self) -> Result<()> {
        let task = Task::augment_args(clap::Command::new("task"));
        let flags = task.get_arguments().filter_map(|arg| Some(format!("--{}", arg.get_long()?)));
        let own: Vec<String> = flags.chain(["--dry-run", "-n"].map(str::to_owned)).collect();
        // Without its value, which may be a secret.
        let first = self.settings.first().and_then(|first| first.split('=').next());
        let first = first.unwrap_or_default();
        for setting in &self.settings {
            let flag = setting.split('=').next().unwrap_or(setting);
            if own.iter().any(|one| one == flag) {
                return Err(explained(
                    format!("{flag} stands behind a setting"),
                    "all that follows a setting is taken for settings",
                    format!("put {flag} in front of {first}"),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::deploy::Deploy;

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
    fn secrets_in_settings_are_no_arguments_and_show_nowhere() {
        for words in [
            &["--s3-bucket", "b", "--tracer-env", "X=planted", "--vllm-env=Y=planted"][..],
            &["--tracer-env=X=planted", "--vllm-args", "--api-key planted", "--s3-bucket", "b"],
        ] {
            let render = settings(words).render(&["--check"]);
            assert!(!render.shown().contains("planted"), "{}", render.shown());
            assert!(render.shown().contains("--check --s3-bucket b"), "{}", render.shown());
            let described = format!("{:?}", render.arguments());
            assert!(!described.contains("planted"), "{described}");
        }
    }

    #[test]
    fn a_setting_is_found_as_a_flag_of_either_form() {
        let settings = settings(&["--perf-events=true", "--attach-by", "auto", "--profile", "x"]);
        let value = |name| settings.value(name);
        assert_eq!(value("PERF_EVENTS").as_deref(), Some("true"));
        assert_eq!(value("ATTACH_BY").as_deref(), Some("auto"));
        assert_eq!(value("TRACER_PROFILE").as_deref(), Some("x"));
        assert_eq!(value("TRACE_DETAIL"), None);
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
