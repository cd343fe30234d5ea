//! Copies and fills of one range of memory, and batches of copies.

use super::Row;
use super::build::{constant, direction, given, low, register, stack, stack_low, word};
use crate::function::arguments::Direction::{Default, DeviceToDevice, DeviceToHost, HostToDevice};
use crate::function::arguments::Field::{Bytes, Count, Destination, Kind, Pointer, Source, Stream};
use crate::function::arguments::Value::{MemcpyKind, Product};
use crate::function::arguments::{Argument, Word};

const DESTINATION: Argument = register(Destination, 0);
const SOURCE: Argument = register(Source, 1);
const BYTES: Argument = register(Bytes, 2);
const STREAM: Argument = register(Stream, 3);

pub(super) const ROWS: &[Row] = &[
    // cuda.h: (destination, source, size_t, CUstream if asynchronous).
    (&["cuMemcpy"], &[BYTES, direction(Default), DESTINATION, SOURCE]),
    (&["cuMemcpyAsync"], &[BYTES, direction(Default), DESTINATION, SOURCE, STREAM]),
    (&["cuMemcpyHtoD_v2"], &[BYTES, direction(HostToDevice), DESTINATION, SOURCE]),
    (&["cuMemcpyHtoDAsync_v2"], &[BYTES, direction(HostToDevice), DESTINATION, SOURCE, STREAM]),
    (&["cuMemcpyDtoH_v2"], &[BYTES, direction(DeviceToHost), DESTINATION, SOURCE]),
    (&["cuMemcpyDtoHAsync_v2"], &[BYTES, direction(DeviceToHost), DESTINATION, SOURCE, STREAM]),
    (&["cuMemcpyDtoD_v2"], &[BYTES, direction(DeviceToDevice), DESTINATION, SOURCE]),
    (&["cuMemcpyDtoDAsync_v2"], &[BYTES, direction(DeviceToDevice), DESTINATION, SOURCE, STREAM]),
    // cuda.h: the same with CUdeviceptr_v1 and unsigned int: addresses of devices have 32 bits.
    (&["cuMemcpyHtoD"], &[OLD_BYTES, direction(HostToDevice), OLD_DESTINATION, SOURCE]),
    (
        &["cuMemcpyHtoDAsync"],
        &[OLD_BYTES, direction(HostToDevice), OLD_DESTINATION, SOURCE, STREAM],
    ),
    (&["cuMemcpyDtoH"], &[OLD_BYTES, direction(DeviceToHost), DESTINATION, OLD_SOURCE]),
    (
        &["cuMemcpyDtoHAsync"],
        &[OLD_BYTES, direction(DeviceToHost), DESTINATION, OLD_SOURCE, STREAM],
    ),
    (&["cuMemcpyDtoD"], &[OLD_BYTES, direction(DeviceToDevice), OLD_DESTINATION, OLD_SOURCE]),
    (
        &["cuMemcpyDtoDAsync"],
        &[OLD_BYTES, direction(DeviceToDevice), OLD_DESTINATION, OLD_SOURCE, STREAM],
    ),
    // cuda.h: (CUdeviceptr, CUcontext, CUdeviceptr, CUcontext, size_t, CUstream if asynchronous).
    // cuda_runtime_api.h: (void *, int, const void *, int, size_t, cudaStream_t if asynchronous).
    (
        &["cuMemcpyPeer", "cudaMemcpyPeer"],
        &[register(Bytes, 4), direction(DeviceToDevice), DESTINATION, register(Source, 2)],
    ),
    (
        &["cuMemcpyPeerAsync", "cudaMemcpyPeerAsync"],
        &[
            register(Bytes, 4),
            direction(DeviceToDevice),
            DESTINATION,
            register(Source, 2),
            register(Stream, 5),
        ],
    ),
    // cuda.h, cuda_runtime_api.h: (destination, source, size_t, attributes, stream).
    (
        &["cuMemcpyWithAttributesAsync", "cudaMemcpyWithAttributesAsync"],
        &[BYTES, direction(Default), DESTINATION, SOURCE, register(Stream, 4)],
    ),
    // cuda_runtime_api.h: (void *, const void *, size_t, cudaMemcpyKind, cudaStream_t).
    (&["cudaMemcpy"], &[BYTES, kind(low(3)), DESTINATION, SOURCE]),
    (&["cudaMemcpyAsync"], &[BYTES, kind(low(3)), DESTINATION, SOURCE, register(Stream, 4)]),
    // cuda_runtime_api.h: (symbol, const void *, size_t, size_t offset, cudaMemcpyKind,
    // cudaStream_t): the symbol is no address on the device.
    (&["cudaMemcpyToSymbol"], &[BYTES, kind(low(4)), SOURCE]),
    (&["cudaMemcpyToSymbolAsync"], &[BYTES, kind(low(4)), SOURCE, register(Stream, 5)]),
    // cuda_runtime_api.h: (void *, symbol, size_t, size_t offset, cudaMemcpyKind, cudaStream_t).
    (&["cudaMemcpyFromSymbol"], &[BYTES, kind(low(4)), DESTINATION]),
    (&["cudaMemcpyFromSymbolAsync"], &[BYTES, kind(low(4)), DESTINATION, register(Stream, 5)]),
    // cuda_runtime_api.h: (void *, size_t pitch, const void *, size_t pitch, size_t width, size_t
    // height, cudaMemcpyKind, cudaStream_t).
    (&["cudaMemcpy2D"], &[PLANE, kind(stack_low(0)), DESTINATION, register(Source, 2)]),
    (
        &["cudaMemcpy2DAsync"],
        &[PLANE, kind(stack_low(0)), DESTINATION, register(Source, 2), word(Stream, stack(1))],
    ),
    // cuda.h: (destinations, sources, sizes, size_t count, attributes, size_t *, size_t, size_t
    // *failed, CUstream); _v2 without the failed one.
    (&["cuMemcpyBatchAsync"], &[register(Count, 3), word(Stream, stack(2))]),
    (&["cuMemcpyBatchAsync_v2"], &[register(Count, 3), word(Stream, stack(1))]),
    // cuda_runtime_api.h: up to CUDA 12 as the former, since 13 as the latter: the stream's place
    // depends on the library.
    (&["cudaMemcpyBatchAsync"], &[register(Count, 3)]),
    // cuda.h: (size_t count, operations, size_t *failed, unsigned long long, CUstream); _v2
    // without the failed one.
    (&["cuMemcpy3DBatchAsync"], &[register(Count, 0), register(Stream, 4)]),
    (&["cuMemcpy3DBatchAsync_v2"], &[register(Count, 0), register(Stream, 3)]),
    // cuda_runtime_api.h: likewise, by the version of the library.
    (&["cudaMemcpy3DBatchAsync"], &[register(Count, 0)]),
    // cuda.h: (CUdeviceptr, element, size_t count, CUstream if asynchronous).
    (&["cuMemsetD8_v2"], &[BYTES, POINTER]),
    (&["cuMemsetD8Async"], &[BYTES, POINTER, STREAM]),
    (&["cuMemsetD16_v2"], &[elements(&[WHOLE_COUNT, constant(2)]), POINTER]),
    (&["cuMemsetD16Async"], &[elements(&[WHOLE_COUNT, constant(2)]), POINTER, STREAM]),
    (&["cuMemsetD32_v2"], &[elements(&[WHOLE_COUNT, constant(4)]), POINTER]),
    (&["cuMemsetD32Async"], &[elements(&[WHOLE_COUNT, constant(4)]), POINTER, STREAM]),
    // cuda.h: (CUdeviceptr_v1, element, unsigned int count).
    (&["cuMemsetD8"], &[OLD_BYTES, OLD_POINTER]),
    (&["cuMemsetD16"], &[elements(&[low(2), constant(2)]), OLD_POINTER]),
    (&["cuMemsetD32"], &[elements(&[low(2), constant(4)]), OLD_POINTER]),
    // cuda_runtime_api.h: (void *, int, size_t, cudaStream_t if asynchronous).
    (&["cudaMemset"], &[BYTES, POINTER]),
    (&["cudaMemsetAsync"], &[BYTES, POINTER, STREAM]),
    // cuda_runtime_api.h: (void *, size_t pitch, int, size_t width, size_t height, cudaStream_t if
    // asynchronous).
    (&["cudaMemset2D"], &[FILLED_PLANE, POINTER]),
    (&["cudaMemset2DAsync"], &[FILLED_PLANE, POINTER, register(Stream, 5)]),
    // cuda_runtime_api.h: (cudaPitchedPtr on the stack, int, cudaExtent on the stack, cudaStream_t
    // if asynchronous). The extent begins in the fifth word of the stack, which is not captured.
    // driver_types.h: cudaPitchedPtr: ptr 0.
    (&["cudaMemset3D"], &[word(Pointer, stack(0))]),
    (&["cudaMemset3DAsync"], &[word(Pointer, stack(0)), register(Stream, 1)]),
];

const OLD_DESTINATION: Argument = word(Destination, low(0));
const OLD_SOURCE: Argument = word(Source, low(1));
const OLD_BYTES: Argument = word(Bytes, low(2));

const PLANE: Argument = elements(&[Word::register(4), Word::register(5)]);

const POINTER: Argument = register(Pointer, 0);
const OLD_POINTER: Argument = word(Pointer, low(0));
const WHOLE_COUNT: Word = Word::register(2);
const FILLED_PLANE: Argument = elements(&[Word::register(3), Word::register(4)]);

const fn elements(factors: &'static [Word]) -> Argument {
    given(Bytes, Product(factors))
}

const fn kind(word: Word) -> Argument {
    given(Kind, MemcpyKind(word))
}
