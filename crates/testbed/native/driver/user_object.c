// User objects: destructors that run when the last reference goes, graphs' references among them.
#include "driver.h"

// CUuserObject
struct user_object {
    void *data;
    void (*destroy)(void *);
    atomic_int references;
};

int do_cuUserObjectCreate(struct user_object **out, void *data, void (*destroy)(void *), unsigned references, unsigned flags)
{
    if (!out || !destroy || !references || flags != 1)
        return INVALID_VALUE;
    *out = calloc(1, sizeof **out);
    if (!*out)
        return OUT_OF_MEMORY;
    **out = (struct user_object){data, destroy, references};
    return SUCCESS;
}

int do_cuUserObjectRetain(struct user_object *object, unsigned count)
{
    if (!object || !count)
        return INVALID_VALUE;
    object->references += count;
    return SUCCESS;
}

int do_cuUserObjectRelease(struct user_object *object, unsigned count)
{
    if (!object || !count)
        return INVALID_VALUE;
    if ((object->references -= count) <= 0) {
        object->destroy(object->data);
        free(object);
    }
    return SUCCESS;
}

int do_cuGraphRetainUserObject(struct graph *graph, struct user_object *object, unsigned count, unsigned flags)
{
    if (!graph)
        return INVALID_VALUE;
    return flags & 1 ? SUCCESS : do_cuUserObjectRetain(object, count);
}

int do_cuGraphReleaseUserObject(struct graph *graph, struct user_object *object, unsigned count)
{
    return graph ? do_cuUserObjectRelease(object, count) : INVALID_VALUE;
}
