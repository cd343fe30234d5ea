// What is known of a pointer, and pointers shared between processes.
#include "driver.h"

enum { CONTEXT = 1, MEMORY_TYPE = 2, DEVICE_POINTER = 3, HOST_POINTER = 4, IS_MANAGED = 8, ORDINAL = 9, RANGE_START = 11, RANGE_SIZE = 12, MAPPED_NOW = 13 };
enum { TYPE_HOST = 1, TYPE_DEVICE = 2 };

int do_cuPointerGetAttribute(void *out, int attribute, address pointer)
{
    struct allocation found;
    if (!out)
        return INVALID_VALUE;
    if (!find(pointer, ~(unsigned)RESERVED, &found))
        return INVALID_VALUE;
    bool host = found.kind & (HOST | REGISTERED);
    switch (attribute) {
    case MEMORY_TYPE:
        *(unsigned *)out = host ? TYPE_HOST : TYPE_DEVICE;
        break;
    case DEVICE_POINTER:
        *(address *)out = pointer;
        break;
    case HOST_POINTER:
        if (found.kind & (DEVICE | MAPPED | IMPORTED))
            return INVALID_VALUE;
        *(address *)out = pointer;
        break;
    case IS_MANAGED:
        *(unsigned *)out = found.kind == MANAGED;
        break;
    case ORDINAL:
        *(int *)out = 0;
        break;
    case RANGE_START:
        *(address *)out = found.start;
        break;
    case RANGE_SIZE:
        *(size_t *)out = found.size;
        break;
    case MAPPED_NOW:
        *(int *)out = 1;
        break;
    case CONTEXT:
        *(void **)out = NULL;
        break;
    default:
        *(int *)out = 0;
    }
    return SUCCESS;
}

// Unlike the single form, an unknown pointer is no error: its attributes are zero.
int do_cuPointerGetAttributes(unsigned count, int *attributes, void **out, address pointer)
{
    if (!count || !attributes || !out)
        return INVALID_VALUE;
    for (unsigned i = 0; i < count; i++)
        if (do_cuPointerGetAttribute(out[i], attributes[i], pointer) && out[i])
            *(int *)out[i] = attributes[i] == ORDINAL ? -2 : 0;
    return SUCCESS;
}

int do_cuPointerSetAttribute(const void *value, int attribute, address pointer)
{
    (void)attribute;
    struct allocation found;
    return value && find(pointer, DEVICE | MANAGED | MAPPED, &found) ? SUCCESS : INVALID_VALUE;
}

int do_cuMemRangeGetAttribute(void *out, size_t size, int attribute, address start, size_t count)
{
    (void)attribute;
    struct allocation found;
    if (!out || !size || !count || !find(start, MANAGED, &found))
        return INVALID_VALUE;
    memset(out, 0, size);
    return SUCCESS;
}

// 64 bytes, passed by value on the stack.
struct memory_handle {
    address start;
    size_t size;
    char reserved[48];
};

int do_cuIpcGetMemHandle(struct memory_handle *out, address start)
{
    struct allocation found;
    if (!out || !find(start, DEVICE, &found))
        return INVALID_VALUE;
    *out = (struct memory_handle){found.start, found.size, {0}};
    return SUCCESS;
}

int do_cuIpcOpenMemHandle(address *out, struct memory_handle handle, unsigned flags)
{
    if (!out || !handle.size || flags != 1)
        return INVALID_VALUE;
    *out = take_addresses(handle.size, 0);
    remember(*out, handle.size, IMPORTED, flags);
    return SUCCESS;
}

int do_cuIpcCloseMemHandle(address start)
{
    struct allocation gone;
    return forget(start, IMPORTED, &gone) ? SUCCESS : INVALID_VALUE;
}

struct event_handle {
    struct event *event;
    char reserved[56];
};

int do_cuIpcGetEventHandle(struct event_handle *out, struct event *event)
{
    if (!out || !event)
        return INVALID_VALUE;
    *out = (struct event_handle){event, {0}};
    return SUCCESS;
}

int do_cuIpcOpenEventHandle(struct event **out, struct event_handle handle)
{
    if (!out || !handle.event)
        return INVALID_VALUE;
    return do_cuEventCreate(out, 0);
}
