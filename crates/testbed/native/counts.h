// What both stand-in libraries share: the gate of the stubs, the call counts and their report.
#pragma once
#include <stddef.h>
#include <stdint.h>

// A machine word: an argument whose type does not matter to whoever passes it on.
typedef unsigned long word;

// One row per exported function, in the order of the stubs.
struct function_row {
    const char *name;
    void (*address)(void);
    unsigned since; // The CUDA version whose interface this is, as cuGetProcAddress counts them.
};
extern const struct function_row standin_functions[];
extern const unsigned standin_function_count;
extern const char standin_soname[];

// Zero until the library can serve: the stubs ask `standin_prepare_library` while it is zero.
extern int standin_ready;
int standin_prepare_library(void);
// Called in the child of a fork, after the counts were cleared.
void standin_forked(void);

// A number from the environment, or the default.
long standin_setting(const char *name, long otherwise);
