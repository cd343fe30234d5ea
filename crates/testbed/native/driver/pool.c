// Stream-ordered allocation and its pools.
#include "driver.h"

// CUmemoryPool
struct pool {
    uint64_t attributes[16];
};

static struct pool standard;
static struct pool *present = &standard;

int do_cuDeviceGetDefaultMemPool(struct pool **out, int device)
{
    if (device)
        return INVALID_DEVICE;
    if (!out)
        return INVALID_VALUE;
    *out = &standard;
    return SUCCESS;
}

int do_cuDeviceGetMemPool(struct pool **out, int device)
{
    int result = do_cuDeviceGetDefaultMemPool(out, device);
    if (!result)
        *out = present;
    return result;
}

int do_cuDeviceSetMemPool(int device, struct pool *pool)
{
    if (device)
        return INVALID_DEVICE;
    if (!pool)
        return INVALID_VALUE;
    present = pool;
    return SUCCESS;
}

int do_cuMemPoolCreate(struct pool **out, const void *properties)
{
    if (!out || !properties)
        return INVALID_VALUE;
    *out = calloc(1, sizeof **out);
    return *out ? SUCCESS : OUT_OF_MEMORY;
}

int do_cuMemPoolDestroy(struct pool *pool)
{
    if (!pool || pool == &standard)
        return INVALID_VALUE;
    if (present == pool)
        present = &standard;
    free(pool);
    return SUCCESS;
}

int do_cuMemPoolTrimTo(struct pool *pool, size_t keep)
{
    (void)keep;
    return pool ? SUCCESS : INVALID_VALUE;
}

// Attributes 1 to 3 are `int`, the rest 64 bits wide.
int do_cuMemPoolSetAttribute(struct pool *pool, unsigned attribute, const void *value)
{
    if (!pool || !value || !attribute || attribute >= 16)
        return INVALID_VALUE;
    pool->attributes[attribute] = attribute <= 3 ? *(const unsigned *)value : *(const uint64_t *)value;
    return SUCCESS;
}

int do_cuMemPoolGetAttribute(struct pool *pool, unsigned attribute, void *value)
{
    if (!pool || !value || !attribute || attribute >= 16)
        return INVALID_VALUE;
    if (attribute <= 3)
        *(unsigned *)value = pool->attributes[attribute];
    else
        *(uint64_t *)value = pool->attributes[attribute];
    return SUCCESS;
}

int do_cuMemPoolSetAccess(struct pool *pool, const void *descriptions, size_t count)
{
    return pool && descriptions && count ? SUCCESS : INVALID_VALUE;
}

int do_cuMemPoolGetAccess(int *flags, struct pool *pool, const void *location)
{
    if (!flags || !pool || !location)
        return INVALID_VALUE;
    *flags = 3; // CU_MEM_ACCESS_FLAGS_PROT_READWRITE
    return SUCCESS;
}

int do_cuMemAllocAsync(address *out, size_t size, void *stream)
{
    int result = allocate_device(out, size, 0);
    return result ? result : queue_other(stream, NODE_MEM_ALLOC);
}

int do_cuMemAllocFromPoolAsync(address *out, size_t size, struct pool *pool, void *stream)
{
    return pool ? do_cuMemAllocAsync(out, size, stream) : INVALID_VALUE;
}

// Memory taken while a graph is captured belongs to the graph; freeing it there only adds a node.
int do_cuMemFreeAsync(address start, void *stream)
{
    if (capturing(stream_of(stream)))
        return queue_other(stream, NODE_MEM_FREE);
    return release_device(start);
}
