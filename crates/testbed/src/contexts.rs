//! A program that calls from coroutines, signal stacks, deep recursion, threads that are cancelled, and children of
//! every kind.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::libraries::write_executable;

/// Writes the program into `directory`; gives its path. What it takes is at the end of `native/contexts.c`.
pub fn install(directory: &Path) -> Result<PathBuf> {
    let program = directory.join("standin-contexts");
    write_executable(&program, include_bytes!(concat!(env!("OUT_DIR"), "/standin-contexts")))
        .with_context(|| format!("cannot write {}", program.display()))?;
    Ok(program)
}
