//! Real probes on real shared libraries: needs root and eBPF, and fails without them.
//!
//! Every test compares the trace with what the callee counted itself.
//! Run with `cargo test -p sidecar --test privileged -- --test-threads=1`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod accounting;
mod arguments;
mod calls;
mod capabilities;
mod coverage;
mod crash;
mod engine;
mod fuse;
mod graphs;
mod harness;
mod hostile;
mod http;
mod kernels;
mod left_calls;
mod mapped;
mod namespace;
mod odd_code;
mod planted;
mod process_events;
mod stopping;
mod uploads;
