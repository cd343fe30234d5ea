// Launches, and what is asked of a kernel.
#include "runtime.h"

// By value this takes two registers: x and y in one, z in the next.
struct dim3 {
    unsigned x, y, z;
};

// cudaLaunchConfig_t
struct launch_config {
    struct dim3 grid, block;
    size_t shared_memory;
    void *stream;
    void *attributes;
    unsigned attribute_count;
};

// CUlaunchConfig
struct driver_launch_config {
    struct dim3 grid, block;
    unsigned shared_memory;
    void *stream;
    void *attributes;
    unsigned attribute_count;
};

static int launch(const struct driver *driver, const void *function, struct dim3 grid, struct dim3 block, void **arguments,
                  size_t shared_memory, void *stream)
{
    void *kernel;
    int code = kernel_of(function, &kernel);
    return code ? code
                : driver->cuLaunchKernel(kernel, grid.x, grid.y, grid.z, block.x, block.y, block.z, (unsigned)shared_memory, stream,
                                         arguments, NULL);
}

static int launch_cooperative(const struct driver *driver, const void *function, struct dim3 grid, struct dim3 block,
                              void **arguments, size_t shared_memory, void *stream)
{
    void *kernel;
    int code = kernel_of(function, &kernel);
    return code ? code
                : driver->cuLaunchCooperativeKernel(kernel, grid.x, grid.y, grid.z, block.x, block.y, block.z,
                                                    (unsigned)shared_memory, stream, arguments);
}

static int launch_config(const struct driver *driver, const struct launch_config *config, const void *function, void **arguments)
{
    void *kernel;
    if (!config)
        return INVALID_VALUE;
    int code = kernel_of(function, &kernel);
    if (code)
        return code;
    struct driver_launch_config translated = {
        config->grid,   config->block,      (unsigned)config->shared_memory,
        config->stream, config->attributes, config->attribute_count,
    };
    return driver->cuLaunchKernelEx(&translated, kernel, arguments, NULL);
}

#define FORMS(suffix, driver)                                                                                              \
    int do_cudaLaunchKernel##suffix(const void *function, struct dim3 grid, struct dim3 block, void **arguments,           \
                                    size_t shared_memory, void *stream)                                                    \
    {                                                                                                                      \
        return finish(launch(driver(), function, grid, block, arguments, shared_memory, stream));                          \
    }                                                                                                                      \
    int do_cudaLaunchCooperativeKernel##suffix(const void *function, struct dim3 grid, struct dim3 block,                  \
                                               void **arguments, size_t shared_memory, void *stream)                       \
    {                                                                                                                      \
        return finish(launch_cooperative(driver(), function, grid, block, arguments, shared_memory, stream));              \
    }                                                                                                                      \
    int do_cudaLaunchKernelExC##suffix(const struct launch_config *config, const void *function, void **arguments)         \
    {                                                                                                                      \
        return finish(launch_config(driver(), config, function, arguments));                                               \
    }

FORMS(, legacy)
FORMS(_ptsz, per_thread)

// What the stubs of programs for CUDA 13 call. As in libcudart 13 it only calls the other export.
#define WRAPPER(suffix)                                                                                                    \
    int cudaLaunchKernel##suffix(const void *, struct dim3, struct dim3, void **, size_t, void *);                         \
    int do___cudaLaunchKernel##suffix(const void *kernel, struct dim3 grid, struct dim3 block, void **arguments,           \
                                      size_t shared_memory, void *stream)                                                  \
    {                                                                                                                      \
        return cudaLaunchKernel##suffix(kernel, grid, block, arguments, shared_memory, stream);                            \
    }

WRAPPER()
WRAPPER(_ptsz)
FORWARD_TWIN(3, cudaLaunchHostFunc, _ptsz, cuLaunchHostFunc)

// What `kernel<<<...>>>` leaves for the stub that launches it.
static __thread struct configuration {
    struct dim3 grid, block;
    size_t shared_memory;
    void *stream;
    bool pushed;
} pushed;

int do___cudaPushCallConfiguration(struct dim3 grid, struct dim3 block, size_t shared_memory, void *stream)
{
    pushed = (struct configuration){grid, block, shared_memory, stream, true};
    return SUCCESS;
}

int do___cudaPopCallConfiguration(struct dim3 *grid, struct dim3 *block, size_t *shared_memory, void **stream)
{
    if (!pushed.pushed)
        return finish(MISSING_CONFIGURATION);
    *grid = pushed.grid;
    *block = pushed.block;
    *shared_memory = pushed.shared_memory;
    *stream = pushed.stream;
    pushed.pushed = false;
    return SUCCESS;
}

// The head of cudaFuncAttributes.
struct function_attributes {
    size_t shared_memory, constant_memory, local_memory;
    int threads_per_block, registers, ptx_version, binary_version;
};

int do_cudaFuncGetAttributes(struct function_attributes *out, const void *function)
{
    void *kernel;
    int code = out ? kernel_of(function, &kernel) : INVALID_VALUE;
    if (code)
        return finish(code);
    *out = (struct function_attributes){.ptx_version = 90, .binary_version = 90};
    return finish(legacy()->cuFuncGetAttribute(&out->threads_per_block, 0, kernel));
}

// Functions of (kernel, ...) and of (out, kernel, ...).
#define OF_KERNEL(name, call)                                                \
    int do_##name(const void *function, word b, word c)                      \
    {                                                                        \
        void *kernel;                                                        \
        int code = kernel_of(function, &kernel);                             \
        return finish(code ? code : legacy()->call(kernel, b, c));           \
    }
#define OUT_OF_KERNEL(name, call)                                            \
    int do_##name(word out, const void *function, word c, word d, word e)    \
    {                                                                        \
        void *kernel;                                                        \
        int code = kernel_of(function, &kernel);                             \
        return finish(code ? code : legacy()->call(out, kernel, c, d, e));   \
    }
OF_KERNEL(cudaFuncSetAttribute, cuFuncSetAttribute)
OF_KERNEL(cudaFuncSetCacheConfig, cuFuncSetCacheConfig)
OUT_OF_KERNEL(cudaFuncGetName, cuFuncGetName)
OUT_OF_KERNEL(cudaOccupancyMaxActiveBlocksPerMultiprocessor, cuOccupancyMaxActiveBlocksPerMultiprocessor)
OUT_OF_KERNEL(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags)
OUT_OF_KERNEL(cudaOccupancyAvailableDynamicSMemPerBlock, cuOccupancyAvailableDynamicSMemPerBlock)
OUT_OF_KERNEL(cudaOccupancyMaxPotentialClusterSize, cuOccupancyMaxPotentialClusterSize)
OUT_OF_KERNEL(cudaOccupancyMaxActiveClusters, cuOccupancyMaxActiveClusters)

FORWARD(8, cudaLibraryLoadData, cuLibraryLoadData)
FORWARD(8, cudaLibraryLoadFromFile, cuLibraryLoadFromFile)
FORWARD(1, cudaLibraryUnload, cuLibraryUnload)
FORWARD(3, cudaLibraryGetKernel, cuLibraryGetKernel)
FORWARD(2, cudaLibraryGetKernelCount, cuLibraryGetKernelCount)
FORWARD(3, cudaLibraryEnumerateKernels, cuLibraryEnumerateKernels)
FORWARD(4, cudaLibraryGetGlobal, cuLibraryGetGlobal)

int do_cudaKernelSetAttributeForDevice(void *kernel, int attribute, int value, int device)
{
    return finish(legacy()->cuKernelSetAttribute(attribute, value, kernel, device));
}
