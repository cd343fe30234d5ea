// Finds the driver as the real runtime does: dlopen by plain name, then cuGetProcAddress for everything.
#include "runtime.h"

#include <dlfcn.h>

#define VERSION 13000
#define LEGACY_STREAM 1
#define PER_THREAD_DEFAULT_STREAM 2

static struct driver drivers[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool resolved;
static void *context;
static atomic_uint process; // Counts forks, so that no thread of a child believes that it is bound.
static __thread unsigned bound_in;
static __thread int last_error;

static int resolve(struct driver *driver, entry_point *get_proc_address, uint64_t flags)
{
#define CALL(name, symbol, version)                                                             \
    if (get_proc_address(#symbol, (void **)&driver->name, version, flags, NULL) || !driver->name) \
        return INSUFFICIENT_DRIVER;
#include "calls.def"
#undef CALL
    return SUCCESS;
}

static int load_driver(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    entry_point *get_proc_address = library ? (entry_point *)dlsym(library, "cuGetProcAddress_v2") : NULL;
    if (!get_proc_address)
        return INSUFFICIENT_DRIVER;
    int code = resolve(&drivers[0], get_proc_address, LEGACY_STREAM);
    return code ? code : resolve(&drivers[1], get_proc_address, PER_THREAD_DEFAULT_STREAM);
}

static int start_driver(void)
{
    const struct driver *driver = &drivers[0];
    int version, devices, device;
    const void *table;
    static const char id[16] = "standin-runtime";
    int code = driver->cuInit(0);
    code = code ? code : driver->cuDriverGetVersion(&version);
    code = code ? code : driver->cuGetExportTable(&table, id);
    code = code ? code : driver->cuDeviceGetCount(&devices);
    code = code ? code : driver->cuDeviceGet(&device, 0);
    return code ? code : driver->cuDevicePrimaryCtxRetain(&context, device);
}

// The slow path of every runtime function until the driver is there.
int standin_prepare_library(void)
{
    int code = SUCCESS;
    pthread_mutex_lock(&lock);
    if (!standin_ready) {
        if (!resolved)
            code = load_driver();
        resolved = !code;
        code = code ? code : start_driver();
        __atomic_store_n(&standin_ready, !code, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&lock);
    return finish(code);
}

void standin_forked(void)
{
    standin_ready = 0;
    process++;
}

static void bind_thread(void)
{
    if (bound_in == process + 1)
        return;
    drivers[0].cuCtxSetCurrent(context);
    bound_in = process + 1;
}

const struct driver *legacy(void)
{
    bind_thread();
    return &drivers[0];
}

const struct driver *per_thread(void)
{
    bind_thread();
    return &drivers[1];
}

int finish(int code)
{
    if (code)
        last_error = code;
    return code;
}

int do_cudaGetLastError(void)
{
    int code = last_error;
    last_error = SUCCESS;
    return code;
}

int do_cudaPeekAtLastError(void)
{
    return last_error;
}

int do_cudaRuntimeGetVersion(int *version)
{
    if (!version)
        return finish(INVALID_VALUE);
    *version = VERSION;
    return SUCCESS;
}

FORWARD(1, cudaDriverGetVersion, cuDriverGetVersion)
FORWARD(2, cudaGetExportTable, cuGetExportTable)

int do_cudaGetDriverEntryPointByVersion(const char *symbol, void **out, unsigned version, uint64_t flags, int *status)
{
    return finish(legacy()->cuGetProcAddress(symbol, out, version, flags ? flags : LEGACY_STREAM, status));
}

int do_cudaGetDriverEntryPointByVersion_ptsz(const char *symbol, void **out, unsigned version, uint64_t flags, int *status)
{
    return finish(legacy()->cuGetProcAddress(symbol, out, version, flags ? flags : PER_THREAD_DEFAULT_STREAM, status));
}

int do_cudaGetDriverEntryPoint(const char *symbol, void **out, uint64_t flags, int *status)
{
    return do_cudaGetDriverEntryPointByVersion(symbol, out, VERSION, flags, status);
}

int do_cudaGetDriverEntryPoint_ptsz(const char *symbol, void **out, uint64_t flags, int *status)
{
    return do_cudaGetDriverEntryPointByVersion_ptsz(symbol, out, VERSION, flags, status);
}

// Names of the runtime's own errors; the rest are numbered as the driver's, but named differently.
static const struct {
    int code;
    const char *name, *text;
} errors[] = {
    {SUCCESS, "cudaSuccess", "no error"},
    {INVALID_VALUE, "cudaErrorInvalidValue", "invalid argument"},
    {OUT_OF_MEMORY, "cudaErrorMemoryAllocation", "out of memory"},
    {3, "cudaErrorInitializationError", "initialization error"},
    {4, "cudaErrorCudartUnloading", "driver shutting down"},
    {INVALID_SYMBOL, "cudaErrorInvalidSymbol", "invalid device symbol"},
    {INVALID_COPY_DIRECTION, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {INSUFFICIENT_DRIVER, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"},
    {MISSING_CONFIGURATION, "cudaErrorMissingConfiguration", "__global__ function call is not configured"},
    {INVALID_DEVICE_FUNCTION, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {INVALID_DEVICE, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {400, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {500, "cudaErrorSymbolNotFound", "named symbol not found"},
    {600, "cudaErrorNotReady", "device not ready"},
    {900, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
};

const char *do_cudaGetErrorName(int code)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code)
            return errors[i].name;
    return "unrecognized error code";
}

const char *do_cudaGetErrorString(int code)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code)
            return errors[i].text;
    return "unrecognized error code";
}
