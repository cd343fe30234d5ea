// Device, managed and host memory: addresses are handed out and remembered, nothing lies behind the device's.
#include "driver.h"

#define CAPACITY (80ull << 30)
#define ALIGNMENT 512

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct allocation *table; // Open addressing; a zero kind marks a free slot, an empty start a deleted one.
static size_t slots, used_slots;
static _Atomic size_t memory_used;
// Below every mapping of a 64-bit process, so that no host address is taken for a device address.
static _Atomic address next_address = 0x302000000;

address take_addresses(size_t size, size_t alignment)
{
    alignment = alignment > ALIGNMENT ? alignment : ALIGNMENT;
    size_t step = (size + alignment + ALIGNMENT) & ~(size_t)(ALIGNMENT - 1);
    address start = atomic_fetch_add(&next_address, step);
    return (start + alignment - 1) / alignment * alignment;
}

bool take_memory(size_t size)
{
    size_t used = memory_used;
    do {
        if (size > CAPACITY - used)
            return false;
    } while (!atomic_compare_exchange_weak(&memory_used, &used, used + size));
    return true;
}

void return_memory(size_t size)
{
    memory_used -= size;
}

static size_t slot_of(address start)
{
    return (start >> 9) * 0x9e3779b97f4a7c15 >> 20 & (slots - 1);
}

static void insert(struct allocation allocation)
{
    size_t slot = slot_of(allocation.start);
    while (table[slot].kind)
        slot = (slot + 1) & (slots - 1);
    table[slot] = allocation;
    used_slots++;
}

static void grow(void)
{
    struct allocation *old = table;
    size_t old_slots = slots;
    slots = slots ? slots * 2 : 1024;
    table = calloc(slots, sizeof *table);
    if (!table)
        abort();
    used_slots = 0;
    for (size_t i = 0; i < old_slots; i++)
        if (old[i].start)
            insert(old[i]);
    free(old);
}

void remember(address start, size_t size, unsigned kind, unsigned flags)
{
    pthread_mutex_lock(&lock);
    if (used_slots * 2 >= slots)
        grow();
    insert((struct allocation){start, size, kind, flags});
    pthread_mutex_unlock(&lock);
}

static struct allocation *exactly(address start, unsigned kinds)
{
    if (!start || !slots)
        return NULL;
    for (size_t slot = slot_of(start); table[slot].kind; slot = (slot + 1) & (slots - 1))
        if (table[slot].start == start && table[slot].kind & kinds)
            return &table[slot];
    return NULL;
}

static struct allocation *around(address within, unsigned kinds)
{
    for (size_t i = 0; i < slots; i++)
        if (table[i].start && table[i].kind & kinds && within - table[i].start < table[i].size)
            return &table[i];
    return NULL;
}

bool forget(address start, unsigned kinds, struct allocation *out)
{
    pthread_mutex_lock(&lock);
    struct allocation *allocation = exactly(start, kinds);
    if (allocation) {
        *out = *allocation;
        allocation->start = 0;
    }
    pthread_mutex_unlock(&lock);
    return allocation;
}

bool find(address within, unsigned kinds, struct allocation *out)
{
    pthread_mutex_lock(&lock);
    struct allocation *allocation = exactly(within, kinds);
    if (!allocation)
        allocation = around(within, kinds);
    if (allocation)
        *out = *allocation;
    pthread_mutex_unlock(&lock);
    return allocation;
}

int allocate_device(address *out, size_t size, unsigned flags)
{
    if (!out || !size)
        return INVALID_VALUE;
    if (!take_memory(size))
        return OUT_OF_MEMORY;
    *out = take_addresses(size, 0);
    remember(*out, size, DEVICE, flags);
    return SUCCESS;
}

int release_device(address start)
{
    struct allocation gone;
    if (!forget(start, DEVICE | MANAGED, &gone))
        return INVALID_VALUE;
    if (gone.kind == MANAGED)
        free((void *)gone.start);
    else
        return_memory(gone.size);
    return SUCCESS;
}

int do_cuMemGetInfo(size_t *available, size_t *total)
{
    if (!available || !total)
        return INVALID_VALUE;
    *total = CAPACITY;
    *available = CAPACITY - memory_used;
    return SUCCESS;
}

int do_cuMemAlloc(address *out, size_t size)
{
    return allocate_device(out, size, 0);
}

int do_cuMemAllocPitch(address *out, size_t *pitch, size_t width, size_t height, unsigned element)
{
    if (!pitch || (element != 4 && element != 8 && element != 16))
        return INVALID_VALUE;
    *pitch = (width + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    return allocate_device(out, *pitch * height, 0);
}

int do_cuMemFree(address start)
{
    return release_device(start);
}

int do_cuMemGetAddressRange(address *base, size_t *size, address within)
{
    struct allocation found;
    if (!find(within, DEVICE | MANAGED | MAPPED | IMPORTED, &found))
        return NOT_FOUND;
    if (base)
        *base = found.start;
    if (size)
        *size = found.size;
    return SUCCESS;
}

// Host and managed memory is real: applications read and write it.
static int allocate_host(void **out, size_t size, unsigned kind, unsigned flags)
{
    if (!out || !size)
        return INVALID_VALUE;
    if (size > CAPACITY || posix_memalign(out, 4096, size))
        return OUT_OF_MEMORY;
    remember((address)*out, size, kind, flags);
    return SUCCESS;
}

int do_cuMemAllocManaged(void **out, size_t size, unsigned flags)
{
    if (flags != 1 && flags != 2)
        return INVALID_VALUE;
    return allocate_host(out, size, MANAGED, flags);
}

int do_cuMemHostAlloc(void **out, size_t size, unsigned flags)
{
    return allocate_host(out, size, HOST, flags);
}

int do_cuMemAllocHost(void **out, size_t size)
{
    return allocate_host(out, size, HOST, 0);
}

int do_cuMemFreeHost(void *start)
{
    struct allocation gone;
    if (!forget((address)start, HOST, &gone))
        return INVALID_VALUE;
    free(start);
    return SUCCESS;
}

int do_cuMemHostRegister(void *start, size_t size, unsigned flags)
{
    struct allocation found;
    if (!start || !size)
        return INVALID_VALUE;
    if (find((address)start, REGISTERED, &found))
        return 712; // CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED
    remember((address)start, size, REGISTERED, flags);
    return SUCCESS;
}

int do_cuMemHostUnregister(void *start)
{
    struct allocation gone;
    return forget((address)start, REGISTERED, &gone) ? SUCCESS : 713; // CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED
}

int do_cuMemHostGetDevicePointer(address *out, void *start, unsigned flags)
{
    struct allocation found;
    if (!out || flags || !find((address)start, HOST | REGISTERED, &found))
        return INVALID_VALUE;
    *out = (address)start;
    return SUCCESS;
}

int do_cuMemHostGetFlags(unsigned *flags, void *start)
{
    struct allocation found;
    if (!flags || !find((address)start, HOST, &found))
        return INVALID_VALUE;
    *flags = found.flags;
    return SUCCESS;
}
