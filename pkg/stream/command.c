/*
 * command -- what other threads want done in the next transaction.
 *
 * A command lies on its caller's stack.  It is queued, and then by one step
 * under the lock either taken by the loop (it runs, and the caller waits for
 * the outcome however long that takes) or cancelled by its caller's deadline (it
 * never runs).
 */
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "stream/internal.h"

static const char sql_key_find[] =
    "SELECT request, status, body, location FROM idempotency_keys"
    " WHERE scope = ?1 AND key = ?2";
static const char sql_key_store[] =
    "INSERT INTO idempotency_keys (scope, key, request, status, body,"
    " location, answered_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

int
command_queue_init(struct command_queue *q, struct mr_error *err)
{
	pthread_condattr_t attr;

	memset(q, 0, sizeof(*q));
	q->last = &q->first;
	snprintf(q->refusal, sizeof(q->refusal), "the service is starting");
	if ((q->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) == -1)
		return (mr_error_set(err, MR_FATAL, "eventfd: %s",
		    strerror(errno)));
	pthread_mutex_init(&q->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&q->gathered, &attr);
	pthread_condattr_destroy(&attr);
	return (0);
}

void
command_queue_done(struct command_queue *q)
{
	if (q->last == NULL)
		return;
	close(q->wake_fd);
	pthread_cond_destroy(&q->gathered);
	pthread_mutex_destroy(&q->lock);
	q->last = NULL;
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
command_waiting(struct command_queue *q)
{
	int count;

	pthread_mutex_lock(&q->lock);
	count = q->count;
	pthread_mutex_unlock(&q->lock);
	return (count);
}

void
command_gather(struct command_queue *q, int want, int64_t most_us)
{
	int64_t until_us = clock_mono_us() + most_us;
	struct timespec until = {.tv_sec = until_us / 1000000,
	    .tv_nsec = until_us % 1000000 * 1000};

	pthread_mutex_lock(&q->lock);
	q->gathering = want;
	while (q->open && q->count > 0 && q->count < want &&
	    pthread_cond_timedwait(&q->gathered, &q->lock, &until) == 0)
		;
	q->gathering = 0;
	pthread_mutex_unlock(&q->lock);
}

struct command *
command_take(struct command_queue *q, int most)
{
	struct command *first, *c;

	pthread_mutex_lock(&q->lock);
	first = q->first;
	if (first != NULL) {
		for (c = first; --most > 0 && c->next != NULL; c = c->next) {
			c->state = COMMAND_RUNNING;
			q->count--;
		}
		c->state = COMMAND_RUNNING;
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
	/* Who gathers will take it. */
	wake = q->first == NULL && q->gathering == 0;
	if (!q->open) {
		status = mr_error_set(err, MR_RETRY, "%s", q->refusal);
	} else if (q->count >= COMMANDS_MOST) {
		status = mr_error_set(err, MR_RETRY,
		    "%d commands are waiting already", q->count);
	} else {
		*q->last = c;
		q->last = &c->next;
		q->count++;
		if (q->count == q->gathering)
			pthread_cond_signal(&q->gathered);
	}
	pthread_mutex_unlock(&q->lock);
	/* An eventfd's counter is full after 2^64 - 2 wakes. */
	if (status == 0 && wake && write(q->wake_fd, &one, sizeof(one)) == -1)
		log_error("waking the stream failed", "error", strerror(errno));
	return (status);
}

/* Take a command out of the queue that the loop hasn't taken: 1, else 0. */
static int
command_cancel(struct command_queue *q, struct command *c)
{
	struct command **at;
	int cancelled = 0;

	pthread_mutex_lock(&q->lock);
	if (c->state == COMMAND_QUEUED) {
		for (at = &q->first; *at != c; at = &(*at)->next)
			;
		if ((*at = c->next) == NULL)
			q->last = at;
		q->count--;
		cancelled = 1;
	}
	pthread_mutex_unlock(&q->lock);
	return (cancelled);
}

static void
command_wait(struct command_queue *q, struct command *c, int64_t deadline_ms)
{
	struct timespec until;
	int64_t until_us = clock_mono_us() + deadline_ms * 1000;
	int ignored;

	until.tv_sec = until_us / 1000000;
	until.tv_nsec = until_us % 1000000 * 1000;
	while (sem_clockwait(&c->done, CLOCK_MONOTONIC, &until) == -1) {
		if (errno == EINTR)
			continue;
		if (command_cancel(q, c)) {
			mr_error_set(&c->error, MR_RETRY,
			    "no time for this command within %lld ms",
			    (long long)deadline_ms);
			return;
		}
		while (sem_wait(&c->done) == -1)
			;
		return;
	}
	/* ThreadSanitizer knows this call, and not sem_clockwait. */
	(void)sem_getvalue(&c->done, &ignored);
}

static void
answer_begin(struct stream_answer *answer)
{
	answer->status = 200;
	buffer_clear(&answer->body);
	answer->location[0] = '\0';
	answer->replayed = 0;
}

int
stream_call(struct stream *s, const struct stream_call *call,
    struct stream_answer *answer, struct mr_error *err)
{
	struct command c = {.call = call, .answer = answer};

	answer_begin(answer);
	c.command.kind = call->kind;
	c.command.input = call->input;
	c.command.now_ms = clock_wall_ms();
	id_uuid_v7(c.command.now_ms, c.command.id);
	if (sem_init(&c.done, 0, 0) == -1)
		return (mr_error_set(err, MR_RETRY, "sem_init: %s",
		    strerror(errno)));
	if (command_queue_add(&s->commands, &c, &c.error) == 0)
		command_wait(&s->commands, &c, call->deadline_ms);
	sem_destroy(&c.done);
	if (c.error.kind != MR_OK) {
		if (err != NULL)
			*err = c.error;
		return (-1);
	}
	return (0);
}

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
	batch_blame(s, "command", &failure);
	if (failure.kind == MR_FATAL) {
		*err = failure;
		return (-1);
	}
	if (batch_sound(s, err) == -1 || batch_undo(s, err) == -1)
		return (-1);
	c->error = failure;
	return (0);
}

/* All in one savepoint: 1 done, 0 one of them failed and all are undone, -1. */
static int
command_run_together(struct stream *s, struct command *first,
    struct mr_error *err)
{
	struct mr_error failure = {0};
	struct command *c;

	if (batch_save(s, err) == -1)
		return (-1);
	for (c = first; c != NULL; c = c->next)
		if (command_do(s, c, &failure) == -1)
			break;
		else if (batch_sound(s, err) == -1)
			return (-1);
	if (c == NULL)
		return (batch_keep(s, err) == -1 ? -1 : 1);
	batch_blame(s, "command", &failure);
	if (failure.kind == MR_FATAL) {
		*err = failure;
		return (-1);
	}
	if (batch_sound(s, err) == -1 || batch_undo(s, err) == -1)
		return (-1);
	for (c = first; c != NULL; c = c->next)
		answer_begin(c->answer);
	return (0);
}

int
command_run_all(struct stream *s, struct command *first, struct mr_error *err)
{
	struct command *c;
	int done = 0;

	if (first != NULL && first->next != NULL &&
	    (done = command_run_together(s, first, err)) == -1)
		return (-1);
	for (c = done ? NULL : first; c != NULL; c = c->next)
		if (command_run_alone(s, c, err) == -1)
			return (-1);
	return (0);
}

void
command_answer_all(struct command *first, const struct mr_error *err)
{
	struct command *c, *next;

	for (c = first; c != NULL; c = next) {
		next = c->next; /* the caller's stack is gone after the post */
		if (err != NULL)
			c->error = *err;
		sem_post(&c->done);
	}
}
