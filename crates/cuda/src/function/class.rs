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
mod tests;
