//! The tour of `libcudart.so.13`.

mod memory;
mod work;

use anyhow::Result;

use super::prepared::RuntimeLaunchConfig;
use super::{ALLOCATION, Tour, stream_callback_address, text, to};

/// Stands at the address that compiled code registers for a kernel, and for a variable.
static KERNEL_SYMBOL: u8 = 1;
static VARIABLE_SYMBOL: u8 = 2;

pub(super) fn tour(tour: &mut Tour<'_>) -> Result<()> {
    let kernel = register(tour)?;
    versions(tour)?;
    device(tour)?;
    let stream = streams(tour)?;
    let device_memory = memory::memory(tour)?;
    memory::pools(tour, stream)?;
    memory::copies(tour, stream, device_memory)?;
    kernels(tour, kernel)?;
    work::launches(tour, stream, kernel)?;
    work::capture(tour, stream, kernel)?;
    work::events(tour, stream)?;
    work::graphs(tour, stream, kernel)?;
    tour.ok("cudaStreamDestroy", [stream])?;
    tour.ok("cudaFree", [device_memory])?;
    tour.ok("cudaDeviceReset", [])
}

fn register(tour: &mut Tour<'_>) -> Result<usize> {
    const KERNEL: &std::ffi::CStr = c"standin_runtime_kernel";
    let symbol = (&raw const KERNEL_SYMBOL).addr();
    let variable = variable();
    let name = text(KERNEL);
    let binary = tour.call("__cudaRegisterFatBinary", [text(c"any image")])?;
    tour.call("__cudaRegisterFunction", [binary, symbol, name, name, usize::MAX, 0, 0, 0, 0, 0])?;
    tour.call(
        "__cudaRegisterVar",
        [binary, variable, text(c"variable"), text(c"variable"), 0, 256, 0, 0],
    )?;
    tour.call("__cudaRegisterFatBinaryEnd", [binary])?;
    tour.call("__cudaInitModule", [binary])?;
    let other = tour.call("__cudaRegisterFatBinary", [text(c"another image")])?;
    tour.call("__cudaUnregisterFatBinary", [other])?;
    tour.handles.runtime_symbol = symbol;
    Ok(symbol)
}

fn variable() -> usize {
    (&raw const VARIABLE_SYMBOL).addr()
}

fn versions(tour: &mut Tour<'_>) -> Result<()> {
    let (mut number, mut pointer) = (0_i32, 0_usize);
    tour.ok("cudaRuntimeGetVersion", [to(&mut number)])?;
    tour.ok("cudaDriverGetVersion", [to(&mut number)])?;
    tour.call("cudaGetErrorName", [2])?;
    tour.call("cudaGetErrorString", [2])?;
    tour.ok("cudaPeekAtLastError", [])?;
    tour.ok("cudaGetLastError", [])?;
    tour.ok("cudaGetExportTable", [to(&mut pointer), to(&mut [0_u8; 16])])?;
    let name = text(c"cuLaunchKernel");
    tour.twins("cudaGetDriverEntryPoint", "_ptsz", [name, to(&mut pointer), 0, to(&mut number)])?;
    tour.twins(
        "cudaGetDriverEntryPointByVersion",
        "_ptsz",
        [name, to(&mut pointer), 13000, 0, to(&mut number)],
    )
}

fn device(tour: &mut Tour<'_>) -> Result<()> {
    let (mut number, mut other, mut size, mut pool) = (0_i32, 0_i32, 0_usize, 0_usize);
    // More than cudaDeviceProp takes.
    let mut bytes = [0_u64; 256];
    tour.ok("cudaGetDeviceCount", [to(&mut number)])?;
    tour.ok("cudaSetDevice", [0])?;
    tour.ok("cudaInitDevice", [0, 0, 0])?;
    tour.ok("cudaGetDevice", [to(&mut number)])?;
    tour.ok("cudaGetDeviceProperties", [to(&mut bytes), 0])?;
    tour.ok("cudaDeviceGetAttribute", [to(&mut number), 75, 0])?;
    tour.ok("cudaDeviceGetPCIBusId", [to(&mut bytes), 64, 0])?;
    tour.ok("cudaDeviceGetByPCIBusId", [to(&mut number), to(&mut bytes)])?;
    tour.ok("cudaDeviceCanAccessPeer", [to(&mut number), 0, 0])?;
    tour.ok("cudaDeviceGetP2PAttribute", [to(&mut number), 1, 0, 0])?;
    tour.expect(101, "cudaDeviceEnablePeerAccess", [1, 0])?;
    tour.expect(101, "cudaDeviceDisablePeerAccess", [1])?;
    tour.ok("cudaDeviceSynchronize", [])?;
    tour.ok("cudaSetDeviceFlags", [0])?;
    tour.ok("cudaGetDeviceFlags", [to(&mut number)])?;
    tour.ok("cudaDeviceGetLimit", [to(&mut size), 0])?;
    tour.ok("cudaDeviceSetLimit", [0, 2048])?;
    tour.ok("cudaDeviceGetCacheConfig", [to(&mut number)])?;
    tour.ok("cudaDeviceSetCacheConfig", [0])?;
    tour.ok("cudaDeviceGetStreamPriorityRange", [to(&mut number), to(&mut other)])?;
    tour.ok("cudaDeviceGetDefaultMemPool", [to(&mut pool), 0])?;
    tour.ok("cudaDeviceGetMemPool", [to(&mut pool), 0])?;
    tour.ok("cudaDeviceSetMemPool", [0, pool])?;
    tour.ok("cudaCtxResetPersistingL2Cache", [])?;
    tour.ok("cudaProfilerStart", [])?;
    tour.ok("cudaProfilerStop", [])
}

fn streams(tour: &mut Tour<'_>) -> Result<usize> {
    let (mut stream, mut other, mut managed) = (0_usize, 0_usize, 0_usize);
    let (mut number, mut wide, mut attribute) = (0_i32, 0_u64, [0_u64; 8]);
    tour.ok("cudaStreamCreate", [to(&mut other)])?;
    tour.ok("cudaStreamDestroy", [other])?;
    tour.ok("cudaStreamCreateWithPriority", [to(&mut other), 1, (-1_isize).cast_unsigned()])?;
    tour.ok("cudaStreamCreateWithFlags", [to(&mut stream), 1])?;
    tour.twins("cudaStreamSynchronize", "_ptsz", [stream])?;
    tour.twins("cudaStreamQuery", "_ptsz", [stream])?;
    tour.twins("cudaStreamGetPriority", "_ptsz", [stream, to(&mut number)])?;
    tour.twins("cudaStreamGetFlags", "_ptsz", [stream, to(&mut number)])?;
    tour.twins("cudaStreamGetId", "_ptsz", [stream, to(&mut wide)])?;
    tour.twins("cudaStreamGetDevice", "_ptsz", [stream, to(&mut number)])?;
    tour.twins("cudaStreamAddCallback", "_ptsz", [stream, stream_callback_address(), 0, 0])?;
    tour.ok("cudaMallocManaged", [to(&mut managed), ALLOCATION, 1])?;
    tour.twins("cudaStreamAttachMemAsync", "_ptsz", [stream, managed, 0, 4])?;
    tour.ok("cudaFree", [managed])?;
    tour.twins("cudaStreamCopyAttributes", "_ptsz", [stream, other])?;
    tour.twins("cudaStreamGetAttribute", "_ptsz", [stream, 1, to(&mut attribute)])?;
    tour.twins("cudaStreamSetAttribute", "_ptsz", [stream, 1, to(&mut attribute)])?;
    tour.ok("cudaStreamDestroy", [other])?;
    tour.handles.runtime_stream = stream;
    Ok(stream)
}

fn kernels(tour: &mut Tour<'_>, kernel: usize) -> Result<()> {
    let variable = variable();
    let (mut found, mut size, mut number, mut attributes) = (0_usize, 0_usize, 0_i32, [0_u64; 32]);
    tour.ok("cudaGetKernel", [to(&mut found), kernel])?;
    tour.ok("__cudaGetKernel", [to(&mut found), kernel])?;
    tour.ok("cudaKernelSetAttributeForDevice", [found, 8, 65536, 0])?;
    tour.ok("cudaGetFuncBySymbol", [to(&mut found), kernel])?;
    tour.ok("cudaGetSymbolAddress", [to(&mut found), variable])?;
    tour.ok("cudaGetSymbolSize", [to(&mut size), variable])?;
    tour.ok("cudaFuncGetAttributes", [to(&mut attributes), kernel])?;
    tour.ok("cudaFuncSetAttribute", [kernel, 8, 65536])?;
    tour.ok("cudaFuncSetCacheConfig", [kernel, 0])?;
    tour.ok("cudaFuncGetName", [to(&mut found), kernel])?;
    let mut config = RuntimeLaunchConfig::new(0);
    tour.ok("cudaOccupancyMaxActiveBlocksPerMultiprocessor", [to(&mut number), kernel, 256, 0])?;
    tour.ok(
        "cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags",
        [to(&mut number), kernel, 256, 0, 0],
    )?;
    tour.ok("cudaOccupancyAvailableDynamicSMemPerBlock", [to(&mut size), kernel, 2, 256])?;
    tour.ok("cudaOccupancyMaxPotentialClusterSize", [to(&mut number), kernel, to(&mut config)])?;
    tour.ok("cudaOccupancyMaxActiveClusters", [to(&mut number), kernel, to(&mut config)])?;

    let (mut library, mut many) = (0_usize, [0_usize; 4]);
    tour.ok("cudaLibraryLoadFromFile", [to(&mut library), text(c"/any/file"), 0, 0, 0, 0, 0, 0])?;
    tour.ok("cudaLibraryUnload", [library])?;
    tour.ok("cudaLibraryLoadData", [to(&mut library), text(c"any image"), 0, 0, 0, 0, 0, 0])?;
    tour.ok("cudaLibraryGetKernel", [to(&mut found), library, text(c"library_kernel")])?;
    tour.ok("cudaLibraryGetKernelCount", [to(&mut number), library])?;
    tour.ok("cudaLibraryEnumerateKernels", [to(&mut many), 4, library])?;
    tour.ok("cudaLibraryGetGlobal", [to(&mut found), to(&mut size), library, text(c"variable")])
}
