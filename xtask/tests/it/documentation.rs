//! Commands in the documentation are ones that exist, and those for a deployment run as they stand.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use crate::{
    scripted::{Machine, Run},
    stderr,
    verify::write_trace,
    xtask,
};

const TASK: &str = "cargo xtask ";

/// Their last arguments are settings, of which another program knows which there are.
const WITH_SETTINGS: [&str; 3] = ["all", "deploy", "manifests"];

pub(crate) fn read(file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(root.join(file)).unwrap()
}

/// What follows `cargo xtask`, wherever a document has it as code.
fn mentions(document: &str) -> BTreeSet<String> {
    let ends = ['`', '\n', '|', '#', '>', ';', '&', ')', '"'];
    let rest = document.split(TASK).skip(1).map(|rest| rest.split(ends).next().unwrap().trim());
    rest.filter(|command| command.starts_with(|c: char| c.is_ascii_lowercase() || c == '-'))
        .map(str::to_owned)
        .collect()
}

/// Asks for help on it, which comes only if all before it is accepted; or runs it dry where help
/// would be taken for a setting.
fn is_accepted(command: &str) -> Result<(), String> {
    let command = command.replace("SECONDS", "60");
    let words: Vec<&str> = command.split_whitespace().take_while(|word| *word != "--").collect();
    if words.iter().any(|word| WITH_SETTINGS.contains(word)) {
        let variables = [("S3_BUCKET", "traces"), ("TRACER_IMAGE", "a/b:1")];
        let run = Machine::node().run_with(&[&["--dry-run"], &words[..]].concat(), &variables);
        return if run.code == Some(0) { Ok(()) } else { Err(run.stderr) };
    }
    let output = xtask().args(&words).arg("--help").output().unwrap();
    if output.status.success() { Ok(()) } else { Err(stderr(&output)) }
}

#[test]
fn every_task_that_is_mentioned_exists_with_these_options() {
    let files = [
        "README.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/load-test.md",
        "docs/operations.md",
        "docs/performance.md",
        "docs/security.md",
        "docs/trace-format.md",
        "docs/troubleshooting.md",
        ".github/workflows/ci.yml",
        ".github/workflows/gpu.yml",
    ];
    for file in files {
        let mentions = mentions(&read(file));
        let is_wrong = |command: &String| Some((command.clone(), is_accepted(command).err()?));
        let wrong: Vec<_> = mentions.iter().filter_map(is_wrong).collect();
        assert!(wrong.is_empty(), "{file}: {wrong:#?}");
        assert!(!mentions.is_empty() || file == "docs/trace-format.md", "{file} names no task");
    }
}

/// Lines of ` ```sh ` blocks below a heading of the second level.
pub(crate) fn shell(document: &str, heading: &str) -> Vec<String> {
    let start = format!("\n## {heading}\n");
    let section = document.split_once(&start).unwrap_or_else(|| panic!("no {heading:?}")).1;
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

/// As a whole, as `export` is meant for the lines after it; tasks show what they would run.
fn run_dry(lines: &[String]) -> Run {
    let machine = Machine::deployed();
    let cargo = include_str!("scripted/cargo.sh");
    // A script has the real tools on its PATH, xtask those of the machine.
    let task = format!("PATH=$BIN exec '{}' --dry-run \"$@\"", env!("CARGO_BIN_EXE_xtask"));
    machine.tool("cargo", &format!("if [ \"$1\" = xtask ]; then shift; {task}; fi\n{cargo}"));
    machine.tool("aws", "exit 0");
    machine.state("log-tracer", "INFO recording\n");
    // What `fetch` would have brought.
    fs::create_dir(machine.path("work/traces")).unwrap();
    write_trace(&machine.path("work/traces"), 2);
    let mut shell = Command::new("sh");
    machine.run_command(shell.arg("-euc").arg(lines.join("\n")), &[])
}

#[test]
fn the_commands_of_a_deployment_run_as_they_stand() {
    let operations = read("docs/operations.md");
    for (lines, shown) in [
        (shell(&read("README.md"), "Deploy on a GPU node"), "== verify"),
        (shell(&operations, "Deploy"), "-- batch --host localhost --port 30800 --count 20"),
        (shell(&operations, "Remove"), "== remove the container toolkit"),
    ] {
        assert!(lines.len() > 2, "{lines:?}");
        let run = run_dry(&lines);
        run.succeeds();
        assert!(run.stderr.contains(shown), "no {shown:?} in\n{}", run.stderr);
    }
}

/// `install` calls what it looks at by the words of the table.
#[test]
fn every_topic_of_the_preflight_is_documented() {
    let operations = read("docs/operations.md");
    let run = Machine::bare().run(&["--dry-run", "install"]);
    let (look, _) = run.stderr.split_once("\n== container toolkit").unwrap();
    let topics: Vec<&str> = look
        .lines()
        .filter_map(|line| {
            let (mark, rest) = line.split_once(' ')?;
            ["ok", "note", "missing"]
                .contains(&mark)
                .then(|| rest.trim_start().split(':').next())?
        })
        .collect();
    assert!(topics.len() > 5, "{look}");
    for topic in topics {
        assert!(operations.contains(&format!("`{topic}`")), "{topic}");
    }
}
