//! A program that ends calls otherwise than by returning from them: by a jump, with its thread or its process, while
//! they are nested deeply or go on for long.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::libraries::write_executable;

/// Writes the program into `directory`; gives its path. What it takes is at the end of `native/leaver.c`.
pub fn install(directory: &Path) -> Result<PathBuf> {
    let program = directory.join("standin-leaver");
    write_executable(&program, include_bytes!(concat!(env!("OUT_DIR"), "/standin-leaver")))
        .with_context(|| format!("cannot write {}", program.display()))?;
    Ok(program)
}
