/*
 * command -- what other threads want done in the next transaction.
 *
 * A command is queued, and then by one step under the lock either taken by
 * the loop (it runs, however long that takes) or cancelled by its deadline
 * (it never runs).  Whichever it was, the thread "answers" tells: once a
 * transaction it is woken for all of its commands, while the loop goes on
 * with the next.
 */
#include <errno.h>
#include <limits.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "stream/internal.h"

static const char sql_key_find[] =
    "SELECT request, status, body, location FROM idempotency_keys"
    " WHERE scope = ?1 AND key = ?2";
static const char sql_key_store[] =
    "INSERT INTO idempotency_keys (scope, key, request, status, body,"
    " location, answered_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

#define STACK_BYTES ((size_t)256 * 1024)

/* ---- the thread that answers -------------------------------------------- */

/*
 * Under the lock: those whose deadline passed in the queue are answered with
 * that, and the earliest deadline of the rest is when to look again.
 */
static void
command_expire(struct command_queue *q)
{
	int64_t now_us = clock_mono_us();
	struct command **at, *c;

	if (now_us < q->look_at_us)
		return;
	q->look_at_us = INT64_MAX;
	for (at = &q->first; (c = *at) != NULL;) {
		if (c->until_us > now_us) {
			if (c->until_us < q->look_at_us)
				q->look_at_us = c->until_us;
			at = &c->next;
			continue;
		}
		*at = c->next;
		q->count--;
		mr_error_set(&c->error, MR_RETRY,
		    "no time for this command within %lld ms",
		    (long long)c->call->deadline_ms);
		c->next = q->answered;
		q->answered = c;
	}
	q->last = at;
}

static void *
answer_thread(void *arg)
{
	struct command_queue *q = arg;
	struct command *c, *next;
	struct timespec until;

	pthread_mutex_lock(&q->lock);
	for (;;) {
		command_expire(q);
		if (q->answered == NULL && q->ending)
			break;
		if (q->answered == NULL && q->look_at_us == INT64_MAX) {
			pthread_cond_wait(&q->news, &q->lock);
			continue;
		}
		if (q->answered == NULL) {
			until.tv_sec = q->look_at_us / 1000000;
			until.tv_nsec = q->look_at_us % 1000000 * 1000;
			pthread_cond_timedwait(&q->news, &q->lock, &until);
			continue;
		}
		c = q->answered;
		q->answered = NULL;
		pthread_mutex_unlock(&q->lock);
		for (; c != NULL; c = next) {
			next = c->next; /* it is gone after this */
			c->done(c, c->error.kind == MR_OK ? NULL : &c->error);
		}
		pthread_mutex_lock(&q->lock);
	}
	pthread_mutex_unlock(&q->lock);
	return (NULL);
}

void
command_answer_all(struct command_queue *q, struct command *first,
    const struct mr_error *err)
{
	struct command *c;

	if (first == NULL)
		return;
	for (c = first; err != NULL && c != NULL; c = c->next)
		c->error = *err;
	for (c = first; c->next != NULL;)
		c = c->next;
	pthread_mutex_lock(&q->lock);
	c->next = q->answered;
	q->answered = first;
	pthread_cond_signal(&q->news);
	pthread_mutex_unlock(&q->lock);
}

/* ---- the queue ------------------------------------------------------------ */

int
command_queue_init(struct command_queue *q, struct mr_error *err)
{
	pthread_condattr_t attr;
	int e;

	memset(q, 0, sizeof(*q));
	q->look_at_us = INT64_MAX;
	snprintf(q->refusal, sizeof(q->refusal), "the service is starting");
	if ((q->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) == -1)
		return (mr_error_set(err, MR_FATAL, "eventfd: %s",
		    strerror(errno)));
	pthread_mutex_init(&q->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&q->news, &attr);
	pthread_condattr_destroy(&attr);
	q->last = &q->first;
	q->made = 1;
	if ((e = thread_start(&q->thread, "answers", STACK_BYTES, answer_thread,
		 q)) == 0)
		return (0);
	q->thread_failed = 1;
	command_queue_done(q);
	return (mr_error_set(err, MR_FATAL, "pthread_create: %s", strerror(e)));
}

void
command_queue_done(struct command_queue *q)
{
	if (!q->made)
		return;
	pthread_mutex_lock(&q->lock);
	q->ending = 1;
	pthread_cond_signal(&q->news);
	pthread_mutex_unlock(&q->lock);
	if (!q->thread_failed)
		pthread_join(q->thread, NULL);
	close(q->wake_fd);
	pthread_cond_destroy(&q->news);
	pthread_mutex_destroy(&q->lock);
	q->made = 0;
}

void
command_queue_open(struct command_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->open = 1;
	pthread_mutex_unlock(&q->lock);
}

void
command_queue_close(struct command_queue *q, const char *why)
{
	pthread_mutex_lock(&q->lock);
	q->open = 0;
	snprintf(q->refusal, sizeof(q->refusal), "%s", why);
	pthread_mutex_unlock(&q->lock);
}

int
command_waiting(const struct command_queue *q)
{

	return (atomic_load(&q->count));
}

struct command *
command_take(struct command_queue *q, int most)
{
	struct command *first, *c;

	pthread_mutex_lock(&q->lock);
	first = most > 0 ? q->first : NULL;
	if (first != NULL) {
		for (c = first; --most > 0 && c->next != NULL; c = c->next)
			q->count--;
		q->count--;
		if ((q->first = c->next) == NULL)
			q->last = &q->first;
		c->next = NULL;
	}
	pthread_mutex_unlock(&q->lock);
	return (first);
}

static int
command_queue_add(struct command_queue *q, struct command *c,
    struct mr_error *err)
{
	uint64_t one = 1;
	int wake, status = 0;

	pthread_mutex_lock(&q->lock);
	wake = q->first == NULL;
	if (!q->open) {
		status = mr_error_set(err, MR_RETRY, "%s", q->refusal);
	} else if (q->count >= COMMANDS_MOST) {
		status = mr_error_set(err, MR_RETRY,
		    "%d commands are waiting already", q->count);
	} else {
		*q->last = c;
		q->last = &c->next;
		q->count++;
		if (c->until_us < q->look_at_us) {
			q->look_at_us = c->until_us;
			pthread_cond_signal(&q->news);
		}
	}
	pthread_mutex_unlock(&q->lock);
	/* An eventfd's counter is full after 2^64 - 2 wakes. */
	if (status == 0 && wake && write(q->wake_fd, &one, sizeof(one)) == -1)
		log_error("waking the stream failed", "error", strerror(errno));
	return (status);
}

static void
answer_begin(struct stream_answer *answer)
{
	answer->status = 200;
	buffer_clear(&answer->body);
	answer->location[0] = '\0';
	answer->replayed = 0;
}

/* Queue what ${c} was made for. */
static int
command_submit(struct stream *s, struct command *c, struct mr_error *err)
{
	int64_t now_us = clock_wall_us();

	answer_begin(c->answer);
	c->command.kind = c->call->kind;
	c->command.input = c->call->input;
	c->command.now_ms = now_us / 1000;
	id_uuid_v7(now_us, c->command.id);
	c->until_us = clock_mono_us() + c->call->deadline_ms * 1000;
	return (command_queue_add(&s->commands, c, err));
}

/* ---- and the caller goes on ----------------------------------------------- */

struct submitted {
	struct command c; /* first: it is what comes back */
	void (*done)(void *arg, const struct mr_error *err);
	void *arg;
};

static void
submitted_done(struct command *c, const struct mr_error *err)
{
	const struct submitted *given = (struct submitted *)c;

	given->done(given->arg, err);
}

int
stream_submit(struct stream *s, const struct stream_call *call,
    struct stream_answer *answer, struct stream_pending *pending,
    void (*done)(void *arg, const struct mr_error *err), void *arg,
    struct mr_error *err)
{
	struct submitted *given = (struct submitted *)pending;

	_Static_assert(sizeof(*given) <= sizeof(*pending), "it has room");
	*given = (struct submitted){.c = {.call = call,
					.answer = answer,
					.done = submitted_done},
	    .done = done,
	    .arg = arg};
	return (command_submit(s, &given->c, err));
}

/* ---- and the caller waits --------------------------------------------------- */

struct waited {
	struct command c; /* first, likewise */
	struct mr_error error;
	sem_t done;
};

static void
waited_done(struct command *c, const struct mr_error *err)
{
	struct waited *caller = (struct waited *)c;

	if (err != NULL)
		caller->error = *err;
	sem_post(&caller->done);
}

int
stream_call(struct stream *s, const struct stream_call *call,
    struct stream_answer *answer, struct mr_error *err)
{
	struct waited caller = {
	    .c = {.call = call, .answer = answer, .done = waited_done}};

	if (sem_init(&caller.done, 0, 0) == -1)
		return (mr_error_set(err, MR_RETRY, "sem_init: %s",
		    strerror(errno)));
	if (command_submit(s, &caller.c, &caller.error) == 0)
		while (sem_wait(&caller.done) == -1)
			;
	sem_destroy(&caller.done);
	if (caller.error.kind == MR_OK)
		return (0);
	if (err != NULL)
		*err = caller.error;
	return (-1);
}

/* ---- in the transaction ----------------------------------------------------- */

/*
 * The stored answer to a call made before: 1 and the answer filled in, 0 if
 * there is none, -1 on error.
 */
static int
answer_find(struct stream *s, const struct stream_call *call,
    struct stream_answer *answer, struct mr_error *err)
{
	struct store_rows *rows;
	const void *bytes;
	size_t size;
	int found;

	if ((rows = store_query(s->st, err, sql_key_find,
		 store_text(call->scope), store_text(call->key))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		bytes = store_get_blob(rows, 0, &size);
		if (size != call->body_size ||
		    (size > 0 && memcmp(bytes, call->body, size) != 0)) {
			found = mr_error_set(err, MR_REJECT,
			    "the Idempotency-Key was used before with another "
			    "body: use a new key for a new request");
		} else {
			answer->status = (int)store_get_i64(rows, 1);
			bytes = store_get_blob(rows, 2, &size);
			buffer_clear(&answer->body);
			buffer_add(&answer->body, bytes, size);
			snprintf(answer->location, sizeof(answer->location),
			    "%s", store_get_text(rows, 3));
			answer->replayed = 1;
		}
	}
	store_rows_done(rows);
	return (found);
}

static int
answer_store(struct stream *s, const struct command *c, struct mr_error *err)
{
	const struct stream_call *call = c->call;
	const struct stream_answer *answer = c->answer;

	return (store_run(s->st, err, sql_key_store, store_text(call->scope),
		    store_text(call->key),
		    store_blob(call->body_size > 0 ? call->body : "",
			call->body_size),
		    store_i64(answer->status),
		    store_blob(buffer_text(&answer->body), answer->body.length),
		    store_text(answer->location),
		    store_i64(c->command.now_ms)) == -1 ?
		-1 :
		0);
}

/* The command itself, inside the savepoint. */
static int
command_do(struct stream *s, struct command *c, struct mr_error *err)
{
	int found;

	if (c->call->key != NULL) {
		if ((found = answer_find(s, c->call, c->answer, err)) != 0)
			return (found == 1 ? 0 : -1);
	}
	store_guard(s->st, 1);
	found = c->command.kind <= STREAM_DROP_DEAD_LETTER ?
	    replay_command(s, &c->command, c->answer, err) :
	    s->svc->command(s, &c->command, c->answer, err);
	store_guard(s->st, 0);
	if (found == -1)
		return (-1);
	if (c->answer->body.failed)
		return (mr_error_set(err, MR_RETRY, "out of memory"));
	if (c->call->key != NULL && c->answer->status != 503)
		return (answer_store(s, c, err));
	return (0);
}

/* One failed: undo the savepoint.  -1: the transaction can't go on. */
static int
commands_undo(struct stream *s, struct mr_error *failure, struct mr_error *err)
{
	batch_blame(s, "command", failure);
	if (failure->kind == MR_FATAL) {
		*err = *failure;
		return (-1);
	}
	return (batch_sound(s, err) == -1 ? -1 : batch_undo(s, err));
}

/* One in a savepoint of its own. */
static int
command_run_alone(struct stream *s, struct command *c, struct mr_error *err)
{
	struct mr_error failure = {0};

	if (batch_save(s, err) == -1)
		return (-1);
	if (command_do(s, c, &failure) == 0) {
		if (batch_sound(s, err) == -1)
			return (-1);
		return (batch_keep(s, err));
	}
	if (commands_undo(s, &failure, err) == -1)
		return (-1);
	c->error = failure;
	return (0);
}

/*
 * All in one savepoint, and once those that came meanwhile: 1 done, 0 one of
 * several failed and all are undone, -1.
 */
static int
command_run_together(struct stream *s, struct command **commands,
    struct mr_error *err)
{
	struct mr_error failure = {0};
	struct command *c, **at = commands;
	int count = 0, joined = 0;

	if (batch_save(s, err) == -1)
		return (-1);
	for (;; at = &(*at)->next, count++) {
		if (*at == NULL && !joined) {
			*at = command_take(&s->commands,
			    COMMANDS_A_BATCH - count);
			joined = 1;
		}
		if (*at == NULL)
			return (batch_keep(s, err) == -1 ? -1 : 1);
		if (command_do(s, *at, &failure) == -1)
			break;
		if (batch_sound(s, err) == -1)
			return (-1);
	}
	if (commands_undo(s, &failure, err) == -1)
		return (-1);
	if ((*commands)->next == NULL) {
		(*commands)->error = failure;
		return (1);
	}
	for (c = *commands; c != NULL; c = c->next)
		answer_begin(c->answer);
	return (0);
}

int
command_run_all(struct stream *s, struct command **commands,
    struct mr_error *err)
{
	struct command *c;
	int done;

	if (*commands == NULL)
		return (0);
	if ((done = command_run_together(s, commands, err)) == -1)
		return (-1);
	for (c = done ? NULL : *commands; c != NULL; c = c->next)
		if (command_run_alone(s, c, err) == -1)
			return (-1);
	return (0);
}
