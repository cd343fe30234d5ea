//! What needs neither root nor eBPF: settings, the store, uploads and downloads, against servers on
//! 127.0.0.1.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking; helpers are not `#[test]` functions"
)]

mod check_s3;
mod command;
mod confirmation;
mod documentation;
mod failures;
mod fetch;
mod fetch_faults;
mod planted;
mod preflight;
mod scripted;
mod settings;
mod slow_downloads;
mod status;
mod store;
mod stores;
mod tls;
mod transcoding;
mod uploads;
