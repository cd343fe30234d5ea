//! `docs/operations.md` has every setting of a deployment as the command line has it.

use std::fmt::Write as _;

use clap::{Arg, CommandFactory as _, ValueEnum as _};
use manifests::{cli::Cli, config::Profile, deployment::deployment, settings};

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

/// Variable, default and meaning; the column between the last two is the sidecar's own.
type Row = [String; 3];

fn row(setting: &Arg) -> Row {
    let code = |words: Vec<&str>| {
        let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
        words.join(", ")
    };
    let defaults = setting.get_default_values().iter().map(|value| value.to_str().unwrap());
    let defaults = code(defaults.filter(|value| !value.is_empty()).collect());
    let values = setting.get_possible_values();
    let values = code(values.iter().map(clap::builder::PossibleValue::get_name).collect());
    let mut meaning = setting.get_help().unwrap().to_string();
    if !values.is_empty() {
        write!(meaning, ": {values}").unwrap();
    }
    let variable = setting.get_env().unwrap().to_str().unwrap();
    [format!("`{variable}`"), if defaults.is_empty() { "-".to_owned() } else { defaults }, meaning]
}

fn documented() -> Vec<Row> {
    // Elsewhere a bar with a backslash is part of a cell.
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `") && !line.contains(r"\|"));
    let settings = rows.filter_map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, variable, default, _, meaning, _] = cells[..] else { return None };
        Some([variable, default, meaning].map(str::to_owned))
    });
    settings.collect()
}

#[test]
fn the_table_of_settings_is_that_of_the_command_line() {
    let command = Cli::command();
    let expected: Vec<Row> =
        command.get_arguments().filter(|arg| arg.get_env().is_some()).map(row).collect();
    let (settings, others): (Vec<Row>, Vec<Row>) = documented()
        .into_iter()
        .partition(|[variable, ..]| expected.iter().any(|[known, ..]| known == variable));
    let line =
        |[variable, default, meaning]: &Row| format!("| {variable} | {default} | | {meaning} |");
    let missing: Vec<String> =
        expected.iter().filter(|row| !settings.contains(row)).map(line).collect();
    assert!(missing.is_empty(), "docs/operations.md lacks\n{}", missing.join("\n"));
    assert_eq!(settings, expected, "the order, or a row that is there twice");
    // What a deployment sets by itself.
    for [variable, ..] in others {
        let name = variable.trim_matches('`');
        assert!(settings::NAMES.contains(&name), "docs/operations.md: there is no {name}");
    }
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
