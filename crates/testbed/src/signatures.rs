//! Stand-in libraries that have every function of the default set with the parameters that the headers of CUDA
//! declare, and the program that calls them: made from the tables in `native/signatures/`.
//!
//! The functions do nothing but give values. Each call prints, as a line of JSON, what a tracer should say of it, and
//! `CUDA_STANDIN_MODE` says how calls end: well, with errors (`failing`), or well with pointers that lead nowhere
//! (`unreadable`).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::libraries::{Driver, install_images, write_executable};

/// Writes the libraries into `directory`, in place of others, and the program beside them; gives its path.
pub fn install(directory: &Path, driver: Driver) -> Result<PathBuf> {
    let image: &[u8] = match driver {
        Driver::R550 => include_bytes!(concat!(env!("OUT_DIR"), "/signatures/libcuda.r550.so")),
        Driver::R580 => include_bytes!(concat!(env!("OUT_DIR"), "/signatures/libcuda.r580.so")),
    };
    let runtime = include_bytes!(concat!(env!("OUT_DIR"), "/signatures/libcudart.so"));
    install_images(directory, driver, image, runtime)?;
    let program = directory.join("standin-signatures");
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/signatures/standin-signatures"));
    write_executable(&program, bytes)
        .with_context(|| format!("cannot write {}", program.display()))?;
    Ok(program)
}
