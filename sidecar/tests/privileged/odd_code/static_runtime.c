// A program that has a runtime of CUDA in itself, and exports it: standin-static CALLS. It waits for a line first, and
// prints how many calls there were.
#include <stdio.h>
#include <stdlib.h>

static volatile long count;

int cuEventRecord(void *event, void *stream)
{
    count++;
    return 0;
}

int main(int number, char **arguments)
{
    long calls = atol(arguments[1]);
    puts("waiting");
    fflush(stdout);
    getchar();
    while (calls--)
        if (cuEventRecord(0, 0))
            return 1;
    printf("%ld\n", count);
    return 0;
}
