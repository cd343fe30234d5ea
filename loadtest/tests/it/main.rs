//! The binary against a scripted server on 127.0.0.1: what it measures, how it fails, what it leaves behind.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking; helpers are not `#[test]` functions"
)]

mod answers;
mod batch;
mod cases;
mod clock;
mod command;
mod errors;
mod measured;
mod pace;
mod reply;
mod server;
mod server_metrics;
mod studies;
mod urls;
mod usage;
