// The values of a call: random bits everywhere, padding and the unused half of a register too, so
// that a wrong word or width is seen; where bits must mean something, they are cut to that.
#pragma once
#include "types.h"

#include <stdlib.h>
#include <string.h>

// How the functions of a process end, by the variable CUDA_STANDIN_MODE.
enum mode {
    OK,
    FAILING,    // With an error, though they write what they would give.
    UNREADABLE, // Well, but what they are given to write to or to read is not mapped.
};

static inline enum mode mode(void)
{
    const char *name = getenv("CUDA_STANDIN_MODE");
    return !name ? OK : !strcmp(name, "failing") ? FAILING : !strcmp(name, "unreadable") ? UNREADABLE : OK;
}

// Splitmix64; each library and the caller have their own sequence, which they seed.
extern uint64_t random_state;

static inline uint64_t random_word(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static inline void fill(void *to, size_t size)
{
    for (unsigned char *byte = to; size--; byte++)
        *byte = (unsigned char)random_word();
}

// Products of a width, a height and a depth have 62 bits; those of 32 bits and one factor keep all.
#define WIDTH_BITS 34
#define HEIGHT_BITS 18
#define DEPTH_BITS 10
#define ELEMENTS_BITS 60
#define CUT(value, bits) ((value) &= (__typeof__(value))((1ull << (bits)) - 1))
// Does not cut a value of 32 bits in a wider variable.
#define CUT_WIDE(value, type, bits) \
    ((value) &= (__typeof__(value))(sizeof(type) == 8 ? (1ull << (bits)) - 1 : ~0ull))

// One of the values that an enumeration has.
#define CHOOSE(value, first, how_many) ((value) = (__typeof__(value))((first) + random_word() % (how_many)))

static inline void prepare_extent(cudaExtent *extent)
{
    CUT(extent->width, WIDTH_BITS);
    CUT(extent->height, HEIGHT_BITS);
    CUT(extent->depth, DEPTH_BITS);
}

static inline void prepare_pitched(cudaPitchedPtr *pitched)
{
    CUT(pitched->pitch, WIDTH_BITS);
}

// Every second copy is of no array.
#define PREPARE_ARRAYS(copy)                                       \
    do {                                                           \
        unsigned which = (unsigned)(random_word() % 6);            \
        if (which != 0) (copy)->srcArray = NULL;                   \
        if (which != 1) (copy)->dstArray = NULL;                   \
        prepare_extent(&(copy)->extent);                           \
    } while (0)

static inline void prepare_runtime_copy(cudaMemcpy3DParms *copy)
{
    PREPARE_ARRAYS(copy);
    CHOOSE(copy->kind, 0, 6);
}

static inline void prepare_runtime_peer(cudaMemcpy3DPeerParms *copy)
{
    PREPARE_ARRAYS(copy);
}

// 1 to 4 are memory types, 5 is none.
#define PREPARE_TYPES(copy)                                                           \
    do {                                                                              \
        CHOOSE((copy)->srcMemoryType, 1, 5);                                          \
        CHOOSE((copy)->dstMemoryType, 1, 5);                                          \
        CUT_WIDE((copy)->WidthInBytes, __typeof__((copy)->WidthInBytes), WIDTH_BITS); \
        CUT_WIDE((copy)->Height, __typeof__((copy)->Height), HEIGHT_BITS);            \
    } while (0)

static inline void prepare_plane(CUDA_MEMCPY2D *copy) { PREPARE_TYPES(copy); }
static inline void prepare_old_plane(CUDA_MEMCPY2D_v1 *copy) { PREPARE_TYPES(copy); }
static inline void prepare_volume(CUDA_MEMCPY3D *copy) { PREPARE_TYPES(copy); CUT(copy->Depth, DEPTH_BITS); }
static inline void prepare_peer(CUDA_MEMCPY3D_PEER *copy) { PREPARE_TYPES(copy); CUT(copy->Depth, DEPTH_BITS); }
static inline void prepare_old_volume(CUDA_MEMCPY3D_v1 *copy)
{
    PREPARE_TYPES(copy);
    CUT(copy->Height, HEIGHT_BITS);
    CUT(copy->Depth, DEPTH_BITS);
}
// Every second node names its kernel by the younger member.
static inline void prepare_node(CUDA_KERNEL_NODE_PARAMS_v2 *node)
{
    if (random_word() % 2) node->func = NULL;
}
static inline void prepare_nothing(const void *any) { (void)any; }

#define PREPARE(pointer)                                                                         \
    _Generic((pointer), cudaExtent *: prepare_extent, cudaPitchedPtr *: prepare_pitched,         \
             cudaMemcpy3DParms *: prepare_runtime_copy, cudaMemcpy3DPeerParms *: prepare_runtime_peer, \
             CUDA_MEMCPY2D *: prepare_plane, CUDA_MEMCPY2D_v1 *: prepare_old_plane,              \
             CUDA_MEMCPY3D *: prepare_volume, CUDA_MEMCPY3D_v1 *: prepare_old_volume,            \
             CUDA_MEMCPY3D_PEER *: prepare_peer, CUDA_KERNEL_NODE_PARAMS_v2 *: prepare_node,     \
             default: prepare_nothing)(pointer)
