//! What the sidecar tells of itself: health, metrics, status.

pub mod http;
pub mod metrics;
pub mod state;
pub mod status;
