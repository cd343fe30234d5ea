//! `docs/operations.md` and the README name the sidecar's variables as the code has them.

use std::collections::BTreeMap;

use clap::{Arg, CommandFactory as _};
use sidecar::config::Config;

use crate::command::sidecar;

const OPERATIONS: &str = include_str!("../../../docs/operations.md");
const README: &str = include_str!("../../../README.md");
const PREFLIGHT: &str = include_str!("../../src/preflight.rs");

/// What follows the variables on the line that starts the sidecar.
const PROGRAM: &str = " target/debug/ebpf-cuda-tracer";

/// Cells of the rows that begin with a name.
fn rows(count: usize) -> Vec<Vec<&'static str>> {
    let rows = OPERATIONS.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    // Elsewhere a bar with a backslash is part of a cell.
    let rows = rows.filter(|row| !row.contains(r"\|"));
    rows.map(|row| row.split('|').map(|cell| cell.trim().trim_matches('`')).collect::<Vec<_>>())
        .filter(|cells| cells.len() == count)
        .collect()
}

/// The column between the default of a deployment and the meaning.
#[test]
fn the_table_of_settings_has_the_sidecar_s_own_defaults() {
    let command = Config::command();
    let own = |setting: &Arg| {
        let default = setting.get_default_values().first().and_then(|value| value.to_str());
        let default = default.filter(|default| !default.is_empty()).unwrap_or("-");
        Some((setting.get_env()?.to_str()?.to_owned(), default.to_owned()))
    };
    let expected: BTreeMap<String, String> = command.get_arguments().filter_map(own).collect();
    let documented: BTreeMap<String, String> = rows(4)
        .into_iter()
        .filter(|cells| !cells[2].is_empty())
        .map(|cells| (cells[0].to_owned(), cells[2].to_owned()))
        .collect();
    assert_eq!(documented, expected, "left: docs/operations.md, right: the sidecar");
}

/// That all are there is held to the manifests by a test of theirs.
#[test]
fn capabilities_are_explained_in_the_words_of_the_sidecar() {
    let is_literal = |text: &str| PREFLIGHT.contains(&format!("\"{text}\""));
    let explained: Vec<Vec<&str>> =
        rows(2).into_iter().filter(|cells| is_literal(cells[0])).collect();
    assert!(!explained.is_empty());
    for cells in explained {
        assert!(is_literal(cells[1]), "{cells:?}");
    }
}

/// The help repeats the value of a variable that the sidecar knows.
#[test]
fn the_command_of_the_readme_sets_variables_that_the_sidecar_reads() {
    let line = README.lines().find_map(|line| line.strip_suffix(PROGRAM));
    let assignments = line.unwrap_or_else(|| panic!("the README has no line with {PROGRAM:?}"));
    let variables: Vec<(&str, &str)> =
        assignments.split_whitespace().filter_map(|word| word.split_once('=')).collect();
    assert!(variables.len() > 1, "{assignments}");
    let help = sidecar(&["--help"], &variables).stdout;
    for (name, value) in variables {
        assert!(help.contains(&format!("[env: {name}={value}]")), "no {name}={value} in\n{help}");
    }
}
