//! What a CUDA function is about: its class.

use super::glob;
use super::stem;
use std::fmt;

/// What a function is about. Each function has exactly one class; each class is a named set in a
/// [`super::Selection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Start-up: `cuInit`, versions, and how a library finds the other functions.
    Init,
    /// Choosing and configuring devices.
    Device,
    /// Contexts: primary, green, and the device resources behind them.
    Context,
    /// Code: modules, libraries, kernels and functions, and their registration by
    /// `__cudaRegister*`.
    Module,
    /// Memory that comes, goes, is mapped, shared or advised upon.
    Memory,
    /// Copies.
    Copy,
    /// Fills (`cuMemset*`, `cudaMemset*`).
    Set,
    /// Kernel and host function launches.
    Launch,
    /// Graphs and stream capture.
    Graph,
    /// Streams, save their capture and waiting for them.
    Stream,
    /// Events and external semaphores.
    Event,
    /// Calls that make the calling thread wait for the GPU.
    Sync,
    /// Textures, surfaces and tensor maps.
    Texture,
    /// Sharing with OpenGL, EGL and VDPAU.
    Graphics,
    /// Reading of state, without effect. Frequent, and off by default.
    Getter,
    /// The rest: logs, profiler switches, core dumps, checkpoints.
    Other,
}

impl Class {
    pub const ALL: [Self; 16] = [
        Self::Init,
        Self::Device,
        Self::Context,
        Self::Module,
        Self::Memory,
        Self::Copy,
        Self::Set,
        Self::Launch,
        Self::Graph,
        Self::Stream,
        Self::Event,
        Self::Sync,
        Self::Texture,
        Self::Graphics,
        Self::Getter,
        Self::Other,
    ];

    /// The name of the set, as typed in `TRACE_FUNCTIONS`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Device => "device",
            Self::Context => "context",
            Self::Module => "module",
            Self::Memory => "memory",
            Self::Copy => "copy",
            Self::Set => "set",
            Self::Launch => "launch",
            Self::Graph => "graph",
            Self::Stream => "stream",
            Self::Event => "event",
            Self::Sync => "sync",
            Self::Texture => "texture",
            Self::Graphics => "graphics",
            Self::Getter => "getter",
            Self::Other => "other",
        }
    }

    /// The class called `name`. `memset` is an alias of `set`.
    pub fn named(name: &str) -> Option<Self> {
        if name == "memset" {
            return Some(Self::Set);
        }
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The class of a function, for any variant of its name and for functions newer than this program.
pub fn class(name: &str) -> Class {
    let stem = stem(name);
    RULES
        .iter()
        .find(|(_, patterns)| patterns.iter().any(|pattern| glob::matches(pattern, stem)))
        .map_or(Class::Other, |&(class, _)| class)
}

/// Patterns over stems (`Malloc` for `cudaMalloc`, `MemAlloc` for `cuMemAlloc_v2`); the first that
/// fits decides.
const RULES: &[(Class, &[&str])] = &[
    (
        Class::Init,
        &[
            "Init",
            "InitDevice",
            "*GetVersion",
            "GetProcAddress",
            "GetExportTable",
            "GetDriverEntryPoint*",
        ],
    ),
    (Class::Sync, &["*Synchronize"]),
    (
        Class::Launch,
        &[
            "Launch*",
            "PushCallConfiguration",
            "PopCallConfiguration",
            "ParamSet*",
            "FuncSetBlockShape",
        ],
    ),
    (Class::Set, &["Memset*"]),
    (Class::Copy, &["Memcpy*", "MemBatchDecompress*", "FabricCpy*"]),
    (Class::Graphics, &["Graphics*", "GL*", "EGL*", "VDPAU*", "EventCreateFromEGLSync"]),
    // These bring something into being or matter to a reader of traces, although they look like
    // getters.
    (
        Class::Memory,
        &["MemGetInfo", "IpcGetMemHandle", "MemGetHandleForAddressRange", "ExternalMemoryGet*"],
    ),
    (Class::Event, &["IpcGetEventHandle", "EventElapsedTime", "*CtxRecordEvent", "*CtxWaitEvent"]),
    (
        Class::Module,
        &[
            "ModuleGetFunction",
            "ModuleGetGlobal",
            "LibraryGet*",
            "KernelGetFunction",
            "GetKernel",
            "GetFuncBySymbol",
            "GetSymbolAddress",
        ],
    ),
    (
        Class::Getter,
        &[
            "*Get*",
            "PeekAtLastError",
            "ChooseDevice",
            "DeviceCanAccessPeer",
            "DeviceComputeCapability",
            "DeviceTotalMem",
            "StreamIsCapturing",
            "FuncIsLoaded",
            "Occupancy*",
        ],
    ),
    (
        Class::Graph,
        &[
            "Graph*",
            "Stream*Capture*",
            "Stream*Recapture*",
            "ThreadExchangeStreamCaptureMode",
            "UserObject*",
        ],
    ),
    (Class::Stream, &["Stream*", "*CtxStreamCreate"]),
    (Class::Event, &["Event*", "IpcOpenEventHandle", "*ExternalSemaphore*"]),
    (
        Class::Context,
        &[
            "Ctx*",
            "DevicePrimaryCtx*",
            "GreenCtx*",
            "ExecutionCtx*",
            "DevResource*",
            "DevSmResource*",
        ],
    ),
    (
        Class::Memory,
        &[
            "DeviceSetMemPool",
            "DeviceGraphMemTrim",
            "DeviceSetGraphMemAttribute",
            "FlushGPUDirectRDMAWrites",
            "DeviceFlushGPUDirectRDMAWrites",
        ],
    ),
    (Class::Device, &["Device*", "SetDevice*", "SetValidDevices", "ThreadExit", "ThreadSet*"]),
    (
        Class::Module,
        &[
            "Module*",
            "Library*",
            "Kernel*",
            "Func*",
            "Link*",
            "Register*",
            "Unregister*",
            "InitModule",
            "SetDoubleFor*",
        ],
    ),
    (
        Class::Texture,
        &["Tex*", "Surf*", "*Texture*", "*Surface*", "TensorMap*", "CreateChannelDesc"],
    ),
    (
        Class::Memory,
        &[
            "Mem*",
            "Malloc*",
            "Free*",
            "Host*",
            "Array*",
            "Mipmapped*",
            "IpcOpenMemHandle",
            "IpcCloseMemHandle",
            "*ExternalMemory*",
            "Multicast*",
            "Pointer*",
            "LogicalEndpoint*",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::super::{KNOWN, canonical};
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_functions_of_a_real_run_have_the_right_class() {
        for (name, expected) in [
            ("cuInit", Class::Init),
            ("cuGetProcAddress_v2", Class::Init),
            ("cudaSetDevice", Class::Device),
            ("cudaDeviceReset", Class::Device),
            ("cuDevicePrimaryCtxRetain", Class::Context),
            ("cuCtxSetCurrent", Class::Context),
            ("cuModuleGetFunction", Class::Module),
            ("cuLibraryGetKernel", Class::Module),
            ("__cudaRegisterFunction", Class::Module),
            ("__cudaGetKernel", Class::Module),
            ("cuMemAlloc_v2", Class::Memory),
            ("cudaMalloc", Class::Memory),
            ("cudaHostAlloc", Class::Memory),
            ("cuMemAddressReserve", Class::Memory),
            ("cuMemAllocFromPoolAsync_ptsz", Class::Memory),
            ("cudaMemGetInfo", Class::Memory),
            ("cudaMemcpyAsync_ptsz", Class::Copy),
            ("cuMemcpyHtoDAsync_v2", Class::Copy),
            ("cuMemsetD8Async", Class::Set),
            ("cudaMemset", Class::Set),
            ("cuLaunchKernelEx_ptsz", Class::Launch),
            ("__cudaLaunchKernel", Class::Launch),
            ("__cudaPushCallConfiguration", Class::Launch),
            ("cudaLaunchHostFunc", Class::Launch),
            ("cuGraphLaunch", Class::Graph),
            ("cudaStreamBeginCapture", Class::Graph),
            ("cudaStreamCreateWithFlags", Class::Stream),
            ("cuStreamWaitEvent", Class::Stream),
            ("cudaEventRecordWithFlags", Class::Event),
            ("cudaEventElapsedTime", Class::Event),
            ("cudaEventSynchronize", Class::Sync),
            ("cuCtxSynchronize", Class::Sync),
            ("cudaThreadSynchronize", Class::Sync),
            ("cuTensorMapEncodeTiled", Class::Texture),
            ("cuGraphicsMapResources", Class::Graphics),
            ("cudaGetDevice", Class::Getter),
            ("cuCtxGetDevice_v2", Class::Getter),
            ("cuDevicePrimaryCtxGetState", Class::Getter),
            ("cudaStreamIsCapturing", Class::Getter),
            ("cuPointerGetAttribute", Class::Getter),
            ("cudaProfilerStart", Class::Other),
        ] {
            assert_eq!(class(name), expected, "{name}");
        }
    }

    #[test]
    fn a_function_newer_than_the_catalogue_still_has_a_class() {
        assert_eq!(class("cuMemcpySidewaysAsync_v7_ptsz"), Class::Copy);
        assert_eq!(class("cudaLaunchKernelTwice"), Class::Launch);
        assert_eq!(class("cuFrobnicate"), Class::Other);
    }

    #[test]
    fn variants_share_a_class_and_every_class_is_used() {
        let mut by_class: BTreeMap<Class, usize> = BTreeMap::new();
        for name in KNOWN.iter() {
            assert_eq!(class(name), class(canonical(name)), "{name}");
            *by_class.entry(class(name)).or_default() += 1;
        }
        assert_eq!(by_class.len(), Class::ALL.len(), "{by_class:?}");
        assert!(by_class[&Class::Other] < 60, "too many functions of no class: {by_class:?}");
    }

    #[test]
    fn names_of_classes_read_back() {
        for class in Class::ALL {
            assert_eq!(Class::named(class.name()), Some(class));
        }
        assert_eq!(Class::named("memset"), Some(Class::Set));
        assert_eq!(Class::named("Launch"), None);
    }

    #[test]
    fn no_pattern_is_dead() {
        for pattern in RULES.iter().flat_map(|(_, patterns)| *patterns) {
            assert!(
                KNOWN.iter().any(|name| glob::matches(pattern, stem(name))),
                "{pattern} matches nothing"
            );
        }
    }
}
