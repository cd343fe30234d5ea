//! Files that gather the figures of many runs, a line for each: JSON lines, and CSV.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Columns of a CSV, by the names that `vllm bench serve` gives them where it has one.
const COLUMNS: &[&str] = &[
    "date",
    "label",
    "model_id",
    "backend",
    "request_rate",
    "burstiness",
    "max_concurrency",
    "num_prompts",
    "completed",
    "failed",
    "duration",
    "total_input_tokens",
    "total_output_tokens",
    "request_throughput",
    "request_goodput",
    "output_throughput",
    "mean_ttft_ms",
    "median_ttft_ms",
    "p99_ttft_ms",
    "mean_tpot_ms",
    "median_tpot_ms",
    "p99_tpot_ms",
    "mean_itl_ms",
    "median_itl_ms",
    "p99_itl_ms",
    "mean_e2el_ms",
    "median_e2el_ms",
    "p99_e2el_ms",
    "marks",
];

/// What cannot be appended to is found before the run.
pub(crate) fn check(append: Option<&Path>, csv: Option<&Path>) -> Result<()> {
    for path in append.into_iter().chain(csv) {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .with_context(|| format!("cannot append to {}", path.display()))?;
    }
    if let Some(path) = csv {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let first = text.lines().next();
        ensure!(
            first.is_none_or(|first| first == COLUMNS.join(",")),
            "{} has other columns than this version writes: give another file with --csv",
            path.display()
        );
    }
    Ok(())
}

pub(crate) fn append_json(path: &Path, figures: &Value) -> Result<()> {
    append(path, &format!("{figures}\n"))
}

pub(crate) fn append_csv(path: &Path, figures: &BTreeMap<String, Value>) -> Result<()> {
    let is_empty = fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0);
    let header = if is_empty { format!("{}\n", COLUMNS.join(",")) } else { String::new() };
    let cells = COLUMNS.iter().map(|&column| cell(figures.get(column).unwrap_or(&Value::Null)));
    append(path, &format!("{header}{}\n", cells.collect::<Vec<_>>().join(",")))
}

/// In one write, so that two runs at once do not mix their lines.
fn append(path: &Path, text: &str) -> Result<()> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot append to {}", path.display()))
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // A spreadsheet takes what begins so for a formula.
    let text = if text.starts_with(['=', '+', '@']) { format!("'{text}") } else { text };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_keep_to_their_column() {
        for (value, expected) in [
            (json!(null), ""),
            (json!(1.5), "1.5"),
            (json!("a,b"), "\"a,b\""),
            (json!("say \"a\""), "\"say \"\"a\"\"\""),
            (json!("=1+1"), "'=1+1"),
        ] {
            assert_eq!(cell(&value), expected);
        }
    }

    #[test]
    fn a_file_with_other_columns_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(check(None, Some(file.path())).is_ok());
        append_csv(file.path(), &BTreeMap::new()).unwrap();
        append_csv(file.path(), &BTreeMap::new()).unwrap();
        assert!(check(None, Some(file.path())).is_ok());
        assert_eq!(fs::read_to_string(file.path()).unwrap().lines().count(), 3);
        fs::write(file.path(), "a,b\n").unwrap();
        assert!(check(None, Some(file.path())).unwrap_err().to_string().contains("other columns"));
    }
}
