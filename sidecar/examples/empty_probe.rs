//! Attaches a program that does nothing where the sidecar's would go: the floor in
//! `cargo xtask bench probe`. `empty_probe LIBRARY FUNCTION` runs until SIGTERM.

#![expect(clippy::print_stdout, reason = "says when the probe is in place")]

use std::path::Path;

use anyhow::{Context as _, Result};
use sidecar::{config::Detail, library::Library, probes::EmptyProbe};
use trace::function::Selection;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("usage: empty_probe LIBRARY FUNCTION")?;
    let function = arguments.next().context("usage: empty_probe LIBRARY FUNCTION")?;
    let library = Library::open(Path::new(&path), &Selection::parse(&function)?)?
        .with_context(|| format!("{path} exports no CUDA function"))?;
    let _probe = EmptyProbe::attach(&library, Detail::Entry)?;
    println!("attached");
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?.recv().await;
    Ok(())
}
