//! Modules, libraries, and the functions in them.

use super::Row;
use super::build::{low_result, register, result};
use crate::function::arguments::Field::{Bytes, Function, Module, Pointer};

pub(super) const ROWS: &[Row] = &[
    // cuda.h: (CUmodule *out, image or file, ..); (CUlibrary *out, image or file, ..).
    // cuda_runtime_api.h: (cudaLibrary_t *out, image or file, ..).
    // The size of an image is in its own header, if it has one.
    (
        &[
            "cuLibraryLoadData",
            "cuLibraryLoadFromFile",
            "cuModuleLoad",
            "cuModuleLoadData",
            "cuModuleLoadDataEx",
            "cuModuleLoadFatBinary",
            "cudaLibraryLoadData",
            "cudaLibraryLoadFromFile",
        ],
        &[result(Module, 0)],
    ),
    // cuda.h: (CUmodule *out, CUlibrary): the module, not the library that it is of.
    (&["cuLibraryGetModule"], &[result(Module, 0)]),
    // cuda.h: (CUmodule); (CUlibrary). cuda_runtime_api.h: (cudaLibrary_t).
    // crt/host_runtime.h: (void **fat binary).
    (
        &["__cudaUnregisterFatBinary", "cuLibraryUnload", "cuModuleUnload", "cudaLibraryUnload"],
        &[register(Module, 0)],
    ),
    // cuda.h: (CUfunction *out, CUmodule, name); (CUkernel *out, CUlibrary, name).
    // cuda_runtime_api.h: (cudaKernel_t *out, cudaLibrary_t, name).
    (
        &["cuLibraryGetKernel", "cuModuleGetFunction", "cudaLibraryGetKernel"],
        &[result(Function, 0), register(Module, 1)],
    ),
    // crt/host_runtime.h: (void **fat binary, function of the host, ..).
    (&["__cudaRegisterFunction"], &[register(Function, 1), register(Module, 0)]),
    // cuda.h: (CUfunction *out, CUkernel). crt/device_functions.h, cuda_runtime_api.h:
    // (cudaKernel_t *out, function of the host); (cudaFunction_t *out, function of the host).
    (
        &["__cudaGetKernel", "cuKernelGetFunction", "cudaGetFuncBySymbol", "cudaGetKernel"],
        &[result(Function, 0)],
    ),
    // cuda.h: (CUfunction).
    (&["cuFuncLoad"], &[register(Function, 0)]),
    // cuda.h: (CUdeviceptr *out, size_t *out, CUmodule, name); (.., CUlibrary, name).
    // cuda_runtime_api.h: (void **out, size_t *out, cudaLibrary_t, name).
    (
        &["cuLibraryGetGlobal", "cuModuleGetGlobal_v2", "cudaLibraryGetGlobal"],
        &[result(Bytes, 1), result(Pointer, 0), register(Module, 2)],
    ),
    // cuda.h: (CUdeviceptr_v1 *out, unsigned int *out, CUmodule, name).
    (&["cuModuleGetGlobal"], &[low_result(Bytes, 1), low_result(Pointer, 0), register(Module, 2)]),
    // cuda.h: (CUlinkState, void **image out, size_t *out).
    (&["cuLinkComplete"], &[result(Bytes, 2), result(Pointer, 1)]),
];
