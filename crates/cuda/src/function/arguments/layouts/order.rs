//! Graphs, streams and events: what runs in which order.

use super::Row;
use super::build::{low, register, result, word};
use crate::function::arguments::Field::{Count, Event, Graph, GraphExec, Pointer, Stream};

pub(super) const ROWS: &[Row] = &[
    // cuda.h, cuda_runtime_api.h: (graph *out, ..). Of a clone the new graph, not the old one.
    (&["cuGraphClone", "cuGraphCreate", "cudaGraphClone", "cudaGraphCreate"], &[result(Graph, 0)]),
    // cuda.h, cuda_runtime_api.h: (graph).
    (&["cuGraphDestroy", "cudaGraphDestroy"], &[register(Graph, 0)]),
    // cuda.h, cuda_runtime_api.h: (node or handle *out, graph, ..) in all versions.
    (
        &[
            "cuGraphAddChildGraphNode",
            "cuGraphAddNode",
            "cuGraphAddNode_v2",
            "cuGraphAddNode_v3",
            "cudaGraphAddChildGraphNode",
            "cudaGraphAddNode",
            "cudaGraphAddNode_v2",
            "cuGraphConditionalHandleCreate",
            "cudaGraphConditionalHandleCreate",
            "cudaGraphConditionalHandleCreate_v2",
        ],
        &[register(Graph, 1)],
    ),
    // cuda.h, cuda_runtime_api.h: (executable graph *out, graph, ..) in all versions.
    (
        &[
            "cuGraphInstantiate",
            "cuGraphInstantiateWithFlags",
            "cuGraphInstantiateWithParams",
            "cuGraphInstantiate_v2",
            "cudaGraphInstantiate",
            "cudaGraphInstantiateWithFlags",
            "cudaGraphInstantiateWithParams",
        ],
        &[register(Graph, 1), result(GraphExec, 0)],
    ),
    // cuda.h, cuda_runtime_api.h: (executable graph, graph, ..) in all versions.
    (
        &["cuGraphExecUpdate", "cuGraphExecUpdate_v2", "cudaGraphExecUpdate"],
        &[register(Graph, 1), register(GraphExec, 0)],
    ),
    // cuda.h, cuda_runtime_api.h: (executable graph).
    (&["cuGraphExecDestroy", "cudaGraphExecDestroy"], &[register(GraphExec, 0)]),
    // cuda.h, cuda_runtime_api.h: (executable graph, stream).
    (
        &["cuGraphLaunch", "cuGraphUpload", "cudaGraphLaunch", "cudaGraphUpload"],
        &[register(GraphExec, 0), register(Stream, 1)],
    ),
    // cuda.h, cuda_runtime_api.h: (stream, ..).
    (
        &[
            "cuStreamAddCallback",
            "cuStreamBeginCapture",
            "cuStreamBeginCaptureToCig",
            "cuStreamBeginCapture_v2",
            "cuStreamDestroy",
            "cuStreamDestroy_v2",
            "cuStreamEndCaptureToCig",
            "cuStreamQuery",
            "cuStreamSynchronize",
            "cudaStreamAddCallback",
            "cudaStreamBeginCapture",
            "cudaStreamDestroy",
            "cudaStreamQuery",
            "cudaStreamSynchronize",
        ],
        &[register(Stream, 0)],
    ),
    // cuda.h, cuda_runtime_api.h: (stream *out, ..).
    (
        &[
            "cuGreenCtxStreamCreate",
            "cuStreamCreate",
            "cuStreamCreateWithPriority",
            "cudaExecutionCtxStreamCreate",
            "cudaStreamCreate",
            "cudaStreamCreateWithFlags",
            "cudaStreamCreateWithPriority",
        ],
        &[result(Stream, 0)],
    ),
    // cuda.h, cuda_runtime_api.h: (stream, graph, ..).
    (
        &["cuStreamBeginCaptureToGraph", "cudaStreamBeginCaptureToGraph"],
        &[register(Graph, 1), register(Stream, 0)],
    ),
    // cuda.h, cuda_runtime_api.h: (stream, mode, graph, ..).
    (
        &["cuStreamBeginRecaptureToGraph", "cudaStreamBeginRecaptureToGraph"],
        &[register(Graph, 2), register(Stream, 0)],
    ),
    // cuda.h, cuda_runtime_api.h: (stream, graph *out).
    (&["cuStreamEndCapture", "cudaStreamEndCapture"], &[result(Graph, 1), register(Stream, 0)]),
    // cuda.h: (CUstream, CUdeviceptr, ..).
    (
        &[
            "cuStreamWaitValue32",
            "cuStreamWaitValue32_v2",
            "cuStreamWaitValue64",
            "cuStreamWaitValue64_v2",
            "cuStreamWriteValue32",
            "cuStreamWriteValue32_v2",
            "cuStreamWriteValue64",
            "cuStreamWriteValue64_v2",
        ],
        &[register(Pointer, 1), register(Stream, 0)],
    ),
    // cuda.h: (CUstream, unsigned int count, ..).
    (&["cuStreamBatchMemOp", "cuStreamBatchMemOp_v2"], &[word(Count, low(1)), register(Stream, 0)]),
    // cuda.h, cuda_runtime_api.h: (stream, event, ..).
    (&["cuStreamWaitEvent", "cudaStreamWaitEvent"], &[register(Event, 1), register(Stream, 0)]),
    // cuda.h, cuda_runtime_api.h: (event *out, ..); of a shared one the handle is on the stack.
    (
        &[
            "cuEventCreate",
            "cuIpcOpenEventHandle",
            "cudaEventCreate",
            "cudaEventCreateWithFlags",
            "cudaIpcOpenEventHandle",
        ],
        &[result(Event, 0)],
    ),
    // cuda.h, cuda_runtime_api.h: (event).
    (
        &[
            "cuEventDestroy",
            "cuEventDestroy_v2",
            "cuEventQuery",
            "cuEventSynchronize",
            "cudaEventDestroy",
            "cudaEventQuery",
            "cudaEventSynchronize",
        ],
        &[register(Event, 0)],
    ),
    // cuda.h, cuda_runtime_api.h: (event, stream, ..).
    (
        &["cuEventRecord", "cuEventRecordWithFlags", "cudaEventRecord", "cudaEventRecordWithFlags"],
        &[register(Event, 0), register(Stream, 1)],
    ),
    // cuda.h, cuda_runtime_api.h: (float *out, start, end): the end.
    (
        &[
            "cuEventElapsedTime",
            "cuEventElapsedTime_v2",
            "cudaEventElapsedTime",
            "cudaEventElapsedTime_v2",
        ],
        &[register(Event, 2)],
    ),
    // cuda.h, cuda_runtime_api.h: (context, event); (handle *out, event).
    (
        &[
            "cuCtxRecordEvent",
            "cuCtxWaitEvent",
            "cuGreenCtxRecordEvent",
            "cuGreenCtxWaitEvent",
            "cuIpcGetEventHandle",
            "cudaExecutionCtxRecordEvent",
            "cudaExecutionCtxWaitEvent",
            "cudaIpcGetEventHandle",
        ],
        &[register(Event, 1)],
    ),
];
