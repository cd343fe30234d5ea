//! A file that is given out as a segment of a trace: read, and checked.

#![no_main]

use std::sync::LazyLock;

use fuzz::Scratch;
use libfuzzer_sys::fuzz_target;
use trace::check::check;

static SCRATCH: LazyLock<Scratch> =
    LazyLock::new(|| Scratch::new("trace_host_20261124T032105.123Z_000001.jsonl"));

/// What `verify` prints of one file, at most.
const MAX_REPORT_BYTES: usize = 64 << 20;

fuzz_target!(|file: &[u8]| {
    let report = check(&[SCRATCH.with(file).to_owned()]);
    let printed = serde_json::to_vec(&report).expect("a report is JSON");
    assert!(printed.len() < MAX_REPORT_BYTES, "{} bytes of report", printed.len());
    for problem in &report.problems {
        assert!(!problem.to_string().is_empty());
    }
});
