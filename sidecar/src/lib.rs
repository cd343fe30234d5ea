//! The sidecar as a library, so that tests and benchmarks reach its parts.
//!
//! Data flows one way: [`probes`] → ring buffer → [`recorder`] → [`segment`] → [`spool`] →
//! [`upload`] → [`store`], with [`transcode`] before [`spool`] where tables are wanted. Beside it
//! [`discovery`] attaches probes, told by [`sideband`]. All of them
//! write to [`state`], which [`http`] reads.

#[cfg(test)]
#[path = "../../trace/tests/it/counting.rs"]
mod allocations;
pub mod books;
pub mod capabilities;
#[cfg(feature = "store")]
pub mod check_s3;
pub mod clock;
pub mod config;
#[cfg(feature = "store")]
pub mod daemon;
pub mod demangle;
mod descriptors;
pub mod discovery;
pub mod escape;
#[cfg(feature = "store")]
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
pub mod segment;
pub mod sideband;
#[cfg(feature = "store")]
mod signals;
pub mod spool;
pub mod state;
pub mod status;
pub mod time_limit;
pub mod transcode;
pub mod untrusted_file;
#[cfg(feature = "store")]
pub mod upload;
