// Ends calls otherwise than by returning from them, or while they are watched; its first argument says how.
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cuInit(unsigned flags);
int cuCtxSynchronize(void);
int cuLaunchHostFunc(void *stream, void (*function)(void *), void *data);
int cuStreamAddCallback(void *stream, void (*callback)(void *, int, void *), void *data, unsigned flags);

static jmp_buf outside;

// Calls with so much more of the stack in use, and nothing left in it of calls that were there before.
__attribute__((noinline)) static void on_stack(size_t room, void (*call)(void))
{
    char *used = __builtin_alloca(room + 1);
    memset(used, 0, room + 1);
    __asm__ volatile("" : : "r"(used) : "memory");
    call();
}

static void synchronize(void)
{
    cuCtxSynchronize();
}

static void jump(void *stream, int status, void *data)
{
    (void)stream, (void)status, (void)data;
    cuCtxSynchronize();
    longjmp(outside, 1);
}

static void add_jump(void *data)
{
    cuStreamAddCallback(NULL, jump, data, 0);
}

static void launch_jump(void)
{
    cuLaunchHostFunc(NULL, add_jump, NULL);
}

// Two calls are left at once, `times` over; then another one is made, with less, as much or more of the stack in use.
static void leave_by_jumps(volatile int times, size_t room, size_t room_afterwards)
{
    while (times-- > 0)
        if (!setjmp(outside))
            on_stack(room, launch_jump);
    on_stack(room_afterwards, synchronize);
    on_stack(room_afterwards, synchronize);
}

static void end_process(void *data)
{
    (void)data;
    cuCtxSynchronize();
    raise(SIGKILL);
}

static void end_thread(void *data)
{
    (void)data;
    cuCtxSynchronize();
    pthread_exit(NULL);
}

static void nest(void *levels)
{
    if (levels)
        cuLaunchHostFunc(NULL, nest, (char *)levels - 1);
    cuCtxSynchronize();
}

static void *thread_that_ends(void *data)
{
    cuLaunchHostFunc(NULL, end_thread, data);
    return NULL;
}

static void *thread_that_returns(void *data)
{
    cuLaunchHostFunc(NULL, nest, data);
    return NULL;
}

static void run_thread(void *(*body)(void *))
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, NULL) || pthread_join(thread, NULL)) {
        fputs("cannot run a thread\n", stderr);
        exit(1);
    }
}

static void wait_for_line(void *data)
{
    (void)data;
    puts("waiting");
    fflush(stdout);
    getchar();
}

static void wait_deeper(void *data)
{
    cuLaunchHostFunc(NULL, wait_for_line, data);
}

int main(int count, char **arguments)
{
    const char *how = count > 1 ? arguments[1] : "";
    long numbers[3] = {0};
    for (int i = 0; i < 3 && i + 2 < count; i++)
        numbers[i] = atol(arguments[i + 2]);
    cuInit(0);
    if (!strcmp(how, "jump")) {
        leave_by_jumps((int)numbers[0], (size_t)numbers[1], (size_t)numbers[2]);
    } else if (!strcmp(how, "kill")) {
        cuLaunchHostFunc(NULL, end_process, NULL);
    } else if (!strcmp(how, "threads")) {
        run_thread(thread_that_ends);
        run_thread(thread_that_returns);
        wait_for_line(NULL);
    } else if (!strcmp(how, "nest")) {
        nest((void *)numbers[0]);
    } else if (!strcmp(how, "wait")) {
        cuLaunchHostFunc(NULL, wait_deeper, NULL);
        cuCtxSynchronize();
    } else {
        fprintf(stderr, "%s is none of: jump TIMES ROOM ROOM_AFTERWARDS, kill, threads, nest LEVELS, wait\n", how);
        return 2;
    }
}
