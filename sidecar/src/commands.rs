//! What the program does beside tracing.

#[cfg(feature = "store")]
pub mod check_s3;
#[cfg(feature = "store")]
pub mod fetch;
pub mod fetch_selection;
pub mod status;
