//! Attaches a program that does nothing where the sidecar's would go: the floor in
//! `cargo xtask bench probe`. Runs until SIGTERM.

#![expect(clippy::print_stdout, reason = "says when the probe is in place")]

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use sidecar::{config::Detail, library::Library, probes::EmptyProbe};
use trace::function::Selection;

const USAGE: &str = "usage: empty_probe LIBRARY FUNCTION entry|call: call is the return too";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context(USAGE)?;
    let function = arguments.next().context(USAGE)?;
    let detail = match arguments.next().as_deref() {
        Some("entry") => Detail::Entry,
        Some("call") => Detail::Call,
        _ => bail!(USAGE),
    };
    let library = Library::open(Path::new(&path), &Selection::parse(&function)?)?
        .with_context(|| format!("{path} exports no CUDA function"))?;
    let _probe = EmptyProbe::attach(&library, detail)?;
    println!("attached");
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?.recv().await;
    Ok(())
}
