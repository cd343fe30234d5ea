//! `docs/operations.md` explains capabilities as the code does, the README sets variables that there are, and
//! `docs/security.md` names tests that there are.

use std::{collections::BTreeSet, fs, path::Path};

use settings::rights::{ALWAYS, SYS_ADMIN};

use crate::command::sidecar;

const OPERATIONS: &str = include_str!("../../../docs/operations.md");
const SECURITY: &str = include_str!("../../../docs/security.md");
const README: &str = include_str!("../../../README.md");

/// What follows the variables on the line that starts the sidecar.
const PROGRAM: &str = " target/debug/ebpf-cuda-tracer";

/// The table of the capabilities that the container has.
#[test]
fn capabilities_are_explained_in_the_words_of_the_sidecar() {
    let rows = ALWAYS.into_iter().chain([SYS_ADMIN]);
    let rows: Vec<String> =
        rows.map(|one| format!("| `{}` | {} |", one.short_name(), one.purpose)).collect();
    let table = format!("| capability | needed to |\n|---|---|\n{}\n\n", rows.join("\n"));
    assert!(OPERATIONS.contains(&table), "docs/operations.md does not have\n{table}");
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

/// Functions that are tests, below a directory.
fn tests_below(directory: &Path, tests: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            tests_below(&path, tests);
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        let is_attribute =
            |line: &&str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let mut lines = text.lines().map(str::trim_start);
        while let Some(_attribute) = lines.find(is_attribute) {
            // Other attributes may stand between.
            let name = lines.find_map(|line| line.split_once("fn ")?.1.split('(').next());
            tests.extend(name.map(str::to_owned));
        }
    }
}

/// In the manner of this project: a sentence in snake case, longer than any other name.
fn is_name_of_test(word: &str) -> bool {
    word.matches('_').count() >= 4
        && word
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
}

#[test]
fn every_test_that_the_security_page_calls_a_proof_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut tests = BTreeSet::new();
    for package in ["sidecar", "xtask"] {
        tests_below(&root.join(package), &mut tests);
    }
    assert!(tests.contains("every_test_that_the_security_page_calls_a_proof_exists"));
    let code: Vec<&str> = SECURITY.split('`').skip(1).step_by(2).collect();
    let named: BTreeSet<&str> = code.iter().copied().filter(|word| is_name_of_test(word)).collect();
    assert!(named.len() > 5, "{named:?}");
    let missing: Vec<&str> = named.into_iter().filter(|name| !tests.contains(*name)).collect();
    assert_eq!(missing, [""; 0], "docs/security.md names tests that are nowhere");
    // And where they are.
    let paths =
        code.iter().filter(|word| word.starts_with("sidecar/") || word.starts_with("xtask/"));
    for path in paths {
        assert!(root.join(path).exists(), "docs/security.md names {path}, which is not there");
    }
}

/// A right that the page explains has a proof in the same row, or the row says that there is none.
#[test]
fn every_capability_of_the_security_page_has_its_proof_beside_it() {
    let rows = SECURITY.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<Vec<&str>> = rows
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .filter(|cells: &Vec<&str>| cells.len() == 4)
        .collect();
    assert!(rows.len() >= 7, "{rows:?}");
    for cells in rows {
        let proof = cells[3];
        let has_test = proof.split('`').skip(1).step_by(2).any(is_name_of_test);
        let is_said = ["none;", "the same", "the first of them"];
        assert!(has_test || is_said.iter().any(|text| proof.starts_with(text)), "{cells:?}");
    }
}
