//! Which objects of a listing are kept: by the same rules as files in directories, and by their keys alone.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use store::Object;
use trace::segment_name::SegmentName;

use super::super::{
    exported::EXTENSION,
    pool::{Choice, start_of},
};

/// Of segments that are wanted: their names stay in memory.
const MAX_SEGMENTS: usize = 200_000;

const MAX_TABLES: usize = 20_000;

/// Names that are told; of what lies beside the segments there may be anything.
const MAX_TOLD: usize = 10;

/// No store has longer keys; a longer one is made to fill the memory.
const MAX_KEY_BYTES: usize = 1024;

/// The sidecar's own, if a directory was copied.
const LOCK: &str = ".lock";

pub(super) struct Kept<'a> {
    folder: &'a str,
    choice: &'a Choice,
    pub(super) segments: Vec<Object>,
    pub(super) tables: Vec<Object>,
    /// Segments were left out that are not wanted.
    pub(super) has_unwanted: bool,
    /// Of the latest run so far, where only that is wanted.
    latest: Option<(String, String)>,
    others: BTreeSet<String>,
    others_count: usize,
    last_hidden: Option<String>,
}

impl<'a> Kept<'a> {
    pub(super) fn new(folder: &'a str, choice: &'a Choice) -> Self {
        Self {
            folder,
            choice,
            segments: Vec::new(),
            tables: Vec::new(),
            has_unwanted: false,
            latest: None,
            others: BTreeSet::new(),
            others_count: 0,
            last_hidden: None,
        }
    }

    /// Fails where more is wanted than there is room for.
    pub(super) fn add(&mut self, object: Object) -> Result<()> {
        let below = object.key.strip_prefix(self.folder).unwrap_or(&object.key);
        if let Some(reason) = impossible(below) {
            let shown = below.chars().take(MAX_KEY_BYTES).collect();
            self.other(shown, reason);
            return Ok(());
        }
        let (folders, name) = below.rsplit_once('/').unwrap_or(("", below));
        let mut ends = folders.match_indices('/').map(|(at, _)| at).chain([folders.len()]);
        let is_hidden = |end: &usize| {
            let last = folders[..*end].rsplit('/').next();
            last.is_some_and(|name| name.starts_with('.'))
        };
        if let Some(end) = ends.find(is_hidden) {
            // Told once: what lies in a folder is listed in a row.
            let folder = &folders[..end];
            if self.last_hidden.as_deref() != Some(folder) {
                self.last_hidden = Some(folder.to_owned());
                self.other(folder.to_owned(), "a hidden folder");
            }
            return Ok(());
        }
        match SegmentName::parse(name) {
            _ if name == LOCK => {}
            None if name.ends_with(&format!(".{EXTENSION}")) => {
                ensure!(
                    self.tables.len() < MAX_TABLES,
                    "there are more than {MAX_TABLES} tables: give a longer prefix"
                );
                self.tables.push(object);
            }
            None => {
                let name = below.to_owned();
                self.other(name, "");
            }
            Some(SegmentName { run, .. }) if self.is_wanted(&run.to_string()) => {
                ensure!(
                    self.segments.len() < MAX_SEGMENTS,
                    "there are more than {MAX_SEGMENTS} segments: give a longer prefix, or choose by \
                     --run or --last"
                );
                self.segments.push(object);
            }
            Some(_) => self.has_unwanted = true,
        }
        Ok(())
    }

    fn is_wanted(&mut self, run: &str) -> bool {
        if self.choice.run.as_ref().is_some_and(|text| !run.contains(text)) {
            return false;
        }
        if !self.choice.is_last {
            return true;
        }
        let start = Some(start_of(run));
        if start > self.latest {
            self.has_unwanted |= !self.segments.is_empty();
            self.segments.clear();
            self.latest.clone_from(&start);
        }
        start == self.latest
    }

    fn other(&mut self, name: String, reason: &str) {
        let told = match reason {
            "" => format!("{name:?}"),
            reason => format!("{name:?} ({reason})"),
        };
        self.others_count += 1;
        self.others.insert(told);
        if self.others.len() > MAX_TOLD {
            self.others.pop_last();
        }
    }

    /// What lies beside, in words.
    pub(super) fn not_read(&mut self) -> Vec<String> {
        let mut told: Vec<String> = std::mem::take(&mut self.others).into_iter().collect();
        let more = self.others_count - told.len();
        if more > 0 {
            told.push(format!("{more} more"));
        }
        told
    }
}

/// Why `fetch` would leave it out too: what it saves and what is read here are the same trace.
fn impossible(below: &str) -> Option<&'static str> {
    if below.len() > MAX_KEY_BYTES {
        return Some("a key longer than any store's");
    }
    let is_odd = |part: &str| matches!(part, "" | "." | "..") || part.contains(char::is_control);
    below.split('/').any(is_odd).then_some("a key that can be no path")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(keys: &[&str], choice: &Choice) -> (Vec<String>, Vec<String>) {
        let mut kept = Kept::new("k/", choice);
        for key in keys {
            kept.add(Object { key: (*key).to_owned(), bytes: 1, etag: None }).unwrap();
        }
        let names = |objects: &[Object]| -> Vec<String> {
            objects.iter().map(|object| object.key["k/".len()..].to_owned()).collect()
        };
        let found = [names(&kept.segments), names(&kept.tables)].concat();
        (found, kept.not_read())
    }

    #[test]
    fn segments_and_tables_are_kept_at_any_depth_and_nothing_else_is() {
        let keys = [
            "k/trace_h_1_000001.jsonl",
            "k/a/b/trace_h_1_000002.jsonl.zst",
            "k/calls/r.parquet",
            "k/notes.txt",
            "k/.lock",
            "k/.Trash/trace_h_1_000003.jsonl",
            "k/.Trash/trace_h_1_000004.jsonl",
            "k/../trace_h_1_000005.jsonl",
            "k//trace_h_1_000006.jsonl",
            "k/a\u{1b}/trace_h_1_000007.jsonl",
        ];
        let (found, not_read) = kept(&keys, &Choice::default());
        let expected =
            ["trace_h_1_000001.jsonl", "a/b/trace_h_1_000002.jsonl.zst", "calls/r.parquet"];
        assert_eq!(found, expected);
        let expected = [
            "\"../trace_h_1_000005.jsonl\" (a key that can be no path)",
            "\".Trash\" (a hidden folder)",
            "\"/trace_h_1_000006.jsonl\" (a key that can be no path)",
            "\"a\\u{1b}/trace_h_1_000007.jsonl\" (a key that can be no path)",
            "\"notes.txt\"",
        ];
        assert_eq!(not_read, expected);
        let long = format!("k/{}/trace_h_1_000001.jsonl", "x".repeat(2000));
        assert_eq!(kept(&[&long], &Choice::default()).0, [""; 0]);
    }

    #[test]
    fn names_tell_the_latest_run_and_those_of_a_name() {
        let keys =
            ["k/trace_b_1_000001.jsonl", "k/trace_a_2_000001.jsonl", "k/trace_a_1_000001.jsonl"];
        let of = |run: Option<&str>, is_last| Choice { run: run.map(str::to_owned), is_last };
        assert_eq!(kept(&keys, &of(None, true)).0, ["trace_a_2_000001.jsonl"]);
        assert_eq!(kept(&keys, &of(Some("b_"), false)).0, ["trace_b_1_000001.jsonl"]);
        assert_eq!(kept(&keys, &of(Some("_1"), true)).0, ["trace_b_1_000001.jsonl"]);
        assert_eq!(kept(&keys, &of(Some("c"), false)).0, [""; 0]);
    }
}
