//! A server with vLLM's shape: an API process that speaks OpenAI's protocol, and an engine process that it spawns,
//! which makes the CUDA calls of loading, capturing, prefilling and decoding.

mod answer;
mod api;
mod engine;
mod error;
mod gpu;
mod link;
mod metrics;
mod misbehaviour;
mod model;
mod options;
mod protocol;
mod request;
mod scheduler;
mod text;
mod title;
mod workers;

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cuda::{self, Library};
use crate::libraries::{DRIVER, RUNTIME};

pub use misbehaviour::{Cause, Misbehaviour};
pub use options::{HELP, Invocation, Options};

/// Runs the process that the command line asks for: the API server, the engine that it spawns, or one of its workers.
pub fn main() -> Result<ExitCode> {
    // Before any thread exists: the engine will overwrite where the environment lies now.
    let title = title::Title::reserve();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.last().is_some_and(|last| last == link::ENGINE_MARK) {
        engine::run(&title)?;
        return Ok(ExitCode::SUCCESS);
    }
    match Options::parse(&arguments)? {
        Invocation::Help => {
            eprintln!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Invocation::Serve { options, warnings } => {
            for warning in warnings {
                eprintln!("WARNING {warning}");
            }
            api::serve(*options)
        }
    }
}

/// Loads the libraries as PyTorch does: the runtime, and the driver that it needs, by plain name.
fn load_libraries() -> Result<(Library, Library)> {
    Ok((Library::open(RUNTIME)?, Library::open(DRIVER)?))
}

/// What the API process asks of the device: whether there is one.
fn count_devices(runtime: &Library) -> Result<i32> {
    let (mut count, mut device) = (0_i32, 0_i32);
    let code = |name: &str, argument: &mut i32| -> Result<i32> {
        // SAFETY: each function below writes one int through its pointer.
        Ok(cuda::code(unsafe {
            cuda::call(runtime.function(name)?, [std::ptr::from_mut(argument).addr()])
        }))
    };
    let failed = code("cudaGetDeviceCount", &mut count)?;
    anyhow::ensure!(
        failed == 0,
        "cudaGetDeviceCount failed with {failed}: is libcuda.so.1 beside libcudart.so.13?"
    );
    for name in ["cudaDriverGetVersion", "cudaGetDevice"] {
        code(name, &mut device).with_context(|| format!("cannot call {name}"))?;
    }
    Ok(count)
}
