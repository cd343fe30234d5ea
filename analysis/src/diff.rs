//! `diff`: what two traces, or two saved answers, do not have in common.
//!
//! A difference is told as one only if the grades prove it: the smallest that they allow must
//! exceed the threshold. Whatever looks like more than the threshold, and is not proved, is told
//! apart from these, and changes no exit code.

mod known;
mod report;
mod source;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::Value as Json;

use known::Known;
pub use report::{to_json, to_text};
pub use source::{Source, read};

/// Figures that tell of this run alone: when it was, what tracing it took.
const OF_THE_RUN: [&str; 10] = [
    "lines",
    "first_call_unix_ns",
    "span_ns",
    "tracer_cpu_ns",
    "ignored",
    "covered_exact",
    "covered_from",
    "covered_not",
    "peak_unix_ns",
    "peak_ns",
];

/// A quantile says something if that many values lie on either side of it.
const LEAST_BEYOND: f64 = 10.0;

/// A table whose rows have names that mean the same in both.
struct Compared {
    question: &'static str,
    table: &'static str,
    keys: &'static [&'static str],
    /// Rows with the same key are added up.
    sums: &'static [&'static str],
    /// Compared where a key has but one row.
    levels: &'static [&'static str],
    /// The column that counts of how many values they are, and the quantiles by their columns.
    quantiles: Option<(&'static str, &'static [(&'static str, f64)])>,
    /// The figure that proves, if it is exact, that no row is missing.
    whole: &'static str,
}

const TABLES: [Compared; 5] = [
    Compared {
        question: "summary",
        table: "functions",
        keys: &["function"],
        sums: &["calls", "errors"],
        levels: &["per_second"],
        quantiles: Some((
            "calls",
            &[
                ("p10_ns", 0.1),
                ("p25_ns", 0.25),
                ("p50_ns", 0.5),
                ("p75_ns", 0.75),
                ("p90_ns", 0.9),
                ("p99_ns", 0.99),
            ],
        )),
        whole: "calls",
    },
    Compared {
        question: "summary",
        table: "errors",
        keys: &["function", "code", "name"],
        sums: &["count"],
        levels: &[],
        quantiles: None,
        whole: "calls",
    },
    Compared {
        question: "launches",
        table: "kernels",
        keys: &["full_name"],
        sums: &["runs"],
        levels: &[],
        quantiles: None,
        whole: "kernels",
    },
    Compared {
        question: "memory",
        table: "allocators",
        keys: &["role", "allocator"],
        sums: &["allocations", "frees", "allocated_bytes"],
        levels: &["peak_bytes", "live_bytes"],
        quantiles: None,
        whole: "allocations",
    },
    Compared {
        question: "steps",
        table: "kinds",
        keys: &["kind", "graph_mode", "graph_tokens"],
        sums: &["count"],
        levels: &[],
        quantiles: Some((
            "count",
            &[
                ("duration_p50_ns", 0.5),
                ("duration_p99_ns", 0.99),
                ("launches_p50", 0.5),
                ("api_p50_ns", 0.5),
                ("wait_p50_ns", 0.5),
            ],
        )),
        whole: "steps",
    },
];

/// Everything that was compared.
#[derive(Debug, Default)]
pub struct Diff {
    /// Proved, the largest first.
    pub differences: Vec<Difference>,
    /// As large by their values, but not proved by their grades.
    pub doubtful: Vec<Difference>,
    /// Figures of both that lie within the threshold.
    pub same: u64,
    /// Figures that have a value on one side only.
    pub not_compared: u64,
    /// Figures that have none on either side: there is nothing to compare.
    pub without_value: u64,
    /// Quantiles of too few values.
    pub too_few: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    pub question: String,
    /// `None` of a figure.
    pub table: Option<&'static str>,
    /// Of a row; of a figure its name.
    pub key: String,
    /// `None` where the row itself is new or has vanished.
    pub column: Option<&'static str>,
    /// As `--json` calls them.
    pub unit: String,
    pub kind: Kind,
    pub old: Option<f64>,
    pub new: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    New,
    Vanished,
    Changed,
}

impl Difference {
    /// As a part of the old value: 0.1 is a tenth more.
    pub fn change(&self) -> Option<f64> {
        let (old, new) = (self.old?, self.new?);
        (old != 0.0).then(|| (new - old) / old)
    }

    /// New and vanished ones first, the most frequent in front; then by the factor between the two.
    fn rank(&self, other: &Self) -> Ordering {
        let factor = |it: &Self| match (it.old, it.new) {
            (Some(old), Some(new)) if old > 0.0 && new > 0.0 => (new / old).max(old / new),
            (Some(_), Some(_)) | (None, None) => f64::INFINITY,
            (Some(count), None) | (None, Some(count)) => count,
        };
        let name = |it: &Self| (it.question.clone(), it.table, it.key.clone(), it.column);
        self.kind
            .cmp(&other.kind)
            .then_with(|| factor(other).total_cmp(&factor(self)))
            .then_with(|| name(self).cmp(&name(other)))
    }
}

/// `threshold` is a part of the old value.
pub fn diff(old: &Source, new: &Source, threshold: f64) -> Diff {
    let mut diff = Diff::default();
    for (question, old) in &old.answers {
        let Some(new) = new.answers.get(question) else { continue };
        figures(question, old, new, threshold, &mut diff);
        for table in TABLES.iter().filter(|table| table.question == question) {
            rows(table, old, new, threshold, &mut diff);
        }
    }
    diff.differences.sort_by(Difference::rank);
    diff.doubtful.sort_by(Difference::rank);
    diff
}

fn figures(question: &str, old: &Json, new: &Json, threshold: f64, diff: &mut Diff) {
    let Some(figures) = old["figures"].as_object() else { return };
    for (name, old) in figures {
        let unit = old["unit"].as_str().unwrap_or_default();
        let is_number = matches!(unit, "count" | "bytes" | "ns" | "per_second" | "ratio");
        if !is_number || OF_THE_RUN.contains(&name.as_str()) {
            continue;
        }
        let pair = [old, &new["figures"][name]].map(|it| Known::of(&it["value"], it));
        diff.add(pair, threshold, |kind, old, new| Difference {
            question: question.to_owned(),
            table: None,
            key: name.clone(),
            column: None,
            unit: unit.to_owned(),
            kind,
            old,
            new,
        });
    }
}

fn rows(table: &Compared, old: &Json, new: &Json, threshold: f64, diff: &mut Diff) {
    let [old_rows, new_rows] = [old, new].map(|answer| by_key(table, answer));
    let keys: BTreeSet<&String> = old_rows.keys().chain(new_rows.keys()).collect();
    for key in keys {
        let difference = |column, unit: &str, kind, old, new| Difference {
            question: table.question.to_owned(),
            table: Some(table.table),
            key: key.clone(),
            column,
            unit: unit.to_owned(),
            kind,
            old,
            new,
        };
        let count = table.sums[0];
        let (old_row, new_row) = match (old_rows.get(key), new_rows.get(key)) {
            (Some(old_row), Some(new_row)) => (old_row, new_row),
            (old_row, new_row) => {
                let (rows, answer, kind, other) = match old_row {
                    Some(rows) => (rows, old, Kind::Vanished, new),
                    None => (new_row.expect("one of them has it"), new, Kind::New, old),
                };
                let known = sum(table, rows, answer, count);
                let value = known.value();
                let (old, new) = if kind == Kind::New { (None, value) } else { (value, None) };
                let difference = difference(None, unit(table, answer, count), kind, old, new);
                // It was there at least once, and would not have gone unseen in the other.
                if known.low() > 0.0 && is_whole(table, other) {
                    diff.differences.push(difference);
                } else {
                    diff.doubtful.push(difference);
                }
                continue;
            }
        };
        for &column in table.sums {
            let pair = [(old_row, old), (new_row, new)]
                .map(|(rows, answer)| sum(table, rows, answer, column));
            let unit = unit(table, old, column);
            diff.add(pair, threshold, |kind, old, new| {
                difference(Some(column), unit, kind, old, new)
            });
        }
        let (&[old_row], &[new_row]) = (&old_row[..], &new_row[..]) else { continue };
        for &column in table.levels {
            let pair = [(old_row, old), (new_row, new)]
                .map(|(row, answer)| cell(table, row, answer, column));
            let unit = unit(table, old, column);
            diff.add(pair, threshold, |kind, old, new| {
                difference(Some(column), unit, kind, old, new)
            });
        }
        let Some((count, quantiles)) = table.quantiles else { continue };
        for &(column, part) in quantiles {
            let is_enough = [old_row, new_row].iter().all(|row| {
                let count = row[count].as_f64().unwrap_or(0.0);
                count * part.min(1.0 - part) >= LEAST_BEYOND
            });
            if !is_enough {
                diff.too_few += 1;
                continue;
            }
            let pair = [(old_row, old), (new_row, new)]
                .map(|(row, answer)| cell(table, row, answer, column));
            let unit = unit(table, old, column);
            diff.add(pair, threshold, |kind, old, new| {
                difference(Some(column), unit, kind, old, new)
            });
        }
    }
}

impl Diff {
    fn add(
        &mut self,
        [old, new]: [Known; 2],
        threshold: f64,
        difference: impl FnOnce(Kind, Option<f64>, Option<f64>) -> Difference,
    ) {
        if old.least_change(&new) > threshold {
            self.differences.push(difference(Kind::Changed, old.value(), new.value()));
            return;
        }
        match (old.value(), new.value()) {
            (Some(one), Some(other)) if (other - one).abs() > threshold * one.abs() => {
                self.doubtful.push(difference(Kind::Changed, Some(one), Some(other)));
            }
            (Some(_), Some(_)) => self.same += 1,
            (None, None) => self.without_value += 1,
            _ => self.not_compared += 1,
        }
    }
}

/// Rows by their names; those without a name mean nothing in another trace.
fn by_key<'a>(table: &Compared, answer: &'a Json) -> BTreeMap<String, Vec<&'a Json>> {
    let mut rows: BTreeMap<String, Vec<&Json>> = BTreeMap::new();
    for row in answer[table.table].as_array().into_iter().flatten() {
        let parts: Vec<String> = table
            .keys
            .iter()
            .map(|key| match &row[key] {
                Json::Null => "-".to_owned(),
                Json::String(text) => text.clone(),
                other => other.to_string(),
            })
            .collect();
        if row[table.keys[0]].is_string() || table.keys.len() > 1 {
            rows.entry(parts.join(" ")).or_default().push(row);
        }
    }
    rows
}

fn sum(table: &Compared, rows: &[&Json], answer: &Json, column: &str) -> Known {
    let cells = rows.iter().map(|row| cell(table, row, answer, column));
    cells.reduce(Known::plus).unwrap_or(Known::None)
}

/// Where it is not sure what a row is about, nothing is proved by it.
fn cell(table: &Compared, row: &Json, answer: &Json, column: &str) -> Known {
    let columns = columns(table, answer);
    let known = Known::of_cell(row, column, columns);
    let is_named = table.keys.iter().all(|key| {
        let own = &row["grades"][key];
        let grade = if own.is_null() { &columns[key] } else { own };
        grade["grade"] == "exact"
    });
    if is_named { known } else { known.value().map_or(Known::None, Known::Unproved) }
}

fn columns<'a>(table: &Compared, answer: &'a Json) -> &'a Json {
    &answer["columns"][table.table]
}

fn unit<'a>(table: &Compared, answer: &'a Json, column: &str) -> &'a str {
    columns(table, answer)[column]["unit"].as_str().unwrap_or_default()
}

/// Whether a row that is not in the table was not in the run.
fn is_whole(table: &Compared, answer: &Json) -> bool {
    let has_no_gaps = answer["gaps"].as_array().is_some_and(Vec::is_empty);
    has_no_gaps
        && answer["run"]["windowed"] == false
        && answer["figures"][table.whole]["grade"] == "exact"
}
