// Shared state of the stand-in runtime: the driver's entry points, the error of each thread, forwarding by shape.
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
    INSUFFICIENT_DRIVER = 35,
    INVALID_SYMBOL = 13,
    INVALID_COPY_DIRECTION = 21,
    MISSING_CONFIGURATION = 52,
    INVALID_DEVICE_FUNCTION = 98,
    INVALID_DEVICE = 101,
};

// Old-style on purpose: each caller passes what the function behind the pointer takes.
typedef int entry_point();

struct driver {
#define CALL(name, symbol, version) entry_point *name;
#include "calls.def"
#undef CALL
};

// Binds the calling thread to the device's context and gives the driver: with the legacy default stream,
// or with the per-thread one, whose functions are the `_ptsz` and `_ptds` exports.
const struct driver *legacy(void);
const struct driver *per_thread(void);

// Every runtime function returns through this: it keeps the code for cudaGetLastError.
int finish(int code);

// registration.c
int kernel_of(const void *symbol, void **kernel);
int variable_of(const void *symbol, uint64_t *start, size_t *size);

#define P0
#define P1 word a
#define P2 P1, word b
#define P3 P2, word c
#define P4 P3, word d
#define P5 P4, word e
#define P6 P5, word f
#define P7 P6, word g
#define P8 P7, word h
#define A0
#define A1 a
#define A2 A1, b
#define A3 A2, c
#define A4 A3, d
#define A5 A4, e
#define A6 A5, f
#define A7 A6, g
#define A8 A7, h

// A runtime function that is the driver's with the same arguments; TWIN adds its per-thread form.
#define FORWARD(count, name, call)                 \
    int do_##name(P##count)                        \
    {                                              \
        return finish(legacy()->call(A##count));   \
    }
#define FORWARD_TWIN(count, name, suffix, call)     \
    FORWARD(count, name, call)                      \
    int do_##name##suffix(P##count)                 \
    {                                               \
        return finish(per_thread()->call(A##count)); \
    }
