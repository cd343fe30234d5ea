//! From lines to objects in the store: segments, the directory that they wait in, uploads.

pub mod segment;
pub mod spool;
pub mod transcode;
#[cfg(feature = "store")]
pub mod upload;
