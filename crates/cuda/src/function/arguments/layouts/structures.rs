//! Copies that a structure describes. Addresses are those of its members, without the offsets x,
//! y, z that it has besides.

use super::Row;
use super::build::{direction, given, member, member_4, register, word};
use crate::function::arguments::Direction::DeviceToDevice;
use crate::function::arguments::Field::{Bytes, Destination, Kind, Source, Stream};
use crate::function::arguments::Value::{Located, MemcpyKind, MemoryTypes, Product, Volume};
use crate::function::arguments::{Argument, Field, Word};

const STREAM: Argument = register(Stream, 1);

pub(super) const ROWS: &[Row] = &[
    // cuda.h: (const CUDA_MEMCPY2D *, CUstream if asynchronous).
    (&["cuMemcpy2D_v2"], &[PLANE.bytes, PLANE.kind, PLANE.destination, PLANE.source]),
    (&["cuMemcpy2DAsync_v2"], &[PLANE.bytes, PLANE.kind, PLANE.destination, PLANE.source, STREAM]),
    // cuda.h: (const CUDA_MEMCPY2D_v1 *, CUstream if asynchronous).
    (&["cuMemcpy2D"], &[OLD_PLANE.bytes, OLD_PLANE.kind, OLD_PLANE.destination, OLD_PLANE.source]),
    (
        &["cuMemcpy2DAsync"],
        &[OLD_PLANE.bytes, OLD_PLANE.kind, OLD_PLANE.destination, OLD_PLANE.source, STREAM],
    ),
    // cuda.h: (const CUDA_MEMCPY3D *, CUstream if asynchronous); (const CUDA_MEMCPY3D_PEER *, ..).
    (
        &["cuMemcpy3DPeer", "cuMemcpy3D_v2"],
        &[VOLUME.bytes, VOLUME.kind, VOLUME.destination, VOLUME.source],
    ),
    (
        &["cuMemcpy3DAsync_v2", "cuMemcpy3DPeerAsync"],
        &[VOLUME.bytes, VOLUME.kind, VOLUME.destination, VOLUME.source, STREAM],
    ),
    // cuda.h: (const CUDA_MEMCPY3D_v1 *, CUstream if asynchronous).
    (
        &["cuMemcpy3D"],
        &[OLD_VOLUME.bytes, OLD_VOLUME.kind, OLD_VOLUME.destination, OLD_VOLUME.source],
    ),
    (
        &["cuMemcpy3DAsync"],
        &[OLD_VOLUME.bytes, OLD_VOLUME.kind, OLD_VOLUME.destination, OLD_VOLUME.source, STREAM],
    ),
    // cuda_runtime_api.h: (const cudaMemcpy3DParms *, cudaStream_t if asynchronous).
    (
        &["cudaMemcpy3D"],
        &[
            RUNTIME_VOLUME.bytes,
            RUNTIME_VOLUME.kind,
            RUNTIME_VOLUME.destination,
            RUNTIME_VOLUME.source,
        ],
    ),
    (
        &["cudaMemcpy3DAsync"],
        &[
            RUNTIME_VOLUME.bytes,
            RUNTIME_VOLUME.kind,
            RUNTIME_VOLUME.destination,
            RUNTIME_VOLUME.source,
            STREAM,
        ],
    ),
    // cuda_runtime_api.h: (const cudaMemcpy3DPeerParms *, cudaStream_t if asynchronous).
    (
        &["cudaMemcpy3DPeer"],
        &[RUNTIME_PEER.bytes, RUNTIME_PEER.kind, RUNTIME_PEER.destination, RUNTIME_PEER.source],
    ),
    (
        &["cudaMemcpy3DPeerAsync"],
        &[
            RUNTIME_PEER.bytes,
            RUNTIME_PEER.kind,
            RUNTIME_PEER.destination,
            RUNTIME_PEER.source,
            STREAM,
        ],
    ),
    // cuda.h, cuda_runtime_api.h: (CUDA_MEMCPY3D_BATCH_OP or cudaMemcpy3DBatchOp *, unsigned long
    // long, stream). What the operands are, and the unit of the extent, depends on their types.
    (&["cuMemcpy3DWithAttributesAsync", "cudaMemcpy3DWithAttributesAsync"], &[register(Stream, 2)]),
];

/// The fields of a copy that a structure describes.
struct Described {
    bytes: Argument,
    kind: Argument,
    destination: Argument,
    source: Argument,
}

/// cuda.h, CUDA_MEMCPY2D: srcMemoryType 16, srcHost 24, srcDevice 32, dstMemoryType 72, dstHost 80,
/// dstDevice 88, WidthInBytes 112, Height 120.
const PLANE: Described = Described {
    bytes: given(Bytes, Product(&[member(0, 112), member(0, 120)])),
    kind: kind(16, 72),
    destination: located(Destination, 72, member(0, 80), member(0, 88)),
    source: located(Source, 16, member(0, 24), member(0, 32)),
};

/// cuda.h, CUDA_MEMCPY2D_v1: srcMemoryType 8, srcHost 16, srcDevice 24, dstMemoryType 52, dstHost
/// 56, dstDevice 64, WidthInBytes 84, Height 88. Sizes and addresses of devices have 4 bytes.
const OLD_PLANE: Described = Described {
    bytes: given(Bytes, Product(&[member_4(0, 84), member_4(0, 88)])),
    kind: kind(8, 52),
    destination: located(Destination, 52, member(0, 56), member_4(0, 64)),
    source: located(Source, 8, member(0, 16), member_4(0, 24)),
};

/// cuda.h, CUDA_MEMCPY3D and CUDA_MEMCPY3D_PEER: srcMemoryType 32, srcHost 40, srcDevice 48,
/// dstMemoryType 120, dstHost 128, dstDevice 136, WidthInBytes 176, Height 184, Depth 192.
const VOLUME: Described = Described {
    bytes: given(Bytes, Product(&[member(0, 176), member(0, 184), member(0, 192)])),
    kind: kind(32, 120),
    destination: located(Destination, 120, member(0, 128), member(0, 136)),
    source: located(Source, 32, member(0, 40), member(0, 48)),
};

/// cuda.h, CUDA_MEMCPY3D_v1: srcMemoryType 16, srcHost 24, srcDevice 32, dstMemoryType 80, dstHost
/// 88, dstDevice 96, WidthInBytes 128, Height 132, Depth 136. Sizes and addresses of devices have 4
/// bytes.
const OLD_VOLUME: Described = Described {
    bytes: given(Bytes, Product(&[member_4(0, 128), member_4(0, 132), member_4(0, 136)])),
    kind: kind(16, 80),
    destination: located(Destination, 80, member(0, 88), member_4(0, 96)),
    source: located(Source, 16, member(0, 24), member_4(0, 32)),
};

/// driver_types.h, cudaMemcpy3DParms: srcArray 0, srcPtr.ptr 32, dstArray 64, dstPtr.ptr 96, extent
/// 128, kind 152.
const RUNTIME_VOLUME: Described = Described {
    bytes: extent(128, [0, 64]),
    kind: given(Kind, MemcpyKind(member_4(0, 152))),
    destination: word(Destination, member(0, 96)),
    source: word(Source, member(0, 32)),
};

/// driver_types.h, cudaMemcpy3DPeerParms: srcArray 0, srcPtr.ptr 32, dstArray 72, dstPtr.ptr 104,
/// extent 144.
const RUNTIME_PEER: Described = Described {
    bytes: extent(144, [0, 72]),
    kind: direction(DeviceToDevice),
    destination: word(Destination, member(0, 104)),
    source: word(Source, member(0, 32)),
};

const fn kind(source: u8, destination: u8) -> Argument {
    let (source, destination) = (member_4(0, source), member_4(0, destination));
    given(Kind, MemoryTypes { source, destination })
}

const fn located(field: Field, memory_type: u8, host: Word, device: Word) -> Argument {
    given(field, Located { memory_type: member_4(0, memory_type), host, device })
}

/// A `cudaExtent`, and the arrays that a copy may be of.
const fn extent(offset: u8, arrays: [u8; 2]) -> Argument {
    given(
        Bytes,
        Volume {
            extent: [member(0, offset), member(0, offset + 8), member(0, offset + 16)],
            arrays: [member(0, arrays[0]), member(0, arrays[1])],
        },
    )
}
