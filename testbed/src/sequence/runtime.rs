//! The tour of `libcudart.so.13`.

use anyhow::Result;

use super::prepared::{KernelNode, RuntimeLaunchConfig, packed};
use super::{
    ALLOCATION, BLOCK, COPY, GRID, IMPOSSIBLE_ALLOCATION, INVALID_VALUE, OUT_OF_MEMORY, PITCHED, PLANE, SHARED_MEMORY, Tour,
    host_function_address, stream_callback_address, text, to,
};

/// Stands at the address that compiled code registers for a kernel, and for a variable.
static KERNEL_SYMBOL: u8 = 1;
static VARIABLE_SYMBOL: u8 = 2;

pub(super) fn tour(tour: &mut Tour<'_>) -> Result<()> {
    let kernel = register(tour)?;
    versions(tour)?;
    device(tour)?;
    let stream = streams(tour)?;
    let device_memory = memory(tour)?;
    pools(tour, stream)?;
    copies(tour, stream, device_memory)?;
    kernels(tour, kernel)?;
    launches(tour, stream, kernel)?;
    capture(tour, stream, kernel)?;
    events(tour, stream)?;
    graphs(tour, stream, kernel)?;
    tour.ok("cudaStreamDestroy", [stream])?;
    tour.ok("cudaFree", [device_memory])?;
    tour.ok("cudaDeviceReset", [])
}

fn register(tour: &mut Tour<'_>) -> Result<usize> {
    const KERNEL: &std::ffi::CStr = c"standin_runtime_kernel";
    let symbol = (&raw const KERNEL_SYMBOL).addr();
    let variable = (&raw const VARIABLE_SYMBOL).addr();
    let name = text(KERNEL);
    let binary = tour.call("__cudaRegisterFatBinary", [text(c"any image")])?;
    tour.call("__cudaRegisterFunction", [binary, symbol, name, name, usize::MAX, 0, 0, 0, 0, 0])?;
    tour.call("__cudaRegisterVar", [binary, variable, text(c"variable"), text(c"variable"), 0, 256, 0, 0])?;
    tour.call("__cudaRegisterFatBinaryEnd", [binary])?;
    tour.call("__cudaInitModule", [binary])?;
    let other = tour.call("__cudaRegisterFatBinary", [text(c"another image")])?;
    tour.call("__cudaUnregisterFatBinary", [other])?;
    tour.handles.runtime_symbol = symbol;
    Ok(symbol)
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
    tour.twins("cudaGetDriverEntryPointByVersion", "_ptsz", [name, to(&mut pointer), 13000, 0, to(&mut number)])
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

fn memory(tour: &mut Tour<'_>) -> Result<usize> {
    let (mut start, mut pitched, mut managed, mut host) = (0_usize, 0_usize, 0_usize, 0_usize);
    let (mut size, mut base, mut number, mut attributes) = (0_usize, 0_usize, 0_i32, [0_usize; 4]);
    tour.ok("cudaMemGetInfo", [to(&mut size), to(&mut base)])?;
    tour.ok("cudaMalloc", [to(&mut start), ALLOCATION])?;
    tour.expect(OUT_OF_MEMORY, "cudaMalloc", [to(&mut base), IMPOSSIBLE_ALLOCATION])?;
    tour.expect(OUT_OF_MEMORY, "cudaGetLastError", [])?;
    tour.expect(INVALID_VALUE, "cudaFree", [0xbad0])?;
    tour.expect(INVALID_VALUE, "cudaGetLastError", [])?;
    tour.ok("cudaMallocPitch", [to(&mut pitched), to(&mut size), PITCHED.0, PITCHED.1])?;
    tour.ok("cudaFree", [pitched])?;
    tour.ok("cudaMallocManaged", [to(&mut managed), ALLOCATION, 1])?;
    tour.ok("cudaMemAdvise", [managed, ALLOCATION, 1, 1])?;
    tour.twins("cudaMemPrefetchAsync", "_ptsz", [managed, ALLOCATION, 1, 0, 0])?;
    tour.ok("cudaMemRangeGetAttribute", [to(&mut number), 4, 1, managed, ALLOCATION])?;
    tour.ok("cudaFree", [managed])?;
    tour.ok("cudaMallocHost", [to(&mut host), ALLOCATION])?;
    tour.ok("cudaFreeHost", [host])?;
    tour.ok("cudaHostAlloc", [to(&mut host), ALLOCATION, 2])?;
    tour.ok("cudaHostGetDevicePointer", [to(&mut base), host, 0])?;
    tour.ok("cudaHostGetFlags", [to(&mut number), host])?;
    tour.ok("cudaFreeHost", [host])?;
    let mut own = vec![0_u8; ALLOCATION];
    tour.ok("cudaHostRegister", [to(own.as_mut_slice()), ALLOCATION, 0])?;
    tour.ok("cudaHostUnregister", [to(own.as_mut_slice())])?;
    tour.ok("cudaPointerGetAttributes", [to(&mut attributes), start])?;

    let (mut handle, mut opened, mut event) = ([0_usize; 8], 0_usize, 0_usize);
    tour.ok("cudaIpcGetMemHandle", [to(&mut handle), start])?;
    let [a, b, c, d, e, f, g, h] = handle;
    tour.ok("cudaIpcOpenMemHandle", [to(&mut opened), 1, 0, 0, 0, 0, a, b, c, d, e, f, g, h])?;
    tour.ok("cudaIpcCloseMemHandle", [opened])?;
    tour.ok("cudaEventCreateWithFlags", [to(&mut event), 6])?;
    tour.ok("cudaIpcGetEventHandle", [to(&mut handle), event])?;
    let [a, b, c, d, e, f, g, h] = handle;
    tour.ok("cudaIpcOpenEventHandle", [to(&mut opened), 0, 0, 0, 0, 0, a, b, c, d, e, f, g, h])?;
    tour.handles.runtime_device_memory = start;
    Ok(start)
}

fn pools(tour: &mut Tour<'_>, stream: usize) -> Result<()> {
    let (mut pool, mut start, mut threshold, mut flags) = (0_usize, 0_usize, 0_u64, 0_i32);
    let mut properties = [1_i32; 32];
    tour.ok("cudaMemPoolCreate", [to(&mut pool), to(&mut properties)])?;
    tour.ok("cudaMemPoolSetAttribute", [pool, 4, to(&mut threshold)])?;
    tour.ok("cudaMemPoolGetAttribute", [pool, 4, to(&mut threshold)])?;
    tour.ok("cudaMemPoolSetAccess", [pool, to(&mut properties), 1])?;
    tour.ok("cudaMemPoolGetAccess", [to(&mut flags), pool, to(&mut properties)])?;
    for suffix in ["", "_ptsz"] {
        tour.ok(&format!("cudaMallocAsync{suffix}"), [to(&mut start), ALLOCATION, stream])?;
        tour.ok(&format!("cudaFreeAsync{suffix}"), [start, stream])?;
        tour.ok(&format!("cudaMallocFromPoolAsync{suffix}"), [to(&mut start), ALLOCATION, pool, stream])?;
        tour.ok(&format!("cudaFreeAsync{suffix}"), [start, stream])?;
    }
    tour.ok("cudaMemPoolTrimTo", [pool, 0])?;
    tour.ok("cudaMemPoolDestroy", [pool])
}

fn copies(tour: &mut Tour<'_>, stream: usize, device: usize) -> Result<()> {
    let variable = (&raw const VARIABLE_SYMBOL).addr();
    let mut host = vec![0_u8; COPY];
    let host = to(host.as_mut_slice());
    // From and to, by direction: 0 host to host, 1 to the device, 2 from it, 3 within it, 4 by address.
    let ends = [(host, host), (device, host), (host, device), (device, device), (device, host)];
    for (kind, (target, source)) in ends.into_iter().enumerate() {
        tour.twins("cudaMemcpy", "_ptds", [target, source, COPY, kind])?;
        tour.twins("cudaMemcpyAsync", "_ptsz", [target, source, COPY, kind, stream])?;
    }
    let (width, height) = PLANE;
    tour.twins("cudaMemcpy2D", "_ptds", [device, width, host, width, width, height, 1])?;
    tour.twins("cudaMemcpy2DAsync", "_ptsz", [device, width, host, width, width, height, 1, stream])?;
    tour.twins("cudaMemcpyToSymbol", "_ptds", [variable, host, COPY, 0, 1])?;
    tour.twins("cudaMemcpyFromSymbol", "_ptds", [host, variable, COPY, 0, 2])?;
    tour.twins("cudaMemcpyToSymbolAsync", "_ptsz", [variable, host, COPY, 0, 1, stream])?;
    tour.twins("cudaMemcpyFromSymbolAsync", "_ptsz", [host, variable, COPY, 0, 2, stream])?;
    tour.ok("cudaMemcpyPeer", [device, 0, device, 0, COPY])?;
    tour.ok("cudaMemcpyPeerAsync", [device, 0, device, 0, COPY, stream])?;
    let (mut targets, mut sources, mut sizes, mut attributes, mut index) = ([device], [host], [COPY], [0_u64; 4], [0_usize]);
    let lists = [to(&mut targets), to(&mut sources), to(&mut sizes)];
    let batch = [lists[0], lists[1], lists[2], 1, to(&mut attributes), to(&mut index), 1, stream];
    tour.twins("cudaMemcpyBatchAsync", "_ptsz", batch)?;
    tour.twins("cudaMemset", "_ptds", [device, 7, COPY])?;
    tour.twins("cudaMemsetAsync", "_ptsz", [device, 7, COPY, stream])?;
    tour.twins("cudaMemset2D", "_ptds", [device, 512, 7, width, height])?;
    tour.twins("cudaMemset2DAsync", "_ptsz", [device, 512, 7, width, height, stream])
}

fn kernels(tour: &mut Tour<'_>, kernel: usize) -> Result<()> {
    let variable = (&raw const VARIABLE_SYMBOL).addr();
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
    tour.ok("cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", [to(&mut number), kernel, 256, 0, 0])?;
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

fn launches(tour: &mut Tour<'_>, stream: usize, kernel: usize) -> Result<()> {
    let ([grid, grid_z], [block, block_z]) = (packed(GRID), packed(BLOCK));
    let shared = SHARED_MEMORY as usize;
    let launch = [kernel, grid, grid_z, block, block_z, 0, shared, stream];
    tour.twins("cudaLaunchKernel", "_ptsz", launch)?;
    tour.twins("cudaLaunchCooperativeKernel", "_ptsz", launch)?;
    tour.expect(98, "cudaLaunchKernel", [0, grid, grid_z, block, block_z, 0, shared, stream])?;
    tour.expect(98, "cudaGetLastError", [])?;
    let mut handle = 0_usize;
    tour.ok("__cudaGetKernel", [to(&mut handle), kernel])?;
    tour.twins("__cudaLaunchKernel", "_ptsz", [handle, grid, grid_z, block, block_z, 0, shared, stream])?;
    let mut config = RuntimeLaunchConfig::new(stream);
    tour.twins("cudaLaunchKernelExC", "_ptsz", [to(&mut config), kernel, 0])?;
    tour.twins("cudaLaunchHostFunc", "_ptsz", [stream, host_function_address(), 0])?;
    let (mut popped_grid, mut popped_block, mut popped_shared, mut popped_stream) = ([0_u32; 3], [0_u32; 3], 0_usize, 0_usize);
    tour.ok("__cudaPushCallConfiguration", [grid, grid_z, block, block_z, shared, stream])?;
    let out = [to(&mut popped_grid), to(&mut popped_block), to(&mut popped_shared), to(&mut popped_stream)];
    tour.ok("__cudaPopCallConfiguration", out)?;
    if (popped_grid, popped_block, popped_shared, popped_stream) != (GRID, BLOCK, shared, stream) {
        tour.wrong.push("__cudaPopCallConfiguration gave another configuration than was pushed".to_owned());
    }
    Ok(())
}

fn capture(tour: &mut Tour<'_>, stream: usize, kernel: usize) -> Result<()> {
    let (mut graph, mut mode, mut status) = (0_usize, 0_u32, 0_i32);
    let (mut id, mut of, mut nodes, mut edges, mut count) = (0_u64, 0_usize, 0_usize, 0_usize, 0_usize);
    let ([grid, grid_z], [block, block_z]) = (packed(GRID), packed(BLOCK));
    tour.ok("cudaThreadExchangeStreamCaptureMode", [to(&mut mode)])?;
    for suffix in ["", "_ptsz"] {
        let name = |name: &str| format!("{name}{suffix}");
        tour.ok(&name("cudaStreamBeginCapture"), [stream, 0])?;
        tour.ok(&name("cudaLaunchKernel"), [kernel, grid, grid_z, block, block_z, 0, 0, stream])?;
        tour.ok(&name("cudaStreamIsCapturing"), [stream, to(&mut status)])?;
        let out = [to(&mut status), to(&mut id), to(&mut of), to(&mut nodes), to(&mut edges), to(&mut count)];
        tour.ok(&name("cudaStreamGetCaptureInfo"), [stream, out[0], out[1], out[2], out[3], out[4], out[5]])?;
        tour.ok(&name("cudaStreamUpdateCaptureDependencies"), [stream, nodes, 0, count, 0])?;
        tour.ok(&name("cudaStreamEndCapture"), [stream, to(&mut graph)])?;
        tour.ok(&name("cudaStreamBeginCaptureToGraph"), [stream, graph, 0, 0, 0, 0])?;
        tour.ok(&name("cudaStreamEndCapture"), [stream, to(&mut graph)])?;
        tour.ok("cudaGraphDestroy", [graph])?;
    }
    Ok(())
}

fn events(tour: &mut Tour<'_>, stream: usize) -> Result<()> {
    let (mut start, mut end, mut milliseconds) = (0_usize, 0_usize, 0_f32);
    tour.ok("cudaEventCreate", [to(&mut start)])?;
    tour.ok("cudaEventCreateWithFlags", [to(&mut end), 0])?;
    tour.twins("cudaEventRecord", "_ptsz", [start, stream])?;
    tour.twins("cudaEventRecordWithFlags", "_ptsz", [end, stream, 0])?;
    tour.twins("cudaStreamWaitEvent", "_ptsz", [stream, end, 0])?;
    tour.ok("cudaEventSynchronize", [end])?;
    tour.ok("cudaEventQuery", [end])?;
    tour.ok("cudaEventElapsedTime", [to(&mut milliseconds), start, end])?;
    tour.ok("cudaEventDestroy", [start])?;
    tour.ok("cudaEventDestroy", [end])
}

fn graphs(tour: &mut Tour<'_>, stream: usize, kernel: usize) -> Result<()> {
    let (mut graph, mut clone, mut node, mut first, mut event) = (0_usize, 0_usize, 0_usize, 0_usize, 0_usize);
    let (mut count, mut number, mut from, mut ends) = (0_usize, 0_i32, [0_usize; 16], [0_usize; 16]);
    let (mut any, mut what) = ([0_u64; 32], KernelNode::new(kernel));
    tour.ok("cudaEventCreate", [to(&mut event)])?;
    tour.ok("cudaGraphCreate", [to(&mut graph), 0])?;
    tour.ok("cudaGraphAddKernelNode", [to(&mut first), graph, 0, 0, to(&mut what)])?;
    tour.ok("cudaGraphAddMemsetNode", [to(&mut node), graph, 0, 0, to(&mut any)])?;
    tour.ok("cudaGraphAddHostNode", [to(&mut node), graph, 0, 0, to(&mut any)])?;
    tour.ok("cudaGraphAddEmptyNode", [to(&mut node), graph, 0, 0])?;
    tour.ok("cudaGraphAddEventRecordNode", [to(&mut node), graph, 0, 0, event])?;
    tour.ok("cudaGraphAddEventWaitNode", [to(&mut node), graph, 0, 0, event])?;
    any[0] = 5;
    tour.ok("cudaGraphAddNode", [to(&mut node), graph, 0, 0, 0, to(&mut any)])?;
    tour.ok("cudaGraphClone", [to(&mut clone), graph])?;
    tour.ok("cudaGraphAddChildGraphNode", [to(&mut node), graph, 0, 0, clone])?;
    tour.ok("cudaGraphGetNodes", [graph, 0, to(&mut count)])?;
    tour.ok("cudaGraphGetRootNodes", [graph, 0, to(&mut count)])?;
    count = 16;
    tour.ok("cudaGraphGetEdges", [graph, to(&mut from), to(&mut ends), 0, to(&mut count)])?;
    tour.ok("cudaGraphAddDependencies", [graph, to(&mut from), to(&mut ends), 0, 1])?;
    tour.ok("cudaGraphRemoveDependencies", [graph, to(&mut from), to(&mut ends), 0, 1])?;
    tour.ok("cudaGraphDestroyNode", [node])?;
    tour.ok("cudaGraphNodeGetType", [first, to(&mut number)])?;
    let mut read = KernelNode::new(0);
    tour.ok("cudaGraphKernelNodeGetParams", [first, to(&mut read)])?;
    tour.ok("cudaGraphKernelNodeSetParams", [first, to(&mut what)])?;

    let (mut executable, mut flags, mut parameters, mut result) = (0_usize, 0_u64, [0_u64; 8], [0_u64; 4]);
    for (name, third) in [
        ("cudaGraphInstantiate", 0),
        ("cudaGraphInstantiateWithFlags", 0),
        ("cudaGraphInstantiateWithParams", to(&mut parameters)),
        ("cudaGraphInstantiateWithParams_ptsz", to(&mut parameters)),
    ] {
        tour.ok(name, [to(&mut executable), graph, third])?;
        tour.twins("cudaGraphUpload", "_ptsz", [executable, stream])?;
        tour.twins("cudaGraphLaunch", "_ptsz", [executable, stream])?;
        tour.ok("cudaGraphExecUpdate", [executable, graph, to(&mut result)])?;
        tour.ok("cudaGraphExecKernelNodeSetParams", [executable, first, to(&mut what)])?;
        tour.ok("cudaGraphExecGetFlags", [executable, to(&mut flags)])?;
        tour.ok("cudaGraphExecDestroy", [executable])?;
    }
    tour.ok("cudaGraphDebugDotPrint", [graph, text(c"/dev/null"), 0])?;
    tour.ok("cudaUserObjectCreate", [to(&mut node), 0, host_function_address(), 2, 1])?;
    tour.ok("cudaUserObjectRetain", [node, 1])?;
    tour.ok("cudaUserObjectRelease", [node, 1])?;
    tour.ok("cudaGraphRetainUserObject", [graph, node, 1, 0])?;
    tour.ok("cudaGraphReleaseUserObject", [graph, node, 1])?;
    tour.ok("cudaGraphDestroy", [graph])
}
