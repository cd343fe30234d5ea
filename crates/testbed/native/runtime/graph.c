// Graphs.
#include "runtime.h"

struct dim3 {
    unsigned x, y, z;
};

// cudaKernelNodeParams
struct kernel_node {
    const void *function;
    struct dim3 grid, block;
    unsigned shared_memory;
    void **parameters, **extra;
};

// CUDA_KERNEL_NODE_PARAMS_v2
struct driver_kernel_node {
    void *function;
    struct dim3 grid, block;
    unsigned shared_memory;
    void **parameters, **extra;
    void *kernel, *context;
};

static int translate(const struct kernel_node *what, struct driver_kernel_node *out)
{
    if (!what)
        return INVALID_VALUE;
    *out = (struct driver_kernel_node){
        .grid = what->grid,
        .block = what->block,
        .shared_memory = what->shared_memory,
        .parameters = what->parameters,
        .extra = what->extra,
    };
    return kernel_of(what->function, &out->kernel);
}

int do_cudaGraphAddKernelNode(void **out, void *graph, const void *dependencies, size_t count, const struct kernel_node *what)
{
    struct driver_kernel_node translated;
    int code = translate(what, &translated);
    return finish(code ? code : legacy()->cuGraphAddKernelNode(out, graph, dependencies, count, &translated));
}

int do_cudaGraphKernelNodeSetParams(void *node, const struct kernel_node *what)
{
    struct driver_kernel_node translated;
    int code = translate(what, &translated);
    return finish(code ? code : legacy()->cuGraphKernelNodeSetParams(node, &translated));
}

int do_cudaGraphExecKernelNodeSetParams(void *executable, void *node, const struct kernel_node *what)
{
    struct driver_kernel_node translated;
    int code = translate(what, &translated);
    return finish(code ? code : legacy()->cuGraphExecKernelNodeSetParams(executable, node, &translated));
}

int do_cudaGraphKernelNodeGetParams(void *node, struct kernel_node *out)
{
    struct driver_kernel_node found;
    int code = out ? legacy()->cuGraphKernelNodeGetParams(node, &found) : INVALID_VALUE;
    if (!code)
        *out = (struct kernel_node){found.function,      found.grid,       found.block,
                                    found.shared_memory, found.parameters, found.extra};
    return finish(code);
}

FORWARD(2, cudaGraphCreate, cuGraphCreate)
FORWARD(1, cudaGraphDestroy, cuGraphDestroy)
FORWARD(2, cudaGraphClone, cuGraphClone)
FORWARD(5, cudaGraphAddMemsetNode, cuGraphAddMemsetNode)
FORWARD(5, cudaGraphAddHostNode, cuGraphAddHostNode)
FORWARD(5, cudaGraphAddChildGraphNode, cuGraphAddChildGraphNode)
FORWARD(4, cudaGraphAddEmptyNode, cuGraphAddEmptyNode)
FORWARD(5, cudaGraphAddEventRecordNode, cuGraphAddEventRecordNode)
FORWARD(5, cudaGraphAddEventWaitNode, cuGraphAddEventWaitNode)
FORWARD(6, cudaGraphAddNode, cuGraphAddNode)
FORWARD(3, cudaGraphGetNodes, cuGraphGetNodes)
FORWARD(3, cudaGraphGetRootNodes, cuGraphGetRootNodes)
FORWARD(5, cudaGraphGetEdges, cuGraphGetEdges)
FORWARD(5, cudaGraphAddDependencies, cuGraphAddDependencies)
FORWARD(5, cudaGraphRemoveDependencies, cuGraphRemoveDependencies)
FORWARD(1, cudaGraphDestroyNode, cuGraphDestroyNode)
FORWARD(2, cudaGraphNodeGetType, cuGraphNodeGetType)
FORWARD(3, cudaGraphInstantiate, cuGraphInstantiateWithFlags)
FORWARD(3, cudaGraphInstantiateWithFlags, cuGraphInstantiateWithFlags)
FORWARD_TWIN(3, cudaGraphInstantiateWithParams, _ptsz, cuGraphInstantiateWithParams)
FORWARD_TWIN(2, cudaGraphUpload, _ptsz, cuGraphUpload)
FORWARD_TWIN(2, cudaGraphLaunch, _ptsz, cuGraphLaunch)
FORWARD(3, cudaGraphExecUpdate, cuGraphExecUpdate)
FORWARD(2, cudaGraphExecGetFlags, cuGraphExecGetFlags)
FORWARD(1, cudaGraphExecDestroy, cuGraphExecDestroy)
FORWARD(3, cudaGraphDebugDotPrint, cuGraphDebugDotPrint)
FORWARD(5, cudaUserObjectCreate, cuUserObjectCreate)
FORWARD(2, cudaUserObjectRetain, cuUserObjectRetain)
FORWARD(2, cudaUserObjectRelease, cuUserObjectRelease)
FORWARD(4, cudaGraphRetainUserObject, cuGraphRetainUserObject)
FORWARD(3, cudaGraphReleaseUserObject, cuGraphReleaseUserObject)
