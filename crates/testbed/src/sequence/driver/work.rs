//! Launches, captures, events and graphs in the tour of the driver.

use anyhow::Result;

use crate::sequence::prepared::{KernelNode, LaunchConfig};
use crate::sequence::{BLOCK, GRID, SHARED_MEMORY, Tour, host_function_address, text, to};

pub(super) fn launches(tour: &mut Tour<'_>, stream: usize, kernel: usize) -> Result<()> {
    let [gx, gy, gz] = GRID.map(|size| size as usize);
    let [bx, by, bz] = BLOCK.map(|size| size as usize);
    let shared = SHARED_MEMORY as usize;
    tour.twins("cuLaunchKernel", "_ptsz", [kernel, gx, gy, gz, bx, by, bz, shared, stream, 0, 0])?;
    tour.twins(
        "cuLaunchCooperativeKernel",
        "_ptsz",
        [kernel, gx, gy, gz, bx, by, bz, shared, stream, 0],
    )?;
    let mut config = LaunchConfig::new(stream);
    tour.twins("cuLaunchKernelEx", "_ptsz", [to(&mut config), kernel, 0, 0])?;
    tour.twins("cuLaunchHostFunc", "_ptsz", [stream, host_function_address(), 0])?;
    tour.ok("cuProfilerStart", [])?;
    tour.ok("cuProfilerStop", [])
}

pub(super) fn capture(tour: &mut Tour<'_>, stream: usize, kernel: usize) -> Result<()> {
    let (mut graph, mut mode, mut status) = (0_usize, 0_u32, 0_i32);
    let (mut id, mut of, mut nodes, mut edges, mut count) =
        (0_u64, 0_usize, 0_usize, 0_usize, 0_usize);
    let mut config = LaunchConfig::new(stream);
    tour.ok("cuThreadExchangeStreamCaptureMode", [to(&mut mode)])?;
    for suffix in ["", "_ptsz"] {
        let name = |name: &str| format!("{name}{suffix}");
        tour.ok(&name("cuStreamBeginCapture_v2"), [stream, 0])?;
        tour.ok(&name("cuLaunchKernelEx"), [to(&mut config), kernel, 0, 0])?;
        tour.ok(&name("cuStreamIsCapturing"), [stream, to(&mut status)])?;
        let out = [to(&mut status), to(&mut id), to(&mut of), to(&mut nodes)];
        tour.ok(
            &name("cuStreamGetCaptureInfo_v2"),
            [stream, out[0], out[1], out[2], out[3], to(&mut count)],
        )?;
        let ends = [to(&mut edges), to(&mut count)];
        tour.ok(
            &name("cuStreamGetCaptureInfo_v3"),
            [stream, out[0], out[1], out[2], out[3], ends[0], ends[1]],
        )?;
        tour.ok(&name("cuStreamUpdateCaptureDependencies"), [stream, nodes, count, 0])?;
        tour.ok(&name("cuStreamUpdateCaptureDependencies_v2"), [stream, nodes, 0, count, 0])?;
        tour.ok(&name("cuStreamEndCapture"), [stream, to(&mut graph)])?;
        tour.ok(&name("cuStreamBeginCaptureToGraph"), [stream, graph, 0, 0, 0, 0])?;
        tour.ok(&name("cuStreamEndCapture"), [stream, to(&mut graph)])?;
        tour.ok("cuGraphDestroy", [graph])?;
    }
    Ok(())
}

pub(super) fn events(tour: &mut Tour<'_>, stream: usize) -> Result<()> {
    let (mut start, mut end, mut milliseconds) = (0_usize, 0_usize, 0_f32);
    tour.ok("cuEventCreate", [to(&mut start), 0])?;
    tour.ok("cuEventCreate", [to(&mut end), 0])?;
    tour.twins("cuEventRecord", "_ptsz", [start, stream])?;
    tour.twins("cuEventRecordWithFlags", "_ptsz", [end, stream, 0])?;
    tour.twins("cuStreamWaitEvent", "_ptsz", [stream, end, 0])?;
    tour.ok("cuEventSynchronize", [end])?;
    tour.ok("cuEventQuery", [end])?;
    tour.ok("cuEventElapsedTime", [to(&mut milliseconds), start, end])?;
    tour.ok("cuEventElapsedTime_v2", [to(&mut milliseconds), start, end])?;
    tour.ok("cuEventDestroy_v2", [start])?;
    tour.ok("cuEventDestroy_v2", [end])
}

pub(super) fn graphs(tour: &mut Tour<'_>, stream: usize, kernel: usize) -> Result<()> {
    let (mut graph, mut clone, mut node, mut first, mut event) =
        (0_usize, 0_usize, 0_usize, 0_usize, 0_usize);
    let (mut count, mut number, mut from, mut ends) =
        (0_usize, 0_i32, [0_usize; 16], [0_usize; 16]);
    let mut any = [0_u64; 32];
    let mut what = KernelNode::new(kernel);
    tour.ok("cuEventCreate", [to(&mut event), 0])?;
    tour.ok("cuGraphCreate", [to(&mut graph), 0])?;
    tour.ok("cuGraphAddKernelNode_v2", [to(&mut first), graph, 0, 0, to(&mut what)])?;
    tour.ok("cuGraphAddMemcpyNode", [to(&mut node), graph, 0, 0, to(&mut any), 0])?;
    tour.ok("cuGraphAddMemsetNode", [to(&mut node), graph, 0, 0, to(&mut any), 0])?;
    tour.ok("cuGraphAddHostNode", [to(&mut node), graph, 0, 0, to(&mut any)])?;
    tour.ok("cuGraphAddEmptyNode", [to(&mut node), graph, 0, 0])?;
    tour.ok("cuGraphAddEventRecordNode", [to(&mut node), graph, 0, 0, event])?;
    tour.ok("cuGraphAddEventWaitNode", [to(&mut node), graph, 0, 0, event])?;
    tour.ok("cuGraphClone", [to(&mut clone), graph])?;
    tour.ok("cuGraphInstantiateWithFlags", [to(&mut node), clone, 0])?;
    tour.ok("cuGraphLaunch", [node, stream])?;
    tour.ok("cuGraphExecDestroy", [node])?;
    tour.ok("cuGraphGetNodes", [graph, 0, to(&mut count)])?;
    tour.ok("cuGraphGetRootNodes", [graph, 0, to(&mut count)])?;
    count = 16;
    tour.ok("cuGraphGetEdges", [graph, to(&mut from), to(&mut ends), to(&mut count)])?;
    count = 16;
    tour.ok("cuGraphGetEdges_v2", [graph, to(&mut from), to(&mut ends), 0, to(&mut count)])?;
    tour.ok("cuGraphAddDependencies", [graph, to(&mut from), to(&mut ends), 1])?;
    tour.ok("cuGraphAddDependencies_v2", [graph, to(&mut from), to(&mut ends), 0, 1])?;
    tour.ok("cuGraphRemoveDependencies", [graph, to(&mut from), to(&mut ends), 1])?;
    tour.ok("cuGraphRemoveDependencies_v2", [graph, to(&mut from), to(&mut ends), 0, 1])?;
    tour.ok("cuGraphNodeGetType", [first, to(&mut number)])?;
    tour.ok("cuGraphKernelNodeGetParams_v2", [first, to(&mut what)])?;
    tour.ok("cuGraphKernelNodeSetParams_v2", [first, to(&mut what)])?;
    executable_graphs(tour, graph, first, stream)?;
    // An empty node, in the first word of what a node is made from.
    any[0] = 5;
    tour.ok("cuGraphAddNode", [to(&mut node), graph, 0, 0, to(&mut any)])?;
    tour.ok("cuGraphAddNode_v2", [to(&mut node), graph, 0, 0, 0, to(&mut any)])?;
    tour.ok("cuGraphDestroyNode", [node])?;
    tour.ok("cuGraphAddChildGraphNode", [to(&mut node), graph, 0, 0, clone])?;
    tour.ok("cuGraphInstantiateWithFlags", [to(&mut node), graph, 0])?;
    tour.ok("cuGraphLaunch", [node, stream])?;
    tour.ok("cuGraphExecDestroy", [node])?;
    tour.ok("cuGraphDebugDotPrint", [graph, text(c"/dev/null"), 0])?;
    tour.ok("cuUserObjectCreate", [to(&mut node), 0, host_function_address(), 2, 1])?;
    tour.ok("cuUserObjectRetain", [node, 1])?;
    tour.ok("cuUserObjectRelease", [node, 1])?;
    tour.ok("cuGraphRetainUserObject", [graph, node, 1, 0])?;
    tour.ok("cuGraphReleaseUserObject", [graph, node, 1])?;
    tour.ok("cuGraphDestroy", [graph])
}

fn executable_graphs(tour: &mut Tour<'_>, graph: usize, node: usize, stream: usize) -> Result<()> {
    let (mut executable, mut flags, mut parameters, mut result) =
        (0_usize, 0_u64, [0_u64; 8], [0_u64; 4]);
    let mut what = KernelNode::new(tour.handles.driver_kernel);
    tour.ok("cuGraphInstantiateWithFlags", [to(&mut executable), graph, 0])?;
    tour.twins("cuGraphUpload", "_ptsz", [executable, stream])?;
    tour.twins("cuGraphLaunch", "_ptsz", [executable, stream])?;
    tour.ok("cuGraphExecUpdate_v2", [executable, graph, to(&mut result)])?;
    tour.ok("cuGraphExecKernelNodeSetParams_v2", [executable, node, to(&mut what)])?;
    tour.ok("cuGraphExecGetFlags", [executable, to(&mut flags)])?;
    tour.ok("cuGraphExecDestroy", [executable])?;
    for suffix in ["", "_ptsz"] {
        let arguments = [to(&mut executable), graph, to(&mut parameters)];
        tour.ok(&format!("cuGraphInstantiateWithParams{suffix}"), arguments)?;
        tour.ok("cuGraphExecDestroy", [executable])?;
    }
    Ok(())
}

#[repr(align(64))]
struct TensorMap([u64; 16]);

pub(super) fn tensor_maps(tour: &mut Tour<'_>) -> Result<()> {
    let device = tour.handles.device_memory;
    let mut map = TensorMap([0; 16]);
    let (mut sizes, mut strides, mut tile, mut steps) =
        ([64_u64, 32], [128_u64], [16_u32, 8], [1_u32, 1]);
    let shape = [to(&mut sizes), to(&mut strides), to(&mut tile), to(&mut steps)];
    tour.ok(
        "cuTensorMapEncodeTiled",
        [to(&mut map.0), 6, 2, device, shape[0], shape[1], shape[2], shape[3], 0, 0, 0, 0],
    )?;
    tour.ok("cuTensorMapReplaceAddress", [to(&mut map.0), device])
}
