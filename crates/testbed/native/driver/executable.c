// Executable graphs: instantiated from a graph, updated and launched.
#include "driver.h"

// CUgraphExec
struct executable {
    uint64_t flags;
    size_t nodes;
    int64_t device_time;
};

// CUgraphExecUpdateResultInfo
struct update_result {
    int result;
    struct node *error_node, *error_from_node;
};

static void fill_executable(struct executable *executable, const struct graph *graph)
{
    executable->nodes = graph->count;
    executable->device_time = 0;
    for (size_t i = 0; i < graph->count; i++)
        if (graph->nodes[i]->type == NODE_KERNEL)
            executable->device_time += device_time(&graph->nodes[i]->launch);
}

int do_cuGraphInstantiateWithFlags(struct executable **out, struct graph *graph, uint64_t flags)
{
    if (!out || !graph)
        return INVALID_VALUE;
    struct executable *executable = calloc(1, sizeof *executable);
    if (!executable)
        return OUT_OF_MEMORY;
    executable->flags = flags;
    fill_executable(executable, graph);
    *out = executable;
    return SUCCESS;
}

// CUDA_GRAPH_INSTANTIATE_PARAMS begins with the flags.
int do_cuGraphInstantiateWithParams(struct executable **out, struct graph *graph, const uint64_t *parameters)
{
    return parameters ? do_cuGraphInstantiateWithFlags(out, graph, *parameters) : INVALID_VALUE;
}

int do_cuGraphUpload(struct executable *executable, void *stream)
{
    (void)stream;
    return executable ? SUCCESS : INVALID_VALUE;
}

int do_cuGraphLaunch(struct executable *executable, void *handle)
{
    if (!executable)
        return INVALID_VALUE;
    spend_launch_time();
    struct stream *stream = stream_of(handle);
    if (capturing(stream))
        return queue_other(handle, NODE_GRAPH);
    queue_work(stream, executable->device_time);
    return SUCCESS;
}

int do_cuGraphExecUpdate(struct executable *executable, struct graph *graph, struct update_result *result)
{
    if (!executable || !graph || !result)
        return INVALID_VALUE;
    *result = (struct update_result){0};
    if (graph->count != executable->nodes) {
        result->result = 2; // CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED
        return 910;         // CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE
    }
    fill_executable(executable, graph);
    return SUCCESS;
}

int do_cuGraphExecKernelNodeSetParams(struct executable *executable, struct node *node, const struct kernel_parameters *what)
{
    return executable && node && what ? SUCCESS : INVALID_VALUE;
}

int do_cuGraphExecGetFlags(struct executable *executable, uint64_t *flags)
{
    if (!executable || !flags)
        return INVALID_VALUE;
    *flags = executable->flags;
    return SUCCESS;
}

int do_cuGraphExecDestroy(struct executable *executable)
{
    if (!executable)
        return INVALID_VALUE;
    free(executable);
    return SUCCESS;
}
