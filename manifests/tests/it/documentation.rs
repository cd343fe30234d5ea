//! `docs/operations.md` has every setting of a deployment as the command line has it.

use std::{env, fmt::Write as _, fs};

use clap::{Arg, Args as _, Command, ValueEnum as _, builder::PossibleValue};
use manifests::{cli::Cli, deployment::deployment};
use settings::{HTTP_ADDRESS, Local, Settings};
use settings::{deployment::Profile, names::TRACER_PORT};

use crate::config;

const DOCUMENT: &str = include_str!("../../../docs/operations.md");
const README: &str = include_str!("../../../README.md");
const CONTRIBUTING: &str = include_str!("../../../CONTRIBUTING.md");
const TROUBLESHOOTING: &str = include_str!("../../../docs/troubleshooting.md");
const VALIDATION: &str = include_str!("../../validate.sh");

/// Tasks whose last arguments are settings.
const TASKS: [&str; 3] = ["cargo xtask deploy", "cargo xtask all", "cargo xtask manifests"];

/// Options of these tasks, and whether a value follows.
const OWN: [(&str, bool); 5] = [
    ("--timeout", true),
    ("--verify-timeout", true),
    ("--no-wait", false),
    ("--restart", false),
    ("--dry-run", false),
];

/// The first and the last line around the table that is generated.
const TABLE: (&str, &str) = ("| variable | default | alone | meaning |\n", "\n\n");

/// The table of `docs/operations.md`: defaults of a deployment, and of a sidecar alone.
fn table() -> String {
    let (first, _) = TABLE;
    let mut table = first.to_owned() + "|---|---|---|---|";
    let alone = Local::augment_args(Settings::augment_args(Command::new("sidecar")));
    let command = Cli::command_line();
    let local = Local::augment_args(Command::new("deployment"));
    let local = local.get_arguments().map(|arg| (Some("Set by the deployment"), arg));
    let mut sections: Vec<(&str, String)> = Vec::new();
    let deployment = command.get_arguments().map(|arg| (arg.get_help_heading(), arg));
    for (heading, arg) in deployment.chain(local) {
        let Some(variable) = arg.get_env().and_then(|name| name.to_str()) else { continue };
        let heading = heading.unwrap_or_default();
        if !sections.iter().any(|(known, _)| *known == heading) {
            sections.push((heading, String::new()));
        }
        let (_, rows) = sections.iter_mut().find(|(known, _)| *known == heading).unwrap();
        let own = alone.get_arguments().find(|own| own.get_env() == arg.get_env());
        let deployed = match variable {
            HTTP_ADDRESS => format!("`[::]:{TRACER_PORT}`"),
            "RUST_LOG" => "as `TRACER_LOG`".to_owned(),
            _ => default(arg),
        };
        let own = own.map(|own| default(own) + " ").unwrap_or_default();
        write!(rows, "\n| `{variable}` | {deployed} | {own}| {} |", meaning(arg)).unwrap();
    }
    for (heading, rows) in sections {
        write!(table, "\n| **{heading}** | | | |{rows}").unwrap();
    }
    table
}

fn code(words: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{}`", word.as_ref())).collect();
    words.join(", ")
}

fn default(arg: &Arg) -> String {
    let values = arg.get_default_values().iter().map(|value| value.to_str().unwrap());
    let text = code(values.filter(|value| !value.is_empty()));
    if text.is_empty() { "-".to_owned() } else { text }
}

fn meaning(arg: &Arg) -> String {
    let help = arg.get_help().unwrap().to_string();
    let values = arg.get_possible_values();
    if values.is_empty() {
        return help;
    }
    format!("{help}: {}", code(values.iter().map(PossibleValue::get_name)))
}

#[test]
fn the_table_of_settings_is_that_of_the_command_line() {
    let (first, last) = TABLE;
    let (before, rest) = DOCUMENT.split_once(first).expect("the table has its head");
    let (found, after) = rest.split_once(last).expect("a blank line follows the table");
    let table = table();
    if env::var_os("UPDATE_DOCS").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        fs::write(file, format!("{before}{table}{last}{after}")).unwrap();
        return;
    }
    let found = format!("{first}{found}");
    let differ: Vec<&str> = table.lines().filter(|line| !found.contains(line)).collect();
    assert!(
        found == table,
        "docs/operations.md is old: run UPDATE_DOCS=1 cargo test -p manifests --test it; it lacks\n{}",
        differ.join("\n")
    );
}

/// What stands behind a task, up to the end of the command.
fn settings_behind(rest: &str) -> Vec<&str> {
    let command = rest.split(['`', '|', '#', '>', ';', '\n']).next().unwrap_or_default();
    let mut words = command.split_whitespace().peekable();
    while let Some(own) = words.next_if(|word| OWN.iter().any(|(name, _)| name == word)) {
        if OWN.contains(&(own, true)) {
            words.next();
        }
    }
    words.collect()
}

#[test]
fn flags_that_are_shown_are_accepted() {
    let documents = [DOCUMENT, README, CONTRIBUTING, TROUBLESHOOTING].join("\n");
    let rest = |task: &'static str| documents.split(task).skip(1).map(settings_behind);
    let shown = TASKS
        .into_iter()
        .flat_map(rest)
        .filter(|words| !words.is_empty() && !words.contains(&"IMAGE"));
    let shown: Vec<Vec<&str>> = shown.collect();
    assert!(!shown.is_empty(), "no example has a flag: has the form of the examples changed?");
    for flags in shown {
        let parsed = Cli::from_flags(flags.iter().copied());
        assert!(parsed.is_ok(), "{flags:?}: {}", parsed.unwrap_err());
    }
}

/// What it is for is held to the sidecar's own words by a test of the sidecar.
#[test]
fn every_capability_of_the_tracer_is_explained() {
    let pod = deployment(&config(&[])).spec.unwrap().template.spec.unwrap();
    let tracer = &pod.init_containers.unwrap()[0];
    let context = tracer.security_context.clone().unwrap();
    let capabilities = context.capabilities.unwrap().add.unwrap();
    assert!(!capabilities.is_empty());
    for capability in capabilities {
        assert!(DOCUMENT.contains(&format!("\n| `{capability}` | ")), "{capability}");
    }
}

/// Or one of them would not be held against the schemas of Kubernetes.
#[test]
fn every_profile_is_validated() {
    let profiles: Vec<String> = Profile::value_variants()
        .iter()
        .map(|profile| profile.to_possible_value().unwrap().get_name().to_owned())
        .collect();
    let line = format!("\nprofiles=({})\n", profiles.join(" "));
    assert!(VALIDATION.contains(&line), "manifests/validate.sh does not say {line:?}");
}
