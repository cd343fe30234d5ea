// Streams, capture and events.
#include "runtime.h"

int do_cudaStreamCreate(void **out)
{
    return finish(legacy()->cuStreamCreate(out, 0));
}

FORWARD(2, cudaStreamCreateWithFlags, cuStreamCreate)
FORWARD(3, cudaStreamCreateWithPriority, cuStreamCreateWithPriority)
FORWARD(1, cudaStreamDestroy, cuStreamDestroy)
FORWARD_TWIN(1, cudaStreamSynchronize, _ptsz, cuStreamSynchronize)
FORWARD_TWIN(1, cudaStreamQuery, _ptsz, cuStreamQuery)
FORWARD_TWIN(3, cudaStreamWaitEvent, _ptsz, cuStreamWaitEvent)
FORWARD_TWIN(2, cudaStreamGetPriority, _ptsz, cuStreamGetPriority)
FORWARD_TWIN(2, cudaStreamGetFlags, _ptsz, cuStreamGetFlags)
FORWARD_TWIN(2, cudaStreamGetId, _ptsz, cuStreamGetId)
FORWARD_TWIN(2, cudaStreamGetDevice, _ptsz, cuStreamGetDevice)
FORWARD_TWIN(4, cudaStreamAddCallback, _ptsz, cuStreamAddCallback)
FORWARD_TWIN(4, cudaStreamAttachMemAsync, _ptsz, cuStreamAttachMemAsync)
FORWARD_TWIN(2, cudaStreamCopyAttributes, _ptsz, cuStreamCopyAttributes)
FORWARD_TWIN(3, cudaStreamGetAttribute, _ptsz, cuStreamGetAttribute)
FORWARD_TWIN(3, cudaStreamSetAttribute, _ptsz, cuStreamSetAttribute)
FORWARD_TWIN(2, cudaStreamBeginCapture, _ptsz, cuStreamBeginCapture)
FORWARD_TWIN(6, cudaStreamBeginCaptureToGraph, _ptsz, cuStreamBeginCaptureToGraph)
FORWARD_TWIN(2, cudaStreamEndCapture, _ptsz, cuStreamEndCapture)
FORWARD_TWIN(2, cudaStreamIsCapturing, _ptsz, cuStreamIsCapturing)
FORWARD_TWIN(7, cudaStreamGetCaptureInfo, _ptsz, cuStreamGetCaptureInfo)
FORWARD_TWIN(5, cudaStreamUpdateCaptureDependencies, _ptsz, cuStreamUpdateCaptureDependencies)
FORWARD(1, cudaThreadExchangeStreamCaptureMode, cuThreadExchangeStreamCaptureMode)

int do_cudaEventCreate(void **out)
{
    return finish(legacy()->cuEventCreate(out, 0));
}

FORWARD(2, cudaEventCreateWithFlags, cuEventCreate)
FORWARD(1, cudaEventDestroy, cuEventDestroy)
FORWARD_TWIN(2, cudaEventRecord, _ptsz, cuEventRecord)
FORWARD_TWIN(3, cudaEventRecordWithFlags, _ptsz, cuEventRecordWithFlags)
FORWARD(1, cudaEventQuery, cuEventQuery)
FORWARD(1, cudaEventSynchronize, cuEventSynchronize)
FORWARD(3, cudaEventElapsedTime, cuEventElapsedTime)
