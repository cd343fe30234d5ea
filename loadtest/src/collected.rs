//! Files that gather the figures of many runs, a line for each: JSON lines, and CSV.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
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

/// What cannot be appended to is found before the run. Nothing is created: a run that fails leaves nothing.
pub(crate) fn check(append: Option<&Path>, csv: Option<&Path>) -> Result<()> {
    for path in append.into_iter().chain(csv) {
        can_append(path).with_context(|| format!("cannot append to {}", path.display()))?;
    }
    if let Some(path) = csv.filter(|path| path.exists()) {
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

fn can_append(path: &Path) -> io::Result<()> {
    if path.exists() {
        return OpenOptions::new().append(true).open(path).map(drop);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let trial =
        parent.unwrap_or(Path::new(".")).join(format!(".{name}.{}.trial", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&trial)?;
    fs::remove_file(trial)
}

pub(crate) fn append_json(path: &Path, figures: &Value) -> Result<()> {
    append(path, &format!("{figures}\n"))
}

pub(crate) fn append_csv(path: &Path, figures: &BTreeMap<String, Value>) -> Result<()> {
    let is_empty = fs::metadata(path).map_or(true, |metadata| metadata.len() == 0);
    let header = if is_empty { format!("{}\n", COLUMNS.join(",")) } else { String::new() };
    let cells = COLUMNS.iter().map(|&column| cell(figures.get(column).unwrap_or(&Value::Null)));
    append(path, &format!("{header}{}\n", cells.collect::<Vec<_>>().join(",")))
}

/// Whole or not at all: a line for which the disk has no room is taken back, and runs that end at once take turns.
fn append(path: &Path, text: &str) -> Result<()> {
    append_whole(path, text).with_context(|| format!("cannot append to {}", path.display()))
}

fn append_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).read(true).create(true).open(path)?;
    // Where the file system knows no locks, a single write has to do.
    let _ = file.lock();
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 && file.metadata()?.is_file() {
        file.read_exact_at(&mut last, length - 1)?;
    }
    // What another program left without an end is no part of this line.
    let start = if last == *b"\n" { "" } else { "\n" };
    let written =
        file.write_all(format!("{start}{text}").as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = file.set_len(length);
    }
    written
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
        fs::remove_file(file.path()).unwrap();
        append_csv(file.path(), &BTreeMap::new()).unwrap();
        append_csv(file.path(), &BTreeMap::new()).unwrap();
        assert!(check(None, Some(file.path())).is_ok());
        assert_eq!(fs::read_to_string(file.path()).unwrap().lines().count(), 3);
        fs::write(file.path(), "a,b\n").unwrap();
        assert!(check(None, Some(file.path())).unwrap_err().to_string().contains("other columns"));
    }

    #[test]
    fn what_is_looked_at_is_not_created() {
        let directory = tempfile::tempdir().unwrap();
        let (lines, csv) = (directory.path().join("runs.jsonl"), directory.path().join("runs.csv"));
        check(Some(&lines), Some(&csv)).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(check(Some(&directory.path().join("none/runs.jsonl")), None).is_err());
        assert!(check(Some(directory.path()), None).is_err());
    }

    #[test]
    fn a_line_begins_on_a_line_of_its_own() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "{\"half\":").unwrap();
        append_json(file.path(), &json!(1)).unwrap();
        append_json(file.path(), &json!(2)).unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "{\"half\":\n1\n2\n");
    }

    #[test]
    fn a_full_disk_is_told() {
        let message = format!("{:#}", append_json(Path::new("/dev/full"), &json!(1)).unwrap_err());
        assert!(message.starts_with("cannot append to /dev/full: No space left"), "{message}");
    }
}
