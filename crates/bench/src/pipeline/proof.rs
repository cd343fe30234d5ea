//! That a round lost nothing in silence: the trace balances, and its hits are the calls that the
//! called libraries counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail, ensure};
use cuda::function::Selection;
use trace::check::{Report, check};

use testbed::counts;

/// Differences that are named.
const SHOWN: usize = 10;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proof {
    /// Probe hits.
    pub(super) events: u64,
    pub(super) lines: u64,
    pub(super) dropped: u64,
}

impl Proof {
    pub(super) fn of(segments: &[PathBuf], counts: &Path) -> Result<Self> {
        ensure!(!segments.is_empty(), "the sidecar left no segment");
        let mut made = BTreeMap::new();
        for (name, calls) in counts::read(counts)?.into_iter().flat_map(|counts| counts.functions) {
            *made.entry(name).or_default() += calls;
        }
        Self::compare(&check(segments), &made)
    }

    /// `made` are the calls of each function, traced or not.
    fn compare(report: &Report, made: &BTreeMap<String, u64>) -> Result<Self> {
        let selection = Selection::default();
        let traced = made.keys().filter(|name| selection.contains(name));
        let names: BTreeSet<&String> = traced.chain(report.functions.keys()).collect();
        let mut wrong: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        for name in names {
            let hits = report.functions.get(name).map_or(0, |total| total.hits);
            let calls = made.get(name).copied().unwrap_or(0);
            if hits != calls {
                wrong.push(format!("{name}: {hits} hits, but the library counted {calls} calls"));
            }
        }
        if !wrong.is_empty() {
            let more = wrong.len().saturating_sub(SHOWN);
            wrong.truncate(SHOWN);
            bail!("the trace is not whole:\n  {}\n  and {more} more", wrong.join("\n  "));
        }
        ensure!(report.calls > 0, "the trace has no call");
        Ok(Self {
            events: report.functions.values().map(|total| total.hits).sum(),
            lines: report.calls,
            dropped: report.dropped,
        })
    }
}

#[cfg(test)]
mod tests {
    use trace::check::{FunctionTotal, Problem};

    use super::*;

    fn report(lines: u64, dropped: u64) -> Report {
        let total = FunctionTotal { lines, dropped, hits: lines + dropped, ..Default::default() };
        let functions = [("cuInit".to_owned(), total)].into();
        Report { calls: lines, dropped, functions, ..Report::default() }
    }

    fn made(functions: &[(&str, u64)]) -> BTreeMap<String, u64> {
        functions.iter().map(|&(name, calls)| (name.to_owned(), calls)).collect()
    }

    #[test]
    fn counted_drops_are_proved_and_untraced_functions_do_not_matter() {
        let proof = Proof::compare(&report(3, 2), &made(&[("cuInit", 5), ("cuGetProcAddress", 9)]));
        assert_eq!(proof.unwrap(), Proof { events: 5, lines: 3, dropped: 2 });
    }

    #[test]
    fn silent_losses_inventions_and_broken_traces_are_errors() {
        let message = |report: &Report, functions: &[(&str, u64)]| {
            Proof::compare(report, &made(functions)).unwrap_err().to_string()
        };
        let lost = message(&report(3, 0), &[("cuInit", 4)]);
        assert!(lost.contains("cuInit: 3 hits, but the library counted 4 calls"), "{lost}");
        let unseen = message(&report(3, 0), &[("cuInit", 3), ("cuLaunchKernel", 1)]);
        assert!(unseen.contains("cuLaunchKernel: 0 hits"), "{unseen}");
        let invented = message(&report(3, 0), &[]);
        assert!(invented.contains("cuInit: 3 hits, but the library counted 0"), "{invented}");
        let problems = vec![Problem::NotEnded { run: "node_1".to_owned() }];
        let broken = Report { problems, ..report(3, 0) };
        assert!(message(&broken, &[("cuInit", 3)]).contains("node_1"));
        assert!(message(&Report::default(), &[]).contains("no call"));
    }
}
