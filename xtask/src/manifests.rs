//! `cargo xtask manifests`: what would be applied, by the program that renders it.

mod order;
mod variables;

use anyhow::Result;
use clap::Args;
pub(crate) use order::own_flags_first;
use settings::deployment::SECRET_VARIABLES;
use tasks::command::Command;

use crate::node::build;
use variables::Variable;

/// Print the objects of the deployment as YAML, in the order of application
///
/// Every setting is a flag or an environment variable: `cargo xtask manifests --help` lists them. The
/// sidecar's image is the one that was built last here, unless TRACER_IMAGE names another: so what is
/// printed can be applied as it is.
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
    /// What is deployed: flags of `cargo xtask manifests`
    ///
    /// Each is an environment variable too: S3_BUCKET=traces, or --s3-bucket traces.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "SETTINGS")]
    settings: Vec<String>,
}

pub(crate) fn run(Manifests { arguments }: &Manifests) -> Result<()> {
    let names_an_image = Settings { settings: arguments.clone() }.name_an_image();
    let image = build::last().filter(|_| !names_an_image);
    let image = image.into_iter().flat_map(|image| ["--tracer-image".to_owned(), image]);
    program().args(image).args(arguments.iter().cloned()).run_as_it_is()
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
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
