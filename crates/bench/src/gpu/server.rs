//! vLLM, from its start until it answers.

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tasks::{
    background::{Background, Interrupt},
    http,
};

/// Loading and capturing graphs takes minutes.
const TIMEOUT: Duration = Duration::from_secs(900);

const POLL: Duration = Duration::from_millis(500);

pub(super) struct Server(Background);

impl Server {
    /// Returns when it answers on `/health`.
    pub(super) fn start(
        command: &str,
        address: SocketAddr,
        log: PathBuf,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        ensure!(
            http::get(&address, "/health", POLL).is_err(),
            "something answers on {address} already: stop it, or name another --address"
        );
        // The shell is replaced, so that SIGTERM reaches the server.
        let command = format!("exec {command}");
        let server = Background::start(PathBuf::from("sh"), &["-c", &command], &[], log)?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let Err(error) = http::get(&address, "/health", POLL) else { return Ok(Self(server)) };
            server.check().context("vLLM did not start")?;
            ensure!(Instant::now() < deadline, "vLLM did not answer in {TIMEOUT:?}: {error:#}");
            interrupt.sleep(POLL)?;
        }
    }

    /// It may answer SIGTERM with any exit status.
    pub(super) fn stop(self) {
        drop(self.0);
    }
}
