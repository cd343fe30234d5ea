// The run-time linker: takes any input and gives an image that `cuModuleLoadData` accepts.
#include "driver.h"

struct linker {
    unsigned inputs;
    char image[64];
};

int do_cuLinkCreate(unsigned options, const void *names, const void *values, struct linker **out)
{
    if (!out || (options && (!names || !values)))
        return INVALID_VALUE;
    *out = calloc(1, sizeof **out);
    return *out ? SUCCESS : OUT_OF_MEMORY;
}

int do_cuLinkAddData(struct linker *linker, unsigned type, const void *data, size_t size)
{
    (void)type;
    if (!linker || !data || !size)
        return INVALID_VALUE;
    linker->inputs++;
    return SUCCESS;
}

int do_cuLinkAddFile(struct linker *linker, unsigned type, const char *path)
{
    return do_cuLinkAddData(linker, type, path, 1);
}

int do_cuLinkComplete(struct linker *linker, void **image, size_t *size)
{
    if (!linker || !image || !linker->inputs)
        return INVALID_VALUE;
    *image = linker->image;
    if (size)
        *size = sizeof linker->image;
    return SUCCESS;
}

int do_cuLinkDestroy(struct linker *linker)
{
    if (!linker)
        return INVALID_HANDLE;
    free(linker);
    return SUCCESS;
}
