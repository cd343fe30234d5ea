// Initialisation, versions, error names, and the look-up of entry points.
#include "driver.h"

#include <stdio.h>

#define VERSION 13000

int do_cuInit(unsigned flags)
{
    if (flags)
        return INVALID_VALUE;
    __atomic_store_n(&standin_ready, 1, __ATOMIC_RELEASE);
    return SUCCESS;
}

int standin_prepare_library(void)
{
    return __atomic_load_n(&standin_ready, __ATOMIC_ACQUIRE) ? SUCCESS : NOT_INITIALIZED;
}

void standin_forked(void)
{
    standin_ready = 0;
}

int do_cuDriverGetVersion(int *version)
{
    if (!version)
        return INVALID_VALUE;
    *version = VERSION;
    return SUCCESS;
}

static const struct {
    int code;
    const char *name, *text;
} errors[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {4, "CUDA_ERROR_DEINITIALIZED", "driver shutting down"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
};

static int error_text(int code, const char **out, bool name)
{
    if (!out)
        return INVALID_VALUE;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code) {
            *out = name ? errors[i].name : errors[i].text;
            return SUCCESS;
        }
    *out = NULL;
    return INVALID_VALUE;
}

int do_cuGetErrorName(int code, const char **out)
{
    return error_text(code, out, true);
}

int do_cuGetErrorString(int code, const char **out)
{
    return error_text(code, out, false);
}

// The real tables are private to NVIDIA's own libraries; an empty one says so.
int do_cuGetExportTable(const void **table, const void *id)
{
    static const size_t empty[] = {sizeof(size_t)};
    if (!table || !id)
        return INVALID_VALUE;
    *table = empty;
    return SUCCESS;
}

enum { LEGACY_STREAM = 1, PER_THREAD_DEFAULT_STREAM = 2 };
enum { SYMBOL_FOUND = 0, SYMBOL_UNKNOWN = 1, VERSION_TOO_OLD = 2 };

// Whether an exported name is `symbol` with at most a version and a twin suffix; says which twin.
static bool is_export_of(const char *name, const char *symbol, size_t length, bool *per_thread)
{
    if (strncmp(name, symbol, length))
        return false;
    const char *rest = name + length;
    if (rest[0] == '_' && rest[1] == 'v' && rest[2] >= '2' && rest[2] <= '9')
        rest += 3;
    *per_thread = !strcmp(rest, "_ptsz") || !strcmp(rest, "_ptds");
    return !*rest || *per_thread;
}

// Gives the newest interface that is not newer than `version`, as the address of the exported symbol itself.
int do_cuGetProcAddress_v2(const char *symbol, void **out, int version, uint64_t flags, int *status)
{
    if (!symbol || !out || flags & ~(uint64_t)(LEGACY_STREAM | PER_THREAD_DEFAULT_STREAM))
        return INVALID_VALUE;
    size_t length = strlen(symbol);
    const struct function_row *best = NULL;
    bool best_per_thread = false, too_old = false;
    for (unsigned i = 0; i < standin_function_count; i++) {
        const struct function_row *row = &standin_functions[i];
        bool per_thread;
        if (!is_export_of(row->name, symbol, length, &per_thread))
            continue;
        if (per_thread && !(flags & PER_THREAD_DEFAULT_STREAM))
            continue;
        if ((int)row->since > version) {
            too_old = true;
            continue;
        }
        if (!best || row->since > best->since || (row->since == best->since && per_thread && !best_per_thread)) {
            best = row;
            best_per_thread = per_thread;
        }
    }
    *out = best ? (void *)best->address : NULL;
    if (status)
        *status = best ? SYMBOL_FOUND : too_old ? VERSION_TOO_OLD : SYMBOL_UNKNOWN;
    return best || status ? SUCCESS : NOT_FOUND;
}

int do_cuGetProcAddress(const char *symbol, void **out, int version, uint64_t flags)
{
    return do_cuGetProcAddress_v2(symbol, out, version, flags, NULL);
}
