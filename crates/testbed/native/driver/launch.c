// Kernel launches and host functions.
#include "driver.h"

#define MULTIPROCESSORS 132

static pthread_once_t read_settings = PTHREAD_ONCE_INIT;
static int64_t kernel_time; // On the device, per wave of blocks.
static int64_t launch_time; // On the processor, per launch.
static int64_t queue_size;  // Launches that a stream holds before the next one blocks; 0 for any number.

static void settings(void)
{
    kernel_time = standin_setting("CUDA_STANDIN_KERNEL_NS", 0);
    launch_time = standin_setting("CUDA_STANDIN_LAUNCH_NS", 0);
    queue_size = standin_setting("CUDA_STANDIN_QUEUE", 0);
}

// A kernel takes one unit of time for each block per multiprocessor.
int64_t device_time(const struct launch *launch)
{
    pthread_once(&read_settings, settings);
    if (!kernel_time)
        return 0;
    uint64_t blocks = (uint64_t)launch->grid[0] * launch->grid[1] * launch->grid[2];
    return kernel_time * ((blocks + MULTIPROCESSORS - 1) / MULTIPROCESSORS);
}

void spend_launch_time(void)
{
    pthread_once(&read_settings, settings);
    if (!launch_time)
        return;
    int64_t end = now() + launch_time;
    while (now() < end)
        ;
}

// Waits until the stream has room. One thread at a time may launch into a stream that has a size.
static int64_t *wait_for_room(struct stream *stream)
{
    if (queue_size <= 0)
        return NULL;
    if (!stream->queue)
        stream->queue = calloc((size_t)queue_size, sizeof *stream->queue);
    if (!stream->queue)
        return NULL;
    int64_t *oldest = &stream->queue[stream->queued++ % (uint64_t)queue_size];
    wait_until(*oldest);
    return oldest;
}

int launch_kernel(const struct launch *launch, void *handle)
{
    const struct function *function = launch->function;
    if (!function || function->magic != FUNCTION_MAGIC)
        return INVALID_HANDLE;
    const unsigned *grid = launch->grid, *block = launch->block;
    if (!grid[0] || !grid[1] || !grid[2] || !block[0] || !block[1] || !block[2])
        return INVALID_VALUE;
    if ((uint64_t)block[0] * block[1] * block[2] > 1024 || launch->shared_memory > 232448)
        return INVALID_VALUE;
    spend_launch_time();
    struct stream *stream = stream_of(handle);
    struct graph *graph = capturing(stream);
    if (graph)
        return add_node(graph, NODE_KERNEL, launch) ? SUCCESS : OUT_OF_MEMORY;
    int64_t *done = wait_for_room(stream);
    queue_work(stream, device_time(launch));
    if (done)
        *done = stream->busy_until;
    return SUCCESS;
}

int do_cuLaunchKernel(struct function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                      unsigned block_z, unsigned shared_memory, void *stream, void **parameters, void **extra)
{
    (void)parameters, (void)extra;
    struct launch launch = {function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_memory};
    return launch_kernel(&launch, stream);
}

int do_cuLaunchCooperativeKernel(struct function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                 unsigned block_y, unsigned block_z, unsigned shared_memory, void *stream, void **parameters)
{
    return do_cuLaunchKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_memory, stream, parameters, NULL);
}

int do_cuLaunchKernelEx(const struct launch_config *config, struct function *function, void **parameters, void **extra)
{
    (void)parameters, (void)extra;
    if (!config)
        return INVALID_VALUE;
    struct launch launch = {function, {config->grid[0], config->grid[1], config->grid[2]},
                            {config->block[0], config->block[1], config->block[2]}, config->shared_memory};
    return launch_kernel(&launch, config->stream);
}

int do_cuLaunchHostFunc(void *handle, void (*function)(void *), void *data)
{
    if (!function)
        return INVALID_VALUE;
    struct stream *stream = stream_of(handle);
    if (capturing(stream))
        return queue_other(handle, NODE_HOST);
    wait_until(stream->busy_until);
    function(data);
    return SUCCESS;
}

int do_cuOccupancyMaxActiveBlocksPerMultiprocessor(int *out, struct function *function, int block_size)
{
    if (!out || block_size < 1 || block_size > 1024)
        return INVALID_VALUE;
    if (!function)
        return INVALID_HANDLE;
    *out = 2048 / block_size > 32 ? 32 : 2048 / block_size;
    return SUCCESS;
}

int do_cuOccupancyMaxPotentialBlockSize(int *least_grid, int *block_size, struct function *function)
{
    if (!least_grid || !block_size)
        return INVALID_VALUE;
    if (!function)
        return INVALID_HANDLE;
    *least_grid = 2 * MULTIPROCESSORS;
    *block_size = 1024;
    return SUCCESS;
}

int do_cuOccupancyAvailableDynamicSMemPerBlock(size_t *out, struct function *function, int blocks, int block_size)
{
    if (!out || blocks < 1 || block_size < 1)
        return INVALID_VALUE;
    if (!function)
        return INVALID_HANDLE;
    *out = 232448 / blocks;
    return SUCCESS;
}

int do_cuOccupancyMaxPotentialClusterSize(int *out, struct function *function, const void *config)
{
    if (!out || !config)
        return INVALID_VALUE;
    if (!function)
        return INVALID_HANDLE;
    *out = 8;
    return SUCCESS;
}
