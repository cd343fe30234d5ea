//! The libraries' own counts of calls: a truth that owes nothing to the tracer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The variable that names the directory for reports.
pub const DIRECTORY_VARIABLE: &str = "CUDA_STANDIN_COUNTS";

/// What one library saw in one process, from its first call to the process's end.
/// A child of `fork` starts from zero and reports for itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Counts {
    /// The library's soname.
    pub library: String,
    pub pid: u32,
    /// The first function that was called.
    pub first: String,
    /// Calls by exported function; functions never called are left out.
    pub functions: BTreeMap<String, u64>,
}

impl Counts {
    /// The calls of one function; zero if it was never called.
    pub fn of(&self, function: &str) -> u64 {
        self.functions.get(function).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.functions.values().sum()
    }
}

/// Reads every report in a directory, by process and library.
/// A process that was killed, or that called nothing, has left none.
pub fn read(directory: &Path) -> Result<Vec<Counts>> {
    let list = || format!("cannot list the call counts in {}", directory.display());
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).with_context(list)? {
        let path = entry.with_context(list)?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let counts: Counts = serde_json::from_slice(&text)
            .with_context(|| format!("cannot understand the call counts in {}", path.display()))?;
        all.push(counts);
    }
    all.sort_by(|a, b| (a.pid, &a.library).cmp(&(b.pid, &b.library)));
    Ok(all)
}

/// The calls of each function over all reports.
pub fn sum(reports: &[Counts]) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for (function, calls) in reports.iter().flat_map(|report| &report.functions) {
        *sum.entry(function.clone()).or_default() += calls;
    }
    sum
}
