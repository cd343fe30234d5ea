// Calls each function of both libraries, TURNS times and in the order of the tables. What it passes
// the libraries print.
#include "caller.h"

#include <stdio.h>
#include <sys/mman.h>

#define TURNS 24
#define SLOTS 6
#define PAGE 4096

extern void (*const calls[])(void);
extern const unsigned call_count;
uint64_t random_state = 0xca11;
unsigned turn;
uint64_t named_kernels[2];

static char *ends[SLOTS], *nowhere;

static char *map(size_t size)
{
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("cannot map memory for the arguments");
        exit(1);
    }
    return memory;
}

void *place(unsigned slot, size_t size)
{
    if (mode() == UNREADABLE)
        return turn % 2 ? NULL : nowhere + slot * PAGE;
    // The tracer reads words.
    return ends[slot] - (size + 7) / 8 * 8;
}

const char *kernel_name(unsigned slot, const char *function)
{
    if (mode() == UNREADABLE)
        return place(slot, 0);
    char name[256];
    int length = snprintf(name, sizeof name, "kernel_%u_of_%s", turn, function);
    return memcpy(ends[slot] - length - 1, name, (size_t)length + 1);
}

int main(void)
{
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        ends[slot] = map(2 * PAGE) + PAGE;
        munmap(ends[slot], PAGE);
    }
    nowhere = mmap(NULL, SLOTS * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (turn = 0; turn < TURNS; turn++)
        for (unsigned i = 0; i < call_count; i++)
            calls[i]();
}
