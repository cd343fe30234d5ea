//! The programs for a machine that has a GPU and no Rust: static, in one directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tasks::ctx::Ctx;

use tasks::static_build::{static_directory, static_programs};

/// This program, the sidecar, the load test and the floor that it is compared with, as cargo leaves
/// them.
const PROGRAMS: [&str; 4] = ["bench", "ebpf-cuda-tracer", "loadtest", EMPTY_PROBE];

/// An example of the sidecar's.
pub(super) const EMPTY_PROBE: &str = "examples/empty_probe";

const README: &str = "\
Measures what tracing costs vLLM on this machine's GPU. As root:

  ./bench gpu --programs . --out results --serve 'vllm serve MODEL --port 8000'

It compares with bpftrace too, which is not here: install it, or add --tracers call.
./bench gpu --help tells the rest.
";

/// Returns the directory with the programs.
pub(super) fn build(ctx: &Ctx) -> Result<PathBuf> {
    let programs = static_programs(&["sidecar", "loadtest", "bench"]);
    ctx.change(&programs.words("--example empty_probe")).context("cannot build the programs")?;
    Ok(static_directory())
}

pub(super) fn run(ctx: &Ctx, directory: &Path) -> Result<()> {
    let built = ctx.step("build", || build(ctx))?;
    let cannot = || format!("cannot fill {}", directory.display());
    fs::create_dir_all(directory.join("examples")).with_context(cannot)?;
    for program in PROGRAMS {
        fs::copy(built.join(program), directory.join(program)).with_context(cannot)?;
    }
    fs::write(directory.join("README"), README).with_context(cannot)?;
    println!("{}", directory.display());
    Ok(())
}
