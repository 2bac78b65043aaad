/*
 * loop -- the broker's life: open, turn, drain, close.
 */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/signals.h"
#include "broker/catalog.h"
#include "broker/connection.h"
#include "broker/groups.h"
#include "broker/internal.h"
#include "broker/keeper.h"
#include "broker/measure.h"
#include "broker/partition.h"

#define EVENTS_MOST 64
#define TICK_MS 1000
#define SLOW_TICK_MS 30000 /* of what is due by the hour */
#define STUCK_MS 10000 /* a turn that takes longer is no life */
#define FILES_A_PARTITION \
	(1 + PLOG_ACTIVE_FDS) /* its folder, and what is open */
#define FILES_BESIDE 100

int64_t
broker_now_ms(void)
{

	return (clock_mono_us() / 1000);
}

void
broker_fail(struct broker *b, const struct mr_error *err)
{

	if (b->fatal.kind == MR_OK) {
		b->fatal = *err;
		b->fatal.kind = MR_FATAL;
	}
}

/* ---- open --------------------------------------------------------------- */

static int
make_folder(const struct broker_conf *conf, struct mr_error *err)
{

	if (mkdir(conf->data, 0770) == -1 && errno != EEXIST)
		return (mr_error_set(err, MR_FATAL, "%s: %s", conf->data,
		    strerror(errno)));
	return (0);
}

int
broker_sandbox(const struct broker_conf *conf, struct sandbox *sb,
    struct mr_error *err)
{

	if (make_folder(conf, err) == -1 ||
	    listeners_sandbox(conf, sb, err) == -1)
		return (-1);
	sandbox_write_folders(sb, conf->data);
	return (0);
}

/* One process a folder. */
static int
lock_folder(struct broker *b, struct mr_error *err)
{
	char path[4096];

	if (make_folder(&b->conf, err) == -1)
		return (-1);
	snprintf(path, sizeof(path), "%s/lock", b->conf.data);
	b->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0660);
	if (b->lock_fd == -1)
		return (mr_error_set(err, MR_FATAL, "%s: %s", path,
		    strerror(errno)));
	if (flock(b->lock_fd, LOCK_EX | LOCK_NB) == -1)
		return (mr_error_set(err, MR_REJECT,
		    "%s: another broker works in this folder", b->conf.data));
	return (0);
}

/* Shells give a process 1024 descriptors, and let it have more. */
static void
raise_descriptors(const struct broker *b)
{
	const int64_t partitions = catalog_partitions_most(b);
	const rlim_t need = (rlim_t)(b->conf.connections_most +
	    FILES_A_PARTITION * partitions + FILES_BESIDE);
	const rlim_t most = need + (rlim_t)(PLOG_OTHER_FDS * partitions);
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1 || limit.rlim_cur >= most)
		return;
	limit.rlim_cur = limit.rlim_max < most ? limit.rlim_max : most;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < need)
		log_warn("there can't be as many connections and partitions as "
			 "set: raise `ulimit -n`",
		    "needed", log_i64((int64_t)need), "allowed",
		    log_i64((int64_t)limit.rlim_cur));
}

/* Where workers and listeners are told from connections. */
static int
open_poll(struct broker *b, struct mr_error *err)
{
	struct epoll_event event = {.events = EPOLLIN};

	b->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	b->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	event.data.ptr = &b->wake_fd;
	if (b->epoll_fd == -1 || b->wake_fd == -1 ||
	    epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, b->wake_fd, &event) == -1)
		return (
		    mr_error_set(err, MR_FATAL, "epoll: %s", strerror(errno)));
	return (0);
}

/* The file is opened by the thread that it will belong to. */
static void
run_open(struct worker_job *job, void *arg)
{
	struct broker *b = arg;

	if (keeper_open(b, &job->err) == -1)
		return;
	raise_descriptors(b);
	if (partitions_open(b, &job->err) == 0)
		(void)keeper_start(b, partitions_last_producer(b), &job->err);
}

static void
finish_nothing(struct worker_job *job, void *arg)
{

	(void)job;
	(void)arg;
}

static int
open_state(struct broker *b, struct mr_error *err)
{
	struct worker_job job = {.run = run_open, .finish = finish_nothing};
	struct epoll_event event;

	if ((b->keeper = worker_start("keeper", b->wake_fd, b, err)) == NULL ||
	    (b->syncer = worker_start("syncer", b->wake_fd, b, err)) == NULL ||
	    (b->tidier = worker_start("tidier", b->wake_fd, b, err)) == NULL)
		return (-1);
	worker_give(b->keeper, &job);
	while (worker_finish(b->keeper) == 0)
		(void)epoll_wait(b->epoll_fd, &event, 1, -1);
	if (job.err.kind != MR_OK) {
		*err = job.err;
		return (-1);
	}
	return (0);
}

struct broker *
broker_open(const struct broker_conf *conf, struct mr_error *err)
{
	struct broker *b = calloc(1, sizeof(*b));

	if (b == NULL) {
		mr_error_set(err, MR_FATAL, "out of memory");
		return (NULL);
	}
	b->conf = *conf;
	b->lock_fd = b->epoll_fd = b->wake_fd = -1;
	b->deadline_ms = b->next_flush_ms = INT64_MAX;
	b->unsynced_last = &b->unsynced;
	b->now_ms = broker_now_ms();
	measure_start();
	if ((b->scratch = malloc(BROKER_SCRATCH_SIZE)) == NULL) {
		mr_error_set(err, MR_FATAL, "out of memory");
		goto fail;
	}
	if (lock_folder(b, err) == -1 || groups_open(b, err) == -1 ||
	    open_poll(b, err) == -1 || open_state(b, err) == -1 ||
	    listeners_open(b, err) == -1)
		goto fail;
	listeners_accept(b, 1);
	return (b);

fail:
	broker_close(b);
	return (NULL);
}

/* ---- turn --------------------------------------------------------------- */

static int
is_listener(const struct broker *b, const void *p)
{
	const struct listener *l = p;

	return (l >= b->listeners && l < b->listeners + b->listener_count);
}

static void
take_event(struct broker *b, const struct epoll_event *event)
{
	uint64_t n;
	ssize_t got;

	if (event->data.ptr == &b->wake_fd) {
		got = read(b->wake_fd, &n, sizeof(n));
		(void)got;
	} else if (is_listener(b, event->data.ptr)) {
		connection_accept(b,
		    ((const struct listener *)event->data.ptr)->fd);
	} else if (event->data.ptr == &b->lock_fd) {
		b->signalled = 1;
	} else {
		connection_event(b, event->data.ptr, event->events);
	}
}

/* How long the loop may sleep. */
static int
sleep_ms(const struct broker *b)
{
	int64_t at = b->next_tick_ms, now = broker_now_ms();

	if (b->deadline_ms < at)
		at = b->deadline_ms;
	if (group_deadline(b->groups) < at)
		at = group_deadline(b->groups);
	if (b->unsynced != NULL && b->sync == NULL && b->next_flush_ms < at)
		at = b->next_flush_ms;
	if (tidy_due_ms(b) < at)
		at = tidy_due_ms(b);
	return (at <= now ? 0 : (int)(at - now));
}

static void
tick(struct broker *b)
{

	if (group_deadline(b->groups) <= b->now_ms)
		group_tick(b->groups, b->now_ms);
	if (b->deadline_ms <= b->now_ms)
		connections_overdue(b);
	if (b->now_ms < b->next_tick_ms)
		return;
	b->next_tick_ms = b->now_ms + TICK_MS;
	connections_idle(b);
	if (b->now_ms >= b->next_slow_tick_ms) {
		b->next_slow_tick_ms = b->now_ms + SLOW_TICK_MS;
		groups_tick(b);
	}
}

static void
turn(struct broker *b)
{
	struct epoll_event events[EVENTS_MOST];
	int i, n;

	n = epoll_wait(b->epoll_fd, events, EVENTS_MOST, sleep_ms(b));
	b->now_ms = broker_now_ms();
	atomic_store(&b->turned_ms, b->now_ms);
	for (i = 0; i < n; i++)
		take_event(b, &events[i]);
	worker_finish(b->syncer);
	worker_finish(b->keeper);
	worker_finish(b->tidier);
	tick(b);
	connections_turn(b);
	sync_start(b);
	tidy_start(b);
}

/* Answer what can be answered, for a while. */
static void
drain(struct broker *b)
{
	int64_t until = broker_now_ms() + b->conf.drain_ms;

	if (b->conf.on_drain != NULL)
		b->conf.on_drain();
	b->stopping = 1;
	listeners_accept(b, 0);
	connections_drain(b);
	tidy_stop(b);
	do {
		b->next_tick_ms = broker_now_ms() + 10;
		turn(b);
	} while (
	    b->fatal.kind == MR_OK && connections_busy(b) && b->now_ms < until);
}

int
broker_run(struct broker *b, int signal_fd, struct mr_error *err)
{
	struct epoll_event event = {.events = EPOLLIN};
	int stop = 0;

	/* Any address will do that is no connection's. */
	event.data.ptr = &b->lock_fd;
	if (epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, signal_fd, &event) == -1)
		return (
		    mr_error_set(err, MR_FATAL, "epoll: %s", strerror(errno)));
	log_info("ready", "data", b->conf.data, "cluster", b->cluster_id,
	    "topics", log_i64((int64_t)b->topics.count), "partitions",
	    log_i64(b->partition_count), "port", log_i64(broker_port(b, 0)));
	atomic_store(&b->turned_ms, broker_now_ms());
	atomic_store(&b->is_ready, 1);
	while (!stop && b->fatal.kind == MR_OK) {
		turn(b);
		stop = b->signalled && signals_take(signal_fd);
		b->signalled = 0;
	}
	atomic_store(&b->is_ready, 0);
	(void)epoll_ctl(b->epoll_fd, EPOLL_CTL_DEL, signal_fd, NULL);
	if (b->fatal.kind == MR_OK)
		drain(b);
	if (b->fatal.kind != MR_OK) {
		*err = b->fatal;
		return (-1);
	}
	return (0);
}

/* ---- close -------------------------------------------------------------- */

static void
run_close(struct worker_job *job, void *arg)
{
	struct broker *b = arg;

	(void)job;
	store_close(b->st);
	b->st = NULL;
}

void
broker_close(struct broker *b)
{
	struct worker_job job = {.run = run_close, .finish = finish_nothing};
	struct worker *tidier;

	if (b == NULL)
		return;
	listeners_close(b);
	connections_close(b);
	if (b->tidying != NULL)
		tidy_stop(b);
	/* Each finishes what it has; what that gives the others comes first. */
	tidier = b->tidier;
	b->tidier = NULL;
	worker_stop(tidier);
	worker_stop(b->syncer);
	if (b->keeper != NULL)
		worker_give(b->keeper, &job);
	worker_stop(b->keeper);
	if (b->fatal.kind != MR_OK)
		catalog_abandon(b);
	else
		catalog_free(b);
	map_free(&b->making);
	group_close(b->groups);
	if (b->epoll_fd != -1)
		close(b->epoll_fd);
	if (b->wake_fd != -1)
		close(b->wake_fd);
	if (b->lock_fd != -1)
		close(b->lock_fd);
	free(b->scratch);
	free(b);
}

/* ---- asked by other threads --------------------------------------------- */

int
broker_ready(void *arg, char *reason, size_t reason_size)
{
	struct broker *b = arg;

	if (atomic_load(&b->is_ready))
		return (1);
	snprintf(reason, reason_size, "the broker is starting or stopping");
	return (0);
}

int
broker_alive(void *arg, char *reason, size_t reason_size)
{
	struct broker *b = arg;
	int64_t turned_ms = atomic_load(&b->turned_ms);

	if (turned_ms == 0 || broker_now_ms() - turned_ms < STUCK_MS)
		return (1);
	snprintf(reason, reason_size,
	    "the event loop hasn't turned for %lld ms",
	    (long long)(broker_now_ms() - turned_ms));
	return (0);
}
