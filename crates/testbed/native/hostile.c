// Does what a process may do to fill the memory of whoever looks at it; its first argument says what, the second how
// often. Ends with 0 if each call did as it should.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/prctl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int cuInit(unsigned flags);
int cuCtxSynchronize(void);
int cuModuleLoadData(void **module, const void *image);
int cuModuleUnload(void *module);
int cuModuleGetFunction(void **function, void *module, const char *name);
int cuLaunchKernel(void *function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *stream, void **, void **);

static void wait_for_end_of_input(void)
{
    while (getchar() != EOF)
        continue;
}

// A command line of 1 GiB, of which no page is in memory. It takes no right.
static int claim_long_command(void)
{
    size_t size = 1UL << 30;
    char *text = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (text == MAP_FAILED)
        return -1;
    FILE *stat = fopen("/proc/self/stat", "r");
    unsigned long field[53] = {0};
    char line[4096] = "";
    if (!stat || !fgets(line, sizeof line, stat))
        return -1;
    fclose(stat);
    // Behind the name, which may hold blanks; the first field there is the third.
    char *rest = strrchr(line, ')') + 4;
    for (int i = 4; i < 53; i++)
        field[i] = strtoul(rest, &rest, 10);
    struct prctl_mm_map map = {
        .start_code = field[26], .end_code = field[27], .start_stack = field[28],
        .start_data = field[45], .end_data = field[46], .start_brk = field[47], .brk = (unsigned long)sbrk(0),
        .arg_start = (unsigned long)text, .arg_end = (unsigned long)text + size,
        .env_start = field[50], .env_end = field[51], .exe_fd = -1,
    };
    return prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0);
}

// Names of kernels, each another one: as long as a name may be, or short ones of C++ functions whose parameters are
// each a pair of the one before, so that the last would be written with a billion letters.
static int name_kernels(long times, int are_doubling)
{
    enum { LENGTH = 2000, OF_A_MODULE = 100 };
    const char digits[] = "123456789ABCDEFGHIJKLMNOPQRSTU";
    char name[LENGTH + 1], pairs[LENGTH] = "1PI1AS0_E";
    for (int i = 0; digits[i]; i++)
        sprintf(pairs + strlen(pairs), "S_IS%c_S%c_E", digits[i], digits[i]);
    memset(name, 'k', LENGTH);
    name[LENGTH] = 0;
    void *module = NULL, *function;
    for (long i = 0; i < times; i++) {
        if (i % OF_A_MODULE == 0) {
            if (module && cuModuleUnload(module))
                return -1;
            if (cuModuleLoadData(&module, "image"))
                return -1;
        }
        char number[24];
        int count = snprintf(number, sizeof number, "%ld_", i);
        if (are_doubling)
            snprintf(name, sizeof name, "_Z%df%s%s", count + 1, number, pairs);
        else
            memcpy(name, number, count);
        if (cuModuleGetFunction(&function, module, name))
            return -1;
    }
    return cuModuleUnload(module);
}

// Launches of what is no kernel, each of another one.
static int launch_handles(long times)
{
    char *handles = mmap(NULL, times * 64, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (handles == MAP_FAILED)
        return -1;
    for (long i = 0; i < times; i++)
        if (!cuLaunchKernel(handles + i * 64, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL))
            return -1;
    return munmap(handles, times * 64);
}

// Children that end at once and have inherited thousands of mapped files; `directory` is where these are written.
static int fork_with_mappings(long times, const char *directory)
{
    enum { FILES = 4096, PAGE = 4096 };
    for (int i = 0; i < FILES; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/mapped-%d", directory, i);
        int file = open(path, O_CREAT | O_RDWR, 0700);
        if (file < 0 || ftruncate(file, PAGE) || mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0) == MAP_FAILED)
            return -1;
        close(file);
    }
    for (long i = 0; i < times; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child || status)
            return -1;
    }
    return 0;
}

// So many mappings that it takes long to read the list of them, and an event of another mapping each millisecond, until
// something comes in.
static int map_again_and_again(long mappings, const char *path)
{
    enum { PAGE = 4096 };
    int file = open(path, O_CREAT | O_RDWR, 0700);
    if (file < 0 || ftruncate(file, PAGE))
        return -1;
    char *room = mmap(NULL, mappings * 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return -1;
    // With gaps, so that each is one of its own.
    for (long i = 0; i < mappings; i++)
        if (mmap(room + i * 2 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0) == MAP_FAILED)
            return -1;
    puts("waiting");
    fflush(stdout);
    struct pollfd input = {.fd = 0, .events = POLLIN};
    while (!poll(&input, 1, 1)) {
        void *page = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
        if (page == MAP_FAILED || munmap(page, PAGE))
            return -1;
    }
    return 0;
}

int main(int count, char **arguments)
{
    const char *what = count > 1 ? arguments[1] : "";
    long times = count > 2 ? atol(arguments[2]) : 1;
    int result;
    if (cuInit(0) || cuCtxSynchronize())
        return 3;
    if (!strcmp(what, "long-command")) {
        result = claim_long_command();
        wait_for_end_of_input();
    } else if (!strcmp(what, "names")) {
        result = name_kernels(times, 0);
    } else if (!strcmp(what, "doubling-names")) {
        result = name_kernels(times, 1);
    } else if (!strcmp(what, "handles")) {
        result = launch_handles(times);
    } else if (!strcmp(what, "mapped-forks")) {
        result = fork_with_mappings(times, count > 3 ? arguments[3] : ".");
    } else if (!strcmp(what, "mappings")) {
        result = map_again_and_again(times, count > 3 ? arguments[3] : "mapped");
    } else {
        fprintf(stderr, "%s is none of: long-command, names, doubling-names, handles, mapped-forks DIRECTORY, mappings FILE\n", what);
        return 2;
    }
    if (result)
        perror(what);
    return result || cuCtxSynchronize();
}
