// Virtual memory management: address ranges, physical memory, and mappings of one to the other.
#include "driver.h"

#define GRANULARITY (2u << 20)

// CUmemGenericAllocationHandle
struct physical {
    size_t size;
    atomic_int users;
    char properties[32]; // CUmemAllocationProp
};

int do_cuMemAddressReserve(address *out, size_t size, size_t alignment, address wanted, uint64_t flags)
{
    (void)wanted;
    if (!out || !size || size % GRANULARITY || flags)
        return INVALID_VALUE;
    *out = take_addresses(size, alignment > GRANULARITY ? alignment : GRANULARITY);
    remember(*out, size, RESERVED, 0);
    return SUCCESS;
}

int do_cuMemAddressFree(address start, size_t size)
{
    struct allocation gone;
    (void)size;
    return forget(start, RESERVED, &gone) ? SUCCESS : INVALID_VALUE;
}

int do_cuMemCreate(struct physical **out, size_t size, const void *properties, uint64_t flags)
{
    if (!out || !size || size % GRANULARITY || !properties || flags)
        return INVALID_VALUE;
    if (!take_memory(size))
        return OUT_OF_MEMORY;
    struct physical *physical = calloc(1, sizeof *physical);
    if (!physical)
        return OUT_OF_MEMORY;
    physical->size = size;
    physical->users = 1;
    memcpy(physical->properties, properties, sizeof physical->properties);
    *out = physical;
    return SUCCESS;
}

static void release(struct physical *physical)
{
    if (--physical->users == 0) {
        return_memory(physical->size);
        free(physical);
    }
}

int do_cuMemRelease(struct physical *physical)
{
    if (!physical)
        return INVALID_VALUE;
    release(physical);
    return SUCCESS;
}

// A mapping remembers its physical memory beside it, by the same start.
static struct mapping {
    address start;
    struct physical *physical;
    struct mapping *next;
} *mappings;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

int do_cuMemMap(address start, size_t size, size_t offset, struct physical *physical, uint64_t flags)
{
    struct allocation found;
    if (!physical || !size || offset || flags || size > physical->size || !find(start, RESERVED, &found))
        return INVALID_VALUE;
    struct mapping *mapping = malloc(sizeof *mapping);
    if (!mapping)
        return OUT_OF_MEMORY;
    physical->users++;
    pthread_mutex_lock(&lock);
    *mapping = (struct mapping){start, physical, mappings};
    mappings = mapping;
    pthread_mutex_unlock(&lock);
    remember(start, size, MAPPED, 0);
    return SUCCESS;
}

int do_cuMemUnmap(address start, size_t size)
{
    struct allocation gone;
    (void)size;
    if (!forget(start, MAPPED, &gone))
        return INVALID_VALUE;
    pthread_mutex_lock(&lock);
    for (struct mapping **at = &mappings; *at; at = &(*at)->next)
        if ((*at)->start == start) {
            struct mapping *mapping = *at;
            *at = mapping->next;
            release(mapping->physical);
            free(mapping);
            break;
        }
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

int do_cuMemSetAccess(address start, size_t size, const void *descriptions, size_t count)
{
    struct allocation found;
    return size && descriptions && count && find(start, MAPPED, &found) ? SUCCESS : INVALID_VALUE;
}

int do_cuMemGetAccess(uint64_t *flags, const void *location, address start)
{
    struct allocation found;
    if (!flags || !location || !find(start, MAPPED, &found))
        return INVALID_VALUE;
    *flags = 3; // CU_MEM_ACCESS_FLAGS_PROT_READWRITE
    return SUCCESS;
}

int do_cuMemGetAllocationGranularity(size_t *out, const void *properties, unsigned option)
{
    if (!out || !properties || option > 1)
        return INVALID_VALUE;
    *out = GRANULARITY;
    return SUCCESS;
}

int do_cuMemGetAllocationPropertiesFromHandle(void *out, struct physical *physical)
{
    if (!out || !physical)
        return INVALID_VALUE;
    memcpy(out, physical->properties, sizeof physical->properties);
    return SUCCESS;
}

int do_cuMemRetainAllocationHandle(struct physical **out, address within)
{
    struct allocation found;
    if (!out || !find(within, MAPPED, &found))
        return INVALID_VALUE;
    int result = INVALID_VALUE;
    pthread_mutex_lock(&lock);
    for (struct mapping *mapping = mappings; mapping; mapping = mapping->next)
        if (mapping->start == found.start) {
            mapping->physical->users++;
            *out = mapping->physical;
            result = SUCCESS;
        }
    pthread_mutex_unlock(&lock);
    return result;
}
