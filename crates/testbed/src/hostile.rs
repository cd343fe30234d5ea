//! A program that does what fills the memory of whoever looks at it: command lines of 1 GiB, names and handles of
//! kernels without end, and children with thousands of mapped files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::libraries::write_executable;

/// Writes the program into `directory`; gives its path. What it takes is at the end of `native/hostile.c`.
pub fn install(directory: &Path) -> Result<PathBuf> {
    let program = directory.join("standin-hostile");
    write_executable(&program, include_bytes!(concat!(env!("OUT_DIR"), "/standin-hostile")))
        .with_context(|| format!("cannot write {}", program.display()))?;
    Ok(program)
}
