// Kernels and variables of the program, registered at load by compiled code and looked up by their host symbol.
#include "runtime.h"

struct fat_binary {
    const void *image;
    void *library; // CUlibrary, loaded at the first use of something in it.
};

struct symbol {
    const void *host;
    struct fat_binary *binary;
    const char *name;
    _Atomic(void *) kernel;
};

// Replaced as a whole when it grows, so that readers need no lock; the old ones are kept for those still reading.
struct table {
    size_t slots, used;
    struct symbol *entries[];
};

static _Atomic(struct table *) symbols;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct symbol **slot_of(struct table *table, const void *host)
{
    size_t slot = (uintptr_t)host * 0x9e3779b97f4a7c15 >> 20 & (table->slots - 1);
    while (table->entries[slot] && table->entries[slot]->host != host)
        slot = (slot + 1) & (table->slots - 1);
    return &table->entries[slot];
}

static struct symbol *symbol_of(const void *host)
{
    struct table *table = symbols;
    return table && host ? *slot_of(table, host) : NULL;
}

static void insert(struct symbol *symbol)
{
    pthread_mutex_lock(&lock);
    struct table *table = symbols;
    if (!table || table->used * 2 >= table->slots) {
        size_t slots = table ? table->slots * 2 : 256;
        struct table *larger = calloc(1, sizeof *larger + slots * sizeof *larger->entries);
        if (!larger)
            abort();
        larger->slots = slots;
        for (size_t i = 0; table && i < table->slots; i++)
            if (table->entries[i]) {
                *slot_of(larger, table->entries[i]->host) = table->entries[i];
                larger->used++;
            }
        symbols = table = larger;
    }
    struct symbol **slot = slot_of(table, symbol->host);
    table->used += !*slot;
    __atomic_store_n(slot, symbol, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&lock);
}

static int library_of(struct fat_binary *binary, void **library)
{
    int code = SUCCESS;
    pthread_mutex_lock(&lock);
    if (!binary->library)
        code = legacy()->cuLibraryLoadData(&binary->library, binary->image, NULL, NULL, 0, NULL, NULL, 0);
    *library = binary->library;
    pthread_mutex_unlock(&lock);
    return code;
}

// The kernel of a host function; a handle from cudaGetKernel or cudaLibraryGetKernel is its own kernel.
int kernel_of(const void *host, void **kernel)
{
    if (!host)
        return INVALID_DEVICE_FUNCTION;
    struct symbol *symbol = symbol_of(host);
    if (!symbol) {
        *kernel = (void *)host;
        return SUCCESS;
    }
    if (!symbol->kernel) {
        void *library, *found;
        int code = library_of(symbol->binary, &library);
        code = code ? code : legacy()->cuLibraryGetKernel(&found, library, symbol->name);
        if (code)
            return code;
        symbol->kernel = found;
    }
    *kernel = symbol->kernel;
    return SUCCESS;
}

int variable_of(const void *host, uint64_t *start, size_t *size)
{
    struct symbol *symbol = symbol_of(host);
    void *library;
    if (!symbol)
        return INVALID_SYMBOL;
    int code = library_of(symbol->binary, &library);
    return code ? code : legacy()->cuLibraryGetGlobal(start, size, library, symbol->name);
}

void *do___cudaRegisterFatBinary(const void *image)
{
    struct fat_binary *binary = calloc(1, sizeof *binary);
    if (binary)
        binary->image = image;
    return binary;
}

void do___cudaRegisterFatBinaryEnd(struct fat_binary *binary)
{
    (void)binary;
}

// What was registered stays known: kernels of it may still be in use by other threads.
void do___cudaUnregisterFatBinary(struct fat_binary *binary)
{
    (void)binary;
}

static void register_symbol(struct fat_binary *binary, const void *host, const char *name)
{
    struct symbol *symbol = calloc(1, sizeof *symbol);
    if (!binary || !host || !name || !symbol) {
        free(symbol);
        return;
    }
    symbol->host = host;
    symbol->binary = binary;
    symbol->name = name;
    insert(symbol);
}

void do___cudaRegisterFunction(struct fat_binary *binary, const void *host, char *device, const char *name)
{
    register_symbol(binary, host, name ? name : device);
}

void do___cudaRegisterVar(struct fat_binary *binary, const void *host, char *device, const char *name)
{
    register_symbol(binary, host, name ? name : device);
}

char do___cudaInitModule(struct fat_binary *binary)
{
    return binary != NULL;
}

int do_cudaGetKernel(void **out, const void *host)
{
    return finish(out ? kernel_of(host, out) : INVALID_VALUE);
}

int do_cudaGetFuncBySymbol(void **out, const void *host)
{
    void *kernel;
    int code = out ? kernel_of(host, &kernel) : INVALID_VALUE;
    return finish(code ? code : legacy()->cuKernelGetFunction(out, kernel));
}

int do_cudaGetSymbolAddress(uint64_t *out, const void *host)
{
    size_t size;
    return finish(out ? variable_of(host, out, &size) : INVALID_VALUE);
}

int do_cudaGetSymbolSize(size_t *out, const void *host)
{
    uint64_t start;
    return finish(out ? variable_of(host, &start, out) : INVALID_VALUE);
}
