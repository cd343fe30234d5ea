// Streams, the time their work takes, and capture.
#include "driver.h"

#include <time.h>

static _Atomic uint64_t last_id = 16;
// When everything queued so far, on any stream, will be done.
static _Atomic int64_t device_busy_until;
// The handles 0 and 1 name the legacy default stream, 2 the per-thread one.
static struct stream legacy = {.id = 1}, per_thread = {.id = 2};

struct stream *stream_of(void *handle)
{
    if ((uintptr_t)handle <= 1)
        return &legacy;
    return (uintptr_t)handle == 2 ? &per_thread : handle;
}

int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

void wait_until(int64_t when)
{
    if (!when || now() >= when)
        return;
    struct timespec time = {when / 1000000000, when % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL))
        ;
}

static pthread_once_t read_settings = PTHREAD_ONCE_INIT;
// The device is slow for a part of each period, as when its clocks are lowered.
static int64_t slow_period, slow_time, slow_factor;

static void settings(void)
{
    slow_period = standin_setting("CUDA_STANDIN_SLOW_PERIOD_NS", 0);
    slow_time = standin_setting("CUDA_STANDIN_SLOW_NS", 0);
    slow_factor = standin_setting("CUDA_STANDIN_SLOW_FACTOR", 1);
}

// Work begins when the stream's earlier work is done, as on a device that is never shared.
void queue_work(struct stream *stream, int64_t nanoseconds)
{
    if (nanoseconds <= 0)
        return;
    pthread_once(&read_settings, settings);
    int64_t present = now(), busy = stream->busy_until, until;
    if (slow_period && present % slow_period < slow_time)
        nanoseconds *= slow_factor;
    do
        until = (busy > present ? busy : present) + nanoseconds;
    while (!atomic_compare_exchange_weak(&stream->busy_until, &busy, until));
    busy = device_busy_until;
    while (busy < until && !atomic_compare_exchange_weak(&device_busy_until, &busy, until))
        ;
}

struct graph *capturing(struct stream *stream)
{
    struct capture *capture = stream->capture;
    return capture && capture->active ? capture->graph : NULL;
}

int queue_other(void *handle, enum node_type type)
{
    struct graph *graph = capturing(stream_of(handle));
    return !graph || add_node(graph, type, NULL) ? SUCCESS : OUT_OF_MEMORY;
}

int do_cuStreamCreateWithPriority(struct stream **out, unsigned flags, int priority)
{
    if (!out || flags > 1)
        return INVALID_VALUE;
    struct stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return OUT_OF_MEMORY;
    stream->id = ++last_id;
    stream->flags = flags;
    stream->priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
    *out = stream;
    return SUCCESS;
}

int do_cuStreamCreate(struct stream **out, unsigned flags)
{
    return do_cuStreamCreateWithPriority(out, flags, 0);
}

int do_cuStreamDestroy(struct stream *stream)
{
    if ((uintptr_t)stream <= 2)
        return INVALID_HANDLE;
    free(stream->queue);
    free(stream);
    return SUCCESS;
}

int do_cuStreamSynchronize(void *handle)
{
    struct stream *stream = stream_of(handle);
    if (capturing(stream))
        return CAPTURE_UNSUPPORTED;
    wait_until(stream->busy_until);
    return SUCCESS;
}

int do_cuCtxSynchronize(void)
{
    wait_until(device_busy_until);
    return SUCCESS;
}

int do_cuStreamQuery(void *handle)
{
    struct stream *stream = stream_of(handle);
    if (capturing(stream))
        return CAPTURE_UNSUPPORTED;
    return stream->busy_until && stream->busy_until > now() ? NOT_READY : SUCCESS;
}

int do_cuStreamWaitEvent(void *handle, struct event *event, unsigned flags)
{
    if (flags > 1)
        return INVALID_VALUE;
    if (!event)
        return INVALID_HANDLE;
    struct stream *stream = stream_of(handle);
    if (event->capture && event->capture->active)
        stream->capture = event->capture;
    else if (event->done_at > stream->busy_until)
        stream->busy_until = event->done_at;
    return SUCCESS;
}

int do_cuStreamGetPriority(void *handle, int *out)
{
    if (!out)
        return INVALID_VALUE;
    *out = stream_of(handle)->priority;
    return SUCCESS;
}

int do_cuStreamGetFlags(void *handle, unsigned *out)
{
    if (!out)
        return INVALID_VALUE;
    *out = stream_of(handle)->flags;
    return SUCCESS;
}

int do_cuStreamGetId(void *handle, uint64_t *out)
{
    if (!out)
        return INVALID_VALUE;
    *out = stream_of(handle)->id;
    return SUCCESS;
}

int do_cuStreamGetCtx(void *handle, struct context **out)
{
    (void)handle;
    return do_cuCtxGetCurrent(out);
}

int do_cuStreamAddCallback(void *handle, void (*callback)(void *, int, void *), void *data, unsigned flags)
{
    if (!callback || flags)
        return INVALID_VALUE;
    if (capturing(stream_of(handle)))
        return CAPTURE_UNSUPPORTED;
    wait_until(stream_of(handle)->busy_until);
    callback(handle, SUCCESS, data);
    return SUCCESS;
}

int do_cuStreamAttachMemAsync(void *handle, address start, size_t length, unsigned flags)
{
    (void)handle, (void)length;
    struct allocation found;
    return flags && find(start, MANAGED, &found) ? SUCCESS : INVALID_VALUE;
}

int begin_capture(struct stream *stream, struct graph *graph)
{
    static _Atomic uint64_t last_capture;
    if (stream == &legacy)
        return CAPTURE_UNSUPPORTED;
    if (capturing(stream))
        return ILLEGAL_STATE;
    struct capture *capture = malloc(sizeof *capture);
    if (!capture || !graph)
        return OUT_OF_MEMORY;
    *capture = (struct capture){++last_capture, graph, true};
    stream->capture = capture;
    return SUCCESS;
}

int do_cuStreamBeginCapture(void *handle, unsigned mode)
{
    struct stream *stream = stream_of(handle);
    if (mode > 2)
        return INVALID_VALUE;
    if (stream == &legacy)
        return CAPTURE_UNSUPPORTED;
    return begin_capture(stream, new_graph());
}

int do_cuStreamBeginCaptureToGraph(void *handle, struct graph *graph, const void *dependencies, const void *edges, size_t count,
                                   unsigned mode)
{
    (void)dependencies, (void)edges, (void)count;
    return graph && mode <= 2 ? begin_capture(stream_of(handle), graph) : INVALID_VALUE;
}

int do_cuStreamEndCapture(void *handle, struct graph **out)
{
    struct stream *stream = stream_of(handle);
    if (!out)
        return INVALID_VALUE;
    *out = capturing(stream);
    if (!*out)
        return ILLEGAL_STATE;
    stream->capture->active = false;
    return SUCCESS;
}

int do_cuStreamIsCapturing(void *handle, int *status)
{
    if (!status)
        return INVALID_VALUE;
    *status = capturing(stream_of(handle)) != NULL;
    return SUCCESS;
}

int do_cuStreamGetCaptureInfo_v2(void *handle, int *status, uint64_t *id, struct graph **graph, const void **dependencies,
                                 size_t *count)
{
    int result = do_cuStreamIsCapturing(handle, status);
    if (result || !*status)
        return result;
    struct capture *capture = stream_of(handle)->capture;
    if (id)
        *id = capture->id;
    if (graph)
        *graph = capture->graph;
    size_t last_count;
    const void *last = last_node(capture->graph, &last_count);
    if (dependencies)
        *dependencies = last;
    if (count)
        *count = last_count;
    return SUCCESS;
}

int do_cuStreamGetCaptureInfo_v3(void *handle, int *status, uint64_t *id, struct graph **graph, const void **dependencies,
                                 const void **edges, size_t *count)
{
    if (edges)
        *edges = NULL;
    return do_cuStreamGetCaptureInfo_v2(handle, status, id, graph, dependencies, count);
}

// f(stream, ...): only a capturing stream has dependencies.
int do_cuStreamUpdateCaptureDependencies(void *handle)
{
    return capturing(stream_of(handle)) ? SUCCESS : ILLEGAL_STATE;
}

int do_cuThreadExchangeStreamCaptureMode(unsigned *mode)
{
    static __thread unsigned present;
    if (!mode || *mode > 2)
        return INVALID_VALUE;
    unsigned wanted = *mode;
    *mode = present;
    present = wanted;
    return SUCCESS;
}

// f(stream, address, value, flags), and waits for a value, which is taken to have come.
int do_cuStreamValue(void *handle, address where)
{
    return where ? queue_other(handle, NODE_EMPTY) : INVALID_VALUE;
}

int do_cuStreamBatchMemOp(void *handle, unsigned count, const void *operations, unsigned flags)
{
    return count && operations && !flags ? queue_other(handle, NODE_EMPTY) : INVALID_VALUE;
}

// f(stream, attribute, value): every attribute has its zero default.
int do_cuStreamGetAttribute(void *handle, int attribute, void *value)
{
    (void)handle, (void)attribute;
    if (!value)
        return INVALID_VALUE;
    memset(value, 0, 64);
    return SUCCESS;
}

int do_cuStreamSetAttribute(void *handle, int attribute, const void *value)
{
    (void)handle, (void)attribute;
    return value ? SUCCESS : INVALID_VALUE;
}
