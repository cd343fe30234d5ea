//! Which of the stored objects are downloaded: all, or the segments of some runs.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use clap::Args;
use trace::segment_name::{Run, SegmentName};

/// Runs that an error names.
const SHOWN: usize = 10;

#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Selection {
    /// Only trace files of this run: HOST_START, as file names have it behind trace_
    #[arg(long, value_name = "RUN", conflicts_with_all = ["last", "since"])]
    pub run: Option<String>,

    /// Only trace files of the run that began last
    #[arg(long, conflicts_with = "since")]
    pub last: bool,

    /// Only trace files of runs that began then or later, in UTC: 2026-11-24 or 2026-11-24T04:28
    #[arg(long, value_name = "TIME", value_parser = start)]
    pub since: Option<String>,
}

impl Selection {
    /// Objects of which this is the key that are asked for; an error names the runs that are there.
    pub fn choose<T>(&self, objects: Vec<T>, key: impl Fn(&T) -> &str) -> Result<Vec<T>> {
        if *self == Self::default() {
            return Ok(objects);
        }
        let run_of = |object: &T| {
            let name = key(object).rsplit('/').next()?;
            SegmentName::parse(name).map(|name| name.run)
        };
        let runs: BTreeMap<(String, String), Run> = objects
            .iter()
            .filter_map(run_of)
            .map(|run| ((run.start.clone(), run.host.clone()), run))
            .collect();
        let latest = runs.values().next_back();
        let is_asked = |run: &Run| match self {
            Self { run: Some(asked), .. } => run.to_string() == *asked,
            Self { since: Some(since), .. } => run.start.as_str() >= since.as_str(),
            _ => Some(run) == latest,
        };
        let asked: BTreeSet<&Run> = runs.values().filter(|run| is_asked(run)).collect();
        if asked.is_empty() {
            let shown: Vec<String> =
                runs.values().rev().take(SHOWN).map(|run| format!("\n  {run}")).collect();
            let more = runs.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!("\n  and {more} before") } else { String::new() };
            let there =
                if runs.is_empty() { "no run is there" } else { "there are, the last first:" };
            bail!(
                "no stored trace file is of a run that was asked for; {there}{}{more}",
                shown.concat()
            );
        }
        Ok(objects
            .into_iter()
            .filter(|one| run_of(one).is_some_and(|run| asked.contains(&run)))
            .collect())
    }
}

/// As starts of runs are written, to be compared with them.
fn start(value: &str) -> Result<String, String> {
    let start = value.replace(['-', ':'], "");
    let digits = start.bytes().take_while(u8::is_ascii_digit).count();
    let is_start = digits == 8
        && start.bytes().skip(digits).all(|c| c.is_ascii_digit() || b"T.Z".contains(&c));
    if is_start {
        Ok(start)
    } else {
        Err("accepted: 2026-11-24 or 2026-11-24T04:28, in UTC".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 5] = [
        "k/trace_a_20261124T042800.642Z_000001.jsonl",
        "k/trace_a_20261124T042800.642Z_000002.jsonl",
        "k/trace_z_20261123T000000.000Z_000001.parquet",
        "k/day=1/trace_b_20261125T000000.000Z_000001.jsonl.zst",
        "k/notes.txt",
    ];

    fn chosen(selection: Selection) -> Result<Vec<&'static str>> {
        selection.choose(KEYS.to_vec(), |key| key)
    }

    #[test]
    fn all_or_the_files_of_the_runs_that_are_asked_for() {
        assert_eq!(chosen(Selection::default()).unwrap(), KEYS);
        let run = Some("a_20261124T042800.642Z".to_owned());
        assert_eq!(chosen(Selection { run, ..Selection::default() }).unwrap(), KEYS[..2]);
        let last = Selection { last: true, ..Selection::default() };
        assert_eq!(chosen(last).unwrap(), [KEYS[3]]);
        for (time, expected) in [
            ("2026-11-24", &[KEYS[0], KEYS[1], KEYS[3]][..]),
            ("2026-11-24T04:28", &[KEYS[0], KEYS[1], KEYS[3]]),
            ("2026-11-24T04:29", &[KEYS[3]]),
        ] {
            let since = Some(start(time).unwrap());
            assert_eq!(chosen(Selection { since, ..Selection::default() }).unwrap(), expected);
        }
    }

    #[test]
    fn a_run_that_is_not_there_is_answered_with_those_that_are() {
        let run = Some("other_1".to_owned());
        let error = chosen(Selection { run, ..Selection::default() }).unwrap_err().to_string();
        assert!(error.contains("the last first:\n  b_20261125T000000.000Z\n  a_2026"), "{error}");
        for bad in ["yesterday", "2026", "2026-11-24 04:28", ""] {
            assert!(start(bad).is_err(), "{bad:?}");
        }
    }
}
