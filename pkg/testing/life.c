/*
 * life -- the service from its start to its end, or to a crash.
 *
 * One a process at a time: what the core calls has no other way to know it.
 */
#include <sys/eventfd.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "fake_kafka.h"
#include "service/service_internal.h"
#include "stream/internal.h"
#include "testing/internal.h"

#define NUDGE INT_MAX /* a kind of command, ours */
#define PEEK_US 100
#define NUDGE_AFTER_US 20000
#define FLAGS_MOST 64
#define TICKS_MOST 1000
/* Beyond any uptime: the clock that waiting is measured by isn't ours. */
#define DEADLINE_MS INT64_C(1000000000000)
#define SOURCE "/millrace/testing/00000000000000000000000000000000"

struct life {
	struct life_conf conf;
	struct stream_service svc; /* the service's, wrapped */
	struct stream_conf stream_conf;
	struct stream *s;
	pthread_t thread;
	_Atomic int over;
	struct mr_error err;
	struct store *reader;
	struct service_running running;
	struct web_table table;
	struct web_exchange exchange;
	struct web_reader exchange_reader;
	sem_t resumed; /* the exchange, if its handler deferred the answer */
	char path[160];
};

int64_t life_patience_us = 30000000;

static struct life *current;

static const char sql_position[] =
    "SELECT next_offset FROM positions WHERE topic = ?1 AND partition = 0";
static const char sql_outbox_last[] = "SELECT max(seq) FROM outbox";
static const char sql_last_tick[] =
    "SELECT last_ms FROM ticks WHERE name = 'service'";
static const char sql_reverse[] = "PRAGMA reverse_unordered_selects = 1";

/* ---- around the service's functions ------------------------------------- */

static const struct stream_service *
original(void)
{

	return (current->conf.svc->stream);
}

static int
wrapped_open(struct stream *s, struct mr_error *err)
{
	int status = 0;

	if (current->conf.reversed &&
	    store_run(stream_store(s), err, sql_reverse) == -1)
		return (-1);
	machine_inside(1);
	if (original()->open != NULL)
		status = original()->open(s, err);
	machine_inside(0);
	current->svc.tick_ms = original()->tick_ms;
	return (status);
}

static int
wrapped_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err)
{
	int status;

	machine_inside(1);
	status = original()->decode(record, decoded, err);
	machine_inside(0);
	return (status);
}

static int
wrapped_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{
	int status;

	machine_inside(1);
	status = original()->apply(s, record, err);
	machine_inside(0);
	return (status);
}

/* In the core's own thread: is there a record that it could still apply? */
static int
is_idle(const struct stream *s)
{
	const struct partition *p;
	int i;

	if (s->partition_count < s->input_count)
		return (0);
	for (i = 0; i < s->partition_count; i++) {
		p = s->partitions[i];
		if (p->state == PARTITION_READING &&
		    (p->held_count > 0 ||
			p->fetch_next <
			    fake_next(s->inputs[p->input], p->number)))
			return (0);
	}
	return (1);
}

static int
wrapped_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err)
{
	int status;

	if (command->kind == NUDGE) {
		answer->status = is_idle(s) ? 200 : 202;
		return (0);
	}
	if (original()->command == NULL)
		return (mr_error_set(err, MR_FATAL,
		    "%s takes no commands, but got %d", original()->name,
		    command->kind));
	machine_inside(1);
	status = original()->command(s, command, answer, err);
	machine_inside(0);
	return (status);
}

static int
wrapped_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{
	int status;

	machine_inside(1);
	status = original()->tick(s, now_ms, err);
	machine_inside(0);
	return (status);
}

/* ---- waiting ------------------------------------------------------------ */

static void
nap(void)
{

	nanosleep(&(struct timespec){.tv_nsec = 1000L * PEEK_US}, NULL);
}

static void
must_live(const struct life *l)
{

	if (atomic_load(&l->over))
		broken("%s ended by itself: %s", original()->name,
		    l->err.message);
}

/* Until the service has answered. */
static void
wait_answer(sem_t *answered)
{
	int64_t until_us = machine_real_us() + life_patience_us;
	const struct timespec until = {.tv_sec = until_us / 1000000,
	    .tv_nsec = until_us % 1000000 * 1000};

	while (sem_clockwait(answered, CLOCK_MONOTONIC, &until) == -1)
		if (errno == ETIMEDOUT)
			broken("%s has not answered for %lld s: one of its "
			       "functions doesn't return",
			    original()->name,
			    (long long)(life_patience_us / 1000000));
}

struct called {
	sem_t answered;
	struct mr_error err;
};

static void
call_done(void *arg, const struct mr_error *err)
{
	struct called *called = arg;

	if (err != NULL)
		called->err = *err;
	sem_post(&called->answered);
}

/* stream_call, but not for ever. */
static int
call(struct life *l, const struct stream_call *what,
    struct stream_answer *answer, struct mr_error *err)
{
	struct called called = {.err.kind = MR_OK};
	struct stream_pending pending;

	if (sem_init(&called.answered, 0, 0) == -1)
		broken("no semaphore for %s", original()->name);
	if (stream_submit(l->s, what, answer, &pending, call_done, &called,
		&called.err) == 0)
		wait_answer(&called.answered);
	sem_destroy(&called.answered);
	if (called.err.kind == MR_OK)
		return (0);
	*err = called.err;
	return (-1);
}

/* An empty command: a transaction, and whatever is due with it.  1: nothing
 * is left to apply; 0: something is; -1: not yet connected. */
static int
nudge(struct life *l)
{
	const struct stream_call empty = {.kind = NUDGE,
	    .deadline_ms = DEADLINE_MS};
	struct stream_answer answer = {0};
	struct mr_error err;

	must_live(l);
	if (call(l, &empty, &answer, &err) == -1)
		return (-1);
	buffer_free(&answer.body);
	return (answer.status == 200);
}

/* The second one begins after everything that the first one set off in the
 * loop: the next tick is scheduled, partitions whose time has come read, since
 * time has passed since the loop last looked for them. */
static int
nudge_twice(struct life *l)
{

	if (nudge(l) == -1)
		return (-1);
	return (nudge(l));
}

static int
inputs_done(struct life *l)
{
	const char *const *topic = l->svc.inputs;
	struct mr_error err;
	int64_t next, position;

	for (; topic != NULL && *topic != NULL; topic++) {
		next = fake_next(*topic, 0);
		position = 0;
		if (next > 0 &&
		    (store_find(l->reader, &err, &position, sql_position,
			 store_text(*topic)) == -1 ||
			position < next))
			return (0);
	}
	return (1);
}

static int
outputs_done(struct life *l)
{
	struct mr_error err;
	int64_t last = 0;

	if (store_find(l->reader, &err, &last, sql_outbox_last) == -1)
		return (0);
	return (atomic_load(&l->s->relay.acked) >= last);
}

void
life_settle(struct life *l)
{
	int64_t began_us = machine_real_us(), nudged_us = began_us;
	char reason[HALT_REASON_SIZE];

	while (!inputs_done(l) || !outputs_done(l)) {
		must_live(l);
		nap();
		if (machine_real_us() - nudged_us < NUDGE_AFTER_US)
			continue;
		/* What waits, is halted, or is somebody's to relay. */
		if (nudge_twice(l) == 1 && outputs_done(l))
			return;
		nudged_us = machine_real_us();
		if (nudged_us - began_us < life_patience_us)
			continue;
		(void)stream_ready(l->s, reason, sizeof(reason));
		broken("%s didn't get there: %s", original()->name, reason);
	}
}

/* How long until the next tick, at most ${left_ms}. */
static int64_t
until_tick(struct life *l, int64_t left_ms)
{
	struct mr_error err;
	int64_t last = 0, due_ms;

	if (l->svc.tick == NULL || l->svc.tick_ms <= 0)
		return (left_ms);
	if (store_find(l->reader, &err, &last, sql_last_tick) == -1)
		broken("%s", err.message);
	due_ms = last + l->svc.tick_ms - clock_wall_ms();
	if (due_ms <= 0)
		due_ms = l->svc.tick_ms;
	return (due_ms < left_ms ? due_ms : left_ms);
}

/* The step is made of all that was asked for, so that after a crash the rest
 * is gone in the same ones. */
void
life_advance(struct life *l, int64_t ms, int64_t until_ms)
{
	int64_t least_ms = (ms + TICKS_MOST - 1) / TICKS_MOST, left_ms, step_ms;

	if (least_ms <= l->svc.tick_ms)
		least_ms = 0;
	life_settle(l);
	/* A crash may have come between the time and what was due then. */
	(void)nudge_twice(l);
	while ((left_ms = until_ms - clock_wall_ms()) > 0) {
		step_ms = until_tick(l, left_ms);
		if (step_ms < least_ms)
			step_ms = least_ms < left_ms ? least_ms : left_ms;
		machine_pass(l->conf.machine, step_ms);
		(void)nudge_twice(l);
		life_settle(l);
	}
}

/* ---- start and stop ----------------------------------------------------- */

static void *
life_main(void *arg)
{
	struct life *l = arg;

	(void)stream_run(l->s, -1, &l->err);
	atomic_store(&l->over, 1);
	return (NULL);
}

static int
ask_ready(void *arg, char *reason, size_t reason_size)
{
	const struct service_running *running = arg;

	return (stream_ready(running->stream, reason, reason_size));
}

/* Settings as from the command line; the rest is ours. */
static void
configure(struct life *l, struct web_conf *web)
{
	const char *const *flag = l->conf.flags;
	char *argv[FLAGS_MOST + 2];
	struct stream_conf *stream;
	struct web_conf *parsed;
	int argc = 0;

	argv[argc++] = (char *)(uintptr_t)l->conf.svc->stream->name;
	for (; flag != NULL && *flag != NULL && argc <= FLAGS_MOST; flag++)
		argv[argc++] = (char *)(uintptr_t)*flag;
	argv[argc] = NULL;
	if (service_parse(argc, argv, l->conf.svc, &stream, &parsed, &l->err) ==
	    -1)
		broken("%s", l->err.message);
	l->stream_conf = *stream;
	l->stream_conf.db_path = l->path;
	l->stream_conf.log_records_per_second = 0;
	if (l->conf.batch_records > 0)
		l->stream_conf.batch_records = l->conf.batch_records;
	*web = *parsed;
	web->listen = NULL;
	web->db_path = l->path;
	web->routes = l->conf.svc->routes;
	web->ready = ask_ready;
	web->alive = NULL;
	web->arg = &l->running;
}

static void
wrap(struct life *l)
{

	l->svc = *l->conf.svc->stream;
	l->svc.open = wrapped_open;
	l->svc.command = wrapped_command;
	if (l->svc.decode != NULL)
		l->svc.decode = wrapped_decode;
	if (l->svc.apply != NULL)
		l->svc.apply = wrapped_apply;
	if (l->svc.tick != NULL)
		l->svc.tick = wrapped_tick;
}

static void
request_resumed(struct web_exchange *x)
{

	(void)x;
	sem_post(&current->resumed);
}

struct life *
life_start(const struct life_conf *conf)
{
	struct life *l = need(calloc(1, sizeof(*l)));
	int64_t began_us = machine_real_us();
	struct web_conf web;
	char reason[HALT_REASON_SIZE];

	current = l;
	l->conf = *conf;
	snprintf(l->path, sizeof(l->path), "%s/state.db", conf->folder);
	machine_use(conf->machine);
	configure(l, &web);
	wrap(l);
	if ((l->s = stream_new(&l->svc, &l->stream_conf, &l->err)) == NULL)
		broken("%s", l->err.message);
	l->running.stream = l->s;
	l->running.command_deadline_ms = DEADLINE_MS;
	if (web_table_init(&l->table, &web, &l->err) == -1)
		broken("%s", l->err.message);
	web_exchange_init(&l->exchange, &l->table);
	l->exchange.reader = &l->exchange_reader;
	l->exchange.resume = request_resumed;
	if (sem_init(&l->resumed, 0, 0) == -1)
		broken("no semaphore for %s", l->svc.name);
	service_gauges_register(conf->svc, l->path);
	if (pthread_create(&l->thread, NULL, life_main, l) != 0)
		broken("no thread for %s", l->svc.name);
	while (nudge(l) == -1) {
		nap();
		if (machine_real_us() - began_us < life_patience_us)
			continue;
		(void)stream_ready(l->s, reason, sizeof(reason));
		broken("%s didn't start: %s", l->svc.name, reason);
	}
	if ((l->reader = store_open_reader(l->path, 0, &l->err)) == NULL)
		broken("%s", l->err.message);
	return (l);
}

void
life_stop(struct life *l)
{

	if (l == NULL)
		return;
	must_live(l);
	stream_stop(l->s);
	pthread_join(l->thread, NULL);
	if (l->err.kind != MR_OK)
		broken("%s didn't drain: %s", l->svc.name, l->err.message);
	service_gauges_register(NULL, NULL);
	web_exchange_done(&l->exchange);
	web_reader_close(&l->exchange_reader);
	sem_destroy(&l->resumed);
	store_close(l->reader);
	stream_free(l->s);
	free(l);
	current = NULL;
}

/* ---- what comes in ------------------------------------------------------ */

void
life_feed(const struct step *step)
{
	struct fake_record record = {.key = step->text[2],
	    .value = step->text[3],
	    .ts_ms = step->ts_ms};
	char seq[24], predecessor[24], at[25];
	const char *const headers[] = {"ce_specversion", "1.0", "ce_type",
	    step->text[1], "ce_source", SOURCE, "ce_id", seq, "ce_time", at,
	    "content-type", "application/json", "ce_predecessor", predecessor};

	if (step->text[1] != NULL) {
		snprintf(seq, sizeof(seq), "%lld", (long long)step->number);
		snprintf(predecessor, sizeof(predecessor), "%lld",
		    (long long)step->predecessor);
		clock_rfc3339(step->ts_ms, at);
		memcpy(record.headers, headers, sizeof(headers));
	}
	fake_append(step->text[0], 0, &record);
}

void
life_repeat(const char *topic, int64_t count, const struct step *steps,
    size_t before)
{
	size_t first = before, i;

	while (first > 0 && count > 0) {
		first--;
		count -= steps[first].kind == STEP_FEED &&
		    steps[first].text[1] != NULL &&
		    strcmp(steps[first].text[0], topic) == 0;
	}
	for (i = first; i < before; i++)
		if (steps[i].kind == STEP_FEED && steps[i].text[1] != NULL &&
		    strcmp(steps[i].text[0], topic) == 0)
			life_feed(&steps[i]);
}

const struct web_response *
life_request(struct life *l, const struct step *step, size_t number)
{
	struct web_exchange *x = &l->exchange;
	const char *body = step->text[2];
	char length[24], key[40];
	struct web_input input = {.method = step->text[0],
	    .request_uri = step->text[1],
	    .host = "localhost"};

	if (strchr(step->text[1], '?') != NULL)
		input.query = strchr(step->text[1], '?') + 1;
	if (body != NULL) {
		snprintf(length, sizeof(length), "%zu", strlen(body));
		input.content_length = length;
		input.content_type = "application/json";
	}
	if (strcmp(step->text[0], "GET") != 0) {
		snprintf(key, sizeof(key), "testing-%zu", number);
		input.idempotency_key = key;
	}
	life_settle(l);
	if (web_begin(x, &input) > 0)
		buffer_add_text(&x->body, body);
	machine_draw(number + 1);
	web_answer(x);
	if (x->deferred)
		wait_answer(&l->resumed);
	machine_draw(0);
	web_head(x);
	must_live(l);
	return (&x->res);
}

int
life_command(struct life *l, const struct step *step, size_t number,
    struct stream_answer *answer, struct mr_error *err)
{
	char key[40];
	const struct stream_call command = {.kind = (int)step->number,
	    .input = step->text[0],
	    .scope = "testing",
	    .key = key,
	    .body = step->text[0] != NULL ? step->text[0] : "",
	    .body_size = step->size,
	    .deadline_ms = DEADLINE_MS};
	int status;

	snprintf(key, sizeof(key), "testing-%zu", number);
	life_settle(l);
	machine_draw(number + 1);
	status = call(l, &command, answer, err);
	machine_draw(0);
	must_live(l);
	return (status);
}
