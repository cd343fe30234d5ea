//! Launches of kernels and of functions of the host, and kernels that become nodes of a graph.

use super::Row;
use super::build::{
    constant, given, high, low, member, member_4, register, stack, stack_low, word,
};
use crate::function::arguments::Field::{Block, Function, Graph, Grid, SharedBytes, Stream};
use crate::function::arguments::Value::{FirstSet, Triple};
use crate::function::arguments::{Argument, Value};

pub(super) const ROWS: &[Row] = &[
    // cuda.h: (CUfunction, grid x, y, z, block x, y, z, shared memory, CUstream, ..): all but the
    // handles unsigned int.
    (
        &["cuLaunchCooperativeKernel", "cuLaunchKernel"],
        &[
            register(Function, 0),
            given(Grid, Triple([low(1), low(2), low(3)])),
            given(Block, Triple([low(4), low(5), stack_low(0)])),
            word(SharedBytes, stack_low(1)),
            word(Stream, stack(2)),
        ],
    ),
    // cuda.h: (const CUlaunchConfig *, CUfunction, ..): gridDimX 0, gridDimY 4, gridDimZ 8,
    // blockDimX 12, blockDimY 16, blockDimZ 20, sharedMemBytes 24 (4 bytes), hStream 32.
    (
        &["cuLaunchKernelEx"],
        &[
            register(Function, 1),
            given(Grid, Triple([member_4(0, 0), member_4(0, 4), member_4(0, 8)])),
            given(Block, Triple([member_4(0, 12), member_4(0, 16), member_4(0, 20)])),
            word(SharedBytes, member_4(0, 24)),
            word(Stream, member(0, 32)),
        ],
    ),
    // cuda.h: (CUDA_LAUNCH_PARAMS *, ..), one for each device, alike but for the stream: function 0,
    // gridDimX 8, gridDimY 12, gridDimZ 16, blockDimX 20, blockDimY 24, blockDimZ 28,
    // sharedMemBytes 32 (4 bytes).
    (
        &["cuLaunchCooperativeKernelMultiDevice"],
        &[
            word(Function, member(0, 0)),
            given(Grid, Triple([member_4(0, 8), member_4(0, 12), member_4(0, 16)])),
            given(Block, Triple([member_4(0, 20), member_4(0, 24), member_4(0, 28)])),
            word(SharedBytes, member_4(0, 32)),
        ],
    ),
    // cuda.h: (CUfunction, ..); block and shared memory were set by earlier calls.
    (&["cuLaunch"], &[register(Function, 0)]),
    // cuda.h: (CUfunction, int, int, CUstream if asynchronous).
    (
        &["cuLaunchGrid"],
        &[register(Function, 0), given(Grid, Triple([low(1), low(2), constant(1)]))],
    ),
    (
        &["cuLaunchGridAsync"],
        &[
            register(Function, 0),
            given(Grid, Triple([low(1), low(2), constant(1)])),
            register(Stream, 3),
        ],
    ),
    // cuda_runtime_api.h: (const void *, dim3, dim3, void **, size_t, cudaStream_t).
    // crt/device_functions.h: the same with a cudaKernel_t.
    // A dim3 by value takes two registers: x and y in one, z in the next.
    (
        &["cudaLaunchCooperativeKernel", "cudaLaunchKernel"],
        &[
            register(Function, 0),
            given(Grid, Triple([low(1), high(1), low(2)])),
            given(Block, Triple([low(3), high(3), low(4)])),
            word(SharedBytes, stack(0)),
            word(Stream, stack(1)),
        ],
    ),
    // cuda_runtime_api.h: (const cudaLaunchConfig_t *, const void *, ..).
    // driver_types.h, cudaLaunchConfig_t: gridDim 0, blockDim 12, dynamicSmemBytes 24 (8 bytes),
    // stream 32.
    (
        &["cudaLaunchKernelExC"],
        &[
            register(Function, 1),
            given(Grid, Triple([member_4(0, 0), member_4(0, 4), member_4(0, 8)])),
            given(Block, Triple([member_4(0, 12), member_4(0, 16), member_4(0, 20)])),
            word(SharedBytes, member(0, 24)),
            word(Stream, member(0, 32)),
        ],
    ),
    // cuda_runtime_api.h: (cudaLaunchParams *, ..), one for each device, alike but for the stream.
    // driver_types.h, cudaLaunchParams: func 0, gridDim 8, blockDim 20, sharedMem 40 (8 bytes).
    (
        &["cudaLaunchCooperativeKernelMultiDevice"],
        &[
            word(Function, member(0, 0)),
            given(Grid, Triple([member_4(0, 8), member_4(0, 12), member_4(0, 16)])),
            given(Block, Triple([member_4(0, 20), member_4(0, 24), member_4(0, 28)])),
            word(SharedBytes, member(0, 40)),
        ],
    ),
    // cuda.h, cuda_runtime_api.h: (node *out, graph, dependencies, size_t, structure *).
    // cuda.h, CUDA_KERNEL_NODE_PARAMS, and driver_types.h, cudaKernelNodeParams: func 0.
    (&["cuGraphAddKernelNode", "cudaGraphAddKernelNode"], &node(Value::Word(member(4, 0)))),
    // cuda.h, CUDA_KERNEL_NODE_PARAMS_v2: the same, and kern 56 for where func is null.
    (&["cuGraphAddKernelNode_v2"], &node(FirstSet([member(4, 0), member(4, 56)]))),
    // cuda.h, cuda_runtime_api.h: (stream, function of the host, ..).
    (
        &["cuLaunchHostFunc", "cuLaunchHostFunc_v2", "cudaLaunchHostFunc", "cudaLaunchHostFunc_v2"],
        &[register(Stream, 0)],
    ),
];

/// In all versions of the structure: gridDim x, y, z 8, blockDim x, y, z 20, sharedMemBytes 32 (4
/// bytes).
const fn node(function: Value) -> [Argument; 5] {
    [
        given(Function, function),
        given(Grid, Triple([member_4(4, 8), member_4(4, 12), member_4(4, 16)])),
        given(Block, Triple([member_4(4, 20), member_4(4, 24), member_4(4, 28)])),
        word(SharedBytes, member_4(4, 32)),
        register(Graph, 1),
    ]
}
