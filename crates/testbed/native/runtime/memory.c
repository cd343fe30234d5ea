// Memory and memory pools.
#include "runtime.h"

FORWARD(2, cudaMalloc, cuMemAlloc)
FORWARD(3, cudaMallocManaged, cuMemAllocManaged)
FORWARD(2, cudaMallocHost, cuMemAllocHost)
FORWARD(3, cudaHostAlloc, cuMemHostAlloc)
FORWARD(3, cudaHostRegister, cuMemHostRegister)
FORWARD(1, cudaHostUnregister, cuMemHostUnregister)
FORWARD(3, cudaHostGetDevicePointer, cuMemHostGetDevicePointer)
FORWARD(2, cudaHostGetFlags, cuMemHostGetFlags)
FORWARD(2, cudaMemGetInfo, cuMemGetInfo)
FORWARD(4, cudaMemAdvise, cuMemAdvise)
FORWARD_TWIN(5, cudaMemPrefetchAsync, _ptsz, cuMemPrefetchAsync)
FORWARD(5, cudaMemRangeGetAttribute, cuMemRangeGetAttribute)
FORWARD_TWIN(3, cudaMallocAsync, _ptsz, cuMemAllocAsync)
FORWARD_TWIN(2, cudaFreeAsync, _ptsz, cuMemFreeAsync)
FORWARD_TWIN(4, cudaMallocFromPoolAsync, _ptsz, cuMemAllocFromPoolAsync)
FORWARD(2, cudaMemPoolCreate, cuMemPoolCreate)
FORWARD(1, cudaMemPoolDestroy, cuMemPoolDestroy)
FORWARD(2, cudaMemPoolTrimTo, cuMemPoolTrimTo)
FORWARD(3, cudaMemPoolSetAttribute, cuMemPoolSetAttribute)
FORWARD(3, cudaMemPoolGetAttribute, cuMemPoolGetAttribute)
FORWARD(3, cudaMemPoolSetAccess, cuMemPoolSetAccess)
FORWARD(3, cudaMemPoolGetAccess, cuMemPoolGetAccess)
FORWARD(2, cudaIpcGetMemHandle, cuIpcGetMemHandle)
FORWARD(1, cudaIpcCloseMemHandle, cuIpcCloseMemHandle)
FORWARD(2, cudaIpcGetEventHandle, cuIpcGetEventHandle)

// Handles of other processes come by value.
struct handle {
    char bytes[64];
};

int do_cudaIpcOpenMemHandle(void **out, struct handle handle, unsigned flags)
{
    return finish(legacy()->cuIpcOpenMemHandle(out, handle, flags));
}

int do_cudaIpcOpenEventHandle(void **out, struct handle handle)
{
    return finish(legacy()->cuIpcOpenEventHandle(out, handle));
}

int do_cudaMallocPitch(uint64_t *out, size_t *pitch, size_t width, size_t height)
{
    return finish(legacy()->cuMemAllocPitch(out, pitch, width, height, 4));
}

// Freeing nothing is allowed, and a known way to have the context made.
int do_cudaFree(uint64_t start)
{
    const struct driver *driver = legacy();
    return finish(start ? driver->cuMemFree(start) : SUCCESS);
}

int do_cudaFreeHost(void *start)
{
    const struct driver *driver = legacy();
    return finish(start ? driver->cuMemFreeHost(start) : SUCCESS);
}

// cudaPointerAttributes
struct pointer_attributes {
    int type, device;
    void *device_pointer, *host_pointer;
};

// An unknown pointer is plain host memory.
int do_cudaPointerGetAttributes(struct pointer_attributes *out, void *pointer)
{
    if (!out)
        return finish(INVALID_VALUE);
    unsigned type = 0, managed = 0;
    int device = -2;
    int attributes[] = {2, 8, 9};
    void *values[] = {&type, &managed, &device};
    int code = legacy()->cuPointerGetAttributes(3, attributes, values, pointer);
    *out = (struct pointer_attributes){managed ? 3 : (int)type, device, type ? pointer : NULL, type == 2 && !managed ? NULL : pointer};
    return finish(code);
}
