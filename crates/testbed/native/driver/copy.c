// Copies and fills. Arguments are checked and time is spent; no byte moves, since nothing lies behind device addresses.
#include "driver.h"

#define BYTES_PER_NANOSECOND 25

static int copy(const void *to, const void *from, size_t size, void *stream, bool wait)
{
    if (size && (!to || !from))
        return INVALID_VALUE;
    int result = queue_other(stream, NODE_MEMCPY);
    if (result)
        return result;
    queue_work(stream_of(stream), size / BYTES_PER_NANOSECOND);
    if (wait)
        wait_until(stream_of(stream)->busy_until);
    return SUCCESS;
}

int do_cuMemcpy(const void *to, const void *from, size_t size)
{
    return copy(to, from, size, NULL, true);
}

int do_cuMemcpyAsync(const void *to, const void *from, size_t size, void *stream)
{
    return copy(to, from, size, stream, false);
}

int do_cuMemcpyPeer(const void *to, void *to_context, const void *from, void *from_context, size_t size)
{
    return to_context && from_context ? copy(to, from, size, NULL, true) : INVALID_CONTEXT;
}

int do_cuMemcpyPeerAsync(const void *to, void *to_context, const void *from, void *from_context, size_t size, void *stream)
{
    return to_context && from_context ? copy(to, from, size, stream, false) : INVALID_CONTEXT;
}

// CUDA_MEMCPY2D
struct copy_2d {
    size_t from_x, from_y;
    unsigned from_type;
    const void *from_host;
    address from_device;
    void *from_array;
    size_t from_pitch;
    size_t to_x, to_y;
    unsigned to_type;
    void *to_host;
    address to_device;
    void *to_array;
    size_t to_pitch;
    size_t width, height;
};

static int copy_2d(const struct copy_2d *what, void *stream, bool wait)
{
    if (!what || what->width > what->to_pitch || what->width > what->from_pitch)
        return INVALID_VALUE;
    return copy(what, what, what->width * what->height, stream, wait);
}

int do_cuMemcpy2D(const struct copy_2d *what)
{
    return copy_2d(what, NULL, true);
}

int do_cuMemcpy2DAsync(const struct copy_2d *what, void *stream)
{
    return copy_2d(what, stream, false);
}

// Descriptions in three dimensions are not read; their copies take no time.
int do_cuMemcpy3D(const void *what)
{
    return what ? copy(what, what, 0, NULL, true) : INVALID_VALUE;
}

int do_cuMemcpy3DAsync(const void *what, void *stream)
{
    return what ? copy(what, what, 0, stream, false) : INVALID_VALUE;
}

static int copy_batch(void *const *to, void *const *from, const size_t *sizes, size_t count, void *stream)
{
    if (!to || !from || !sizes || !count)
        return INVALID_VALUE;
    for (size_t i = 0; i < count; i++) {
        int result = copy(to[i], from[i], sizes[i], stream, false);
        if (result)
            return result;
    }
    return SUCCESS;
}

int do_cuMemcpyBatchAsync(void *const *to, void *const *from, const size_t *sizes, size_t count, const void *attributes,
                          const size_t *indices, size_t attribute_count, size_t *failed, void *stream)
{
    (void)attributes, (void)indices, (void)attribute_count;
    if (failed)
        *failed = SIZE_MAX;
    return copy_batch(to, from, sizes, count, stream);
}

int do_cuMemcpyBatchAsync_v2(void *const *to, void *const *from, const size_t *sizes, size_t count, const void *attributes,
                             const size_t *indices, size_t attribute_count, void *stream)
{
    (void)attributes, (void)indices, (void)attribute_count;
    return copy_batch(to, from, sizes, count, stream);
}

static int fill(address to, size_t size, void *stream, bool wait)
{
    if (size && !to)
        return INVALID_VALUE;
    int result = queue_other(stream, NODE_MEMSET);
    if (!result && wait)
        wait_until(stream_of(stream)->busy_until);
    return result;
}

int do_cuMemset(address to, unsigned value, size_t count)
{
    (void)value;
    return fill(to, count, NULL, true);
}

int do_cuMemsetAsync(address to, unsigned value, size_t count, void *stream)
{
    (void)value;
    return fill(to, count, stream, false);
}

int do_cuMemset2D(address to, size_t pitch, unsigned value, size_t width, size_t height)
{
    (void)value, (void)pitch;
    return fill(to, width * height, NULL, true);
}

int do_cuMemset2DAsync(address to, size_t pitch, unsigned value, size_t width, size_t height, void *stream)
{
    (void)value, (void)pitch;
    return fill(to, width * height, stream, false);
}

int do_cuMemAdvise(address start, size_t count, int advice, int device)
{
    (void)advice, (void)device;
    struct allocation found;
    return count && find(start, MANAGED, &found) ? SUCCESS : INVALID_VALUE;
}

int do_cuMemPrefetchAsync(address start, size_t count, int device, void *stream)
{
    int result = do_cuMemAdvise(start, count, 0, device);
    return result ? result : queue_other(stream, NODE_MEMCPY);
}

int do_cuMemPrefetchAsync_v2(address start, size_t count, uint64_t location, unsigned flags, void *stream)
{
    (void)location;
    return flags ? INVALID_VALUE : do_cuMemPrefetchAsync(start, count, 0, stream);
}
