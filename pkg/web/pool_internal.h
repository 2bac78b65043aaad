/*
 * pool_internal -- which of a server's threads take connections, and which stand by.
 *
 * As many take them as there are processors.  If all did, each connection
 * would wake another thread, since accept wakes the one that has waited
 * longest, and would find caches and heap cold.  But a thread may be held up,
 * by a long query or by a peer that says nothing; so one of those that stand
 * by watches.  When a connection waits for WEB_STALL_MS and none was taken in
 * that time, then all that serve one are held up, and others take their
 * places.  Who was held up stands by when it comes back, unless it is needed.
 * (The pattern is known as leader and followers.)
 *
 * Any thread of the pool may call these, each with its own place, a number
 * below `threads`: web_pool_join once, then web_pool_away when it has taken a
 * connection and web_pool_back when it has served it.
 */
#ifndef MR_WEB_POOL_INTERNAL_H
#define MR_WEB_POOL_INTERNAL_H

#include <pthread.h>
#include <stdint.h>

#include "base/error.h"

#define WEB_STALL_MS 5

struct web_pool {
	int64_t threads;
	int64_t least; /* that take connections, held up ones not counted */
	int listen_fd;
	int stop_fd;
	_Atomic uint64_t taken; /* connections */
	_Atomic int *places; /* what each thread does */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int64_t taking; /* these under the lock */
	int watched;
	int stopping;
};

/*
 * web_pool_init -- a pool of ${threads} of which ${least} take connections.
 *
 * Both 1 or more.  ${listen_fd} and ${stop_fd}, readable once the server
 * stops, are borrowed.  Returns 0, or -1 FATAL without memory.
 */
int web_pool_init(struct web_pool *pool, int64_t threads, int64_t least,
    int listen_fd, int stop_fd, struct mr_error *err);
/* web_pool_done -- free; no thread may be in it.  Nothing if it is all zeros
 * or couldn't be made. */
void web_pool_done(struct web_pool *pool);

/* web_pool_join -- returns when the thread is to take connections, or to find
 * that there are no more since the server stops. */
void web_pool_join(struct web_pool *pool);
/* web_pool_away -- it has taken one, and may be held up from now on. */
void web_pool_away(struct web_pool *pool, int64_t place);
/* web_pool_back -- returns when it is to take connections again. */
void web_pool_back(struct web_pool *pool, int64_t place);

#endif
