//! The set `default`: the functions that are traced unless the user says otherwise.

use super::{glob, stem};

/// Whether the function belongs to the set `default`.
pub(super) fn contains(name: &str) -> bool {
    let stem = stem(name);
    DEFAULT.iter().any(|pattern| glob::matches(pattern, stem))
        && !WRAPPERS.contains(&name)
        && !NOT_DEFAULT.iter().any(|pattern| glob::matches(pattern, stem))
}

/// What the launch stubs of programs compiled for CUDA 13 call. Each only calls `cudaLaunchKernel`
/// (seen in libcudart 13.0: 15 346 calls of a vLLM start, each with one call inside), so a line of
/// it tells nothing and costs as much as any other.
const WRAPPERS: [&str; 2] = ["__cudaLaunchKernel", "__cudaLaunchKernel_ptsz"];

/// The set `default`, over stems (`Malloc` for `cudaMalloc`): what a reader of a trace asks about,
/// and nothing that is called for every launch without doing anything.
const DEFAULT: &[&str] = &[
    // Start-up, devices and contexts.
    "Init",
    "InitDevice",
    "DriverGetVersion",
    "RuntimeGetVersion",
    "SetDevice",
    "DeviceReset",
    "ThreadExit",
    "DevicePrimaryCtx*",
    "Ctx*",
    "GreenCtx*",
    "ExecutionCtx*",
    // Code, and the handles by which launches name their kernel.
    "Module*",
    "Library*",
    "KernelGetFunction",
    "GetKernel",
    "GetFuncBySymbol",
    "FuncLoad",
    "LinkComplete",
    "RegisterFatBinary",
    "RegisterFunction",
    "UnregisterFatBinary",
    // Memory: plain, host, pools, virtual memory, sharing between processes.
    "MemAlloc*",
    "MemFree*",
    "MemHost*",
    "MemAddress*",
    "MemCreate",
    "MemRelease",
    "MemMap",
    "MemUnmap",
    "MemSetAccess",
    "MemGetInfo",
    "MemPoolCreate",
    "MemPoolDestroy",
    "MemPoolTrimTo",
    "MemPrefetch*",
    "MemExportToShareableHandle",
    "MemImportFromShareableHandle",
    "Malloc*",
    "Free*",
    "Host*",
    "Ipc*",
    "Multicast*",
    // What moves bytes.
    "Memcpy*",
    "MemBatchDecompress*",
    "Memset*",
    // What makes the GPU work, and what waits for it.
    "Launch*",
    "Graph*Create",
    "GraphCreate",
    "GraphClone",
    "GraphAddKernelNode",
    "GraphAddNode",
    "GraphAddChildGraphNode",
    "GraphDestroy",
    "GraphInstantiate*",
    "GraphExecUpdate",
    "GraphExecDestroy",
    "GraphUpload",
    "GraphLaunch",
    "Stream*",
    "Event*",
    "*Synchronize",
    "*CtxRecordEvent",
    "*CtxWaitEvent",
    "ProfilerStart",
    "ProfilerStop",
];

/// What the patterns of [`DEFAULT`] take in but should not.
const NOT_DEFAULT: &[&str] = &[
    "CtxGet*",
    "DevicePrimaryCtxGetState",
    "GreenCtxGet*",
    "ExecutionCtxGet*",
    "StreamGet*",
    "StreamIsCapturing",
    "HostGet*",
    "MemHostGet*",
    "ModuleGetSurfRef",
    "ModuleGetTexRef",
    "ModuleGetLoadingMode",
    "ModuleEnumerateFunctions",
    "LibraryEnumerateKernels",
    "LibraryGetManaged",
    "LibraryGetUnifiedFunction",
    "CtxAttach",
    "CtxDetach",
    "CtxSetFlags",
    "*ResetPersistingL2Cache",
    // Arrays hold textures, which no language model uses.
    "Malloc*Array",
    "Free*Array",
    "Memcpy*Array*",
    "Memcpy?toA*",
    "MemcpyAto*",
    "Memcpy2DUnaligned",
    "MemsetD2D*",
    "StreamUpdateCaptureDependencies",
    "StreamAttachMemAsync",
    "CtxFromGreenCtx",
    "Module*Count",
    "Library*Count",
    "MulticastGet*",
    "Stream*Attribute*",
    "CtxSet?*Config",
    "EventCreateFromEGLSync",
];

#[cfg(test)]
mod tests {
    use super::super::{Class, KNOWN, class};
    use super::*;

    #[test]
    fn no_pattern_is_dead() {
        for pattern in DEFAULT.iter().chain(NOT_DEFAULT) {
            assert!(
                KNOWN.iter().any(|name| glob::matches(pattern, stem(name))),
                "{pattern} matches nothing"
            );
        }
    }

    #[test]
    fn default_holds_what_matters_and_no_hot_getter() {
        let count = KNOWN.iter().filter(|name| contains(name)).count();
        assert!((350..=450).contains(&count), "{count} functions");
        for name in [
            "cuInit",
            "cuDriverGetVersion",
            "cuDevicePrimaryCtxRetain",
            "cuCtxCreate_v4",
            "cudaSetDevice",
            "cuModuleLoadData",
            "cuModuleGetFunction",
            "cuLibraryGetKernel",
            "cuKernelGetFunction",
            "__cudaRegisterFunction",
            "__cudaGetKernel",
            "cuMemAlloc_v2",
            "cuMemFree_v2",
            "cuMemCreate",
            "cuMemMap",
            "cuMemAllocAsync_ptsz",
            "cudaMallocHost",
            "cudaFreeAsync",
            "cudaMemcpyAsync",
            "cuMemcpyDtoHAsync_v2_ptsz",
            "cuMemsetD32Async",
            "cuLaunchKernel",
            "cuLaunchKernelEx_ptsz",
            "cuLaunchCooperativeKernel",
            "cudaLaunchKernelExC",
            "cuLaunchHostFunc",
            "cudaStreamBeginCapture",
            "cudaStreamEndCapture",
            "cuGraphAddKernelNode_v2",
            "cudaGraphAddKernelNode",
            "cuGraphAddNode_v2",
            "cudaGraphAddChildGraphNode",
            "cudaGraphInstantiate",
            "cudaGraphExecUpdate",
            "cuGraphLaunch_ptsz",
            "cudaGraphExecDestroy",
            "cuStreamCreateWithPriority",
            "cudaStreamWaitEvent",
            "cudaEventRecordWithFlags",
            "cudaEventQuery",
            "cudaDeviceSynchronize",
            "cuStreamSynchronize",
        ] {
            assert!(KNOWN.binary_search(&name).is_ok(), "{name} is no function");
            assert!(contains(name), "{name} should be in the default set");
        }
        for name in [
            "cudaGetDevice",
            "cuCtxGetDevice_v2",
            "cuCtxGetCurrent",
            "cuDevicePrimaryCtxGetState",
            "cudaGetLastError",
            "cudaPeekAtLastError",
            "cudaStreamIsCapturing",
            "cuStreamIsCapturing",
            "cuStreamGetCaptureInfo_v2",
            "cuPointerGetAttribute",
            "cudaPointerGetAttributes",
            "cudaFuncGetAttributes",
            "cuKernelGetAttribute",
            "cuGetProcAddress_v2",
            "__cudaPushCallConfiguration",
            "__cudaLaunchKernel_ptsz",
            "cuGraphicsMapResources",
        ] {
            assert!(!contains(name), "{name} should not be in the default set");
        }
    }

    #[test]
    fn getters_are_never_default() {
        for name in KNOWN.iter().filter(|name| contains(name)) {
            assert!(
                class(name) != Class::Getter || name.ends_with("GetVersion"),
                "{name} only reads state but is in the default set"
            );
        }
    }
}
