//! Memory: what comes and goes, is mapped, shared, prefetched.

use super::Row;
use super::build::{low, low_result, made, member, member_4, register, result, stack, word};
use crate::function::arguments::Field::{Allocation, Bytes, Count, Pointer, Stream};
use crate::function::arguments::{Value, Word};

pub(super) const ROWS: &[Row] = &[
    // cuda.h: (CUdeviceptr *out, size_t, ..); (void **out, size_t, ..).
    // cuda_runtime_api.h: (void **out, size_t, ..).
    (
        &[
            "cuMemAddressReserve",
            "cuMemAllocHost_v2",
            "cuMemAllocManaged",
            "cuMemAlloc_v2",
            "cuMemHostAlloc",
            "cudaHostAlloc",
            "cudaMalloc",
            "cudaMallocHost",
            "cudaMallocManaged",
        ],
        &[register(Bytes, 1), result(Pointer, 0)],
    ),
    // cuda.h: (CUdeviceptr_v1 *out, unsigned int).
    (&["cuMemAlloc"], &[word(Bytes, low(1)), low_result(Pointer, 0)]),
    // cuda.h: (void **out, unsigned int).
    (&["cuMemAllocHost"], &[word(Bytes, low(1)), result(Pointer, 0)]),
    // cuda.h: (CUdeviceptr *out, size_t, CUstream).
    // cuda_runtime_api.h: (void **out, size_t, cudaStream_t).
    (
        &["cuMemAllocAsync", "cudaMallocAsync"],
        &[register(Bytes, 1), result(Pointer, 0), register(Stream, 2)],
    ),
    // cuda.h: (CUdeviceptr *out, size_t, CUmemoryPool, CUstream).
    // cuda_runtime_api.h: (void **out, size_t, cudaMemPool_t, cudaStream_t).
    (
        &["cuMemAllocFromPoolAsync", "cudaMallocFromPoolAsync"],
        &[register(Bytes, 1), result(Pointer, 0), register(Stream, 3)],
    ),
    // cuda.h: (CUdeviceptr *out, size_t *pitch out, size_t width, size_t height, ..).
    // cuda_runtime_api.h: (void **out, size_t *pitch out, size_t width, size_t height).
    (
        &["cuMemAllocPitch_v2", "cudaMallocPitch"],
        &[made(Bytes, Value::Product(&[Word::result(1), Word::register(3)])), result(Pointer, 0)],
    ),
    // cuda.h: the same with CUdeviceptr_v1 and unsigned int.
    (
        &["cuMemAllocPitch"],
        &[made(Bytes, Value::Product(&[member_4(1, 0), low(3)])), low_result(Pointer, 0)],
    ),
    // cuda_runtime_api.h: (cudaPitchedPtr *out, cudaExtent on the stack).
    // driver_types.h: cudaPitchedPtr: ptr 0, pitch 8. cudaExtent: width 0, height 8, depth 16.
    (
        &["cudaMalloc3D"],
        &[
            made(Bytes, Value::Product(&[member(0, 8), stack(1), stack(2)])),
            made(Pointer, Value::Word(member(0, 0))),
        ],
    ),
    // cuda.h: (CUdeviceptr or void *). cuda_runtime_api.h: (void *).
    (
        &[
            "cuIpcCloseMemHandle",
            "cuMemFreeHost",
            "cuMemFree_v2",
            "cuMemHostUnregister",
            "cudaFree",
            "cudaFreeHost",
            "cudaHostUnregister",
            "cudaIpcCloseMemHandle",
        ],
        &[register(Pointer, 0)],
    ),
    // cuda.h: (CUdeviceptr_v1).
    (&["cuMemFree"], &[word(Pointer, low(0))]),
    // cuda.h: (CUdeviceptr, CUstream). cuda_runtime_api.h: (void *, cudaStream_t).
    (&["cuMemFreeAsync", "cudaFreeAsync"], &[register(Pointer, 0), register(Stream, 1)]),
    // cuda.h: (CUdeviceptr or void *, size_t, ..). cuda_runtime_api.h: (void *, size_t, ..).
    (
        &[
            "cuMemAddressFree",
            "cuMemHostRegister",
            "cuMemHostRegister_v2",
            "cuMemSetAccess",
            "cuMemUnmap",
            "cudaHostRegister",
        ],
        &[register(Bytes, 1), register(Pointer, 0)],
    ),
    // cuda.h: (CUmemGenericAllocationHandle *out, size_t, ..).
    (&["cuMemCreate"], &[register(Bytes, 1), result(Allocation, 0)]),
    // cuda.h: (CUdeviceptr, size_t, size_t offset, CUmemGenericAllocationHandle, ..).
    (&["cuMemMap"], &[register(Bytes, 1), register(Pointer, 0), register(Allocation, 3)]),
    // cuda.h: (CUmemGenericAllocationHandle, ..).
    (&["cuMemRelease", "cuMulticastAddDevice"], &[register(Allocation, 0)]),
    // cuda.h: (void *shareable out, CUmemGenericAllocationHandle, ..).
    (&["cuMemExportToShareableHandle"], &[register(Allocation, 1)]),
    // cuda.h: (CUmemGenericAllocationHandle *out, ..).
    (&["cuMemImportFromShareableHandle"], &[result(Allocation, 0)]),
    // cuda.h: (CUmemGenericAllocationHandle *out, const CUmulticastObjectProp *): size 8.
    (&["cuMulticastCreate"], &[word(Bytes, member(1, 8)), result(Allocation, 0)]),
    // cuda.h: (multicast object, size_t offset, CUdeviceptr, size_t, ..).
    (
        &["cuMulticastBindAddr"],
        &[register(Bytes, 3), register(Pointer, 2), register(Allocation, 0)],
    ),
    // cuda.h: (multicast object, CUdevice, size_t offset, CUdeviceptr, size_t, ..).
    (
        &["cuMulticastBindAddr_v2"],
        &[register(Bytes, 4), register(Pointer, 3), register(Allocation, 0)],
    ),
    // cuda.h: (multicast object, size_t offset, physical memory, size_t offset, size_t, ..). The
    // handle of the multicast object is shown, as by its other functions.
    (&["cuMulticastBindMem"], &[register(Bytes, 4), register(Allocation, 0)]),
    // cuda.h: the same with a CUdevice after the multicast object.
    (&["cuMulticastBindMem_v2"], &[register(Bytes, 5), register(Allocation, 0)]),
    // cuda.h: (multicast object, CUdevice, size_t offset, size_t).
    (&["cuMulticastUnbind"], &[register(Bytes, 3), register(Allocation, 0)]),
    // cuda.h: (CUipcMemHandle *out, CUdeviceptr). cuda_runtime_api.h: (.. *out, void *).
    (&["cuIpcGetMemHandle", "cudaIpcGetMemHandle"], &[register(Pointer, 1)]),
    // cuda.h: (CUdeviceptr *out, handle of 64 bytes on the stack, ..).
    // cuda_runtime_api.h: (void **out, handle of 64 bytes on the stack, ..).
    (
        &["cuIpcOpenMemHandle", "cuIpcOpenMemHandle_v2", "cudaIpcOpenMemHandle"],
        &[result(Pointer, 0)],
    ),
    // cuda.h: (CUdeviceptr, size_t, CUdevice, CUstream).
    (&["cuMemPrefetchAsync"], &[register(Bytes, 1), register(Pointer, 0), register(Stream, 3)]),
    // cuda.h: (CUdeviceptr, size_t, CUmemLocation of 8 bytes, unsigned int, CUstream).
    // cuda_runtime_api.h: (void *, size_t, cudaMemLocation of 8 bytes, unsigned int, cudaStream_t).
    (
        &["cuMemPrefetchAsync_v2", "cudaMemPrefetchAsync_v2"],
        &[register(Bytes, 1), register(Pointer, 0), register(Stream, 4)],
    ),
    // cuda_runtime_api.h: up to CUDA 12 (void *, size_t, int, cudaStream_t), since 13 under the
    // same name what was _v2 before: the stream's place depends on the library.
    (&["cudaMemPrefetchAsync"], &[register(Bytes, 1), register(Pointer, 0)]),
    // cuda.h, cuda_runtime_api.h: (addresses, sizes, size_t count, locations, size_t *,
    // size_t, unsigned long long, stream).
    (
        &["cuMemPrefetchBatchAsync", "cudaMemPrefetchBatchAsync"],
        &[register(Count, 2), word(Stream, stack(1))],
    ),
    // cuda.h: (CUmemDecompressParams *, size_t count, unsigned int, size_t *, CUstream).
    (&["cuMemBatchDecompressAsync"], &[register(Count, 1), register(Stream, 4)]),
];
