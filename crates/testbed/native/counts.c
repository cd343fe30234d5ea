// Counts the calls of each exported function and reports them when the process ends.
#define _GNU_SOURCE
#include "counts.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLOSED 0x321cba00
#define OPEN 1
#define NO_FUNCTION (~0u)
// CUDA_ERROR_DEINITIALIZED and cudaErrorCudartUnloading.
#define ERROR_ENDED 4

int standin_gate = CLOSED;
int standin_ready;

extern _Atomic uint64_t standin_calls[];

static _Atomic unsigned first = NO_FUNCTION;
static atomic_int ended;
// Kept from load time: a process that retitles itself may overwrite its environment.
static char directory[4096];

// The slow path of every stub: the first call of a process, and any call after its end.
int standin_open_library(unsigned index)
{
    if (atomic_load(&ended))
        return ERROR_ENDED;
    unsigned none = NO_FUNCTION;
    atomic_compare_exchange_strong(&first, &none, index);
    __atomic_store_n(&standin_gate, OPEN, __ATOMIC_RELEASE);
    return 0;
}

static void after_fork_in_child(void)
{
    for (unsigned i = 0; i < standin_function_count; i++)
        atomic_store_explicit(&standin_calls[i], 0, memory_order_relaxed);
    atomic_store(&first, NO_FUNCTION);
    standin_gate = CLOSED;
    standin_forked();
}

__attribute__((constructor)) static void loaded(void)
{
    const char *wanted = getenv("CUDA_STANDIN_COUNTS");
    if (wanted && strlen(wanted) < sizeof directory)
        strcpy(directory, wanted);
    pthread_atfork(NULL, NULL, after_fork_in_child);
}

static void write_counts(FILE *out, unsigned first_function)
{
    fprintf(out, "{\"library\":\"%s\",\"pid\":%d,\"first\":\"%s\",\"functions\":{", standin_soname, (int)getpid(),
            standin_functions[first_function].name);
    const char *separator = "";
    for (unsigned i = 0; i < standin_function_count; i++) {
        unsigned long calls = atomic_load_explicit(&standin_calls[i], memory_order_relaxed);
        if (calls) {
            fprintf(out, "%s\"%s\":%lu", separator, standin_functions[i].name, calls);
            separator = ",";
        }
    }
    fputs("}}\n", out);
}

__attribute__((destructor)) static void unloaded(void)
{
    atomic_store(&ended, 1);
    __atomic_store_n(&standin_gate, CLOSED, __ATOMIC_RELEASE);
    unsigned first_function = atomic_load(&first);
    if (!directory[0] || first_function == NO_FUNCTION)
        return;
    char path[sizeof directory + 64], temporary[sizeof path + 8];
    snprintf(path, sizeof path, "%s/%s.%d.json", directory, standin_soname, (int)getpid());
    snprintf(temporary, sizeof temporary, "%s.part", path);
    FILE *out = fopen(temporary, "we");
    if (!out) {
        fprintf(stderr, "%s: cannot write the call counts to %s: %m\n", standin_soname, temporary);
        return;
    }
    write_counts(out, first_function);
    if (fclose(out) || rename(temporary, path))
        fprintf(stderr, "%s: cannot write the call counts to %s: %m\n", standin_soname, path);
}

long standin_setting(const char *name, long otherwise)
{
    const char *value = getenv(name);
    return value && *value ? strtol(value, NULL, 10) : otherwise;
}
