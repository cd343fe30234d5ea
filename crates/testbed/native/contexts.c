// Calls from contexts that are unlike a thread's own stack from end to end; its first argument says which, the second
// how often. Prints one line that depends on every result, and ends with 0 if all of them are right.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

int cuInit(unsigned flags);
int cuCtxSynchronize(void);
int cuLaunchHostFunc(void *stream, void (*function)(void *), void *data);

enum { COROUTINES = 8, STACK = 256 << 10 };

static unsigned long right, wrong;

static void call(void)
{
    if (cuCtxSynchronize() == 0)
        __atomic_add_fetch(&right, 1, __ATOMIC_RELAXED);
    else
        __atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
}

// Coroutines: each has a stack of its own, and all take turns in one thread, also in the middle of a call.

static ucontext_t scheduler, coroutines[COROUTINES];
static int current;
static long turns;

static void yield(void *data)
{
    (void)data;
    int mine = current;
    swapcontext(&coroutines[mine], &scheduler);
    call();
}

static void coroutine(void)
{
    for (long turn = 0; turn < turns; turn++) {
        call();
        yield(NULL);
    }
}

// The same, but the turn of another comes while this one is within a traced call.
static void coroutine_within(void)
{
    for (long turn = 0; turn < turns; turn++)
        if (cuLaunchHostFunc(NULL, yield, NULL))
            wrong++;
}

static void run_coroutines(void (*body)(void), long times)
{
    turns = times;
    for (int i = 0; i < COROUTINES; i++) {
        getcontext(&coroutines[i]);
        coroutines[i].uc_stack.ss_sp = malloc(STACK);
        coroutines[i].uc_stack.ss_size = STACK;
        coroutines[i].uc_link = &scheduler;
        makecontext(&coroutines[i], body, 0);
    }
    // In order, so that a call ends after those that began later: no stack has that.
    for (long turn = 0; turn <= times; turn++)
        for (current = 0; current < COROUTINES; current++)
            swapcontext(&scheduler, &coroutines[current]);
}

// A signal stack: calls from handlers, also in the middle of calls.

static void handle(int signal)
{
    (void)signal;
    call();
}

static void raise_signal(void *data)
{
    (void)data;
    raise(SIGUSR1);
    call();
}

static void run_signals(long times)
{
    stack_t stack = {.ss_sp = malloc(STACK), .ss_size = STACK};
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_ONSTACK};
    sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &action, NULL);
    for (long i = 0; i < times; i++) {
        raise(SIGUSR1);
        if (cuLaunchHostFunc(NULL, raise_signal, NULL))
            wrong++;
    }
}

static void recurse(void *levels)
{
    call();
    if (levels && cuLaunchHostFunc(NULL, recurse, (char *)levels - 1))
        wrong++;
    call();
}

// Threads that are cancelled between calls.
static void *until_cancelled(void *data)
{
    (void)data;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    for (int i = 0; i < 100; i++)
        call();
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    while (pause())
        continue;
    return NULL;
}

static void run_cancelled(long times)
{
    for (long i = 0; i < times; i++) {
        pthread_t thread;
        void *result;
        pthread_create(&thread, NULL, until_cancelled, NULL);
        pthread_cancel(thread);
        pthread_join(thread, &result);
        if (result != PTHREAD_CANCELED)
            wrong++;
    }
}

static void await(pid_t child)
{
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status))
        wrong++;
    else
        right++;
}

// Children that share this one's memory until they execute something.
static void run_vforked(long times, char **arguments)
{
    char *again[] = {arguments[0], "once", "1", NULL};
    for (volatile long i = 0; i < times; i++) {
        call();
        pid_t child = vfork();
        if (child == 0) {
            execv("/proc/self/exe", again);
            _exit(1);
        }
        await(child);
    }
}

static void run_forked(long times)
{
    for (long i = 0; i < times; i++) {
        call();
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            if (cuInit(0) || cuCtxSynchronize())
                exit(1);
            exit(0);
        }
        await(child);
    }
}

int main(int count, char **arguments)
{
    const char *context = count > 1 ? arguments[1] : "";
    long times = count > 2 ? atol(arguments[2]) : 1;
    if (cuInit(0))
        return 3;
    if (!strcmp(context, "once")) {
        call();
        return wrong ? 1 : 0;
    } else if (!strcmp(context, "waiting")) {
        call();
        while (getchar() != EOF)
            continue;
        call();
    } else if (!strcmp(context, "coroutines")) {
        run_coroutines(coroutine, times);
    } else if (!strcmp(context, "coroutines-within")) {
        run_coroutines(coroutine_within, times);
    } else if (!strcmp(context, "signals")) {
        run_signals(times);
    } else if (!strcmp(context, "recursion")) {
        recurse((void *)times);
    } else if (!strcmp(context, "cancelled")) {
        run_cancelled(times);
    } else if (!strcmp(context, "vforked")) {
        run_vforked(times, arguments);
    } else if (!strcmp(context, "forked")) {
        run_forked(times);
    } else {
        fprintf(stderr, "%s is none of: once, waiting, coroutines, coroutines-within, signals, recursion, cancelled, vforked, "
                        "forked\n", context);
        return 2;
    }
    printf("%s: %lu right, %lu wrong\n", context, right, wrong);
    return wrong ? 1 : 0;
}
