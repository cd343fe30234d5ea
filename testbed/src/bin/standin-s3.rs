//! An S3 server on 127.0.0.1 that keeps objects as files.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use testbed::s3::{ACCESS_KEY, Options, SECRET_KEY, Server};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(
    version,
    about = "Serves S3 on 127.0.0.1, path style; prints its endpoint as the first line; ends on SIGTERM or SIGINT"
)]
struct Arguments {
    /// Where buckets and objects are kept; made if it is missing.
    #[arg(long)]
    root: PathBuf,
    /// The bucket to make.
    #[arg(long)]
    bucket: String,
    /// 0 takes a free port.
    #[arg(long, default_value_t = 0)]
    port: u16,
    #[arg(long, default_value = ACCESS_KEY)]
    access_key: String,
    #[arg(long, default_value = SECRET_KEY)]
    secret_key: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Arguments { root, bucket, port, access_key, secret_key } = Arguments::parse();
    // Before the endpoint is known, so that a signal right after it is not lost.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let server = Server::start_with(Options { root, bucket, port, access_key, secret_key })?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", server.endpoint())
        .and_then(|()| out.flush())
        .context("cannot print the endpoint")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
