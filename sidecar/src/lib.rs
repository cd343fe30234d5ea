//! The sidecar as a library, so that tests and benchmarks reach its parts.
//!
//! Data passes four floors, once and in this order: [`probing`] fills the ring buffer, [`recording`] makes lines
//! of its events, [`shipping`] brings them to the store, and [`reporting`] tells how it goes. [`daemon`] starts
//! and stops them.

pub mod capabilities;
pub mod commands;
pub mod config;
#[cfg(feature = "store")]
pub mod daemon;
mod descriptors;
pub mod escape;
pub mod probing;
pub mod recording;
pub mod reporting;
pub mod shipping;
#[cfg(feature = "store")]
mod signals;
