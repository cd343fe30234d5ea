// Events: marks in a stream's work, with the time when it will be reached.
#include "driver.h"

int do_cuEventCreate(struct event **out, unsigned flags)
{
    if (!out || flags > 7)
        return INVALID_VALUE;
    *out = calloc(1, sizeof **out);
    if (!*out)
        return OUT_OF_MEMORY;
    (*out)->flags = flags;
    return SUCCESS;
}

int do_cuEventDestroy(struct event *event)
{
    if (!event)
        return INVALID_HANDLE;
    free(event);
    return SUCCESS;
}

int do_cuEventRecord(struct event *event, void *handle)
{
    if (!event)
        return INVALID_HANDLE;
    struct stream *stream = stream_of(handle);
    if (capturing(stream)) {
        event->capture = stream->capture;
        return SUCCESS;
    }
    int64_t present = now();
    event->capture = NULL;
    event->done_at = stream->busy_until > present ? stream->busy_until : present;
    return SUCCESS;
}

int do_cuEventRecordWithFlags(struct event *event, void *handle, unsigned flags)
{
    return flags > 1 ? INVALID_VALUE : do_cuEventRecord(event, handle);
}

int do_cuEventQuery(struct event *event)
{
    if (!event)
        return INVALID_HANDLE;
    return event->done_at > now() ? NOT_READY : SUCCESS;
}

int do_cuEventSynchronize(struct event *event)
{
    if (!event)
        return INVALID_HANDLE;
    wait_until(event->done_at);
    return SUCCESS;
}

int do_cuEventElapsedTime(float *milliseconds, struct event *start, struct event *end)
{
    if (!milliseconds)
        return INVALID_VALUE;
    if (!start || !end || !start->done_at || !end->done_at)
        return INVALID_HANDLE;
    *milliseconds = (end->done_at - start->done_at) / 1e6f;
    return end->done_at > now() ? NOT_READY : SUCCESS;
}
