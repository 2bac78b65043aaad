/* thread -- a thread of the program's own, as all of them are started. */
#ifndef MR_BASE_THREAD_H
#define MR_BASE_THREAD_H

#include <pthread.h>
#include <stddef.h>

#define THREAD_NAME_SIZE 16

/*
 * thread_name -- what ps and top show of the calling thread from now on: the
 * first 15 characters of ${name}.
 *
 * A thread names itself, and no other: for that the C library writes to a file
 * below /proc, next to which is the memory of the process, and the sandbox
 * keeps both from us.
 */
void thread_name(const char *name);

/*
 * thread_start -- call ${run} with ${arg} in a thread of its own, to be joined.
 *
 * ${name} is copied, and shown as thread_name says.  Its stack has
 * ${stack_bytes}, not more than is used of which takes memory.  Every signal is
 * blocked in it: those are for the thread that looks for them (signals.h).
 * Returns 0 once the thread runs, or an errno, with nothing started.
 */
int thread_start(pthread_t *thread, const char *name, size_t stack_bytes,
    void *(*run)(void *arg), void *arg);

/*
 * thread_hurry -- the calling thread is one that everybody waits for, and that
 * sleeps at every sync: it gets a processor as soon as it wakes, instead of
 * when somebody else's slice is over.  Its share stays what it was.  The
 * threads that it starts are as others are.
 *
 * thread_give_way -- the calling thread works ahead of such a one, or behind
 * it, and has time: it takes a tenth of the share of any thread that wants the
 * same processor.  So do the threads that it starts.  It waits no longer for
 * its turn than others do.  Further calls change nothing: it goes by the
 * program's first thread.
 *
 * Both are requests, by sched_setattr(2): Linux before 6.12 knows no slices.
 */
void thread_hurry(void);
void thread_give_way(void);

#endif
