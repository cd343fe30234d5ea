// Calls functions of a library that count their calls where their first argument points: standin-odd MODE LIBRARY FUNCTION CALLS.
// Prints the count.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL

typedef int function(volatile long *, volatile long *, const char *, const char *);
typedef int calling_back(volatile long *, void (*)(void));

static function *called;
static volatile long *count;
static long calls;
static jmp_buf back;
static volatile long cleaned;

static void fail(const char *what)
{
    perror(what);
    exit(3);
}

static void call_with(const char *name)
{
    for (long i = 0; i < calls; i++)
        if (called(count, count, name, name))
            fail("a call");
}

static char *pages(int descriptor)
{
    int flags = MAP_PRIVATE | (descriptor < 0 ? MAP_ANONYMOUS : 0);
    char *two = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, flags, descriptor, 0);
    if (two == MAP_FAILED)
        fail("mmap");
    return two;
}

// Whoever touches the page waits for ever.
static void never_answer(char *page)
{
    int descriptor = syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {{(unsigned long)page, PAGE}, UFFDIO_REGISTER_MODE_MISSING, 0};
    if (descriptor < 0 || ioctl(descriptor, UFFDIO_API, &api) || ioctl(descriptor, UFFDIO_REGISTER, &range))
        fail("userfaultfd");
}

static void jump(void)
{
    longjmp(back, 1);
}

static void leave(void)
{
    pthread_exit(NULL);
}

static void cancel(void)
{
    pthread_cancel(pthread_self());
    pthread_testcancel();
}

// As a destructor in C++: run when the stack is unwound.
static void clean(int *unused)
{
    cleaned++;
}

static void *call_back(void *callback)
{
    int value __attribute__((cleanup(clean))) = 0;
    ((calling_back *)called)(count, callback);
    return NULL;
}

static void in_a_thread(void (*callback)(void))
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, call_back, (void *)callback) || pthread_join(thread, NULL))
        fail("a thread");
}

int main(int arguments, char **argument)
{
    if (arguments != 5)
        return 2;
    const char *mode = argument[1];
    void *library = dlopen(argument[2], RTLD_NOW);
    called = library ? (function *)dlsym(library, argument[3]) : NULL;
    calls = atol(argument[4]);
    if (!called) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    count = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (count == MAP_FAILED)
        fail("mmap");
    if (!strcmp(mode, "call")) {
        call_with("");
    } else if (!strcmp(mode, "fork")) {
        call_with("");
        for (int child = 0; child < 3; child++) {
            pid_t pid = fork();
            if (!pid) {
                call_with("");
                _exit(0);
            }
            int status;
            if (waitpid(pid, &status, 0) != pid || status) {
                fprintf(stderr, "a child ended with %#x\n", status);
                return 3;
            }
        }
    } else if (!strcmp(mode, "name-before")) {
        const char name[] = "kernel_at_the_end_of_its_page";
        char *text = pages(-1) + PAGE - sizeof name;
        memcpy(text, name, sizeof name);
        never_answer(text + sizeof name);
        call_with(text);
    } else if (!strcmp(mode, "name-inside")) {
        char *text = pages(-1) + PAGE;
        never_answer(text);
        call_with(text);
    } else if (!strcmp(mode, "name-untouched")) {
        const char name[] = "kernel_across_two_pages_of_a_file";
        int descriptor = memfd_create("name", 0);
        off_t start = PAGE - 5;
        if (ftruncate(descriptor, 2 * PAGE) || pwrite(descriptor, name, sizeof name, start) < 0)
            fail("a file");
        call_with(pages(descriptor) + start);
    } else if (!strcmp(mode, "call-back")) {
        for (long i = 0; i < calls; i++) {
            if (!setjmp(back))
                ((calling_back *)called)(count, jump);
            in_a_thread(leave);
            in_a_thread(cancel);
        }
        if (cleaned != 2 * calls) {
            fprintf(stderr, "%ld of %ld frames were unwound\n", cleaned, 2 * calls);
            return 3;
        }
    } else {
        return 2;
    }
    printf("%ld\n", *count);
    return 0;
}
