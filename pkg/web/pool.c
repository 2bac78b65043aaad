/*
 * pool -- which of a server's threads take connections, and which stand by.
 */
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "web/pool_internal.h"

/* What a thread does with a place of its own. */
enum { TAKING, AWAY, HELD_UP };

int
web_pool_init(struct web_pool *pool, int64_t threads, int64_t least,
    int listen_fd, int stop_fd, struct mr_error *err)
{

	*pool = (struct web_pool){.threads = threads,
	    .least = least,
	    .listen_fd = listen_fd,
	    .stop_fd = stop_fd};
	if ((pool->places = calloc((size_t)threads, sizeof(*pool->places))) ==
	    NULL)
		return (mr_error_set(err, MR_FATAL, "out of memory"));
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->changed, NULL);
	return (0);
}

void
web_pool_done(struct web_pool *pool)
{

	if (pool->places == NULL)
		return;
	free(pool->places);
	pthread_cond_destroy(&pool->changed);
	pthread_mutex_destroy(&pool->lock);
}

/* Wait until a connection has waited too long: 1, or 0 when the server stops.
 * Without the lock. */
static int
stalled(struct web_pool *pool)
{
	struct pollfd fds[2] = {{.fd = pool->listen_fd, .events = POLLIN},
	    {.fd = pool->stop_fd, .events = POLLIN}};
	uint64_t taken;

	for (;;) {
		(void)poll(fds, 2, -1);
		taken = atomic_load(&pool->taken);
		if (poll(&fds[1], 1, WEB_STALL_MS) > 0)
			return (0);
		if (atomic_load(&pool->taken) == taken && poll(fds, 1, 0) == 1)
			return (1);
	}
}

/* Of those that take connections, none that is away counts any more. */
static void
count_held_up(struct web_pool *pool)
{
	int64_t i;
	int away;

	for (i = 0; i < pool->threads; i++) {
		away = AWAY;
		if (atomic_compare_exchange_strong(&pool->places[i], &away,
			HELD_UP))
			pool->taking--;
	}
}

void
web_pool_join(struct web_pool *pool)
{
	int stall;

	pthread_mutex_lock(&pool->lock);
	while (!pool->stopping && pool->taking >= pool->least) {
		if (pool->watched) {
			pthread_cond_wait(&pool->changed, &pool->lock);
			continue;
		}
		pool->watched = 1;
		pthread_mutex_unlock(&pool->lock);
		stall = stalled(pool);
		pthread_mutex_lock(&pool->lock);
		pool->watched = 0;
		if (stall)
			count_held_up(pool);
		else
			pool->stopping = 1;
	}
	pool->taking++;
	/* For the next to take part, too, or to watch. */
	pthread_cond_signal(&pool->changed);
	pthread_mutex_unlock(&pool->lock);
}

void
web_pool_away(struct web_pool *pool, int64_t place)
{

	atomic_store(&pool->places[place], AWAY);
	atomic_fetch_add(&pool->taken, 1);
}

void
web_pool_back(struct web_pool *pool, int64_t place)
{

	if (atomic_exchange(&pool->places[place], TAKING) == HELD_UP)
		web_pool_join(pool);
}
