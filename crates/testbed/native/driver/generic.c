// Functions whose whole effect here is their return code or one plain value, by shape.
#include "driver.h"

int do_nothing(void)
{
    return SUCCESS;
}

// f(int *out, ...)
int do_zero_first(int *out)
{
    if (!out)
        return INVALID_VALUE;
    *out = 0;
    return SUCCESS;
}

// f(..., int *out): the second argument.
int do_zero_second(word ignored, int *out)
{
    (void)ignored;
    return do_zero_first(out);
}

// f(..., ..., int64 *out): the third argument.
int do_zero_third(word ignored, word also_ignored, uint64_t *out)
{
    (void)ignored, (void)also_ignored;
    if (!out)
        return INVALID_VALUE;
    *out = 0;
    return SUCCESS;
}

// f(handle, size_t index, size_t *offset, size_t *size): kernels of unknown code have no known parameters.
int do_no_parameter(void)
{
    return INVALID_VALUE;
}
