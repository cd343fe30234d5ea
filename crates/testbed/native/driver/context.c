// Contexts: the primary one of the device, others, and the current one of each thread.
#include "driver.h"

static struct context primary = {.id = 1};
static atomic_int primary_users;
static atomic_uint_fast64_t last_id = 1;

#define STACK_DEPTH 16
static __thread struct context *stack[STACK_DEPTH];
static __thread unsigned depth;

static struct context *current(void)
{
    return depth ? stack[depth - 1] : NULL;
}

int do_cuDevicePrimaryCtxRetain(struct context **out, int device)
{
    if (device)
        return INVALID_DEVICE;
    if (!out)
        return INVALID_VALUE;
    primary_users++;
    *out = &primary;
    return SUCCESS;
}

int do_cuDevicePrimaryCtxRelease(int device)
{
    if (device)
        return INVALID_DEVICE;
    if (!primary_users)
        return INVALID_CONTEXT;
    primary_users--;
    return SUCCESS;
}

int do_cuDevicePrimaryCtxReset(int device)
{
    return device ? INVALID_DEVICE : SUCCESS;
}

int do_cuDevicePrimaryCtxSetFlags(int device, unsigned flags)
{
    if (device)
        return INVALID_DEVICE;
    primary.flags = flags;
    return SUCCESS;
}

int do_cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active)
{
    if (device)
        return INVALID_DEVICE;
    if (!flags || !active)
        return INVALID_VALUE;
    *flags = primary.flags;
    *active = primary_users > 0;
    return SUCCESS;
}

int do_cuCtxSetCurrent(struct context *context)
{
    if (context) {
        depth += !depth;
        stack[depth - 1] = context;
    } else {
        depth -= !!depth;
    }
    return SUCCESS;
}

int do_cuCtxPushCurrent(struct context *context)
{
    if (!context)
        return INVALID_CONTEXT;
    if (depth == STACK_DEPTH)
        return OUT_OF_MEMORY;
    stack[depth++] = context;
    return SUCCESS;
}

int do_cuCtxPopCurrent(struct context **out)
{
    if (!depth)
        return INVALID_CONTEXT;
    depth--;
    if (out)
        *out = stack[depth];
    return SUCCESS;
}

int do_cuCtxGetCurrent(struct context **out)
{
    if (!out)
        return INVALID_VALUE;
    *out = current();
    return SUCCESS;
}

int do_cuCtxCreate(struct context **out, unsigned flags, int device)
{
    if (device)
        return INVALID_DEVICE;
    if (!out)
        return INVALID_VALUE;
    struct context *context = calloc(1, sizeof *context);
    if (!context)
        return OUT_OF_MEMORY;
    context->id = ++last_id;
    context->flags = flags;
    *out = context;
    return do_cuCtxPushCurrent(context);
}

int do_cuCtxCreate_v3(struct context **out, void *affinity, int count, unsigned flags, int device)
{
    (void)affinity, (void)count;
    return do_cuCtxCreate(out, flags, device);
}

int do_cuCtxCreate_v4(struct context **out, void *parameters, unsigned flags, int device)
{
    (void)parameters;
    return do_cuCtxCreate(out, flags, device);
}

int do_cuCtxDestroy(struct context *context)
{
    if (!context || context == &primary)
        return INVALID_CONTEXT;
    if (current() == context)
        depth--;
    free(context);
    return SUCCESS;
}

int do_cuCtxGetDevice(int *device)
{
    if (!device)
        return INVALID_VALUE;
    if (!current())
        return INVALID_CONTEXT;
    *device = 0;
    return SUCCESS;
}

int do_cuCtxGetDevice_v2(int *device, struct context *context)
{
    if (context && device) {
        *device = 0;
        return SUCCESS;
    }
    return do_cuCtxGetDevice(device);
}

int do_cuCtxGetFlags(unsigned *flags)
{
    if (!flags)
        return INVALID_VALUE;
    if (!current())
        return INVALID_CONTEXT;
    *flags = current()->flags;
    return SUCCESS;
}

int do_cuCtxSetFlags(unsigned flags)
{
    if (!current())
        return INVALID_CONTEXT;
    current()->flags = flags;
    return SUCCESS;
}

int do_cuCtxGetId(struct context *context, uint64_t *id)
{
    context = context ? context : current();
    if (!id)
        return INVALID_VALUE;
    if (!context)
        return INVALID_CONTEXT;
    *id = context->id;
    return SUCCESS;
}

int do_cuCtxGetApiVersion(struct context *context, unsigned *version)
{
    (void)context;
    if (!version)
        return INVALID_VALUE;
    *version = 3020;
    return SUCCESS;
}

// The limits of CUlimit, with the defaults of the real driver for the ones applications set.
static size_t limits[16] = {1024, 1 << 20, 8 << 20, 2, 2048};

int do_cuCtxSetLimit(unsigned limit, size_t value)
{
    if (limit >= sizeof limits / sizeof *limits)
        return INVALID_VALUE;
    limits[limit] = value;
    return SUCCESS;
}

int do_cuCtxGetLimit(size_t *value, unsigned limit)
{
    if (!value || limit >= sizeof limits / sizeof *limits)
        return INVALID_VALUE;
    *value = limits[limit];
    return SUCCESS;
}

int do_cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
    if (least)
        *least = 0;
    if (greatest)
        *greatest = -5;
    return SUCCESS;
}
