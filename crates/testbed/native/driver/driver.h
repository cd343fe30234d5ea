// Types and shared state of the stand-in driver. Handles are pointers to these, as in the real one.
#pragma once
#define _GNU_SOURCE
#include "../counts.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    ILLEGAL_STATE = 401,
};

typedef uint64_t address; // CUdeviceptr

struct context {
    uint64_t id;
    unsigned flags;
};

struct graph;

// One stream capture. Never freed: streams and events that joined it may outlive it.
struct capture {
    uint64_t id;
    struct graph *graph;
    atomic_bool active;
};

struct stream {
    uint64_t id;
    unsigned flags;
    int priority;
    _Atomic int64_t busy_until; // When the work queued so far will be done, CLOCK_MONOTONIC nanoseconds.
    struct capture *capture;
    // Of the latest launches when each will be done, and how many launches there were: see CUDA_STANDIN_QUEUE.
    int64_t *queue;
    uint64_t queued;
};

struct event {
    unsigned flags;
    int64_t done_at;
    struct capture *capture;
};

// CUmodule and CUlibrary.
struct module {
    struct function *functions;
    struct global *globals;
    struct module *module; // Of a library: the module behind it.
    pthread_mutex_t lock;
};

#define FUNCTION_MAGIC 0x66756e63

// CUfunction and CUkernel.
struct function {
    unsigned magic;
    int attributes[16];
    struct module *module;
    struct function *function; // Of a kernel: the function behind it.
    struct function *next;
    char name[];
};

// The part of a launch that the different launch functions share.
struct launch {
    struct function *function;
    unsigned grid[3];
    unsigned block[3];
    size_t shared_memory;
};

// CUlaunchConfig
struct launch_config {
    unsigned grid[3];
    unsigned block[3];
    unsigned shared_memory;
    struct stream *stream;
    void *attributes;
    unsigned attribute_count;
};

// CUDA_KERNEL_NODE_PARAMS_v2
struct kernel_parameters {
    struct function *function;
    unsigned grid[3];
    unsigned block[3];
    unsigned shared_memory;
    void **parameters;
    void **extra;
    struct function *kernel;
    struct context *context;
};

enum node_type {
    NODE_KERNEL = 0,
    NODE_MEMCPY = 1,
    NODE_MEMSET = 2,
    NODE_HOST = 3,
    NODE_GRAPH = 4,
    NODE_EMPTY = 5,
    NODE_WAIT_EVENT = 6,
    NODE_EVENT_RECORD = 7,
    NODE_MEM_ALLOC = 10,
    NODE_MEM_FREE = 11,
};

// CUgraphNode
struct node {
    enum node_type type;
    struct graph *graph;
    struct launch launch;
};

// CUgraph
struct graph {
    struct node **nodes;
    size_t count, room;
    pthread_mutex_t lock;
};

// How an address came to be; decides what may free it.
enum kind {
    DEVICE = 1,
    MANAGED = 2,
    HOST = 4,
    REGISTERED = 8,
    RESERVED = 16, // An address range with no memory behind it.
    MAPPED = 32,
    IMPORTED = 64, // Another process's memory, opened here.
};

struct allocation {
    address start;
    size_t size;
    unsigned kind;
    unsigned flags;
};

// memory.c
int allocate_device(address *out, size_t size, unsigned flags);
int release_device(address start);
bool take_memory(size_t size);
void return_memory(size_t size);
address take_addresses(size_t size, size_t alignment);
void remember(address start, size_t size, unsigned kind, unsigned flags);
bool forget(address start, unsigned kinds, struct allocation *out);
bool find(address within, unsigned kinds, struct allocation *out);

// stream.c
struct stream *stream_of(void *handle);
struct graph *capturing(struct stream *stream);
int64_t now(void);
void wait_until(int64_t when);
void queue_work(struct stream *stream, int64_t nanoseconds);
int begin_capture(struct stream *stream, struct graph *graph);

// launch.c
int launch_kernel(const struct launch *launch, void *stream);
int64_t device_time(const struct launch *launch);
void spend_launch_time(void);

// graph.c
struct graph *new_graph(void);
struct node *add_node(struct graph *graph, enum node_type type, const struct launch *launch);
const struct node *const *last_node(struct graph *graph, size_t *count);

// Exported functions that others here build on.
int do_cuMemGetInfo(size_t *available, size_t *total);
int do_cuCtxGetCurrent(struct context **out);
int do_cuEventCreate(struct event **out, unsigned flags);

// Work other than a kernel: recorded while the stream captures, else done at once.
int queue_other(void *stream, enum node_type type);
