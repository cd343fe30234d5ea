//! The sidecar as a library, so that tests and benchmarks reach its parts.
//!
//! Data flows one way: [`probes`] → ring buffer → [`recorder`] → [`segment`] → [`spool`] →
//! [`upload`] → [`s3`]. Beside it [`discovery`] attaches probes, told by [`sideband`]. All of them
//! write to [`state`], which [`http`] reads.

#[cfg(test)]
#[path = "../../trace/tests/it/counting.rs"]
mod allocations;
pub mod books;
pub mod check_s3;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod discovery;
pub mod escape;
pub mod fetch;
pub mod http;
pub mod library;
pub mod loader;
pub mod metrics;
pub mod placement;
pub mod preflight;
pub mod probes;
pub mod process;
pub mod record;
pub mod recorder;
pub mod s3;
pub mod segment;
pub mod sideband;
mod signals;
pub mod spool;
pub mod state;
pub mod status;
pub mod time_limit;
pub mod untrusted_file;
pub mod upload;
