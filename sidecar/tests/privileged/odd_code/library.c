// Functions that count their calls where their first argument points.
#define COUNT __atomic_add_fetch(count, 1, __ATOMIC_RELAXED)

int cuInit(volatile long *count)
{
    COUNT;
    return 0;
}

int cuEventRecord(volatile long *count)
{
    COUNT;
    return 0;
}

// Neither reads the name.
int cuModuleGetFunction(volatile long *count, void *module, const char *name)
{
    COUNT;
    return 0;
}

int __cudaRegisterFunction(volatile long *count, void *host, const char *name, const char *name_on_device)
{
    COUNT;
    return 0;
}

int cuUserObjectRelease(volatile long *count, void (*destroy)(void))
{
    COUNT;
    destroy();
    return 0;
}

#ifdef INDIRECT
static int launch(volatile long *count)
{
    COUNT;
    return 0;
}

static void *choose(void)
{
    return (void *)launch;
}

int cuLaunchKernel(volatile long *count) __attribute__((ifunc("choose")));
#endif
