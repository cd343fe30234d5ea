// The device, its properties and its limits.
#include "runtime.h"

static __thread int present;

int do_cudaGetDevice(int *device)
{
    return finish(device ? legacy()->cuCtxGetDevice(device, NULL) : INVALID_VALUE);
}

int do_cudaSetDevice(int device)
{
    int ordinal;
    int code = legacy()->cuDeviceGet(&ordinal, device);
    if (!code)
        present = device;
    return finish(code);
}

int do_cudaInitDevice(int device, unsigned device_flags, unsigned flags)
{
    (void)device_flags, (void)flags;
    return do_cudaSetDevice(device);
}

int do_cudaDeviceSynchronize(void)
{
    return finish(legacy()->cuCtxSynchronize());
}

// The head of cudaDeviceProp, as of CUDA 13; what follows is left to the caller.
struct properties {
    char name[256];
    char uuid[16];
    char luid[8];
    unsigned luid_node_mask;
    size_t global_memory, shared_memory_per_block;
    int registers_per_block, warp_size;
    size_t memory_pitch;
    int threads_per_block, threads[3], grid[3];
    size_t constant_memory;
    int major, minor;
    size_t texture_alignment, texture_pitch_alignment;
    int multiprocessors;
};

int do_cudaGetDeviceProperties(struct properties *out, int device)
{
    const struct driver *driver = legacy();
    if (!out)
        return finish(INVALID_VALUE);
    memset(out, 0, sizeof *out);
    int code = driver->cuDeviceGetName(out->name, (int)sizeof out->name, device);
    code = code ? code : driver->cuDeviceGetUuid(out->uuid, device);
    code = code ? code : driver->cuDeviceTotalMem(&out->global_memory, device);
    const struct {
        int attribute, *value;
    } wanted[] = {
        {12, &out->registers_per_block}, {10, &out->warp_size}, {1, &out->threads_per_block},
        {2, &out->threads[0]},           {3, &out->threads[1]}, {4, &out->threads[2]},
        {5, &out->grid[0]},              {6, &out->grid[1]},    {7, &out->grid[2]},
        {75, &out->major},               {76, &out->minor},     {16, &out->multiprocessors},
    };
    for (size_t i = 0; !code && i < sizeof wanted / sizeof *wanted; i++)
        code = driver->cuDeviceGetAttribute(wanted[i].value, wanted[i].attribute, device);
    return finish(code);
}

int do_cudaDeviceReset(void)
{
    return finish(legacy()->cuDevicePrimaryCtxReset(present));
}

int do_cudaSetDeviceFlags(unsigned flags)
{
    return finish(legacy()->cuDevicePrimaryCtxSetFlags(present, flags));
}

int do_cudaGetDeviceFlags(unsigned *flags)
{
    return finish(flags ? legacy()->cuCtxGetFlags(flags) : INVALID_VALUE);
}

// Peer access needs a second device.
int do_cudaDeviceEnablePeerAccess(int peer, unsigned flags)
{
    (void)peer, (void)flags;
    return finish(INVALID_DEVICE);
}

int do_cudaDeviceDisablePeerAccess(int peer)
{
    (void)peer;
    return finish(INVALID_DEVICE);
}

FORWARD(1, cudaGetDeviceCount, cuDeviceGetCount)
FORWARD(3, cudaDeviceGetAttribute, cuDeviceGetAttribute)
FORWARD(3, cudaDeviceGetPCIBusId, cuDeviceGetPCIBusId)
FORWARD(2, cudaDeviceGetByPCIBusId, cuDeviceGetByPCIBusId)
FORWARD(3, cudaDeviceCanAccessPeer, cuDeviceCanAccessPeer)
FORWARD(4, cudaDeviceGetP2PAttribute, cuDeviceGetP2PAttribute)
FORWARD(2, cudaDeviceGetLimit, cuCtxGetLimit)
FORWARD(2, cudaDeviceSetLimit, cuCtxSetLimit)
FORWARD(1, cudaDeviceGetCacheConfig, cuCtxGetCacheConfig)
FORWARD(1, cudaDeviceSetCacheConfig, cuCtxSetCacheConfig)
FORWARD(2, cudaDeviceGetStreamPriorityRange, cuCtxGetStreamPriorityRange)
FORWARD(2, cudaDeviceGetDefaultMemPool, cuDeviceGetDefaultMemPool)
FORWARD(2, cudaDeviceGetMemPool, cuDeviceGetMemPool)
FORWARD(2, cudaDeviceSetMemPool, cuDeviceSetMemPool)
FORWARD(0, cudaCtxResetPersistingL2Cache, cuCtxResetPersistingL2Cache)
FORWARD(0, cudaProfilerStart, cuProfilerStart)
FORWARD(0, cudaProfilerStop, cuProfilerStop)
