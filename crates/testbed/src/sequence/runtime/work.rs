//! Launches, captures, events and graphs in the tour of the runtime.

use anyhow::Result;

use crate::sequence::prepared::{KernelNode, RuntimeLaunchConfig, packed};
use crate::sequence::{BLOCK, GRID, SHARED_MEMORY, Tour, host_function_address, text, to};

pub(super) fn launches(tour: &mut Tour<'_>, stream: usize, kernel: usize) -> Result<()> {
    let ([grid, grid_z], [block, block_z]) = (packed(GRID), packed(BLOCK));
    let shared = SHARED_MEMORY as usize;
    let launch = [kernel, grid, grid_z, block, block_z, 0, shared, stream];
    tour.twins("cudaLaunchKernel", "_ptsz", launch)?;
    tour.twins("cudaLaunchCooperativeKernel", "_ptsz", launch)?;
    tour.expect(98, "cudaLaunchKernel", [0, grid, grid_z, block, block_z, 0, shared, stream])?;
    tour.expect(98, "cudaGetLastError", [])?;
    let mut handle = 0_usize;
    tour.ok("__cudaGetKernel", [to(&mut handle), kernel])?;
    tour.twins(
        "__cudaLaunchKernel",
        "_ptsz",
        [handle, grid, grid_z, block, block_z, 0, shared, stream],
    )?;
    let mut config = RuntimeLaunchConfig::new(stream);
    tour.twins("cudaLaunchKernelExC", "_ptsz", [to(&mut config), kernel, 0])?;
    tour.twins("cudaLaunchHostFunc", "_ptsz", [stream, host_function_address(), 0])?;
    let (mut popped_grid, mut popped_block, mut popped_shared, mut popped_stream) =
        ([0_u32; 3], [0_u32; 3], 0_usize, 0_usize);
    tour.ok("__cudaPushCallConfiguration", [grid, grid_z, block, block_z, shared, stream])?;
    let out = [
        to(&mut popped_grid),
        to(&mut popped_block),
        to(&mut popped_shared),
        to(&mut popped_stream),
    ];
    tour.ok("__cudaPopCallConfiguration", out)?;
    if (popped_grid, popped_block, popped_shared, popped_stream) != (GRID, BLOCK, shared, stream) {
        tour.wrong.push(
            "__cudaPopCallConfiguration gave another configuration than was pushed".to_owned(),
        );
    }
    Ok(())
}

pub(super) fn capture(tour: &mut Tour<'_>, stream: usize, kernel: usize) -> Result<()> {
    let (mut graph, mut mode, mut status) = (0_usize, 0_u32, 0_i32);
    let (mut id, mut of, mut nodes, mut edges, mut count) =
        (0_u64, 0_usize, 0_usize, 0_usize, 0_usize);
    let ([grid, grid_z], [block, block_z]) = (packed(GRID), packed(BLOCK));
    tour.ok("cudaThreadExchangeStreamCaptureMode", [to(&mut mode)])?;
    for suffix in ["", "_ptsz"] {
        let name = |name: &str| format!("{name}{suffix}");
        tour.ok(&name("cudaStreamBeginCapture"), [stream, 0])?;
        tour.ok(&name("cudaLaunchKernel"), [kernel, grid, grid_z, block, block_z, 0, 0, stream])?;
        tour.ok(&name("cudaStreamIsCapturing"), [stream, to(&mut status)])?;
        let out = [
            to(&mut status),
            to(&mut id),
            to(&mut of),
            to(&mut nodes),
            to(&mut edges),
            to(&mut count),
        ];
        tour.ok(
            &name("cudaStreamGetCaptureInfo"),
            [stream, out[0], out[1], out[2], out[3], out[4], out[5]],
        )?;
        tour.ok(&name("cudaStreamUpdateCaptureDependencies"), [stream, nodes, 0, count, 0])?;
        tour.ok(&name("cudaStreamEndCapture"), [stream, to(&mut graph)])?;
        tour.ok(&name("cudaStreamBeginCaptureToGraph"), [stream, graph, 0, 0, 0, 0])?;
        tour.ok(&name("cudaStreamEndCapture"), [stream, to(&mut graph)])?;
        tour.ok("cudaGraphDestroy", [graph])?;
    }
    Ok(())
}

pub(super) fn events(tour: &mut Tour<'_>, stream: usize) -> Result<()> {
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

pub(super) fn graphs(tour: &mut Tour<'_>, stream: usize, kernel: usize) -> Result<()> {
    let (mut graph, mut clone, mut node, mut first, mut event) =
        (0_usize, 0_usize, 0_usize, 0_usize, 0_usize);
    let (mut count, mut number, mut from, mut ends) =
        (0_usize, 0_i32, [0_usize; 16], [0_usize; 16]);
    let (mut any, mut what) = ([0_u64; 32], KernelNode::new(kernel));
    tour.ok("cudaEventCreate", [to(&mut event)])?;
    tour.ok("cudaGraphCreate", [to(&mut graph), 0])?;
    tour.ok("cudaGraphAddKernelNode", [to(&mut first), graph, 0, 0, to(&mut what)])?;
    tour.ok("cudaGraphAddMemsetNode", [to(&mut node), graph, 0, 0, to(&mut any)])?;
    tour.ok("cudaGraphAddHostNode", [to(&mut node), graph, 0, 0, to(&mut any)])?;
    tour.ok("cudaGraphAddEmptyNode", [to(&mut node), graph, 0, 0])?;
    tour.ok("cudaGraphAddEventRecordNode", [to(&mut node), graph, 0, 0, event])?;
    tour.ok("cudaGraphAddEventWaitNode", [to(&mut node), graph, 0, 0, event])?;
    tour.ok("cudaGraphClone", [to(&mut clone), graph])?;
    tour.ok("cudaGraphGetNodes", [graph, 0, to(&mut count)])?;
    tour.ok("cudaGraphGetRootNodes", [graph, 0, to(&mut count)])?;
    count = 16;
    tour.ok("cudaGraphGetEdges", [graph, to(&mut from), to(&mut ends), 0, to(&mut count)])?;
    tour.ok("cudaGraphAddDependencies", [graph, to(&mut from), to(&mut ends), 0, 1])?;
    tour.ok("cudaGraphRemoveDependencies", [graph, to(&mut from), to(&mut ends), 0, 1])?;
    tour.ok("cudaGraphNodeGetType", [first, to(&mut number)])?;
    let mut read = KernelNode::new(0);
    tour.ok("cudaGraphKernelNodeGetParams", [first, to(&mut read)])?;
    tour.ok("cudaGraphKernelNodeSetParams", [first, to(&mut what)])?;

    let (mut executable, mut flags, mut parameters, mut result) =
        (0_usize, 0_u64, [0_u64; 8], [0_u64; 4]);
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
    any[0] = 5;
    tour.ok("cudaGraphAddNode", [to(&mut node), graph, 0, 0, 0, to(&mut any)])?;
    tour.ok("cudaGraphDestroyNode", [node])?;
    tour.ok("cudaGraphAddChildGraphNode", [to(&mut node), graph, 0, 0, clone])?;
    tour.ok("cudaGraphDebugDotPrint", [graph, text(c"/dev/null"), 0])?;
    tour.ok("cudaUserObjectCreate", [to(&mut node), 0, host_function_address(), 2, 1])?;
    tour.ok("cudaUserObjectRetain", [node, 1])?;
    tour.ok("cudaUserObjectRelease", [node, 1])?;
    tour.ok("cudaGraphRetainUserObject", [graph, node, 1, 0])?;
    tour.ok("cudaGraphReleaseUserObject", [graph, node, 1])?;
    tour.ok("cudaGraphDestroy", [graph])
}
