// Tensor maps: 128 bytes that describe a tile of a tensor to the copy engine.
#include "driver.h"

// CUtensorMap, as far as anything here reads it back.
struct tensor_map {
    address start;
    unsigned type, rank;
    uint64_t sizes[5];
    unsigned box[5];
    char rest[128 - 8 - 8 - 40 - 20];
};
_Static_assert(sizeof(struct tensor_map) == 128, "a tensor map has 128 bytes");

int do_cuTensorMapEncodeTiled(struct tensor_map *out, unsigned type, unsigned rank, address start, const uint64_t *sizes,
                              const uint64_t *strides, const unsigned *box, const unsigned *element_strides)
{
    (void)strides;
    if (!out || !rank || rank > 5 || !start || start % 16 || !sizes || !box || !element_strides)
        return INVALID_VALUE;
    *out = (struct tensor_map){.start = start, .type = type, .rank = rank};
    memcpy(out->sizes, sizes, rank * sizeof *sizes);
    memcpy(out->box, box, rank * sizeof *box);
    return SUCCESS;
}

int do_cuTensorMapReplaceAddress(struct tensor_map *map, address start)
{
    if (!map || !start || start % 16)
        return INVALID_VALUE;
    map->start = start;
    return SUCCESS;
}
