// Graphs, built node by node or by capture.
#include "driver.h"

#include <stdio.h>

struct graph *new_graph(void)
{
    struct graph *graph = calloc(1, sizeof *graph);
    if (graph)
        pthread_mutex_init(&graph->lock, NULL);
    return graph;
}

struct node *add_node(struct graph *graph, enum node_type type, const struct launch *launch)
{
    struct node *node = calloc(1, sizeof *node);
    if (!node)
        return NULL;
    node->type = type;
    node->graph = graph;
    if (launch)
        node->launch = *launch;
    pthread_mutex_lock(&graph->lock);
    if (graph->count == graph->room) {
        size_t room = graph->room ? graph->room * 2 : 64;
        struct node **nodes = realloc(graph->nodes, room * sizeof *nodes);
        if (!nodes) {
            pthread_mutex_unlock(&graph->lock);
            free(node);
            return NULL;
        }
        graph->nodes = nodes;
        graph->room = room;
    }
    graph->nodes[graph->count++] = node;
    pthread_mutex_unlock(&graph->lock);
    return node;
}

const struct node *const *last_node(struct graph *graph, size_t *count)
{
    *count = graph->count > 0;
    return *count ? (const struct node *const *)&graph->nodes[graph->count - 1] : NULL;
}

int do_cuGraphCreate(struct graph **out, unsigned flags)
{
    if (!out || flags)
        return INVALID_VALUE;
    *out = new_graph();
    return *out ? SUCCESS : OUT_OF_MEMORY;
}

int do_cuGraphDestroy(struct graph *graph)
{
    if (!graph)
        return INVALID_VALUE;
    for (size_t i = 0; i < graph->count; i++)
        free(graph->nodes[i]);
    free(graph->nodes);
    free(graph);
    return SUCCESS;
}

int do_cuGraphClone(struct graph **out, struct graph *graph)
{
    if (!out || !graph)
        return INVALID_VALUE;
    struct graph *clone = new_graph();
    for (size_t i = 0; clone && i < graph->count; i++)
        add_node(clone, graph->nodes[i]->type, &graph->nodes[i]->launch);
    *out = clone;
    return clone ? SUCCESS : OUT_OF_MEMORY;
}

static int add(struct node **out, struct graph *graph, enum node_type type, const struct launch *launch)
{
    if (!out || !graph)
        return INVALID_VALUE;
    *out = add_node(graph, type, launch);
    return *out ? SUCCESS : OUT_OF_MEMORY;
}

static struct launch launch_of(const struct kernel_parameters *what)
{
    return (struct launch){what->function ? what->function : what->kernel,
                           {what->grid[0], what->grid[1], what->grid[2]},
                           {what->block[0], what->block[1], what->block[2]},
                           what->shared_memory};
}

int do_cuGraphAddKernelNode(struct node **out, struct graph *graph, const void *dependencies, size_t count,
                            const struct kernel_parameters *what)
{
    (void)dependencies, (void)count;
    if (!what || (!what->function && !what->kernel))
        return INVALID_VALUE;
    struct launch launch = launch_of(what);
    return add(out, graph, NODE_KERNEL, &launch);
}

// f(node *out, graph, dependencies, count, what, ...), one per kind of node.
#define ADD(name, type)                                                                                      \
    int name(struct node **out, struct graph *graph, const void *dependencies, size_t count, const void *what) \
    {                                                                                                        \
        (void)dependencies, (void)count;                                                                     \
        return what ? add(out, graph, type, NULL) : INVALID_VALUE;                                           \
    }
ADD(do_cuGraphAddMemcpyNode, NODE_MEMCPY)
ADD(do_cuGraphAddMemsetNode, NODE_MEMSET)
ADD(do_cuGraphAddHostNode, NODE_HOST)
ADD(do_cuGraphAddChildGraphNode, NODE_GRAPH)
ADD(do_cuGraphAddEventRecordNode, NODE_EVENT_RECORD)
ADD(do_cuGraphAddEventWaitNode, NODE_WAIT_EVENT)

int do_cuGraphAddEmptyNode(struct node **out, struct graph *graph)
{
    return add(out, graph, NODE_EMPTY, NULL);
}

// CUgraphNodeParams: the type, padding, then what the type needs.
int do_cuGraphAddNode(struct node **out, struct graph *graph, const void *dependencies, size_t count, const int *what)
{
    if (!what)
        return INVALID_VALUE;
    if (*what == NODE_KERNEL)
        return do_cuGraphAddKernelNode(out, graph, dependencies, count, (const void *)(what + 4));
    return add(out, graph, *what, NULL);
}

int do_cuGraphAddNode_v2(struct node **out, struct graph *graph, const void *dependencies, const void *edges, size_t count,
                         const int *what)
{
    (void)edges;
    return do_cuGraphAddNode(out, graph, dependencies, count, what);
}

int do_cuGraphGetNodes(struct graph *graph, struct node **out, size_t *count)
{
    if (!graph || !count)
        return INVALID_VALUE;
    if (out)
        for (size_t i = 0; i < *count; i++)
            out[i] = i < graph->count ? graph->nodes[i] : NULL;
    *count = graph->count;
    return SUCCESS;
}

// Nodes follow one another in the order of their making, so the first is the only root.
int do_cuGraphGetRootNodes(struct graph *graph, struct node **out, size_t *count)
{
    if (!graph || !count)
        return INVALID_VALUE;
    if (out && *count && graph->count)
        out[0] = graph->nodes[0];
    *count = graph->count > 0;
    return SUCCESS;
}

static int edges_of(struct graph *graph, struct node **from, struct node **to, size_t *count)
{
    if (!graph || !count)
        return INVALID_VALUE;
    size_t edges = graph->count ? graph->count - 1 : 0;
    for (size_t i = 0; from && to && i < *count && i < edges; i++) {
        from[i] = graph->nodes[i];
        to[i] = graph->nodes[i + 1];
    }
    *count = edges;
    return SUCCESS;
}

int do_cuGraphGetEdges(struct graph *graph, struct node **from, struct node **to, size_t *count)
{
    return edges_of(graph, from, to, count);
}

int do_cuGraphGetEdges_v2(struct graph *graph, struct node **from, struct node **to, void *edges, size_t *count)
{
    (void)edges;
    return edges_of(graph, from, to, count);
}

// f(graph, from, to, ...): edges are implied by the order of the nodes.
int do_cuGraphAddDependencies(struct graph *graph)
{
    return graph ? SUCCESS : INVALID_VALUE;
}

int do_cuGraphDestroyNode(struct node *node)
{
    if (!node)
        return INVALID_VALUE;
    struct graph *graph = node->graph;
    for (size_t i = 0; i < graph->count; i++)
        if (graph->nodes[i] == node) {
            memmove(&graph->nodes[i], &graph->nodes[i + 1], (graph->count - i - 1) * sizeof *graph->nodes);
            graph->count--;
            break;
        }
    free(node);
    return SUCCESS;
}

int do_cuGraphNodeGetType(struct node *node, int *type)
{
    if (!node || !type)
        return INVALID_VALUE;
    *type = node->type;
    return SUCCESS;
}

int do_cuGraphKernelNodeGetParams(struct node *node, struct kernel_parameters *out)
{
    if (!node || !out || node->type != NODE_KERNEL)
        return INVALID_VALUE;
    const struct launch *launch = &node->launch;
    *out = (struct kernel_parameters){.function = launch->function, .shared_memory = launch->shared_memory};
    memcpy(out->grid, launch->grid, sizeof out->grid);
    memcpy(out->block, launch->block, sizeof out->block);
    return SUCCESS;
}

int do_cuGraphKernelNodeSetParams(struct node *node, const struct kernel_parameters *what)
{
    if (!node || !what || node->type != NODE_KERNEL)
        return INVALID_VALUE;
    node->launch = launch_of(what);
    return SUCCESS;
}

int do_cuGraphDebugDotPrint(struct graph *graph, const char *path, unsigned flags)
{
    (void)flags;
    FILE *out = graph && path ? fopen(path, "we") : NULL;
    if (!out)
        return INVALID_VALUE;
    fputs("digraph {\n", out);
    for (size_t i = 0; i < graph->count; i++)
        fprintf(out, "%s n%zu", i ? " ->" : "", i);
    fputs("\n}\n", out);
    fclose(out);
    return SUCCESS;
}
