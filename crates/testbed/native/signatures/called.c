// See called.h.
#include "called.h"

#include "counts.h"

#include <inttypes.h>
#include <stdio.h>

// Nothing is to be prepared before the first call.
int standin_prepare_library(void) { return 0; }
void standin_forked(void) {}

static int is_driver(void) { return !strncmp(standin_soname, "libcuda.so", 10); }

uint64_t random_state;

__attribute__((constructor)) static void seed(void) { random_state = is_driver() ? 0xd : 0x5; }

static int fails;

void begin(const char *function)
{
    fails = mode() == FAILING;
    printf("{\"type\":\"%s\",\"func\":\"%s\",\"phase\":\"call\",\"depth\":0", is_driver() ? "cuda_api" : "cuda_runtime",
           function);
}

int is_there(enum reach reach) { return reach == GIVEN || (mode() != UNREADABLE && !(reach == RESULT && fails)); }

void print_nothing(const char *key) { printf(",\"%s\":null", key); }

void print_number(const char *key, uint64_t value)
{
    if (value == NONE)
        print_nothing(key);
    else
        printf(",\"%s\":%" PRIu64, key, value);
}

void print_handle(const char *key, uint64_t value)
{
    if (value == NONE)
        print_nothing(key);
    else
        printf(",\"%s\":\"0x%" PRIx64 "\"", key, value);
}

void print_triple(const char *key, dim3 value) { printf(",\"%s\":[%u,%u,%u]", key, value.x, value.y, value.z); }

void print_text(const char *key, const char *value)
{
    if (value)
        printf(",\"%s\":\"%s\"", key, value);
    else
        print_nothing(key);
}

// Kernels with names: a process calls few functions that name one.
static struct {
    uint64_t handle;
    char name[96];
} kernels[1024];
static unsigned kernel_count;

static void learn_kernel(uint64_t handle, const char *name)
{
    if (kernel_count == sizeof kernels / sizeof *kernels)
        abort();
    kernels[kernel_count].handle = handle;
    snprintf(kernels[kernel_count].name, sizeof kernels->name, "%s", name);
    kernel_count++;
}

const char *kernel_of(uint64_t handle)
{
    for (unsigned i = kernel_count; i--;)
        if (kernels[i].handle == handle)
            return kernels[i].name;
    return NULL;
}

void print_kernel(uint64_t handle, const char *name)
{
    if (name && mode() != UNREADABLE)
        learn_kernel(handle, name);
    print_text("kernel", kernel_of(handle));
}

// Codes with names in both headers, and one that has none.
static const struct {
    uint32_t code;
    const char *driver, *runtime;
} errors[] = {
    {1, "CUDA_ERROR_INVALID_VALUE", "cudaErrorInvalidValue"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "cudaErrorMemoryAllocation"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "cudaErrorInvalidResourceHandle"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "cudaErrorIllegalAddress"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "cudaErrorLaunchFailure"},
    {999, "CUDA_ERROR_UNKNOWN", "cudaErrorUnknown"},
    {0xfedcba98, NULL, NULL},
};

// The upper half of the register is not the code's.
uint64_t end_with_code(void)
{
    static unsigned ended;
    uint32_t code = 0;
    if (fails) {
        unsigned which = ended++ % (sizeof errors / sizeof *errors);
        code = errors[which].code;
        const char *name = is_driver() ? errors[which].driver : errors[which].runtime;
        if (name)
            print_text("error", name);
    }
    printf(",\"ret\":%" PRIu32 "}\n", code);
    return random_word() << 32 | code;
}

void *end_with_pointer(void)
{
    uint64_t pointer = random_word();
    printf(",\"ret\":null,\"result\":\"0x%" PRIx64 "\"}\n", pointer);
    return (void *)pointer;
}

void end_with_nothing(void) { puts(",\"ret\":null}"); }

// `cudaMemcpyKind` of driver_types.h.
const char *memcpy_kind(unsigned kind)
{
    switch (kind) {
    case 0: return "HtoH";
    case 1: return "HtoD";
    case 2: return "DtoH";
    case 3: return "DtoD";
    case 4: return "default";
    default: return NULL;
    }
}

// `CUmemorytype` of cuda.h: 1 host, 2 device, 3 array, which is on the device, 4 unified.
const char *between(unsigned source, unsigned destination)
{
    if (source < 1 || source > 4 || destination < 1 || destination > 4)
        return NULL;
    if (source == 4 || destination == 4)
        return "default";
    if (source == 1)
        return destination == 1 ? "HtoH" : "HtoD";
    return destination == 1 ? "DtoH" : "DtoD";
}

uint64_t located(unsigned type, uint64_t host, uint64_t device)
{
    return type == 1 ? host : type == 2 || type == 4 ? device : NONE;
}
