// What the calls of all functions are made from.
#pragma once
#include "values.h"

// The type that a parameter is passed as: what is narrower than a word goes with a word around it.
#define WIDE(type)                                                                                   \
    __typeof__(_Generic((type){0}, int: 0ull, unsigned int: 0ull, unsigned short: 0ull, unsigned char: 0ull, \
                        default: (type){0}))

extern unsigned turn;
// The kernel that was named last, of the driver's and of the runtime's.
extern uint64_t named_kernels[2];

// Memory of `size` bytes, behind which nothing is mapped; or an address where nothing is.
void *place(unsigned slot, size_t size);
// A name for a kernel in such memory.
const char *kernel_name(unsigned slot, const char *function);

// Not on the stack, where the tracer, one word too far up, would find the right value by chance.
#define VALUE(type, name)           \
    static WIDE(type) name;         \
    fill(&name, sizeof name);       \
    PREPARE(&name)
#define POINTEE(type, name, slot)                  \
    type *name = place(slot, sizeof(type));        \
    if (mode() != UNREADABLE) {                    \
        fill((void *)name, sizeof(type));          \
        PREPARE(name);                             \
    }
// Every second time a kernel that has a name.
#define KNOWN(name, library) \
    if (turn % 2)            \
        name = (__typeof__(name))named_kernels[library]
#define LOW(value, number) (value = ((value) & ~0xffffffffull) | (number))
