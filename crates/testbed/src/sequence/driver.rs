//! The tour of `libcuda.so.1`.

mod memory;
mod work;

use anyhow::Result;

use super::prepared::LaunchConfig;
use super::{ALLOCATION, INVALID_VALUE, Tour, stream_callback_address, text, to};

pub(super) fn tour(tour: &mut Tour<'_>) -> Result<()> {
    look_up(tour)?;
    device(tour)?;
    contexts(tour)?;
    let stream = streams(tour)?;
    let kernel = modules(tour)?;
    memory::memory(tour)?;
    memory::virtual_memory(tour)?;
    memory::pools(tour, stream)?;
    memory::copies(tour, stream)?;
    memory::fills(tour, stream)?;
    work::launches(tour, stream, kernel)?;
    work::capture(tour, stream, kernel)?;
    work::events(tour, stream)?;
    work::graphs(tour, stream, kernel)?;
    work::tensor_maps(tour)
}

fn look_up(tour: &mut Tour<'_>) -> Result<()> {
    let (mut number, mut pointer) = (0_i32, 0_usize);
    tour.ok("cuInit", [0])?;
    tour.ok("cuDriverGetVersion", [to(&mut number)])?;
    tour.ok("cuGetErrorName", [2, to(&mut pointer)])?;
    tour.ok("cuGetErrorString", [2, to(&mut pointer)])?;
    tour.ok("cuGetExportTable", [to(&mut pointer), to(&mut [0_u8; 16])])?;
    tour.ok("cuGetProcAddress", [text(c"cuMemAlloc"), to(&mut pointer), 3020, 0])?;
    tour.ok(
        "cuGetProcAddress_v2",
        [text(c"cuLaunchKernel"), to(&mut pointer), 13000, 2, to(&mut number)],
    )
}

fn device(tour: &mut Tour<'_>) -> Result<()> {
    let (mut number, mut other) = (0_i32, 0_i32);
    let (mut size, mut pool, mut bytes) = (0_usize, 0_usize, [0_u8; 256]);
    tour.ok("cuDeviceGetCount", [to(&mut number)])?;
    tour.ok("cuDeviceGet", [to(&mut number), 0])?;
    tour.ok("cuDeviceGetName", [to(&mut bytes), 256, 0])?;
    tour.ok("cuDeviceGetUuid", [to(&mut bytes), 0])?;
    tour.ok("cuDeviceGetUuid_v2", [to(&mut bytes), 0])?;
    tour.ok("cuDeviceTotalMem_v2", [to(&mut size), 0])?;
    tour.ok("cuDeviceGetAttribute", [to(&mut number), 75, 0])?;
    tour.ok("cuDeviceComputeCapability", [to(&mut number), to(&mut other), 0])?;
    tour.ok("cuDeviceGetPCIBusId", [to(&mut bytes), 256, 0])?;
    tour.ok("cuDeviceGetByPCIBusId", [to(&mut number), to(&mut bytes)])?;
    tour.ok("cuDeviceCanAccessPeer", [to(&mut number), 0, 0])?;
    tour.ok("cuDeviceGetP2PAttribute", [to(&mut number), 1, 0, 0])?;
    tour.ok("cuDeviceGetExecAffinitySupport", [to(&mut number), 0, 0])?;
    tour.ok("cuDeviceGetDefaultMemPool", [to(&mut pool), 0])?;
    tour.ok("cuDeviceGetMemPool", [to(&mut pool), 0])?;
    tour.ok("cuDeviceSetMemPool", [0, pool])?;
    tour.ok("cuDeviceGraphMemTrim", [0])?;
    tour.ok("cuDeviceGetGraphMemAttribute", [0, 0, to(&mut size)])?;
    tour.ok("cuDeviceSetGraphMemAttribute", [0, 1, to(&mut size)])?;
    tour.ok("cuFlushGPUDirectRDMAWrites", [0, 100])
}

fn contexts(tour: &mut Tour<'_>) -> Result<()> {
    let (mut primary, mut made, mut popped) = (0_usize, 0_usize, 0_usize);
    let (mut number, mut other, mut wide) = (0_i32, 0_i32, 0_u64);
    tour.ok("cuDevicePrimaryCtxRetain", [to(&mut primary), 0])?;
    tour.ok("cuDevicePrimaryCtxSetFlags_v2", [0, 0])?;
    tour.ok("cuDevicePrimaryCtxGetState", [0, to(&mut number), to(&mut other)])?;
    tour.ok("cuDevicePrimaryCtxReset_v2", [0])?;
    tour.ok("cuDevicePrimaryCtxRelease_v2", [0])?;
    tour.ok("cuDevicePrimaryCtxRetain", [to(&mut primary), 0])?;
    tour.ok("cuCtxCreate_v2", [to(&mut made), 0, 0])?;
    tour.ok("cuCtxDestroy_v2", [made])?;
    tour.ok("cuCtxCreate_v3", [to(&mut made), 0, 0, 0, 0])?;
    tour.ok("cuCtxDestroy_v2", [made])?;
    tour.ok("cuCtxCreate_v4", [to(&mut made), 0, 0, 0])?;
    tour.ok("cuCtxDestroy_v2", [made])?;
    tour.ok("cuCtxPushCurrent_v2", [primary])?;
    tour.ok("cuCtxPopCurrent_v2", [to(&mut popped)])?;
    tour.ok("cuCtxSetCurrent", [primary])?;
    tour.ok("cuCtxGetCurrent", [to(&mut made)])?;
    tour.ok("cuCtxGetDevice", [to(&mut number)])?;
    tour.ok("cuCtxGetDevice_v2", [to(&mut number), primary])?;
    tour.ok("cuCtxGetFlags", [to(&mut number)])?;
    tour.ok("cuCtxSetFlags", [0])?;
    tour.ok("cuCtxGetId", [primary, to(&mut wide)])?;
    tour.ok("cuCtxGetApiVersion", [primary, to(&mut number)])?;
    tour.ok("cuCtxSynchronize", [])?;
    tour.ok("cuCtxSynchronize_v2", [primary])?;
    tour.ok("cuCtxSetLimit", [0, 2048])?;
    tour.ok("cuCtxGetLimit", [to(&mut wide), 0])?;
    tour.ok("cuCtxGetCacheConfig", [to(&mut number)])?;
    tour.ok("cuCtxSetCacheConfig", [0])?;
    tour.ok("cuCtxGetSharedMemConfig", [to(&mut number)])?;
    tour.ok("cuCtxSetSharedMemConfig", [0])?;
    tour.ok("cuCtxGetStreamPriorityRange", [to(&mut number), to(&mut other)])?;
    tour.ok("cuCtxResetPersistingL2Cache", [])?;
    tour.ok("cuCtxEnablePeerAccess", [primary, 0])?;
    tour.ok("cuCtxDisablePeerAccess", [primary])
}

/// Gives the stream that the rest of the tour uses.
fn streams(tour: &mut Tour<'_>) -> Result<usize> {
    let (mut stream, mut other, mut managed) = (0_usize, 0_usize, 0_usize);
    let (mut number, mut wide, mut attribute) = (0_i32, 0_u64, [0_u64; 8]);
    tour.ok("cuStreamCreate", [to(&mut stream), 1])?;
    tour.ok("cuStreamCreateWithPriority", [to(&mut other), 1, (-1_isize).cast_unsigned()])?;
    tour.twins("cuStreamSynchronize", "_ptsz", [stream])?;
    tour.twins("cuStreamQuery", "_ptsz", [stream])?;
    tour.twins("cuStreamGetPriority", "_ptsz", [stream, to(&mut number)])?;
    tour.twins("cuStreamGetFlags", "_ptsz", [stream, to(&mut number)])?;
    tour.twins("cuStreamGetId", "_ptsz", [stream, to(&mut wide)])?;
    tour.twins("cuStreamGetCtx", "_ptsz", [stream, to(&mut wide)])?;
    tour.twins("cuStreamGetDevice", "_ptsz", [stream, to(&mut number)])?;
    tour.twins("cuStreamAddCallback", "_ptsz", [stream, stream_callback_address(), 0, 0])?;
    tour.ok("cuMemAllocManaged", [to(&mut managed), ALLOCATION, 1])?;
    tour.twins("cuStreamAttachMemAsync", "_ptsz", [stream, managed, 0, 4])?;
    tour.ok("cuMemFree_v2", [managed])?;
    tour.twins("cuStreamCopyAttributes", "_ptsz", [stream, other])?;
    tour.twins("cuStreamGetAttribute", "_ptsz", [stream, 1, to(&mut attribute)])?;
    tour.twins("cuStreamSetAttribute", "_ptsz", [stream, 1, to(&mut attribute)])?;
    tour.ok("cuStreamDestroy_v2", [other])?;
    tour.handles.stream = stream;
    Ok(stream)
}

/// Gives the function that the rest of the tour launches.
fn modules(tour: &mut Tour<'_>) -> Result<usize> {
    const KERNEL: &std::ffi::CStr = c"standin_driver_kernel";
    let image = text(c"any image");
    let (mut module, mut function, mut many, mut start) = (0_usize, 0_usize, [0_usize; 4], 0_usize);
    let (mut number, mut other, mut size) = (0_i32, 0_i32, 0_usize);
    for (name, arguments) in [
        ("cuModuleLoad", [text(c"/any/file"), 0, 0, 0]),
        ("cuModuleLoadData", [image, 0, 0, 0]),
        ("cuModuleLoadDataEx", [image, 0, 0, 0]),
        ("cuModuleLoadFatBinary", [image, 0, 0, 0]),
    ] {
        tour.ok(name, [to(&mut module), arguments[0], arguments[1], arguments[2], arguments[3]])?;
        tour.ok("cuModuleUnload", [module])?;
    }
    tour.ok("cuModuleLoadData", [to(&mut module), image])?;
    tour.ok("cuModuleGetLoadingMode", [to(&mut number)])?;
    tour.ok("cuModuleGetFunction", [to(&mut function), module, text(KERNEL)])?;
    tour.expect(500, "cuModuleGetFunction", [to(&mut start), module, text(c"missing_kernel")])?;
    tour.ok("cuModuleGetFunctionCount", [to(&mut number), module])?;
    tour.ok("cuModuleEnumerateFunctions", [to(&mut many), 4, module])?;
    tour.ok("cuModuleGetGlobal_v2", [to(&mut start), to(&mut size), module, text(c"variable")])?;

    tour.ok("cuFuncGetAttribute", [to(&mut number), 0, function])?;
    tour.ok("cuFuncSetAttribute", [function, 8, 65536])?;
    tour.ok("cuFuncSetCacheConfig", [function, 0])?;
    tour.ok("cuFuncSetSharedMemConfig", [function, 0])?;
    tour.ok("cuFuncGetModule", [to(&mut many), function])?;
    tour.ok("cuFuncGetName", [to(&mut many), function])?;
    tour.expect(INVALID_VALUE, "cuFuncGetParamInfo", [function, 0, to(&mut size), 0])?;
    tour.ok("cuFuncIsLoaded", [to(&mut number), function])?;
    tour.ok("cuFuncLoad", [function])?;

    let mut config = LaunchConfig::new(0);
    tour.ok("cuOccupancyMaxActiveBlocksPerMultiprocessor", [to(&mut number), function, 256, 0])?;
    tour.ok(
        "cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags",
        [to(&mut number), function, 256, 0, 0],
    )?;
    tour.ok(
        "cuOccupancyMaxPotentialBlockSize",
        [to(&mut number), to(&mut other), function, 0, 0, 0],
    )?;
    tour.ok(
        "cuOccupancyMaxPotentialBlockSizeWithFlags",
        [to(&mut number), to(&mut other), function, 0, 0, 0, 0],
    )?;
    tour.ok("cuOccupancyAvailableDynamicSMemPerBlock", [to(&mut size), function, 2, 256])?;
    tour.ok("cuOccupancyMaxPotentialClusterSize", [to(&mut number), function, to(&mut config)])?;
    tour.ok("cuOccupancyMaxActiveClusters", [to(&mut number), function, to(&mut config)])?;
    libraries(tour)?;
    linker(tour)?;
    tour.handles.driver_kernel = function;
    Ok(function)
}

fn libraries(tour: &mut Tour<'_>) -> Result<()> {
    let image = text(c"any image");
    let (mut library, mut kernel, mut many, mut start) = (0_usize, 0_usize, [0_usize; 4], 0_usize);
    let (mut number, mut size) = (0_i32, 0_usize);
    tour.ok("cuLibraryLoadFromFile", [to(&mut library), text(c"/any/file"), 0, 0, 0, 0, 0, 0])?;
    tour.ok("cuLibraryUnload", [library])?;
    tour.ok("cuLibraryLoadData", [to(&mut library), image, 0, 0, 0, 0, 0, 0])?;
    tour.ok("cuLibraryGetKernel", [to(&mut kernel), library, text(c"standin_driver_kernel")])?;
    tour.ok("cuLibraryGetKernelCount", [to(&mut number), library])?;
    tour.ok("cuLibraryEnumerateKernels", [to(&mut many), 4, library])?;
    tour.ok("cuLibraryGetModule", [to(&mut many), library])?;
    tour.ok("cuLibraryGetGlobal", [to(&mut start), to(&mut size), library, text(c"variable")])?;
    tour.ok("cuLibraryGetManaged", [to(&mut start), to(&mut size), library, text(c"managed")])?;
    tour.ok("cuLibraryGetUnifiedFunction", [to(&mut many), library, text(c"unified")])?;
    tour.ok("cuKernelGetFunction", [to(&mut many), kernel])?;
    tour.ok("cuKernelGetLibrary", [to(&mut many), kernel])?;
    tour.ok("cuKernelGetName", [to(&mut many), kernel])?;
    tour.ok("cuKernelGetAttribute", [to(&mut number), 0, kernel, 0])?;
    tour.ok("cuKernelSetAttribute", [8, 65536, kernel, 0])?;
    tour.ok("cuKernelSetCacheConfig", [kernel, 0, 0])?;
    tour.expect(INVALID_VALUE, "cuKernelGetParamInfo", [kernel, 0, to(&mut size), 0])
}

fn linker(tour: &mut Tour<'_>) -> Result<()> {
    let (mut linker, mut image, mut size) = (0_usize, 0_usize, 0_usize);
    tour.ok("cuLinkCreate_v2", [0, 0, 0, to(&mut linker)])?;
    tour.ok("cuLinkAddData_v2", [linker, 1, text(c"any code"), 8, text(c"name"), 0, 0, 0])?;
    tour.ok("cuLinkAddFile_v2", [linker, 1, text(c"/any/file"), 0, 0, 0])?;
    tour.ok("cuLinkComplete", [linker, to(&mut image), to(&mut size)])?;
    tour.ok("cuLinkDestroy", [linker])
}
