//! `docs/trace-format.md` says what the code does.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use cuda::function::{Api, CALLS_BACK, Class, KNOWN, Selection, class};
use serde_json::Value;
use trace::{
    line::{Call, ENTRY_PHASE, FORMAT_VERSION, Line, Meta, MetaLine},
    reader::Reader,
    writer::{CallText, push_entry, push_meta},
};

mod arguments;

const DOCUMENT: &str = include_str!("../../../../docs/trace-format.md");

/// The lines between the fences of ` ```json ` blocks.
fn examples() -> Vec<&'static str> {
    let mut inside = false;
    DOCUMENT
        .lines()
        .filter(|line| {
            let is_fence = line.starts_with("```");
            if is_fence {
                inside = *line == "```json";
            }
            inside && !is_fence
        })
        .collect()
}

fn parsed(example: &str) -> Line {
    let mut lines = Reader::new(example.as_bytes(), Path::new("docs/trace-format.md"));
    match lines.next() {
        Some(Ok(line)) => line,
        other => panic!("{example}: {other:?}"),
    }
}

/// What the writer makes of a line that was read.
fn written(line: &Line) -> String {
    let mut out = Vec::new();
    match line {
        Line::Call(Call { ts, pid, tid, func, .. }) => {
            let api = Api::of(func).unwrap_or_else(|| panic!("{func} is no CUDA function"));
            let tid = tid.unwrap_or_else(|| panic!("the writer writes the thread of {func}"));
            push_entry(&mut out, nanoseconds(*ts), *pid, tid, &CallText::new(func, api));
        }
        Line::Meta(MetaLine { ts, pid, meta }) => push_meta(&mut out, nanoseconds(*ts), *pid, meta),
    }
    String::from_utf8_lossy(&out).trim_end().to_owned()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times of examples are small"
)]
fn nanoseconds(milliseconds: f64) -> u64 {
    (milliseconds * 1e6).round() as u64
}

/// The cells of every table row.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    rows_of(DOCUMENT)
}

/// The cells of every table row in a part of the document.
fn rows_of(part: &str) -> impl Iterator<Item = Vec<&str>> {
    part.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'))
        .map(|row| row.split('|').map(str::trim).collect())
}

/// The first cells of all tables, without their backquotes.
fn documented_names() -> BTreeSet<&'static str> {
    rows().filter_map(|cells| cells[0].strip_prefix('`')?.strip_suffix('`')).collect()
}

#[test]
fn examples_are_what_the_writer_writes() {
    let mut kinds = BTreeSet::new();
    for example in examples() {
        let line = parsed(example);
        match &line {
            // Made from registers and memory, so not again from the line: `writer::call` has tests.
            Line::Call(call) if call.phase != ENTRY_PHASE => {}
            _ => assert_eq!(written(&line), example),
        }
        kinds.insert(match line {
            Line::Call(call) if call.phase == ENTRY_PHASE => "entry",
            Line::Call(_) => "call",
            Line::Meta(MetaLine { meta, .. }) => match meta {
                Meta::SegmentOpen(open) => {
                    assert_eq!(open.format_version, FORMAT_VERSION);
                    "segment_open"
                }
                Meta::SegmentClose(_) => "segment_close",
                Meta::Process(_) => "process",
                Meta::Library(_) => "library",
                Meta::Coverage(_) => "coverage",
                Meta::Kernel(_) => "kernel",
                Meta::Graph(_) => "graph",
                Meta::Stage(_) => panic!("formats 1 and 2 alone have it"),
            },
        });
    }
    // As many as there are names above: each kind has an example.
    assert_eq!(kinds.len(), 9, "{kinds:?}");
}

#[test]
fn every_field_of_the_examples_is_documented() {
    /// Maps whose keys are names of settings, functions or dimensions, not of fields.
    const OPEN_MAPS: [&str; 4] = ["options", "failed", "functions", "ranks"];

    fn collect(value: &Value, fields: &mut BTreeSet<String>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            fields.insert(name.clone());
            if OPEN_MAPS.contains(&name.as_str()) {
                for value in value.as_object().into_iter().flat_map(|map| map.values()) {
                    collect(value, fields);
                }
            } else {
                collect(value, fields);
            }
        }
    }

    let mut fields = BTreeSet::new();
    for example in examples() {
        collect(&serde_json::from_str(example).unwrap(), &mut fields);
    }
    let documented = documented_names();
    let missing: Vec<_> =
        fields.iter().filter(|field| !documented.contains(field.as_str())).collect();
    assert!(missing.is_empty(), "in no table: {missing:?}");
}

#[test]
fn the_table_of_functions_that_call_back_is_that_of_the_code() {
    let expected: Vec<String> =
        CALLS_BACK.iter().map(|(name, what)| format!("| `{name}` | {what} |")).collect();
    let part = DOCUMENT.split("### Functions that call back").nth(1).expect("the section");
    let part = part.split("\n#").next().expect("its text");
    let documented: Vec<&str> = part.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(documented, expected);
}

#[test]
fn the_table_of_classes_has_the_counts_of_the_code() {
    let default = Selection::default();
    let mut expected: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for name in KNOWN.iter().copied() {
        let is_default = usize::from(default.contains(name));
        for set in [class(name).name(), "all"] {
            let (known, in_default) = expected.entry(set).or_default();
            *known += 1;
            *in_default += is_default;
        }
    }
    assert_eq!(expected.len(), Class::ALL.len() + 1);

    let documented: BTreeMap<&str, (usize, usize)> = rows()
        .filter(|cells| cells.len() == 4)
        .filter_map(|cells| {
            let set = cells[0].strip_prefix('`')?.strip_suffix('`')?;
            Some((set, (cells[1].parse().ok()?, cells[2].parse().ok()?)))
        })
        .collect();
    assert_eq!(documented, expected);
}
