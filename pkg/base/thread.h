/* thread -- a thread of the program's own, as all of them are started. */
#ifndef MR_BASE_THREAD_H
#define MR_BASE_THREAD_H

#include <pthread.h>
#include <stddef.h>

/*
 * thread_start -- call ${run} with ${arg} in a thread of its own, to be joined.
 *
 * ${name} is what ps and top show, 15 characters at most.  Its stack has
 * ${stack_bytes}, not more than is used of which takes memory.  Every signal is
 * blocked in it: those are for the thread that looks for them (signals.h).
 * Returns 0, or an errno, with nothing started.
 */
int thread_start(pthread_t *thread, const char *name, size_t stack_bytes,
    void *(*run)(void *arg), void *arg);

#endif
