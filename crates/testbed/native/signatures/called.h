// What the functions of the libraries do: give values, and print the line that a tracer should have
// of the call, as JSON and without what only the tracer can know (times, numbers of kernels).
#pragma once
#include "values.h"

// On what a field depends.
enum reach {
    GIVEN,  // On what is in registers and on the stack.
    BEHIND, // On what the caller's pointers point at.
    RESULT, // On what the function writes.
};

void begin(const char *function);
// Writes what a function gives; `type` has the size.
#define GIVE(pointer)                                \
    do {                                             \
        if (mode() != UNREADABLE) {                  \
            fill((pointer), sizeof *(pointer));      \
            PREPARE(pointer);                        \
        }                                            \
    } while (0)

int is_there(enum reach reach);
void print_nothing(const char *key);
void print_number(const char *key, uint64_t value);
void print_handle(const char *key, uint64_t value);
void print_triple(const char *key, dim3 value);
void print_text(const char *key, const char *value);
// The name that the line's `kernel` must stand for; NULL: one without a name.
void print_kernel(uint64_t handle, const char *name);
const char *kernel_of(uint64_t handle);

// `value` is not evaluated where what it depends on is not there.
#define FIELD(form, key, reach, value) (is_there(reach) ? print_##form(key, value) : print_nothing(key))
#define WORD(value) ((uint64_t)(uintptr_t)(value))

uint64_t end_with_code(void);
void *end_with_pointer(void);
void end_with_nothing(void);

// A value that a field cannot have: it is null.
#define NONE (~0ull)

const char *memcpy_kind(unsigned kind);
const char *between(unsigned source, unsigned destination);
uint64_t located(unsigned type, uint64_t host, uint64_t device);
#define KIND_NAME(kind) memcpy_kind(kind)
#define KIND(copy) between((copy)->srcMemoryType, (copy)->dstMemoryType)
#define SRC(copy) located((copy)->srcMemoryType, WORD((copy)->srcHost), (copy)->srcDevice)
#define DST(copy) located((copy)->dstMemoryType, WORD((copy)->dstHost), (copy)->dstDevice)
#define PLANE(copy) (1ull * (copy)->WidthInBytes * (copy)->Height)
#define VOLUME(copy) (PLANE(copy) * (copy)->Depth)
#define EXTENT(copy)                        \
    ((copy)->srcArray || (copy)->dstArray ? NONE \
                                          : (copy)->extent.width * (copy)->extent.height * (copy)->extent.depth)
#define GRID(launch) {(launch)->gridDimX, (launch)->gridDimY, (launch)->gridDimZ}
#define BLOCK(launch) {(launch)->blockDimX, (launch)->blockDimY, (launch)->blockDimZ}
