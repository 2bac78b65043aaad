/*
 * test_web_pool -- threads that take turns at a socket where a connection
 * waits, or none.
 */
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "web/pool_internal.h"

#define THREADS 4
#define WAIT_US 20000000
#define QUICK_ROUNDS 200

/* A connection that waits is a byte that nobody reads. */
static int sockets[2];
static struct web_pool pool;

/* A thread that does what it is told, and says how far it has come. */
static struct worker {
	pthread_t thread;
	atomic_int told; /* how many times it may serve a connection */
	atomic_int turns; /* how many times it was its turn */
} workers[THREADS];
static atomic_int over;

static int
turns(void)
{
	int i, n = 0;

	for (i = 0; i < THREADS; i++)
		n += atomic_load(&workers[i].turns);
	return (n);
}

static void
wait_turns(int wanted)
{
	int64_t until_us = clock_mono_us() + WAIT_US;

	while (turns() < wanted && clock_mono_us() < until_us)
		usleep(200);
	assert_int_equal(turns(), wanted);
}

static void *
work(void *arg)
{
	struct worker *w = arg;
	int served = 0;

	web_pool_join(&pool);
	for (;;) {
		atomic_fetch_add(&w->turns, 1);
		while (atomic_load(&w->told) <= served) {
			if (atomic_load(&over))
				return (NULL);
			usleep(200);
		}
		served++;
		web_pool_back(&pool, w - workers);
	}
}

/* The first one whose turn it is and who isn't away. */
static int64_t
turn_of(int64_t but)
{
	int64_t i;

	for (i = 0; i < THREADS; i++)
		if (i != but && atomic_load(&workers[i].turns) > 0)
			return (i);
	fail();
	return (-1);
}

static int
start(int64_t least)
{
	int64_t i;
	int stop_fd = eventfd(0, EFD_CLOEXEC);

	if (stop_fd == -1 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == -1 ||
	    web_pool_init(&pool, THREADS, least, sockets[0], stop_fd, NULL) ==
		-1)
		return (-1);
	atomic_store(&over, 0);
	for (i = 0; i < THREADS; i++) {
		atomic_store(&workers[i].told, 0);
		atomic_store(&workers[i].turns, 0);
		if (pthread_create(&workers[i].thread, NULL, work,
			&workers[i]) != 0)
			return (-1);
	}
	return (0);
}

/* All get their turn when the server stops. */
static void
stop(void)
{
	const uint64_t one = 1;
	int64_t i;

	assert_int_equal(write(pool.stop_fd, &one, sizeof(one)), sizeof(one));
	atomic_store(&over, 1);
	for (i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	close(sockets[0]);
	close(sockets[1]);
	close(pool.stop_fd);
	web_pool_done(&pool);
}

static void
connection_waits(int waits)
{
	char byte = 'x';

	assert_int_equal(waits ? write(sockets[1], &byte, 1) :
				 read(sockets[0], &byte, 1),
	    1);
}

static void
the_least_take_connections_and_others_stand_by(void **state)
{
	int64_t i;
	int n;

	(void)state;
	assert_int_equal(start(2), 0);
	wait_turns(2);
	i = turn_of(-1);
	for (n = 1; n <= QUICK_ROUNDS; n++) {
		web_pool_away(&pool, i);
		atomic_fetch_add(&workers[i].told, 1);
		wait_turns(2 + n);
	}
	assert_int_equal(atomic_load(&workers[turn_of(i)].turns), 1);
	stop();
	/* Each of the four has had a turn, the two by the stop. */
	assert_int_equal(turns(), THREADS + QUICK_ROUNDS);
}

static void
who_is_held_up_is_replaced_and_stands_by_afterwards(void **state)
{
	int64_t first, second;

	(void)state;
	assert_int_equal(start(1), 0);
	wait_turns(1);
	first = turn_of(-1);

	web_pool_away(&pool, first);
	connection_waits(1);
	wait_turns(2);
	second = turn_of(first);
	connection_waits(0);

	/* It comes back; nobody stalls, so it waits with the others. */
	atomic_fetch_add(&workers[first].told, 1);
	web_pool_away(&pool, second);
	atomic_fetch_add(&workers[second].told, 1);
	wait_turns(3);
	assert_int_equal(atomic_load(&workers[first].turns), 1);
	assert_int_equal(atomic_load(&workers[second].turns), 2);

	/* The other one is held up: one of the three goes on. */
	web_pool_away(&pool, second);
	connection_waits(1);
	wait_turns(4);
	connection_waits(0);
	assert_int_equal(atomic_load(&workers[second].turns), 2);
	stop();
	/* Those that stood by to the end have had theirs by the stop. */
	assert_int_equal(turns(), THREADS + 2);
}

static void
as_many_are_replaced_as_are_held_up(void **state)
{
	int64_t first[2], other[2];
	int64_t i;
	int n = 0, m = 0;

	(void)state;
	assert_int_equal(start(2), 0);
	wait_turns(2);
	for (i = 0; i < THREADS; i++)
		if (atomic_load(&workers[i].turns) == 1)
			first[n++] = i;
		else
			other[m++] = i;
	assert_int_equal(n, 2);

	web_pool_away(&pool, first[0]);
	web_pool_away(&pool, first[1]);
	connection_waits(1);
	wait_turns(4);
	connection_waits(0);
	atomic_fetch_add(&workers[first[0]].told, 1);
	atomic_fetch_add(&workers[first[1]].told, 1);

	web_pool_away(&pool, other[0]);
	web_pool_away(&pool, other[1]);
	connection_waits(1);
	wait_turns(6);
	connection_waits(0);
	stop();
	for (i = 0; i < 2; i++) {
		assert_int_equal(atomic_load(&workers[first[i]].turns), 2);
		assert_int_equal(atomic_load(&workers[other[i]].turns), 1);
	}
}

/* Take one connection after another for a while: the longest pause. */
static int64_t
keep_taking(int64_t place)
{
	int64_t now_us = clock_mono_us(), longest_us = 0, before_us;
	int64_t until_us = now_us + 10 * WEB_STALL_MS * 1000;

	do {
		web_pool_away(&pool, place);
		before_us = now_us;
		now_us = clock_mono_us();
		if (now_us - before_us > longest_us)
			longest_us = now_us - before_us;
	} while (now_us < until_us);
	return (longest_us);
}

/* Under load there is always one that waits. */
static void
nobody_is_held_up_while_connections_are_taken(void **state)
{
	int64_t longest_us = INT64_MAX;
	int tries, busy;

	(void)state;
	/* A machine that holds up this thread as well says nothing. */
	for (tries = 0; tries < 50 && longest_us >= WEB_STALL_MS * 1000;
	     tries++) {
		assert_int_equal(start(1), 0);
		wait_turns(1);
		connection_waits(1);
		longest_us = keep_taking(turn_of(-1));
		busy = turns();
		connection_waits(0);
		stop();
	}
	if (longest_us >= WEB_STALL_MS * 1000)
		skip();
	assert_int_equal(busy, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_least_take_connections_and_others_stand_by),
	    cmocka_unit_test(
		who_is_held_up_is_replaced_and_stands_by_afterwards),
	    cmocka_unit_test(as_many_are_replaced_as_are_held_up),
	    cmocka_unit_test(nobody_is_held_up_while_connections_are_taken),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
