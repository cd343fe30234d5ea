//! The programs for a machine that has a GPU and no Rust: static, in one directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    build::{static_directory, static_programs},
    ctx::Ctx,
};

/// This task, the sidecar and the load test.
const PROGRAMS: [&str; 3] = ["xtask", "ebpf-cuda-tracer", "loadtest"];

const README: &str = "\
Measures what tracing costs vLLM on this machine's GPU. As root:

  ./xtask bench gpu --programs . --out results --serve 'vllm serve MODEL --port 8000'

./xtask bench gpu --help tells the rest.
";

/// Returns the directory with the programs.
pub(super) fn build(ctx: &Ctx) -> Result<PathBuf> {
    ctx.change(&static_programs(&["sidecar", "loadtest", "xtask"]))
        .context("cannot build the programs")?;
    Ok(static_directory())
}

pub(super) fn run(ctx: &Ctx, directory: &Path) -> Result<()> {
    let built = ctx.step("build", || build(ctx))?;
    if ctx.dry_run {
        return Ok(());
    }
    let cannot = || format!("cannot fill {}", directory.display());
    fs::create_dir_all(directory).with_context(cannot)?;
    for program in PROGRAMS {
        fs::copy(built.join(program), directory.join(program)).with_context(cannot)?;
    }
    fs::write(directory.join("README"), README).with_context(cannot)?;
    println!("{}", directory.display());
    Ok(())
}
