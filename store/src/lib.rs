//! Where traces go and come from: one bucket of S3, or of a store that speaks as S3 does.
//!
//! [`settings`] say where; the feature `client` brings [`Bucket`], which puts files and makes sure of
//! them, lists and downloads. It is the only user of the AWS SDK.

#[cfg(feature = "client")]
mod bucket;
#[cfg(feature = "client")]
mod confirm;
#[cfg(feature = "client")]
mod connection;
#[cfg(feature = "client")]
mod credentials;
#[cfg(feature = "client")]
mod digest;
#[cfg(feature = "client")]
mod download;
mod endpoint;
#[cfg(feature = "client")]
mod failure;
#[cfg(feature = "client")]
mod field_values;
#[cfg(feature = "client")]
mod habits;
#[cfg(feature = "client")]
mod key_files;
#[cfg(feature = "client")]
mod limit;
#[cfg(feature = "client")]
mod listing;
#[cfg(feature = "client")]
mod part;
#[cfg(feature = "client")]
mod place;
#[cfg(feature = "client")]
mod reader;
pub mod settings;
#[cfg(feature = "client")]
mod sums;
#[cfg(feature = "client")]
mod transport;
#[cfg(feature = "client")]
mod trial;

#[cfg(feature = "client")]
pub use bucket::{Bucket, Object, loader};
#[cfg(feature = "client")]
pub use connection::Connection;
#[cfg(feature = "client")]
pub use download::{ATTEMPTS, FetchError, MAX_FAILURES_IN_A_ROW, PARTIAL};
pub use endpoint::names_the_bucket;
#[cfg(feature = "client")]
pub use failure::PutError;
#[cfg(feature = "client")]
pub use listing::Listing;
#[cfg(feature = "client")]
pub use reader::{Content, Reader};
pub use settings::{Addressing, Checksums, Destination};
#[cfg(feature = "client")]
pub use trial::{Permitted, Trial};
