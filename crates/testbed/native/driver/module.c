// Modules, libraries, and the functions and kernels in them.
// No code is read: a module has whatever names are asked of it, except those that begin with "missing".
#include "driver.h"

struct global {
    struct global *next;
    address start;
    size_t size;
    char name[];
};

static struct module *new_module(void)
{
    struct module *module = calloc(1, sizeof *module);
    if (module)
        pthread_mutex_init(&module->lock, NULL);
    return module;
}

int do_cuModuleLoadData(struct module **out, const void *image)
{
    if (!out || !image)
        return INVALID_VALUE;
    *out = new_module();
    return *out ? SUCCESS : OUT_OF_MEMORY;
}

int do_cuModuleUnload(struct module *module)
{
    if (!module)
        return INVALID_HANDLE;
    for (struct function *next, *function = module->functions; function; function = next) {
        next = function->next;
        function->magic = 0;
        free(function);
    }
    for (struct global *next, *global = module->globals; global; global = next) {
        next = global->next;
        release_device(global->start);
        free(global);
    }
    if (module->module)
        do_cuModuleUnload(module->module);
    free(module);
    return SUCCESS;
}

int do_cuModuleGetFunction(struct function **out, struct module *module, const char *name)
{
    if (!out || !name)
        return INVALID_VALUE;
    if (!module)
        return INVALID_HANDLE;
    if (!*name || !strncmp(name, "missing", 7))
        return NOT_FOUND;
    pthread_mutex_lock(&module->lock);
    struct function *function = module->functions;
    while (function && strcmp(function->name, name))
        function = function->next;
    if (!function && (function = calloc(1, sizeof *function + strlen(name) + 1))) {
        function->magic = FUNCTION_MAGIC;
        function->module = module;
        function->next = module->functions;
        strcpy(function->name, name);
        module->functions = function;
    }
    pthread_mutex_unlock(&module->lock);
    *out = function;
    return function ? SUCCESS : OUT_OF_MEMORY;
}

int do_cuModuleGetFunctionCount(unsigned *count, struct module *module)
{
    if (!count)
        return INVALID_VALUE;
    if (!module)
        return INVALID_HANDLE;
    *count = 0;
    for (struct function *function = module->functions; function; function = function->next)
        ++*count;
    return SUCCESS;
}

int do_cuModuleEnumerateFunctions(struct function **out, unsigned count, struct module *module)
{
    if (!out)
        return INVALID_VALUE;
    if (!module)
        return INVALID_HANDLE;
    for (struct function *function = module->functions; function && count; function = function->next, count--)
        *out++ = function;
    return SUCCESS;
}

int do_cuModuleGetGlobal(address *start, size_t *size, struct module *module, const char *name)
{
    if (!name)
        return INVALID_VALUE;
    if (!module)
        return INVALID_HANDLE;
    if (!*name || !strncmp(name, "missing", 7))
        return NOT_FOUND;
    int result = SUCCESS;
    pthread_mutex_lock(&module->lock);
    struct global *global = module->globals;
    while (global && strcmp(global->name, name))
        global = global->next;
    if (!global) {
        global = calloc(1, sizeof *global + strlen(name) + 1);
        result = global ? allocate_device(&global->start, 4096, 0) : OUT_OF_MEMORY;
        if (result) {
            free(global);
        } else {
            global->size = 4096;
            global->next = module->globals;
            strcpy(global->name, name);
            module->globals = global;
        }
    }
    if (!result && start)
        *start = global->start;
    if (!result && size)
        *size = global->size;
    pthread_mutex_unlock(&module->lock);
    return result;
}

int do_cuModuleGetLoadingMode(int *mode)
{
    if (!mode)
        return INVALID_VALUE;
    *mode = 2; // CU_MODULE_LAZY_LOADING
    return SUCCESS;
}

int do_cuLibraryGetModule(struct module **out, struct module *library)
{
    if (!out)
        return INVALID_VALUE;
    if (!library)
        return INVALID_HANDLE;
    pthread_mutex_lock(&library->lock);
    if (!library->module)
        library->module = new_module();
    *out = library->module;
    pthread_mutex_unlock(&library->lock);
    return *out ? SUCCESS : OUT_OF_MEMORY;
}

int do_cuLibraryGetUnifiedFunction(void **out, struct module *library, const char *name)
{
    return do_cuModuleGetFunction((struct function **)out, library, name);
}

static bool is_function(const struct function *function)
{
    return function && function->magic == FUNCTION_MAGIC;
}

int do_cuKernelGetFunction(struct function **out, struct function *kernel)
{
    if (!out)
        return INVALID_VALUE;
    if (!is_function(kernel))
        return INVALID_HANDLE;
    if (!kernel->function) {
        struct module *module;
        int result = do_cuLibraryGetModule(&module, kernel->module);
        if (!result)
            result = do_cuModuleGetFunction(&kernel->function, module, kernel->name);
        if (result)
            return result;
    }
    *out = kernel->function;
    return SUCCESS;
}

int do_cuKernelGetLibrary(struct module **out, struct function *kernel)
{
    if (!out)
        return INVALID_VALUE;
    if (!is_function(kernel))
        return INVALID_HANDLE;
    *out = kernel->module;
    return SUCCESS;
}

int do_cuFuncGetName(const char **out, struct function *function)
{
    if (!out)
        return INVALID_VALUE;
    if (!is_function(function))
        return INVALID_HANDLE;
    *out = function->name;
    return SUCCESS;
}

int do_cuFuncGetAttribute(int *out, unsigned attribute, struct function *function)
{
    if (!out || attribute >= 16)
        return INVALID_VALUE;
    if (!is_function(function))
        return INVALID_HANDLE;
    *out = attribute == 0 ? 1024 : function->attributes[attribute];
    return SUCCESS;
}

int do_cuFuncSetAttribute(struct function *function, unsigned attribute, int value)
{
    if (attribute >= 16)
        return INVALID_VALUE;
    if (!is_function(function))
        return INVALID_HANDLE;
    function->attributes[attribute] = value;
    return SUCCESS;
}

int do_cuKernelSetAttribute(unsigned attribute, int value, struct function *kernel, int device)
{
    return device ? INVALID_DEVICE : do_cuFuncSetAttribute(kernel, attribute, value);
}

int do_cuFuncIsLoaded(int *state, struct function *function)
{
    if (!state)
        return INVALID_VALUE;
    if (!is_function(function))
        return INVALID_HANDLE;
    *state = 1;
    return SUCCESS;
}

// f(function, ...): checks the handle and changes nothing.
int do_check_function(struct function *function)
{
    return is_function(function) ? SUCCESS : INVALID_HANDLE;
}
