//! The tour of `libcuda.so.1`.

use anyhow::Result;

use super::prepared::{CopyPlane, KernelNode, LaunchConfig};
use super::{
    ALLOCATION, BLOCK, COPY, GRID, IMPOSSIBLE_ALLOCATION, INVALID_VALUE, OUT_OF_MEMORY, PITCHED, PLANE, SHARED_MEMORY, Tour, VIRTUAL,
    host_function_address, stream_callback_address, text, to,
};

pub(super) fn tour(tour: &mut Tour<'_>) -> Result<()> {
    look_up(tour)?;
    device(tour)?;
    contexts(tour)?;
    let stream = streams(tour)?;
    let kernel = modules(tour)?;
    memory(tour)?;
    virtual_memory(tour)?;
    pools(tour, stream)?;
    copies(tour, stream)?;
    fills(tour, stream)?;
    launches(tour, stream, kernel)?;
    capture(tour, stream, kernel)?;
    events(tour, stream)?;
    graphs(tour, stream, kernel)?;
    tensor_maps(tour)
}

fn look_up(tour: &mut Tour<'_>) -> Result<()> {
    let (mut number, mut pointer) = (0_i32, 0_usize);
    tour.ok("cuInit", [0])?;
    tour.ok("cuDriverGetVersion", [to(&mut number)])?;
    tour.ok("cuGetErrorName", [2, to(&mut pointer)])?;
    tour.ok("cuGetErrorString", [2, to(&mut pointer)])?;
    tour.ok("cuGetExportTable", [to(&mut pointer), to(&mut [0_u8; 16])])?;
    tour.ok("cuGetProcAddress", [text(c"cuMemAlloc"), to(&mut pointer), 3020, 0])?;
    tour.ok("cuGetProcAddress_v2", [text(c"cuLaunchKernel"), to(&mut pointer), 13000, 2, to(&mut number)])
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
    tour.ok("cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", [to(&mut number), function, 256, 0, 0])?;
    tour.ok("cuOccupancyMaxPotentialBlockSize", [to(&mut number), to(&mut other), function, 0, 0, 0])?;
    tour.ok("cuOccupancyMaxPotentialBlockSizeWithFlags", [to(&mut number), to(&mut other), function, 0, 0, 0, 0])?;
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

fn memory(tour: &mut Tour<'_>) -> Result<()> {
    let (mut start, mut pitched, mut managed, mut host) = (0_usize, 0_usize, 0_usize, 0_usize);
    let (mut size, mut base, mut number) = (0_usize, 0_usize, 0_i32);
    tour.ok("cuMemGetInfo_v2", [to(&mut size), to(&mut base)])?;
    tour.ok("cuMemAlloc_v2", [to(&mut start), ALLOCATION])?;
    tour.expect(OUT_OF_MEMORY, "cuMemAlloc_v2", [to(&mut base), IMPOSSIBLE_ALLOCATION])?;
    tour.ok("cuMemAllocPitch_v2", [to(&mut pitched), to(&mut size), PITCHED.0, PITCHED.1, 4])?;
    tour.ok("cuMemFree_v2", [pitched])?;
    tour.expect(INVALID_VALUE, "cuMemFree_v2", [0xbad0])?;
    tour.ok("cuMemGetAddressRange_v2", [to(&mut base), to(&mut size), start + 8])?;

    tour.ok("cuMemAllocManaged", [to(&mut managed), ALLOCATION, 1])?;
    tour.ok("cuMemAdvise", [managed, ALLOCATION, 1, 0])?;
    tour.ok("cuMemAdvise_v2", [managed, ALLOCATION, 1, 1])?;
    tour.twins("cuMemPrefetchAsync", "_ptsz", [managed, ALLOCATION, 0, 0])?;
    tour.twins("cuMemPrefetchAsync_v2", "_ptsz", [managed, ALLOCATION, 1, 0, 0])?;
    tour.ok("cuMemRangeGetAttribute", [to(&mut number), 4, 1, managed, ALLOCATION])?;
    tour.ok("cuMemFree_v2", [managed])?;

    tour.ok("cuMemAllocHost_v2", [to(&mut host), ALLOCATION])?;
    tour.ok("cuMemFreeHost", [host])?;
    tour.ok("cuMemHostAlloc", [to(&mut host), ALLOCATION, 2])?;
    tour.ok("cuMemHostGetDevicePointer_v2", [to(&mut base), host, 0])?;
    tour.ok("cuMemHostGetFlags", [to(&mut number), host])?;
    tour.ok("cuMemFreeHost", [host])?;
    let mut own = vec![0_u8; ALLOCATION];
    tour.ok("cuMemHostRegister_v2", [to(own.as_mut_slice()), ALLOCATION, 0])?;
    tour.ok("cuMemHostUnregister", [to(own.as_mut_slice())])?;

    let mut attributes = [2_i32];
    let mut values = [to(&mut number)];
    tour.ok("cuPointerGetAttribute", [to(&mut number), 2, start])?;
    tour.ok("cuPointerGetAttributes", [1, to(&mut attributes), to(&mut values), start])?;
    tour.ok("cuPointerSetAttribute", [to(&mut number), 6, start])?;

    let (mut handle, mut opened, mut event) = ([0_usize; 8], 0_usize, 0_usize);
    tour.ok("cuIpcGetMemHandle", [to(&mut handle), start])?;
    let [a, b, c, d, e, f, g, h] = handle;
    // The handle goes by value, on the stack; the flags are the second word in registers.
    tour.ok("cuIpcOpenMemHandle_v2", [to(&mut opened), 1, 0, 0, 0, 0, a, b, c, d, e, f, g, h])?;
    tour.ok("cuIpcCloseMemHandle", [opened])?;
    tour.ok("cuEventCreate", [to(&mut event), 6])?;
    tour.ok("cuIpcGetEventHandle", [to(&mut handle), event])?;
    let [a, b, c, d, e, f, g, h] = handle;
    tour.ok("cuIpcOpenEventHandle", [to(&mut opened), 0, 0, 0, 0, 0, a, b, c, d, e, f, g, h])?;
    tour.handles.device_memory = start;
    Ok(())
}

fn virtual_memory(tour: &mut Tour<'_>) -> Result<()> {
    let (mut start, mut handle, mut again, mut granularity, mut flags) = (0_usize, 0_usize, 0_usize, 0_usize, 0_u64);
    let mut properties = [1_i32, 0, 1, 0, 0, 0, 0, 0];
    let mut access = [1_i32, 0, 3];
    tour.ok("cuMemGetAllocationGranularity", [to(&mut granularity), to(&mut properties), 0])?;
    tour.ok("cuMemAddressReserve", [to(&mut start), VIRTUAL, 0, 0, 0])?;
    tour.ok("cuMemCreate", [to(&mut handle), VIRTUAL, to(&mut properties), 0])?;
    tour.ok("cuMemGetAllocationPropertiesFromHandle", [to(&mut properties), handle])?;
    tour.ok("cuMemMap", [start, VIRTUAL, 0, handle, 0])?;
    tour.ok("cuMemSetAccess", [start, VIRTUAL, to(&mut access), 1])?;
    tour.ok("cuMemGetAccess", [to(&mut flags), to(&mut access), start])?;
    tour.ok("cuMemRetainAllocationHandle", [to(&mut again), start])?;
    tour.ok("cuMemRelease", [again])?;
    tour.ok("cuMemUnmap", [start, VIRTUAL])?;
    tour.ok("cuMemRelease", [handle])?;
    tour.ok("cuMemAddressFree", [start, VIRTUAL])
}

fn pools(tour: &mut Tour<'_>, stream: usize) -> Result<()> {
    let (mut pool, mut start, mut threshold, mut flags) = (0_usize, 0_usize, 0_u64, 0_i32);
    let mut properties = [1_i32; 32];
    tour.ok("cuMemPoolCreate", [to(&mut pool), to(&mut properties)])?;
    tour.ok("cuMemPoolSetAttribute", [pool, 4, to(&mut threshold)])?;
    tour.ok("cuMemPoolGetAttribute", [pool, 4, to(&mut threshold)])?;
    tour.ok("cuMemPoolSetAccess", [pool, to(&mut properties), 1])?;
    tour.ok("cuMemPoolGetAccess", [to(&mut flags), pool, to(&mut properties)])?;
    for suffix in ["", "_ptsz"] {
        tour.ok(&format!("cuMemAllocAsync{suffix}"), [to(&mut start), ALLOCATION, stream])?;
        tour.ok(&format!("cuMemFreeAsync{suffix}"), [start, stream])?;
        tour.ok(&format!("cuMemAllocFromPoolAsync{suffix}"), [to(&mut start), ALLOCATION, pool, stream])?;
        tour.ok(&format!("cuMemFreeAsync{suffix}"), [start, stream])?;
    }
    tour.ok("cuMemPoolTrimTo", [pool, 0])?;
    tour.ok("cuMemPoolDestroy", [pool])
}

fn copies(tour: &mut Tour<'_>, stream: usize) -> Result<()> {
    let device = tour.handles.device_memory;
    let mut host = vec![0_u8; COPY];
    let host = to(host.as_mut_slice());
    let mut context = 0_usize;
    tour.ok("cuCtxGetCurrent", [to(&mut context)])?;
    tour.twins("cuMemcpy", "_ptds", [device, host, COPY])?;
    tour.twins("cuMemcpyAsync", "_ptsz", [device, host, COPY, stream])?;
    tour.twins("cuMemcpyPeer", "_ptds", [device, context, device, context, COPY])?;
    tour.twins("cuMemcpyPeerAsync", "_ptsz", [device, context, device, context, COPY, stream])?;
    tour.twins("cuMemcpyHtoD_v2", "_ptds", [device, host, COPY])?;
    tour.twins("cuMemcpyDtoH_v2", "_ptds", [host, device, COPY])?;
    tour.twins("cuMemcpyDtoD_v2", "_ptds", [device, device, COPY])?;
    tour.twins("cuMemcpyHtoDAsync_v2", "_ptsz", [device, host, COPY, stream])?;
    tour.twins("cuMemcpyDtoHAsync_v2", "_ptsz", [host, device, COPY, stream])?;
    tour.twins("cuMemcpyDtoDAsync_v2", "_ptsz", [device, device, COPY, stream])?;
    let mut plane = CopyPlane::new(device, host);
    tour.twins("cuMemcpy2D_v2", "_ptds", [to(&mut plane)])?;
    tour.twins("cuMemcpy2DUnaligned_v2", "_ptds", [to(&mut plane)])?;
    tour.twins("cuMemcpy2DAsync_v2", "_ptsz", [to(&mut plane), stream])?;
    // Larger than any of the three-dimensional descriptions.
    let mut solid = [0_u64; 64];
    tour.twins("cuMemcpy3D_v2", "_ptds", [to(&mut solid)])?;
    tour.twins("cuMemcpy3DAsync_v2", "_ptsz", [to(&mut solid), stream])?;
    tour.twins("cuMemcpy3DPeer", "_ptds", [to(&mut solid)])?;
    tour.twins("cuMemcpy3DPeerAsync", "_ptsz", [to(&mut solid), stream])?;
    let (mut targets, mut sources, mut sizes) = ([device], [host], [COPY]);
    let (mut attributes, mut index, mut failed) = ([0_u64; 4], [0_usize], 0_usize);
    let batch = [to(&mut targets), to(&mut sources), to(&mut sizes), 1, to(&mut attributes), to(&mut index), 1];
    let [a, b, c, d, e, f, g] = batch;
    tour.twins("cuMemcpyBatchAsync", "_ptsz", [a, b, c, d, e, f, g, to(&mut failed), stream])?;
    tour.twins("cuMemcpyBatchAsync_v2", "_ptsz", [a, b, c, d, e, f, g, stream])
}

fn fills(tour: &mut Tour<'_>, stream: usize) -> Result<()> {
    let device = tour.handles.device_memory;
    for (name, bytes) in [("8", 1), ("16", 2), ("32", 4)] {
        tour.twins(&format!("cuMemsetD{name}_v2"), "_ptds", [device, 7, COPY / bytes])?;
        tour.twins(&format!("cuMemsetD{name}Async"), "_ptsz", [device, 7, COPY / bytes, stream])?;
        tour.twins(&format!("cuMemsetD2D{name}_v2"), "_ptds", [device, 512, 7, PLANE.0 / bytes, PLANE.1])?;
        tour.twins(&format!("cuMemsetD2D{name}Async"), "_ptsz", [device, 512, 7, PLANE.0 / bytes, PLANE.1, stream])?;
    }
    tour.twins("cuStreamWriteValue32_v2", "_ptsz", [stream, device, 1, 0])?;
    tour.twins("cuStreamWriteValue64_v2", "_ptsz", [stream, device, 1, 0])?;
    tour.twins("cuStreamWaitValue32_v2", "_ptsz", [stream, device, 1, 0])?;
    tour.twins("cuStreamWaitValue64_v2", "_ptsz", [stream, device, 1, 0])?;
    let mut operations = [0_u64; 6];
    tour.twins("cuStreamBatchMemOp_v2", "_ptsz", [stream, 1, to(&mut operations), 0])
}

fn launches(tour: &mut Tour<'_>, stream: usize, kernel: usize) -> Result<()> {
    let [gx, gy, gz] = GRID.map(|size| size as usize);
    let [bx, by, bz] = BLOCK.map(|size| size as usize);
    let shared = SHARED_MEMORY as usize;
    tour.twins("cuLaunchKernel", "_ptsz", [kernel, gx, gy, gz, bx, by, bz, shared, stream, 0, 0])?;
    tour.twins("cuLaunchCooperativeKernel", "_ptsz", [kernel, gx, gy, gz, bx, by, bz, shared, stream, 0])?;
    let mut config = LaunchConfig::new(stream);
    tour.twins("cuLaunchKernelEx", "_ptsz", [to(&mut config), kernel, 0, 0])?;
    tour.twins("cuLaunchHostFunc", "_ptsz", [stream, host_function_address(), 0])?;
    tour.ok("cuProfilerStart", [])?;
    tour.ok("cuProfilerStop", [])
}

fn capture(tour: &mut Tour<'_>, stream: usize, kernel: usize) -> Result<()> {
    let (mut graph, mut mode, mut status) = (0_usize, 0_u32, 0_i32);
    let (mut id, mut of, mut nodes, mut edges, mut count) = (0_u64, 0_usize, 0_usize, 0_usize, 0_usize);
    let mut config = LaunchConfig::new(stream);
    tour.ok("cuThreadExchangeStreamCaptureMode", [to(&mut mode)])?;
    for suffix in ["", "_ptsz"] {
        let name = |name: &str| format!("{name}{suffix}");
        tour.ok(&name("cuStreamBeginCapture_v2"), [stream, 0])?;
        tour.ok(&name("cuLaunchKernelEx"), [to(&mut config), kernel, 0, 0])?;
        tour.ok(&name("cuStreamIsCapturing"), [stream, to(&mut status)])?;
        let out = [to(&mut status), to(&mut id), to(&mut of), to(&mut nodes)];
        tour.ok(&name("cuStreamGetCaptureInfo_v2"), [stream, out[0], out[1], out[2], out[3], to(&mut count)])?;
        let ends = [to(&mut edges), to(&mut count)];
        tour.ok(&name("cuStreamGetCaptureInfo_v3"), [stream, out[0], out[1], out[2], out[3], ends[0], ends[1]])?;
        tour.ok(&name("cuStreamUpdateCaptureDependencies"), [stream, nodes, count, 0])?;
        tour.ok(&name("cuStreamUpdateCaptureDependencies_v2"), [stream, nodes, 0, count, 0])?;
        tour.ok(&name("cuStreamEndCapture"), [stream, to(&mut graph)])?;
        tour.ok(&name("cuStreamBeginCaptureToGraph"), [stream, graph, 0, 0, 0, 0])?;
        tour.ok(&name("cuStreamEndCapture"), [stream, to(&mut graph)])?;
        tour.ok("cuGraphDestroy", [graph])?;
    }
    Ok(())
}

fn events(tour: &mut Tour<'_>, stream: usize) -> Result<()> {
    let (mut start, mut end, mut milliseconds) = (0_usize, 0_usize, 0_f32);
    tour.ok("cuEventCreate", [to(&mut start), 0])?;
    tour.ok("cuEventCreate", [to(&mut end), 0])?;
    tour.twins("cuEventRecord", "_ptsz", [start, stream])?;
    tour.twins("cuEventRecordWithFlags", "_ptsz", [end, stream, 0])?;
    tour.twins("cuStreamWaitEvent", "_ptsz", [stream, end, 0])?;
    tour.ok("cuEventSynchronize", [end])?;
    tour.ok("cuEventQuery", [end])?;
    tour.ok("cuEventElapsedTime", [to(&mut milliseconds), start, end])?;
    tour.ok("cuEventElapsedTime_v2", [to(&mut milliseconds), start, end])?;
    tour.ok("cuEventDestroy_v2", [start])?;
    tour.ok("cuEventDestroy_v2", [end])
}

fn graphs(tour: &mut Tour<'_>, stream: usize, kernel: usize) -> Result<()> {
    let (mut graph, mut clone, mut node, mut first, mut event) = (0_usize, 0_usize, 0_usize, 0_usize, 0_usize);
    let (mut count, mut number, mut from, mut ends) = (0_usize, 0_i32, [0_usize; 16], [0_usize; 16]);
    let mut any = [0_u64; 32];
    let mut what = KernelNode::new(kernel);
    tour.ok("cuEventCreate", [to(&mut event), 0])?;
    tour.ok("cuGraphCreate", [to(&mut graph), 0])?;
    tour.ok("cuGraphAddKernelNode_v2", [to(&mut first), graph, 0, 0, to(&mut what)])?;
    tour.ok("cuGraphAddMemcpyNode", [to(&mut node), graph, 0, 0, to(&mut any), 0])?;
    tour.ok("cuGraphAddMemsetNode", [to(&mut node), graph, 0, 0, to(&mut any), 0])?;
    tour.ok("cuGraphAddHostNode", [to(&mut node), graph, 0, 0, to(&mut any)])?;
    tour.ok("cuGraphAddEmptyNode", [to(&mut node), graph, 0, 0])?;
    tour.ok("cuGraphAddEventRecordNode", [to(&mut node), graph, 0, 0, event])?;
    tour.ok("cuGraphAddEventWaitNode", [to(&mut node), graph, 0, 0, event])?;
    // An empty node, in the first word of what a node is made from.
    any[0] = 5;
    tour.ok("cuGraphAddNode", [to(&mut node), graph, 0, 0, to(&mut any)])?;
    tour.ok("cuGraphAddNode_v2", [to(&mut node), graph, 0, 0, 0, to(&mut any)])?;
    tour.ok("cuGraphClone", [to(&mut clone), graph])?;
    tour.ok("cuGraphAddChildGraphNode", [to(&mut node), graph, 0, 0, clone])?;
    tour.ok("cuGraphGetNodes", [graph, 0, to(&mut count)])?;
    tour.ok("cuGraphGetRootNodes", [graph, 0, to(&mut count)])?;
    count = 16;
    tour.ok("cuGraphGetEdges", [graph, to(&mut from), to(&mut ends), to(&mut count)])?;
    count = 16;
    tour.ok("cuGraphGetEdges_v2", [graph, to(&mut from), to(&mut ends), 0, to(&mut count)])?;
    tour.ok("cuGraphAddDependencies", [graph, to(&mut from), to(&mut ends), 1])?;
    tour.ok("cuGraphAddDependencies_v2", [graph, to(&mut from), to(&mut ends), 0, 1])?;
    tour.ok("cuGraphRemoveDependencies", [graph, to(&mut from), to(&mut ends), 1])?;
    tour.ok("cuGraphRemoveDependencies_v2", [graph, to(&mut from), to(&mut ends), 0, 1])?;
    tour.ok("cuGraphDestroyNode", [node])?;
    tour.ok("cuGraphNodeGetType", [first, to(&mut number)])?;
    tour.ok("cuGraphKernelNodeGetParams_v2", [first, to(&mut what)])?;
    tour.ok("cuGraphKernelNodeSetParams_v2", [first, to(&mut what)])?;
    executable_graphs(tour, graph, first, stream)?;
    tour.ok("cuGraphDebugDotPrint", [graph, text(c"/dev/null"), 0])?;
    tour.ok("cuUserObjectCreate", [to(&mut node), 0, host_function_address(), 2, 1])?;
    tour.ok("cuUserObjectRetain", [node, 1])?;
    tour.ok("cuUserObjectRelease", [node, 1])?;
    tour.ok("cuGraphRetainUserObject", [graph, node, 1, 0])?;
    tour.ok("cuGraphReleaseUserObject", [graph, node, 1])?;
    tour.ok("cuGraphDestroy", [graph])
}

fn executable_graphs(tour: &mut Tour<'_>, graph: usize, node: usize, stream: usize) -> Result<()> {
    let (mut executable, mut flags, mut parameters, mut result) = (0_usize, 0_u64, [0_u64; 8], [0_u64; 4]);
    let mut what = KernelNode::new(tour.handles.driver_kernel);
    tour.ok("cuGraphInstantiateWithFlags", [to(&mut executable), graph, 0])?;
    tour.twins("cuGraphUpload", "_ptsz", [executable, stream])?;
    tour.twins("cuGraphLaunch", "_ptsz", [executable, stream])?;
    tour.ok("cuGraphExecUpdate_v2", [executable, graph, to(&mut result)])?;
    tour.ok("cuGraphExecKernelNodeSetParams_v2", [executable, node, to(&mut what)])?;
    tour.ok("cuGraphExecGetFlags", [executable, to(&mut flags)])?;
    tour.ok("cuGraphExecDestroy", [executable])?;
    for suffix in ["", "_ptsz"] {
        let arguments = [to(&mut executable), graph, to(&mut parameters)];
        tour.ok(&format!("cuGraphInstantiateWithParams{suffix}"), arguments)?;
        tour.ok("cuGraphExecDestroy", [executable])?;
    }
    Ok(())
}

#[repr(align(64))]
struct TensorMap([u64; 16]);

fn tensor_maps(tour: &mut Tour<'_>) -> Result<()> {
    let device = tour.handles.device_memory;
    let mut map = TensorMap([0; 16]);
    let (mut sizes, mut strides, mut tile, mut steps) = ([64_u64, 32], [128_u64], [16_u32, 8], [1_u32, 1]);
    let shape = [to(&mut sizes), to(&mut strides), to(&mut tile), to(&mut steps)];
    tour.ok("cuTensorMapEncodeTiled", [to(&mut map.0), 6, 2, device, shape[0], shape[1], shape[2], shape[3], 0, 0, 0, 0])?;
    tour.ok("cuTensorMapReplaceAddress", [to(&mut map.0), device])
}
