//! A probe over HTTP, as the kubelet sends it.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use serde::Deserialize;
use tasks::http;

/// What `manifests --kubelet` tells of a probe.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Probe {
    pub(super) address: SocketAddr,
    pub(super) path: String,
    period_seconds: u64,
    timeout_seconds: u64,
    failures: u64,
}

impl Probe {
    /// How long it may fail at a container's start.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.period_seconds * self.failures)
    }

    /// Passes if the answer is 200 to 399.
    pub(super) fn send(&self) -> Result<()> {
        http::get(&self.address, &self.path, Duration::from_secs(self.timeout_seconds))
    }
}
