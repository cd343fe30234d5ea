//! The client: puts files and makes sure of them, lists and downloads. The only user of the AWS SDK.

mod addressing;
mod bucket;
mod confirm;
mod connection;
mod credentials;
mod digest;
mod download;
mod failure;
mod field_values;
mod key_files;
mod limit;
mod listing;
mod range_read;
mod reader;
mod stored_checksums;
mod transfer;
mod transport;
mod unsupported;
mod write_check;

pub use bucket::{Bucket, Object, loader};
pub use connection::Connection;
pub use download::{MAX_FAILURES_IN_A_ROW, PARTIAL};
pub use failure::PutError;
pub use listing::Listing;
pub use reader::{Content, Reader};
pub use transfer::{ATTEMPTS, FetchError};
pub use write_check::{Permitted, WriteCheck};
