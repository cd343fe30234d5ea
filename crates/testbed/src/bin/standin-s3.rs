//! An S3 server that keeps objects as files.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use testbed::s3::{ACCESS_KEY, Options, SECRET_KEY, Server};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(
    version,
    about = "Serves S3, path style; prints its endpoint as the first line; ends on SIGTERM or SIGINT"
)]
struct Arguments {
    /// Where buckets and objects are kept; made if it is missing.
    #[arg(long)]
    root: PathBuf,
    /// The bucket to make.
    #[arg(long)]
    bucket: String,
    /// Address to listen on; 0.0.0.0 for all, as inside a container.
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST)]
    host: Ipv4Addr,
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
    let Arguments { root, bucket, host, port, access_key, secret_key } = Arguments::parse();
    let address = SocketAddrV4::new(host, port);
    // Before the endpoint is known, so that a signal right after it is not lost.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let server = Server::start_with(Options { root, bucket, address, access_key, secret_key })?;
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
