//! Where traces go and come from: one bucket of S3, or of a store that speaks as S3 does.
//!
//! [`settings`] say where; the feature `client` brings [`Bucket`], and with it the AWS SDK.

#[cfg(feature = "client")]
mod client;
mod endpoint;
pub mod settings;

#[cfg(feature = "client")]
pub use client::*;
pub use endpoint::names_the_bucket;
pub use settings::{Addressing, Checksums, Destination};
