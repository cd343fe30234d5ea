//! What the stand-in libraries counted themselves: a truth that owes nothing to the tracer.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// The variable that names the directory for reports.
pub(crate) const DIRECTORY_VARIABLE: &str = "CUDA_STANDIN_COUNTS";

/// What a library writes when its process ends; `testbed::counts` has the same.
#[derive(Debug, Deserialize)]
pub(crate) struct Counts {
    pub(crate) library: String,
    pub(crate) pid: u32,
    /// The first function that was called.
    pub(crate) first: String,
    pub(crate) functions: BTreeMap<String, u64>,
}

pub(crate) fn read(directory: &Path) -> Result<Vec<Counts>> {
    let cannot = || format!("cannot list {}", directory.display());
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let counts = serde_json::from_str(&text)
            .with_context(|| format!("cannot understand {}", path.display()))?;
        all.push(counts);
    }
    ensure!(!all.is_empty(), "the stand-in libraries left no counts in {}", directory.display());
    Ok(all)
}
