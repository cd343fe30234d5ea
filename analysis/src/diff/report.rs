//! A diff as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::{Diff, Difference, Kind, Source};
use crate::answer::{
    Unit, Value,
    units::{counted, printable, shown},
};

/// Differences of one kind that text tells one by one.
const SHOWN: usize = 15;

/// Goes up when a field goes or changes its meaning.
const SCHEMA_VERSION: u32 = 2;

pub fn to_text(diff: &Diff, old: &Source, new: &Source, threshold: f64) -> String {
    let Diff { differences, doubtful, same, not_compared, without_value, too_few } = diff;
    let threshold = shown(&Value::Float(threshold), Unit::Ratio);
    let mut text = format!("old {}\nnew {}\n\n", printable(&old.run), printable(&new.run));
    let _: std::fmt::Result = writeln!(
        text,
        "{} beyond {threshold}; {} the same within it",
        counted(differences.len() as u64, "difference", "differences"),
        counted(*same, "figure is", "figures are")
    );
    list(&mut text, differences);
    if !doubtful.is_empty() {
        let _: std::fmt::Result = writeln!(
            text,
            "\n{} more look different, but what is known of them does not prove it",
            doubtful.len()
        );
        list(&mut text, doubtful);
    }
    let reasons = [
        (*not_compared, "not compared: one side has no value"),
        (*too_few, "not compared: quantiles of too few values"),
        (*without_value, "without a value on either side: there is nothing to compare"),
    ];
    let mut told = reasons.into_iter().filter(|(count, _)| *count > 0).peekable();
    if told.peek().is_some() {
        text.push('\n');
    }
    for (count, reason) in told {
        let figures = counted(count, "figure", "figures");
        let _: std::fmt::Result = writeln!(text, "{figures} {reason}");
    }
    text
}

fn list(text: &mut String, differences: &[Difference]) {
    for of_kind in differences.chunk_by(|one, other| one.kind == other.kind) {
        for difference in of_kind.iter().take(SHOWN) {
            let _: std::fmt::Result = writeln!(text, "  {}", line(difference));
        }
        if let more @ 1.. = of_kind.len().saturating_sub(SHOWN) {
            let kind = name_of(of_kind[0].kind);
            let _: std::fmt::Result = writeln!(text, "  {more} more {kind}, see --json");
        }
    }
}

fn line(difference: &Difference) -> String {
    let Difference { question, table, key, column, unit, kind, old, new } = difference;
    let value = |value: &Option<f64>| match value {
        // A count is whole, though it came through JSON.
        #[expect(clippy::cast_possible_truncation, reason = "it is a whole number below 2^53")]
        Some(value) if value.fract() == 0.0 && value.abs() < 9e15 => {
            shown(&Value::Integer(*value as i128), unit_of(unit))
        }
        Some(value) => shown(&Value::Float(*value), unit_of(unit)),
        None => "?".to_owned(),
    };
    let place: String =
        [Some(question.as_str()), *table].into_iter().flatten().collect::<Vec<_>>().join(".");
    let key: String = printable(key).chars().take(80).collect();
    match kind {
        Kind::New => format!("new       {place}  {key}: {}", value(new)),
        Kind::Vanished => format!("vanished  {place}  {key}: {}", value(old)),
        Kind::Changed => {
            let column = column.map_or_else(String::new, |column| format!(" {column}"));
            let change = difference
                .change()
                .map_or_else(String::new, |change| format!(" ({:+.1} %)", change * 100.0));
            format!("changed   {place}  {key}{column}: {} -> {}{change}", value(old), value(new))
        }
    }
}

pub fn to_json(diff: &Diff, old: &Source, new: &Source, threshold: f64) -> Json {
    let all = |differences: &[Difference]| -> Json { differences.iter().map(one).collect() };
    json!({
        "schema_version": SCHEMA_VERSION,
        "program_version": env!("CARGO_PKG_VERSION"),
        "old": old.run,
        "new": new.run,
        "threshold": threshold,
        "differences": all(&diff.differences),
        "doubtful": all(&diff.doubtful),
        "same": diff.same,
        "not_compared": diff.not_compared,
        "too_few": diff.too_few,
        "without_value": diff.without_value,
    })
}

fn one(difference: &Difference) -> Json {
    let Difference { question, table, key, column, unit, kind, old, new } = difference;
    let kind = name_of(*kind);
    json!({
        "question": question,
        "table": table,
        "key": key,
        "column": column,
        "unit": unit,
        "kind": kind,
        "old": old,
        "new": new,
        "change": difference.change(),
    })
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::New => "new",
        Kind::Vanished => "vanished",
        Kind::Changed => "changed",
    }
}

/// The other way round than `--json` names them.
fn unit_of(name: &str) -> Unit {
    match name {
        "count" => Unit::Count,
        "per_second" => Unit::PerSecond,
        "ns" => Unit::Nanoseconds,
        "bytes" => Unit::Bytes,
        "ratio" => Unit::Ratio,
        _ => Unit::None,
    }
}
