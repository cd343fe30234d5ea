//! What was found, beside what was wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Expected;

#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// By cause: engines, of which the cause was found in, and findings of another.
    rows: BTreeMap<&'static str, (u32, u32, u32)>,
    /// Engines with another finding than theirs, or without it.
    pub(super) wrong: Vec<String>,
    pub(super) precision: f64,
    pub(super) recall: f64,
    /// Findings in engines in which nothing was wrong.
    pub(super) false_alarms: u32,
}

/// `answer` is what `cuda-trace findings --json` printed, of one run.
pub(super) fn judge(expected: &BTreeMap<u32, Expected>, answer: &str) -> Result<Verdict> {
    let answer: Value = serde_json::from_str(answer).context("the answer is no JSON")?;
    let found = answer["findings"].as_array().context("the answer has no table of findings")?;
    let mut by_pid: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for finding in found {
        let pid = finding["pid"].as_u64().context("a finding has no pid")?;
        let name = finding["finding"].as_str().context("a finding has no name")?;
        by_pid.entry(pid).or_default().insert(name);
    }
    let mut verdict = Verdict::default();
    let (mut right, mut other, mut missed) = (0_u32, 0_u32, 0_u32);
    for (pid, Expected { cause, seed }) in expected {
        let names = by_pid.remove(&u64::from(*pid)).unwrap_or_default();
        let is_found = cause.is_some_and(|cause| names.contains(cause));
        let others = names.len() - usize::from(is_found);
        let others = u32::try_from(others).context("there are a few rules")?;
        let (engines, hits, false_hits) =
            verdict.rows.entry(cause.unwrap_or("(healthy)")).or_default();
        *engines += 1;
        *hits += u32::from(is_found);
        *false_hits += others;
        right += u32::from(is_found);
        other += others;
        missed += u32::from(cause.is_some() && !is_found);
        if cause.is_none() {
            verdict.false_alarms += others;
        }
        if others > 0 || cause.is_some() && !is_found {
            let cause = cause.unwrap_or("(healthy)");
            verdict.wrong.push(format!("{cause}, seed {seed}, pid {pid}: found {names:?}"));
        }
    }
    let part =
        |of: u32| if right + of == 0 { 1.0 } else { f64::from(right) / f64::from(right + of) };
    (verdict.precision, verdict.recall) = (part(other), part(missed));
    Ok(verdict)
}

impl Verdict {
    pub(super) fn table(&self) -> String {
        let mut text =
            String::from("| cause | engines | found | others found |\n|---|--:|--:|--:|\n");
        for (cause, (engines, hits, others)) in &self.rows {
            let _: std::fmt::Result =
                writeln!(text, "| `{cause}` | {engines} | {hits} | {others} |");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_and_recall_are_those_of_all_engines() {
        let engine = |cause| Expected { cause, seed: 1 };
        let expected = BTreeMap::from([
            (1, engine(Some("errors"))),
            (2, engine(Some("errors"))),
            (3, engine(Some("sync_copy"))),
            (4, engine(None)),
        ]);
        let found = |pid: u32, name: &str| format!(r#"{{"pid":{pid},"finding":"{name}"}}"#);
        let all =
            [found(1, "errors"), found(3, "sync_copy"), found(3, "errors"), found(4, "errors")];
        let verdict = judge(&expected, &format!(r#"{{"findings":[{}]}}"#, all.join(","))).unwrap();
        assert_eq!((verdict.precision, verdict.recall, verdict.false_alarms), (0.5, 2.0 / 3.0, 1));
        assert_eq!(verdict.wrong.len(), 3, "{:?}", verdict.wrong);
        assert!(verdict.table().contains("| `errors` | 2 | 1 | 0 |"), "{}", verdict.table());
        assert!(judge(&expected, "{}").is_err());
    }
}
