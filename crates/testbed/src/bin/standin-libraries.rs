//! Writes the stand-in CUDA libraries into a directory and prints its path.

#![expect(clippy::print_stdout, reason = "the path goes to stdout")]

use std::path::PathBuf;

use clap::Parser;
use testbed::libraries::{Driver, install};

/// Write a stand-in libcuda.so.1 and libcudart.so.13 into a directory, for LD_LIBRARY_PATH
#[derive(Debug, Parser)]
struct Arguments {
    directory: PathBuf,

    /// Whose prologues libcuda.so.1 has: driver 550's or driver 580's
    #[arg(long, value_enum, default_value = "r550")]
    driver: Driver,
}

fn main() -> anyhow::Result<()> {
    let Arguments { directory, driver } = Arguments::parse();
    println!("{}", install(&directory, driver)?.directory.display());
    Ok(())
}
