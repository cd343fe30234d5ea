// Copies and fills: the direction argument picks the driver's function.
#include "runtime.h"

enum kind { HOST_TO_HOST, HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE, BY_ADDRESS };

static int copy(const struct driver *driver, void *to, const void *from, size_t size, unsigned kind)
{
    switch (kind) {
    case HOST_TO_DEVICE:
        return driver->cuMemcpyHtoD(to, from, size);
    case DEVICE_TO_HOST:
        return driver->cuMemcpyDtoH(to, from, size);
    case DEVICE_TO_DEVICE:
        return driver->cuMemcpyDtoD(to, from, size);
    case HOST_TO_HOST:
    case BY_ADDRESS:
        return driver->cuMemcpy(to, from, size);
    default:
        return INVALID_COPY_DIRECTION;
    }
}

static int copy_async(const struct driver *driver, void *to, const void *from, size_t size, unsigned kind, void *stream)
{
    switch (kind) {
    case HOST_TO_DEVICE:
        return driver->cuMemcpyHtoDAsync(to, from, size, stream);
    case DEVICE_TO_HOST:
        return driver->cuMemcpyDtoHAsync(to, from, size, stream);
    case DEVICE_TO_DEVICE:
        return driver->cuMemcpyDtoDAsync(to, from, size, stream);
    case HOST_TO_HOST:
    case BY_ADDRESS:
        return driver->cuMemcpyAsync(to, from, size, stream);
    default:
        return INVALID_COPY_DIRECTION;
    }
}

// CUDA_MEMCPY2D
struct copy_2d {
    size_t from_x, from_y;
    unsigned from_type;
    const void *from_host;
    const void *from_device;
    void *from_array;
    size_t from_pitch;
    size_t to_x, to_y;
    unsigned to_type;
    void *to_host;
    void *to_device;
    void *to_array;
    size_t to_pitch;
    size_t width, height;
};

enum { TYPE_HOST = 1, TYPE_DEVICE = 2, TYPE_UNIFIED = 4 };

static struct copy_2d plane(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height, unsigned kind)
{
    static const unsigned from_types[] = {TYPE_HOST, TYPE_HOST, TYPE_DEVICE, TYPE_DEVICE, TYPE_UNIFIED};
    static const unsigned to_types[] = {TYPE_HOST, TYPE_DEVICE, TYPE_HOST, TYPE_DEVICE, TYPE_UNIFIED};
    return (struct copy_2d){
        .from_type = from_types[kind], .from_host = from, .from_device = from, .from_pitch = from_pitch,
        .to_type = to_types[kind],     .to_host = to,     .to_device = to,     .to_pitch = to_pitch,
        .width = width,                .height = height,
    };
}

// Each function once with the legacy default stream and once with the per-thread one.
#define FORMS(suffix_sync, suffix_async, driver)                                                                          \
    int do_cudaMemcpy##suffix_sync(void *to, const void *from, size_t size, unsigned kind)                                \
    {                                                                                                                     \
        return finish(copy(driver(), to, from, size, kind));                                                              \
    }                                                                                                                     \
    int do_cudaMemcpyAsync##suffix_async(void *to, const void *from, size_t size, unsigned kind, void *stream)            \
    {                                                                                                                     \
        return finish(copy_async(driver(), to, from, size, kind, stream));                                                \
    }                                                                                                                     \
    int do_cudaMemcpy2D##suffix_sync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,        \
                                     size_t height, unsigned kind)                                                        \
    {                                                                                                                     \
        if (kind > BY_ADDRESS)                                                                                            \
            return finish(INVALID_COPY_DIRECTION);                                                                        \
        struct copy_2d what = plane(to, to_pitch, from, from_pitch, width, height, kind);                                 \
        return finish(driver()->cuMemcpy2DUnaligned(&what));                                                              \
    }                                                                                                                     \
    int do_cudaMemcpy2DAsync##suffix_async(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,  \
                                           size_t height, unsigned kind, void *stream)                                    \
    {                                                                                                                     \
        if (kind > BY_ADDRESS)                                                                                            \
            return finish(INVALID_COPY_DIRECTION);                                                                        \
        struct copy_2d what = plane(to, to_pitch, from, from_pitch, width, height, kind);                                 \
        return finish(driver()->cuMemcpy2DAsync(&what, stream));                                                          \
    }                                                                                                                     \
    int do_cudaMemcpyToSymbol##suffix_sync(const void *symbol, const void *from, size_t size, size_t offset, unsigned kind) \
    {                                                                                                                     \
        uint64_t start;                                                                                                   \
        size_t length;                                                                                                    \
        int code = variable_of(symbol, &start, &length);                                                                  \
        return finish(code ? code : copy(driver(), (void *)(start + offset), from, size, kind));                          \
    }                                                                                                                     \
    int do_cudaMemcpyFromSymbol##suffix_sync(void *to, const void *symbol, size_t size, size_t offset, unsigned kind)     \
    {                                                                                                                     \
        uint64_t start;                                                                                                   \
        size_t length;                                                                                                    \
        int code = variable_of(symbol, &start, &length);                                                                  \
        return finish(code ? code : copy(driver(), to, (void *)(start + offset), size, kind));                            \
    }                                                                                                                     \
    int do_cudaMemcpyToSymbolAsync##suffix_async(const void *symbol, const void *from, size_t size, size_t offset,        \
                                                 unsigned kind, void *stream)                                             \
    {                                                                                                                     \
        uint64_t start;                                                                                                   \
        size_t length;                                                                                                    \
        int code = variable_of(symbol, &start, &length);                                                                  \
        return finish(code ? code : copy_async(driver(), (void *)(start + offset), from, size, kind, stream));            \
    }                                                                                                                     \
    int do_cudaMemcpyFromSymbolAsync##suffix_async(void *to, const void *symbol, size_t size, size_t offset,              \
                                                   unsigned kind, void *stream)                                           \
    {                                                                                                                     \
        uint64_t start;                                                                                                   \
        size_t length;                                                                                                    \
        int code = variable_of(symbol, &start, &length);                                                                  \
        return finish(code ? code : copy_async(driver(), to, (void *)(start + offset), size, kind, stream));              \
    }                                                                                                                     \
    int do_cudaMemset##suffix_sync(void *to, int value, size_t size)                                                      \
    {                                                                                                                     \
        return finish(driver()->cuMemsetD8(to, value & 0xff, size));                                                      \
    }                                                                                                                     \
    int do_cudaMemsetAsync##suffix_async(void *to, int value, size_t size, void *stream)                                  \
    {                                                                                                                     \
        return finish(driver()->cuMemsetD8Async(to, value & 0xff, size, stream));                                         \
    }                                                                                                                     \
    int do_cudaMemset2D##suffix_sync(void *to, size_t pitch, int value, size_t width, size_t height)                      \
    {                                                                                                                     \
        return finish(driver()->cuMemsetD2D8(to, pitch, value & 0xff, width, height));                                    \
    }                                                                                                                     \
    int do_cudaMemset2DAsync##suffix_async(void *to, size_t pitch, int value, size_t width, size_t height, void *stream)  \
    {                                                                                                                     \
        return finish(driver()->cuMemsetD2D8Async(to, pitch, value & 0xff, width, height, stream));                       \
    }

FORMS(, , legacy)
FORMS(_ptds, _ptsz, per_thread)

FORWARD_TWIN(8, cudaMemcpyBatchAsync, _ptsz, cuMemcpyBatchAsync)

static int peer_contexts(int to_device, int from_device, void **context)
{
    if (to_device || from_device)
        return INVALID_DEVICE;
    return legacy()->cuCtxGetCurrent(context);
}

int do_cudaMemcpyPeer(void *to, int to_device, const void *from, int from_device, size_t size)
{
    void *context;
    int code = peer_contexts(to_device, from_device, &context);
    return finish(code ? code : legacy()->cuMemcpyPeer(to, context, from, context, size));
}

int do_cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t size, void *stream)
{
    void *context;
    int code = peer_contexts(to_device, from_device, &context);
    return finish(code ? code : legacy()->cuMemcpyPeerAsync(to, context, from, context, size, stream));
}
