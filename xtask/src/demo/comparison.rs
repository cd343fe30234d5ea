//! The trace against an independent truth: what the called libraries counted themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use cuda::function::{Api, Selection};
use serde::Serialize;
use trace::{
    check::{Report, check},
    line::{Call, Line},
    reader::Reader,
    segments::segments,
};

use super::files::Files;
use crate::demo::callees::{self, Counts};

/// Both sides, function by function, and what differs.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    pub(super) functions: BTreeMap<String, Pair>,
    /// First calls of processes that are not the first line of the trace.
    pub(super) late_starts: Vec<String>,
    /// Seconds between the first and the last call.
    pub(super) seconds: f64,
    #[serde(skip)]
    pub(super) trace: Report,
    #[serde(skip)]
    pub(super) bytes: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Pair {
    pub(super) trace: u64,
    pub(super) callee: u64,
}

impl Comparison {
    pub(super) fn of(files: &Files) -> Result<Self> {
        let segments = segments(&files.downloaded())?;
        ensure!(!segments.is_empty(), "no trace was downloaded");
        let callees = callees::read(&files.counts())?;
        let selection = Selection::default();
        let trace = check(&segments);
        let names: BTreeSet<&String> = callees
            .iter()
            .flat_map(|counts| counts.functions.keys())
            .filter(|name| selection.contains(name))
            .chain(trace.functions.keys())
            .collect();
        let pair = |name: &String| Pair {
            trace: trace.functions.get(name).map_or(0, |total| total.lines),
            callee: callees.iter().filter_map(|counts| counts.functions.get(name)).sum(),
        };
        let functions = names.into_iter().map(|name| (name.clone(), pair(name))).collect();
        let Calls { first, seconds } = Calls::read(&segments)?;
        let late_starts = late_starts(&callees, &first, &selection);
        let bytes =
            segments.iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum();
        Ok(Self { functions, late_starts, seconds, trace, bytes })
    }

    /// Fails with every difference.
    pub(super) fn verdict(&self) -> Result<()> {
        let mut differences: Vec<String> = self
            .functions
            .iter()
            .filter(|(_, pair)| pair.trace != pair.callee)
            .map(|(name, pair)| format!("{name}: {} lines, {} calls", pair.trace, pair.callee))
            .collect();
        differences.extend(self.late_starts.iter().cloned());
        differences.extend(self.trace.problems.iter().map(ToString::to_string));
        if self.trace.dropped > 0 {
            differences.push(format!("{} calls were dropped", self.trace.dropped));
        }
        if differences.is_empty() {
            return Ok(());
        }
        bail!("trace and callees differ:\n  {}", differences.join("\n  "))
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// What the order of the calls tells.
struct Calls {
    /// The first function of each process and API, with its time.
    first: BTreeMap<(u32, &'static str), (f64, String)>,
    seconds: f64,
}

impl Calls {
    fn read(segments: &[PathBuf]) -> Result<Self> {
        let mut first: BTreeMap<(u32, &'static str), (f64, String)> = BTreeMap::new();
        let (mut earliest, mut latest) = (f64::INFINITY, 0.0_f64);
        for segment in segments {
            let reader = Reader::open(segment)
                .with_context(|| format!("cannot open {}", segment.display()))?;
            // A bad line is among the problems of the report already.
            for line in reader.flatten() {
                let Line::Call(Call { ts, pid, func, .. }) = line else { continue };
                (earliest, latest) = (earliest.min(ts), latest.max(ts));
                let Some(api) = Api::of(&func) else { continue };
                let known =
                    first.entry((pid, api.type_name())).or_insert_with(|| (ts, func.clone()));
                if ts < known.0 {
                    *known = (ts, func);
                }
            }
        }
        Ok(Self { first, seconds: (latest - earliest).max(0.0) / 1e3 })
    }
}

/// A process whose first traced call is not the first that its library saw.
fn late_starts(
    callees: &[Counts],
    first: &BTreeMap<(u32, &'static str), (f64, String)>,
    selection: &Selection,
) -> Vec<String> {
    callees
        .iter()
        .filter(|counts| selection.contains(&counts.first))
        .filter_map(|Counts { library, pid, first: expected, .. }| {
            let api = Api::of(expected)?.type_name();
            let found = first.get(&(*pid, api)).map(|(_, name)| name.as_str());
            (found != Some(expected.as_str())).then(|| {
                let found = found.unwrap_or("nothing");
                format!("pid {pid}: the first call into {library} was {expected}, the trace begins with {found}")
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(trace: u64, callee: u64) -> Comparison {
        Comparison {
            functions: BTreeMap::from([("cuInit".to_owned(), Pair { trace, callee })]),
            late_starts: Vec::new(),
            seconds: 1.0,
            trace: Report::default(),
            bytes: 0,
        }
    }

    #[test]
    fn one_missing_call_is_a_difference() {
        assert!(comparison(2, 2).verdict().is_ok());
        let error = comparison(1, 2).verdict().unwrap_err().to_string();
        assert!(error.contains("cuInit: 1 lines, 2 calls"), "{error}");
    }

    #[test]
    fn a_drop_fails_even_if_counts_agree() {
        let mut comparison = comparison(2, 2);
        comparison.trace.dropped = 1;
        assert!(comparison.verdict().is_err());
    }

    #[test]
    fn a_process_must_begin_with_its_first_call() {
        let counts = Counts {
            library: "libcuda.so.1".to_owned(),
            pid: 5,
            first: "cuInit".to_owned(),
            functions: BTreeMap::new(),
        };
        let selection = Selection::default();
        let seen = |name: &str| BTreeMap::from([((5, "cuda_api"), (1.0, name.to_owned()))]);
        let counts = [counts];
        assert!(late_starts(&counts, &seen("cuInit"), &selection).is_empty());
        assert_eq!(late_starts(&counts, &seen("cuCtxCreate_v2"), &selection).len(), 1);
    }
}
