//! The CUDA functions that the engine calls, looked up once, and how PyTorch surrounds them.

#![expect(non_snake_case, reason = "the fields are named as the functions are")]

use anyhow::{Result, bail};

use crate::cuda::{self, Function, Library};

macro_rules! functions {
    ($(#[$note:meta])* $name:ident { $($function:ident),+ $(,)? }) => {
        $(#[$note])*
        #[derive(Debug)]
        pub(super) struct $name {
            $(pub(super) $function: Function,)+
        }

        impl $name {
            pub(super) fn of(library: &Library) -> Result<Self> {
                Ok(Self { $($function: library.function(stringify!($function))?,)+ })
            }
        }
    };
}

functions! {
    Runtime {
        __cudaRegisterFatBinary, __cudaRegisterFatBinaryEnd, __cudaRegisterFunction,
        cudaDeviceGetAttribute, cudaDeviceSynchronize, cudaEventCreateWithFlags, cudaEventDestroy, cudaEventQuery,
        cudaEventRecord, cudaEventRecordWithFlags, cudaEventSynchronize, cudaFree, cudaFreeHost, cudaFuncSetAttribute,
        cudaGetDevice, cudaGetDeviceCount, cudaGetDeviceProperties, cudaGetLastError, cudaGraphExecDestroy,
        cudaGraphGetNodes, cudaGraphDestroy, cudaGraphInstantiate, cudaGraphLaunch, cudaHostAlloc, cudaLaunchKernel,
        cudaLaunchKernelExC, cudaMalloc, cudaMemGetInfo, cudaMemcpy, cudaMemcpyAsync, cudaMemset,
        cudaMemsetAsync, cudaSetDevice,
        cudaStreamBeginCapture, cudaStreamCreateWithPriority, cudaStreamDestroy, cudaStreamEndCapture,
        cudaStreamIsCapturing, cudaStreamSynchronize, cudaStreamWaitEvent,
    }
}

functions! {
    /// What Triton and the statically linked parts of cuBLAS call directly.
    Driver {
        cuCtxGetCurrent, cuDeviceGet, cuDeviceGetAttribute, cuDevicePrimaryCtxGetState, cuDevicePrimaryCtxRetain, cuInit,
        cuFuncSetAttribute, cuLaunchKernelEx, cuLibraryGetKernel, cuLibraryLoadData, cuModuleGetFunction, cuModuleLoadData,
        cuPointerGetAttribute, cuTensorMapEncodeTiled,
    }
}

/// Calls `$library.$function(words...)` and makes a failure an error.
macro_rules! call {
    ($library:expr, $function:ident ( $($word:expr),* $(,)? )) => {
        $crate::vllm::gpu::check(
            stringify!($function),
            // SAFETY: every caller passes what the function documents, from storage that outlives the call.
            unsafe { $crate::cuda::call($library.$function, [$($word),*]) },
        )
    };
}
pub(super) use call;

pub(super) fn check(function: &str, result: usize) -> Result<()> {
    match cuda::code(result) {
        0 => Ok(()),
        code => bail!("{function} failed with {code}"),
    }
}

#[derive(Debug)]
pub(super) struct Gpu {
    pub(super) runtime: Runtime,
    pub(super) driver: Driver,
}

impl Gpu {
    pub(super) fn of(runtime: &Library, driver: &Library) -> Result<Self> {
        Ok(Self { runtime: Runtime::of(runtime)?, driver: Driver::of(driver)? })
    }

    /// What surrounds each operation of PyTorch: guards that ask for the device again and again. On an H100 it was
    /// eight `cudaGetDevice` and three `cuDevicePrimaryCtxGetState` for each launch or copy.
    pub(super) fn guards(&self) -> Result<()> {
        let (mut device, mut flags, mut active) = (0_i32, 0_u32, 0_i32);
        for _ in 0..8 {
            call!(self.runtime, cudaGetDevice(address(&mut device)))?;
        }
        for _ in 0..3 {
            call!(
                self.driver,
                cuDevicePrimaryCtxGetState(0, address(&mut flags), address(&mut active))
            )?;
        }
        Ok(())
    }
}

/// The address of a variable, as an argument.
pub(super) fn address<T: ?Sized>(value: &mut T) -> usize {
    std::ptr::from_mut(value).cast::<()>().addr()
}
