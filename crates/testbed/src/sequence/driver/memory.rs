//! Memory, copies and fills in the tour of the driver.

use anyhow::Result;

use crate::sequence::prepared::CopyPlane;
use crate::sequence::{
    ALLOCATION, COPY, IMPOSSIBLE_ALLOCATION, INVALID_VALUE, OUT_OF_MEMORY, PITCHED, PLANE, Tour,
    VIRTUAL, by_value, join, to,
};

pub(super) fn memory(tour: &mut Tour<'_>) -> Result<()> {
    let (mut start, mut pitched, mut managed, mut host) = (0_usize, 0_usize, 0_usize, 0_usize);
    let (mut size, mut base, mut number) = (0_usize, 0_usize, 0_i32);
    tour.ok("cuMemGetInfo_v2", [to(&mut size), to(&mut base)])?;
    tour.ok("cuMemAlloc_v2", [to(&mut start), ALLOCATION])?;
    tour.expect(OUT_OF_MEMORY, "cuMemAlloc_v2", [to(&mut base), IMPOSSIBLE_ALLOCATION])?;
    tour.ok("cuMemAllocPitch_v2", [to(&mut pitched), to(&mut size), PITCHED.0, PITCHED.1, 4])?;
    tour.ok("cuMemFree_v2", [pitched])?;
    tour.expect(INVALID_VALUE, "cuMemFree_v2", [0xbad0])?;
    tour.ok("cuMemGetAddressRange_v2", [to(&mut base), to(&mut size), start + 8])?;

    tour.ok("cuMemAllocManaged", [to(&mut managed), ALLOCATION, 1])?;
    tour.ok("cuMemAdvise", [managed, ALLOCATION, 1, 0])?;
    tour.ok("cuMemAdvise_v2", [managed, ALLOCATION, 1, 1])?;
    tour.twins("cuMemPrefetchAsync", "_ptsz", [managed, ALLOCATION, 0, 0])?;
    tour.twins("cuMemPrefetchAsync_v2", "_ptsz", [managed, ALLOCATION, 1, 0, 0])?;
    tour.ok("cuMemRangeGetAttribute", [to(&mut number), 4, 1, managed, ALLOCATION])?;
    tour.ok("cuMemFree_v2", [managed])?;

    tour.ok("cuMemAllocHost_v2", [to(&mut host), ALLOCATION])?;
    tour.ok("cuMemFreeHost", [host])?;
    tour.ok("cuMemHostAlloc", [to(&mut host), ALLOCATION, 2])?;
    tour.ok("cuMemHostGetDevicePointer_v2", [to(&mut base), host, 0])?;
    tour.ok("cuMemHostGetFlags", [to(&mut number), host])?;
    tour.ok("cuMemFreeHost", [host])?;
    let mut own = vec![0_u8; ALLOCATION];
    tour.ok("cuMemHostRegister_v2", [to(own.as_mut_slice()), ALLOCATION, 0])?;
    tour.ok("cuMemHostUnregister", [to(own.as_mut_slice())])?;

    let mut attributes = [2_i32];
    let mut values = [to(&mut number)];
    tour.ok("cuPointerGetAttribute", [to(&mut number), 2, start])?;
    tour.ok("cuPointerGetAttributes", [1, to(&mut attributes), to(&mut values), start])?;
    tour.ok("cuPointerSetAttribute", [to(&mut number), 6, start])?;

    let (mut handle, mut opened, mut event) = ([0_usize; 8], 0_usize, 0_usize);
    tour.ok("cuIpcGetMemHandle", [to(&mut handle), start])?;
    tour.ok("cuIpcOpenMemHandle_v2", by_value(to(&mut opened), 1, handle))?;
    tour.ok("cuIpcCloseMemHandle", [opened])?;
    tour.ok("cuEventCreate", [to(&mut event), 6])?;
    tour.ok("cuIpcGetEventHandle", [to(&mut handle), event])?;
    tour.ok("cuIpcOpenEventHandle", by_value(to(&mut opened), 0, handle))?;
    tour.handles.device_memory = start;
    Ok(())
}

pub(super) fn virtual_memory(tour: &mut Tour<'_>) -> Result<()> {
    let (mut start, mut handle, mut again, mut granularity, mut flags) =
        (0_usize, 0_usize, 0_usize, 0_usize, 0_u64);
    let mut properties = [1_i32, 0, 1, 0, 0, 0, 0, 0];
    let mut access = [1_i32, 0, 3];
    tour.ok("cuMemGetAllocationGranularity", [to(&mut granularity), to(&mut properties), 0])?;
    tour.ok("cuMemAddressReserve", [to(&mut start), VIRTUAL, 0, 0, 0])?;
    tour.ok("cuMemCreate", [to(&mut handle), VIRTUAL, to(&mut properties), 0])?;
    tour.ok("cuMemGetAllocationPropertiesFromHandle", [to(&mut properties), handle])?;
    tour.ok("cuMemMap", [start, VIRTUAL, 0, handle, 0])?;
    tour.ok("cuMemSetAccess", [start, VIRTUAL, to(&mut access), 1])?;
    tour.ok("cuMemGetAccess", [to(&mut flags), to(&mut access), start])?;
    tour.ok("cuMemRetainAllocationHandle", [to(&mut again), start])?;
    tour.ok("cuMemRelease", [again])?;
    tour.ok("cuMemUnmap", [start, VIRTUAL])?;
    tour.ok("cuMemRelease", [handle])?;
    tour.ok("cuMemAddressFree", [start, VIRTUAL])
}

pub(super) fn pools(tour: &mut Tour<'_>, stream: usize) -> Result<()> {
    let (mut pool, mut start, mut threshold, mut flags) = (0_usize, 0_usize, 0_u64, 0_i32);
    let mut properties = [1_i32; 32];
    tour.ok("cuMemPoolCreate", [to(&mut pool), to(&mut properties)])?;
    tour.ok("cuMemPoolSetAttribute", [pool, 4, to(&mut threshold)])?;
    tour.ok("cuMemPoolGetAttribute", [pool, 4, to(&mut threshold)])?;
    tour.ok("cuMemPoolSetAccess", [pool, to(&mut properties), 1])?;
    tour.ok("cuMemPoolGetAccess", [to(&mut flags), pool, to(&mut properties)])?;
    for suffix in ["", "_ptsz"] {
        tour.ok(&format!("cuMemAllocAsync{suffix}"), [to(&mut start), ALLOCATION, stream])?;
        tour.ok(&format!("cuMemFreeAsync{suffix}"), [start, stream])?;
        tour.ok(
            &format!("cuMemAllocFromPoolAsync{suffix}"),
            [to(&mut start), ALLOCATION, pool, stream],
        )?;
        tour.ok(&format!("cuMemFreeAsync{suffix}"), [start, stream])?;
    }
    tour.ok("cuMemPoolTrimTo", [pool, 0])?;
    tour.ok("cuMemPoolDestroy", [pool])
}

pub(super) fn copies(tour: &mut Tour<'_>, stream: usize) -> Result<()> {
    let device = tour.handles.device_memory;
    let mut host = vec![0_u8; COPY];
    let host = to(host.as_mut_slice());
    let mut context = 0_usize;
    tour.ok("cuCtxGetCurrent", [to(&mut context)])?;
    tour.twins("cuMemcpy", "_ptds", [device, host, COPY])?;
    tour.twins("cuMemcpyAsync", "_ptsz", [device, host, COPY, stream])?;
    tour.twins("cuMemcpyPeer", "_ptds", [device, context, device, context, COPY])?;
    tour.twins("cuMemcpyPeerAsync", "_ptsz", [device, context, device, context, COPY, stream])?;
    tour.twins("cuMemcpyHtoD_v2", "_ptds", [device, host, COPY])?;
    tour.twins("cuMemcpyDtoH_v2", "_ptds", [host, device, COPY])?;
    tour.twins("cuMemcpyDtoD_v2", "_ptds", [device, device, COPY])?;
    tour.twins("cuMemcpyHtoDAsync_v2", "_ptsz", [device, host, COPY, stream])?;
    tour.twins("cuMemcpyDtoHAsync_v2", "_ptsz", [host, device, COPY, stream])?;
    tour.twins("cuMemcpyDtoDAsync_v2", "_ptsz", [device, device, COPY, stream])?;
    let mut plane = CopyPlane::new(device, host);
    tour.twins("cuMemcpy2D_v2", "_ptds", [to(&mut plane)])?;
    tour.twins("cuMemcpy2DUnaligned_v2", "_ptds", [to(&mut plane)])?;
    tour.twins("cuMemcpy2DAsync_v2", "_ptsz", [to(&mut plane), stream])?;
    // Larger than any of the three-dimensional descriptions.
    let mut solid = [0_u64; 64];
    tour.twins("cuMemcpy3D_v2", "_ptds", [to(&mut solid)])?;
    tour.twins("cuMemcpy3DAsync_v2", "_ptsz", [to(&mut solid), stream])?;
    tour.twins("cuMemcpy3DPeer", "_ptds", [to(&mut solid)])?;
    tour.twins("cuMemcpy3DPeerAsync", "_ptsz", [to(&mut solid), stream])?;
    let (mut targets, mut sources, mut sizes) = ([device], [host], [COPY]);
    let (mut attributes, mut index, mut failed) = ([0_u64; 4], [0_usize], 0_usize);
    let batch = [
        to(&mut targets),
        to(&mut sources),
        to(&mut sizes),
        1,
        to(&mut attributes),
        to(&mut index),
        1,
    ];
    tour.twins("cuMemcpyBatchAsync", "_ptsz", join::<9>(&batch, &[to(&mut failed), stream]))?;
    tour.twins("cuMemcpyBatchAsync_v2", "_ptsz", join::<8>(&batch, &[stream]))
}

pub(super) fn fills(tour: &mut Tour<'_>, stream: usize) -> Result<()> {
    let device = tour.handles.device_memory;
    for (name, bytes) in [("8", 1), ("16", 2), ("32", 4)] {
        tour.twins(&format!("cuMemsetD{name}_v2"), "_ptds", [device, 7, COPY / bytes])?;
        tour.twins(&format!("cuMemsetD{name}Async"), "_ptsz", [device, 7, COPY / bytes, stream])?;
        tour.twins(
            &format!("cuMemsetD2D{name}_v2"),
            "_ptds",
            [device, 512, 7, PLANE.0 / bytes, PLANE.1],
        )?;
        tour.twins(
            &format!("cuMemsetD2D{name}Async"),
            "_ptsz",
            [device, 512, 7, PLANE.0 / bytes, PLANE.1, stream],
        )?;
    }
    tour.twins("cuStreamWriteValue32_v2", "_ptsz", [stream, device, 1, 0])?;
    tour.twins("cuStreamWriteValue64_v2", "_ptsz", [stream, device, 1, 0])?;
    tour.twins("cuStreamWaitValue32_v2", "_ptsz", [stream, device, 1, 0])?;
    tour.twins("cuStreamWaitValue64_v2", "_ptsz", [stream, device, 1, 0])?;
    let mut operations = [0_u64; 6];
    tour.twins("cuStreamBatchMemOp_v2", "_ptsz", [stream, 1, to(&mut operations), 0])
}
