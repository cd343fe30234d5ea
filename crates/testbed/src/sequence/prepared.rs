//! Valid arguments for the functions that a benchmark calls in a loop, and the structures that launches take.

use anyhow::{Result, bail, ensure};

use super::{ALLOCATION, BLOCK, COPY, GRID, PLANE, SHARED_MEMORY, join, text, to};
use crate::cuda::{self, Library, WORDS};

/// `CUlaunchConfig`.
#[repr(C)]
pub(super) struct LaunchConfig {
    grid: [u32; 3],
    block: [u32; 3],
    shared_memory: u32,
    stream: usize,
    attributes: usize,
    attribute_count: u32,
}

impl LaunchConfig {
    pub(super) fn new(stream: usize) -> Self {
        Self {
            grid: GRID,
            block: BLOCK,
            shared_memory: SHARED_MEMORY,
            stream,
            attributes: 0,
            attribute_count: 0,
        }
    }
}

/// `cudaLaunchConfig_t`: the shared memory is a `size_t` here.
#[repr(C)]
pub(super) struct RuntimeLaunchConfig {
    grid: [u32; 3],
    block: [u32; 3],
    shared_memory: usize,
    stream: usize,
    attributes: usize,
    attribute_count: u32,
}

impl RuntimeLaunchConfig {
    pub(super) fn new(stream: usize) -> Self {
        Self {
            grid: GRID,
            block: BLOCK,
            shared_memory: SHARED_MEMORY as usize,
            stream,
            attributes: 0,
            attribute_count: 0,
        }
    }
}

/// `CUDA_KERNEL_NODE_PARAMS_v2`, and in its head `cudaKernelNodeParams`.
#[repr(C)]
pub(super) struct KernelNode {
    function: usize,
    grid: [u32; 3],
    block: [u32; 3],
    shared_memory: u32,
    parameters: usize,
    extra: usize,
    kernel: usize,
    context: usize,
}

impl KernelNode {
    pub(super) fn new(function: usize) -> Self {
        Self {
            function,
            grid: GRID,
            block: BLOCK,
            shared_memory: SHARED_MEMORY,
            parameters: 0,
            extra: 0,
            kernel: 0,
            context: 0,
        }
    }
}

/// `CUDA_MEMCPY2D`, host to device.
#[repr(C)]
pub(super) struct CopyPlane {
    from: [usize; 7],
    to: [usize; 7],
    width: usize,
    height: usize,
}

impl CopyPlane {
    pub(super) fn new(device: usize, host: usize) -> Self {
        // x, y, type (1 host, 2 device), host, device, array, pitch.
        Self {
            from: [0, 0, 1, host, 0, 0, PLANE.0],
            to: [0, 0, 2, 0, device, 0, PLANE.0],
            width: PLANE.0,
            height: PLANE.1,
        }
    }
}

/// A grid or block by value: two registers, x and y in one, z in the next.
pub(super) fn packed([x, y, z]: [u32; 3]) -> [usize; 2] {
    [x as usize | (y as usize) << 32, z as usize]
}

/// Arguments with which a function of a loop does what it is for.
#[derive(Debug)]
pub struct Prepared {
    pub arguments: [usize; WORDS],
}

impl Prepared {
    /// The functions that [`Prepared::of`] knows.
    pub const FUNCTIONS: &[&str] = &[
        "cuLaunchKernel",
        "cuLaunchKernelEx",
        "cuMemcpyHtoDAsync_v2",
        "cuMemcpyDtoHAsync_v2",
        "cuGraphLaunch",
        "cuStreamSynchronize",
        "cudaLaunchKernel",
        "cudaLaunchKernelExC",
        "cudaMemcpyAsync",
        "cudaGraphLaunch",
        "cudaStreamSynchronize",
        "cudaGetDevice",
    ];

    /// Makes the kernel, memory or graph that the function needs, with calls of the same library. What the arguments
    /// point to lives as long as the process.
    pub fn of(function: &str, library: &Library) -> Result<Self> {
        let make = |name: &str, arguments: [usize; 10]| -> Result<()> {
            // SAFETY: each call below passes what the function takes; storage behind pointers is leaked or outlives it.
            let code = cuda::code(unsafe { cuda::call(library.function(name)?, arguments) });
            ensure!(code == 0, "{name} failed with {code}");
            Ok(())
        };
        let kept = |value: usize| Box::leak(Box::new(value));
        let handle = kept(0);
        let words: Vec<usize> = match function {
            "cuLaunchKernel" | "cuLaunchKernelEx" => {
                let module = kept(0);
                make("cuModuleLoadData", pad([to(module), text(c"any image")]))?;
                make(
                    "cuModuleGetFunction",
                    pad([to(handle), *module, text(c"standin_driver_kernel")]),
                )?;
                let [gx, gy, gz] = GRID.map(|size| size as usize);
                let [bx, by, bz] = BLOCK.map(|size| size as usize);
                if function == "cuLaunchKernel" {
                    vec![*handle, gx, gy, gz, bx, by, bz, SHARED_MEMORY as usize]
                } else {
                    vec![to(Box::leak(Box::new(LaunchConfig::new(0)))), *handle]
                }
            }
            "cudaLaunchKernel" | "cudaLaunchKernelExC" => {
                let library = kept(0);
                make("cudaLibraryLoadData", pad([to(library), text(c"any image")]))?;
                make(
                    "cudaLibraryGetKernel",
                    pad([to(handle), *library, text(c"standin_runtime_kernel")]),
                )?;
                if function == "cudaLaunchKernel" {
                    let ([grid, grid_z], [block, block_z]) = (packed(GRID), packed(BLOCK));
                    vec![*handle, grid, grid_z, block, block_z, 0, SHARED_MEMORY as usize]
                } else {
                    vec![to(Box::leak(Box::new(RuntimeLaunchConfig::new(0)))), *handle]
                }
            }
            "cuMemcpyHtoDAsync_v2" | "cuMemcpyDtoHAsync_v2" | "cudaMemcpyAsync" => {
                let allocate =
                    if function.starts_with("cuda") { "cudaMalloc" } else { "cuMemAlloc_v2" };
                make(allocate, pad([to(handle), ALLOCATION]))?;
                let host = to(Box::leak(Box::new([0_u8; COPY])));
                // The direction is the runtime's fourth argument; the driver's is the stream, for which 1 is a default.
                if function == "cuMemcpyDtoHAsync_v2" {
                    vec![host, *handle, COPY, 1]
                } else {
                    vec![*handle, host, COPY, 1]
                }
            }
            // On the default stream.
            "cuStreamSynchronize" | "cudaStreamSynchronize" => vec![0],
            "cuGraphLaunch" | "cudaGraphLaunch" => {
                let (graph, node) = (kept(0), kept(0));
                let prefix = function.strip_suffix("GraphLaunch").unwrap_or_default();
                make(&format!("{prefix}GraphCreate"), pad([to(graph)]))?;
                make(&format!("{prefix}GraphAddEmptyNode"), pad([to(node), *graph]))?;
                make(&format!("{prefix}GraphInstantiateWithFlags"), pad([to(handle), *graph]))?;
                vec![*handle]
            }
            "cudaGetDevice" => vec![to(handle)],
            _ => bail!(
                "no valid arguments are prepared for {function}: known are {}",
                Self::FUNCTIONS.join(", ")
            ),
        };
        Ok(Self { arguments: join(&words, &[]) })
    }
}

fn pad<const COUNT: usize>(arguments: [usize; COUNT]) -> [usize; 10] {
    join(&arguments, &[])
}
