//! Attaches programs that do nothing where the sidecar's would go: the floor in the benchmarks
//! `cargo xtask bench probe` and `bench gpu`. Runs until SIGTERM.

#![expect(clippy::print_stdout, reason = "says when the probes are in place")]

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use cuda::function::Selection;
use libraries::library::Library;
use settings::Detail;
use sidecar::probing::probes::EmptyProbes;

const USAGE: &str = "usage: empty_probe entry|call FUNCTIONS LIBRARY...
call is the return too; FUNCTIONS is a list as in TRACE_FUNCTIONS";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [detail, functions, libraries @ ..] = arguments.as_slice() else { bail!(USAGE) };
    let detail = match detail.as_str() {
        "entry" => Detail::Entry,
        "call" => Detail::Call,
        _ => bail!(USAGE),
    };
    let functions = Selection::parse(functions)?;
    let attach = |path: &String| -> Result<EmptyProbes> {
        let library = Library::open(Path::new(path), &functions)?
            .with_context(|| format!("{path} exports no such CUDA function"))?;
        EmptyProbes::attach(&library, detail)
    };
    let _probes: Vec<EmptyProbes> = libraries.iter().map(attach).collect::<Result<_>>()?;
    println!("attached");
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?.recv().await;
    Ok(())
}
