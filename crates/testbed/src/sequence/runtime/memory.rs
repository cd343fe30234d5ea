//! Memory, copies and fills in the tour of the runtime.

use anyhow::Result;

use crate::sequence::{
    ALLOCATION, COPY, IMPOSSIBLE_ALLOCATION, INVALID_VALUE, OUT_OF_MEMORY, PITCHED, PLANE, Tour,
    by_value, to,
};

pub(super) fn memory(tour: &mut Tour<'_>) -> Result<usize> {
    let (mut start, mut pitched, mut managed, mut host) = (0_usize, 0_usize, 0_usize, 0_usize);
    let (mut size, mut base, mut number, mut attributes) = (0_usize, 0_usize, 0_i32, [0_usize; 4]);
    tour.ok("cudaMemGetInfo", [to(&mut size), to(&mut base)])?;
    tour.ok("cudaMalloc", [to(&mut start), ALLOCATION])?;
    tour.expect(OUT_OF_MEMORY, "cudaMalloc", [to(&mut base), IMPOSSIBLE_ALLOCATION])?;
    tour.expect(OUT_OF_MEMORY, "cudaGetLastError", [])?;
    tour.expect(INVALID_VALUE, "cudaFree", [0xbad0])?;
    tour.expect(INVALID_VALUE, "cudaGetLastError", [])?;
    tour.ok("cudaMallocPitch", [to(&mut pitched), to(&mut size), PITCHED.0, PITCHED.1])?;
    tour.ok("cudaFree", [pitched])?;
    tour.ok("cudaMallocManaged", [to(&mut managed), ALLOCATION, 1])?;
    tour.ok("cudaMemAdvise", [managed, ALLOCATION, 1, 1])?;
    tour.twins("cudaMemPrefetchAsync", "_ptsz", [managed, ALLOCATION, 1, 0, 0])?;
    tour.ok("cudaMemRangeGetAttribute", [to(&mut number), 4, 1, managed, ALLOCATION])?;
    tour.ok("cudaFree", [managed])?;
    tour.ok("cudaMallocHost", [to(&mut host), ALLOCATION])?;
    tour.ok("cudaFreeHost", [host])?;
    tour.ok("cudaHostAlloc", [to(&mut host), ALLOCATION, 2])?;
    tour.ok("cudaHostGetDevicePointer", [to(&mut base), host, 0])?;
    tour.ok("cudaHostGetFlags", [to(&mut number), host])?;
    tour.ok("cudaFreeHost", [host])?;
    let mut own = vec![0_u8; ALLOCATION];
    tour.ok("cudaHostRegister", [to(own.as_mut_slice()), ALLOCATION, 0])?;
    tour.ok("cudaHostUnregister", [to(own.as_mut_slice())])?;
    tour.ok("cudaPointerGetAttributes", [to(&mut attributes), start])?;

    let (mut handle, mut opened, mut event) = ([0_usize; 8], 0_usize, 0_usize);
    tour.ok("cudaIpcGetMemHandle", [to(&mut handle), start])?;
    tour.ok("cudaIpcOpenMemHandle", by_value(to(&mut opened), 1, handle))?;
    tour.ok("cudaIpcCloseMemHandle", [opened])?;
    tour.ok("cudaEventCreateWithFlags", [to(&mut event), 6])?;
    tour.ok("cudaIpcGetEventHandle", [to(&mut handle), event])?;
    tour.ok("cudaIpcOpenEventHandle", by_value(to(&mut opened), 0, handle))?;
    tour.handles.runtime_device_memory = start;
    Ok(start)
}

pub(super) fn pools(tour: &mut Tour<'_>, stream: usize) -> Result<()> {
    let (mut pool, mut start, mut threshold, mut flags) = (0_usize, 0_usize, 0_u64, 0_i32);
    let mut properties = [1_i32; 32];
    tour.ok("cudaMemPoolCreate", [to(&mut pool), to(&mut properties)])?;
    tour.ok("cudaMemPoolSetAttribute", [pool, 4, to(&mut threshold)])?;
    tour.ok("cudaMemPoolGetAttribute", [pool, 4, to(&mut threshold)])?;
    tour.ok("cudaMemPoolSetAccess", [pool, to(&mut properties), 1])?;
    tour.ok("cudaMemPoolGetAccess", [to(&mut flags), pool, to(&mut properties)])?;
    for suffix in ["", "_ptsz"] {
        tour.ok(&format!("cudaMallocAsync{suffix}"), [to(&mut start), ALLOCATION, stream])?;
        tour.ok(&format!("cudaFreeAsync{suffix}"), [start, stream])?;
        tour.ok(
            &format!("cudaMallocFromPoolAsync{suffix}"),
            [to(&mut start), ALLOCATION, pool, stream],
        )?;
        tour.ok(&format!("cudaFreeAsync{suffix}"), [start, stream])?;
    }
    tour.ok("cudaMemPoolTrimTo", [pool, 0])?;
    tour.ok("cudaMemPoolDestroy", [pool])
}

pub(super) fn copies(tour: &mut Tour<'_>, stream: usize, device: usize) -> Result<()> {
    let variable = super::variable();
    let mut host = vec![0_u8; COPY];
    let host = to(host.as_mut_slice());
    // From and to, by direction: 0 host to host, 1 to the device, 2 from it, 3 within it, 4 by address.
    let ends = [(host, host), (device, host), (host, device), (device, device), (device, host)];
    for (kind, (target, source)) in ends.into_iter().enumerate() {
        tour.twins("cudaMemcpy", "_ptds", [target, source, COPY, kind])?;
        tour.twins("cudaMemcpyAsync", "_ptsz", [target, source, COPY, kind, stream])?;
    }
    let (width, height) = PLANE;
    tour.twins("cudaMemcpy2D", "_ptds", [device, width, host, width, width, height, 1])?;
    tour.twins(
        "cudaMemcpy2DAsync",
        "_ptsz",
        [device, width, host, width, width, height, 1, stream],
    )?;
    tour.twins("cudaMemcpyToSymbol", "_ptds", [variable, host, COPY, 0, 1])?;
    tour.twins("cudaMemcpyFromSymbol", "_ptds", [host, variable, COPY, 0, 2])?;
    tour.twins("cudaMemcpyToSymbolAsync", "_ptsz", [variable, host, COPY, 0, 1, stream])?;
    tour.twins("cudaMemcpyFromSymbolAsync", "_ptsz", [host, variable, COPY, 0, 2, stream])?;
    tour.ok("cudaMemcpyPeer", [device, 0, device, 0, COPY])?;
    tour.ok("cudaMemcpyPeerAsync", [device, 0, device, 0, COPY, stream])?;
    let (mut targets, mut sources, mut sizes, mut attributes, mut index) =
        ([device], [host], [COPY], [0_u64; 4], [0_usize]);
    let lists = [to(&mut targets), to(&mut sources), to(&mut sizes)];
    let batch = [lists[0], lists[1], lists[2], 1, to(&mut attributes), to(&mut index), 1, stream];
    tour.twins("cudaMemcpyBatchAsync", "_ptsz", batch)?;
    tour.twins("cudaMemset", "_ptds", [device, 7, COPY])?;
    tour.twins("cudaMemsetAsync", "_ptsz", [device, 7, COPY, stream])?;
    tour.twins("cudaMemset2D", "_ptds", [device, 512, 7, width, height])?;
    tour.twins("cudaMemset2DAsync", "_ptsz", [device, 512, 7, width, height, stream])
}
