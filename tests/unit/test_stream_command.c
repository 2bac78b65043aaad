/*
 * stream/command: the queue that other threads put commands into, and what
 * their callers are told.
 */
#include "fake_kafka.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_driver.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_ledger.h"

/* ---- the queue by itself -------------------------------------------------- */

/* A stream of nothing but its queue. */
static struct stream *
queue_new(void)
{
	struct stream *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	assert_int_equal(command_queue_init(&s->commands, NULL), 0);
	return (s);
}

static void
queue_free(struct stream *s)
{
	command_queue_done(&s->commands);
	free(s);
}

static void
queue_call(struct called *c, struct stream *s, int kind, int64_t deadline_ms)
{
	int waiting = command_waiting(&s->commands);

	memset(c, 0, sizeof(*c));
	c->s = s;
	c->call.kind = kind;
	c->call.deadline_ms = deadline_ms;
	assert_int_equal(pthread_create(&c->thread, NULL, called_main, c), 0);
	/* Or its deadline has passed already, on a busy machine. */
	WAIT(command_waiting(&s->commands) == waiting + 1 ||
	    atomic_load(&c->over));
}

static void
commands_are_taken_in_the_order_they_came(void **state)
{
	struct stream *s = queue_new();
	struct command *first, *c;
	struct called calls[5];
	int i;

	(void)state;
	command_queue_open(&s->commands);
	for (i = 0; i < 5; i++)
		queue_call(&calls[i], s, i, 60000);
	first = command_take(&s->commands, 3);
	for (i = 0, c = first; c != NULL; c = c->next)
		assert_int_equal(c->command.kind, i++);
	assert_int_equal(i, 3);
	assert_int_equal(command_waiting(&s->commands), 2);
	command_answer_all(&s->commands, first, NULL);
	first = command_take(&s->commands, 256);
	for (c = first; c != NULL; c = c->next)
		assert_int_equal(c->command.kind, i++);
	assert_int_equal(i, 5);
	command_answer_all(&s->commands, first, NULL);
	assert_null(command_take(&s->commands, 256));
	for (i = 0; i < 5; i++)
		assert_int_equal(call_wait(&calls[i]), 0);
	queue_free(s);
}

static void
deadline_cancels_what_was_not_taken(void **state)
{
	struct stream *s = queue_new();
	struct command *first;
	struct called calls[3];

	(void)state;
	command_queue_open(&s->commands);
	queue_call(&calls[0], s, 0, 60000);
	queue_call(&calls[1], s, 1, 50);
	queue_call(&calls[2], s, 2, 60000);
	WAIT(atomic_load(&calls[1].over));
	assert_int_equal(call_wait(&calls[1]), -1);
	assert_int_equal(calls[1].err.kind, MR_RETRY);
	assert_non_null(strstr(calls[1].err.message, "within 50 ms"));
	assert_int_equal(command_waiting(&s->commands), 2);
	first = command_take(&s->commands, 256);
	assert_int_equal(first->command.kind, 0);
	assert_int_equal(first->next->command.kind, 2);
	assert_null(first->next->next);
	command_answer_all(&s->commands, first, NULL);
	assert_int_equal(call_wait(&calls[0]), 0);
	assert_int_equal(call_wait(&calls[2]), 0);
	queue_free(s);
}

static void
last_of_the_queue_can_be_cancelled(void **state)
{
	struct stream *s = queue_new();
	struct command *first;
	struct called calls[2];

	(void)state;
	command_queue_open(&s->commands);
	queue_call(&calls[0], s, 0, 30);
	assert_int_equal(call_wait(&calls[0]), -1);
	assert_null(command_take(&s->commands, 256));
	queue_call(&calls[1], s, 1, 60000);
	first = command_take(&s->commands, 256);
	assert_non_null(first);
	command_answer_all(&s->commands, first, NULL);
	assert_int_equal(call_wait(&calls[1]), 0);
	queue_free(s);
}

static void
running_command_is_waited_for_past_its_deadline(void **state)
{
	struct stream *s = queue_new();
	struct command *first;
	struct called runs, waits;

	(void)state;
	command_queue_open(&s->commands);
	queue_call(&runs, s, 0, 60000);
	queue_call(&waits, s, 1, 60000);
	first = command_take(&s->commands, 1);
	assert_non_null(first);
	driver_pass_ms(60000);
	pthread_mutex_lock(&s->commands.lock);
	pthread_cond_signal(&s->commands.news);
	pthread_mutex_unlock(&s->commands.lock);
	WAIT(atomic_load(&waits.over));
	assert_int_equal(call_wait(&waits), -1);
	NEVER(atomic_load(&runs.over), 50);
	command_answer_all(&s->commands, first, NULL);
	assert_int_equal(call_wait(&runs), 0);
	queue_free(s);
	driver_pass_ms(-60000);
}

static void
closed_queue_says_why(void **state)
{
	struct stream *s = queue_new();
	struct stream_call call = {.deadline_ms = 1};
	struct stream_answer answer = {.status = 0};
	struct mr_error err = {0};

	(void)state;
	assert_int_equal(stream_call(s, &call, &answer, &err), -1);
	assert_int_equal(err.kind, MR_RETRY);
	assert_string_equal(err.message, "the service is starting");
	command_queue_open(&s->commands);
	command_queue_close(&s->commands, "enough is enough");
	assert_int_equal(stream_call(s, &call, &answer, &err), -1);
	assert_int_equal(err.kind, MR_RETRY);
	assert_string_equal(err.message, "enough is enough");
	queue_free(s);
}

static void
full_queue_refuses_more(void **state)
{
	struct stream *s = queue_new();
	struct stream_call call = {.deadline_ms = 1};
	struct stream_answer answer = {.status = 0};
	struct mr_error err = {0};

	(void)state;
	command_queue_open(&s->commands);
	s->commands.count = COMMANDS_MOST;
	assert_int_equal(stream_call(s, &call, &answer, &err), -1);
	assert_int_equal(err.kind, MR_RETRY);
	assert_non_null(strstr(err.message, "1024 commands"));
	s->commands.count = 0;
	queue_free(s);
}

static void
id_and_time_are_drawn_before_queueing(void **state)
{
	struct stream *s = queue_new();
	struct command *first;
	struct called calls[2];
	int64_t before = clock_wall_ms();

	(void)state;
	command_queue_open(&s->commands);
	queue_call(&calls[0], s, 0, 60000);
	queue_call(&calls[1], s, 0, 60000);
	first = command_take(&s->commands, 2);
	assert_true(first->command.now_ms >= before &&
	    first->command.now_ms <= clock_wall_ms());
	assert_true(id_uuid_valid(first->command.id));
	assert_true(strcmp(first->command.id, first->next->command.id) != 0);
	command_answer_all(&s->commands, first, NULL);
	call_wait(&calls[0]);
	call_wait(&calls[1]);
	queue_free(s);
}

/* Sixteen callers, some in a hurry, and one that runs what it gets. */
#define CALLERS 16
#define CALLS_EACH 300

struct storm_call {
	_Atomic int ran;
};

static struct {
	struct stream *s;
	_Atomic int callers;
	_Atomic int answered, cancelled, refused;
} storm;

static void *
storm_caller(void *arg)
{
	struct storm_call work;
	struct stream_answer answer = {.status = 0};
	struct stream_call call = {.input = &work};
	struct mr_error err;
	struct id_rng rng;
	int i;

	id_rng_seed(&rng, (uint64_t)(uintptr_t)arg);
	for (i = 0; i < CALLS_EACH; i++) {
		atomic_store(&work.ran, 0);
		call.deadline_ms = (int64_t)(id_rng_next(&rng) % 3);
		memset(&err, 0, sizeof(err));
		if (stream_call(storm.s, &call, &answer, &err) == 0) {
			assert_int_equal(atomic_load(&work.ran), 1);
			atomic_fetch_add(&storm.answered, 1);
		} else if (err.kind == MR_REJECT) {
			assert_int_equal(atomic_load(&work.ran), 1);
			atomic_fetch_add(&storm.refused, 1);
		} else {
			assert_int_equal(atomic_load(&work.ran), 0);
			atomic_fetch_add(&storm.cancelled, 1);
		}
	}
	atomic_fetch_sub(&storm.callers, 1);
	return (NULL);
}

static void
sixteen_callers_get_one_outcome_each(void **state)
{
	static const struct mr_error failure = {MR_REJECT, "undone"};
	pthread_t threads[CALLERS];
	struct command *first, *c;
	struct storm_call *work;
	int ran = 0, rounds = 0, i;

	(void)state;
	memset(&storm, 0, sizeof(storm));
	storm.s = queue_new();
	storm.callers = CALLERS;
	command_queue_open(&storm.s->commands);
	for (i = 0; i < CALLERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, storm_caller,
				     (void *)(uintptr_t)(i + 1)),
		    0);
	while (atomic_load(&storm.callers) > 0) {
		if ((first = command_take(&storm.s->commands, 5)) == NULL)
			continue;
		for (c = first; c != NULL; c = c->next, ran++) {
			work = (void *)(uintptr_t)c->command.input;
			atomic_fetch_add(&work->ran, 1);
		}
		/* Long enough for deadlines to pass meanwhile. */
		if (++rounds % 8 == 0)
			(void)driver_late(INT64_MAX);
		command_answer_all(&storm.s->commands, first,
		    rounds % 3 == 0 ? &failure : NULL);
	}
	for (i = 0; i < CALLERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(storm.answered + storm.refused, ran);
	assert_int_equal(storm.answered + storm.refused + storm.cancelled,
	    CALLERS * CALLS_EACH);
	assert_true(
	    storm.answered > 0 && storm.refused > 0 && storm.cancelled > 0);
	queue_free(storm.s);
}

/* ---- in a stream ----------------------------------------------------------- */

static int64_t
calls_done(void)
{
	return (driver_number("SELECT count(*) FROM calls"));
}

/* Have the loop at the gate with one record, so that what is called now is
 * taken in one batch. */
static void
hold_loop(void)
{
	atomic_store(&ledger.gate, 1);
	fake_put(INPUT, 0, "gate");
	WAIT(atomic_load(&ledger.at_gate) == 1);
}

static void
answers_come_after_the_commit_and_never_before(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	struct called first, last;

	(void)state;
	WAIT(driver_ready(d));
	hold_loop();
	call_start(&first, d, LEDGER_WRITE, "first", 60000);
	WAIT(command_waiting(&driver_stream(d)->commands) == 1);
	call_start(&last, d, LEDGER_GATE, "last", 60000);
	WAIT(command_waiting(&driver_stream(d)->commands) == 2);
	atomic_store(&ledger.passes, 1);
	/* The first has run by now, and the last is running. */
	WAIT(command_waiting(&driver_stream(d)->commands) == 0 &&
	    atomic_load(&ledger.at_gate) == 1);
	NEVER(atomic_load(&first.over), 50);
	assert_int_equal(calls_done(), 0);
	atomic_store(&ledger.gate, 0);
	WAIT(atomic_load(&first.over));
	assert_int_equal(calls_done(), 2);
	assert_int_equal(first.answer.status, 201);
	assert_string_equal(buffer_text(&first.answer.body),
	    "{\"text\":\"first\"}");
	assert_string_equal(first.answer.location, "/calls/first");
	assert_int_equal(call_wait(&first), 0);
	assert_int_equal(call_wait(&last), 0);
	driver_stop(d);
}

static void
commands_share_a_commit_and_fail_alone(void **state)
{
	static const struct {
		int kind;
		const char *text;
		int status; /* 0: as the answer says */
		enum mr_error_kind error;
	} cases[] = {
	    {LEDGER_WRITE, "a", 0, MR_OK},
	    {LEDGER_REJECT, "b", -1, MR_REJECT},
	    {LEDGER_CONFLICT, "c", 0, MR_OK},
	    {LEDGER_RETRY, "d", -1, MR_RETRY},
	    {LEDGER_WRITE, "e", 0, MR_OK},
	};
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	struct called calls[5];
	int64_t before;
	int i;

	(void)state;
	WAIT(driver_ready(d));
	hold_loop();
	before = metric_value(driver_stream(d)->m_transactions);
	for (i = 0; i < 5; i++) {
		call_start(&calls[i], d, cases[i].kind, cases[i].text, 60000);
		WAIT(command_waiting(&driver_stream(d)->commands) == i + 1);
	}
	atomic_store(&ledger.gate, 0);
	for (i = 0; i < 5; i++) {
		assert_int_equal(call_wait(&calls[i]), cases[i].status);
		assert_int_equal(calls[i].err.kind, cases[i].error);
	}
	assert_int_equal(calls[2].answer.status, 409);
	assert_string_equal(driver_text("SELECT group_concat(text, '')"
					" FROM (SELECT text FROM calls"
					" ORDER BY n)"),
	    "ace");
	/* The record's, theirs, and one that settles may have come between. */
	assert_in_range(metric_value(driver_stream(d)->m_transactions) - before,
	    2, 3);
	WAIT(fake_next(OUTPUT, 0) + fake_next(OUTPUT, 1) == 3);
	driver_stop(d);
	/* a and b, which is undone with a; then each by itself. */
	assert_string_equal(ledger.notes,
	    "01"
	    "01010");
}

static void
late_command_joins_those_that_run(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	struct called first, late;

	(void)state;
	WAIT(driver_ready(d));
	atomic_store(&ledger.gate, 1);
	call_start(&first, d, LEDGER_GATE, "first", 60000);
	WAIT(atomic_load(&ledger.at_gate) == 1);
	/* The loop is in the command: another joins before the commit. */
	call_start(&late, d, LEDGER_GATE, "late", 60000);
	WAIT(command_waiting(&driver_stream(d)->commands) == 1);
	atomic_store(&ledger.passes, 1);
	WAIT(command_waiting(&driver_stream(d)->commands) == 0 &&
	    atomic_load(&ledger.at_gate) == 1);
	NEVER(atomic_load(&first.over), 50);
	assert_int_equal(calls_done(), 0);
	atomic_store(&ledger.gate, 0);
	assert_int_equal(call_wait(&first), 0);
	assert_int_equal(call_wait(&late), 0);
	assert_int_equal(calls_done(), 2);
	driver_stop(d);
}

static void
silent_command_is_nobodys_success(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	WAIT(driver_ready(d));
	assert_int_equal(call_now(d, LEDGER_SILENT, "a"), 503);
	driver_failed(d, "without saying why");
	assert_int_equal(calls_done(), 0);
}

static int
call_with_key(struct driven *d, int kind, const char *text, const char *key,
    const char *body, struct stream_answer *answer)
{
	struct stream_call call = {.kind = kind,
	    .input = text,
	    .scope = "POST /calls",
	    .key = key,
	    .body = body,
	    .body_size = strlen(body),
	    .deadline_ms = 20000};
	struct mr_error err = {0};

	memset(answer, 0, sizeof(*answer));
	if (stream_call(driver_stream(d), &call, answer, &err) == 0)
		return (answer->status);
	return (err.kind == MR_REJECT ? 422 : 503);
}

static void
same_key_and_body_get_the_stored_answer(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	struct stream_answer answer;

	(void)state;
	WAIT(driver_ready(d));
#define CALL(kind, text, key, body) \
	call_with_key(d, kind, text, key, body, &answer)
	assert_int_equal(CALL(LEDGER_WRITE, "a", "k1", "body"), 201);
	assert_int_equal(answer.replayed, 0);
	buffer_free(&answer.body);
	assert_int_equal(CALL(LEDGER_WRITE, "a2", "k1", "body"), 201);
	assert_int_equal(answer.replayed, 1);
	assert_string_equal(buffer_text(&answer.body), "{\"text\":\"a\"}");
	assert_string_equal(answer.location, "/calls/a");
	buffer_free(&answer.body);
	assert_int_equal(calls_done(), 1);
	/* Another body, also a longer or an empty one. */
	assert_int_equal(CALL(LEDGER_WRITE, "b", "k1", "ydob"), 422);
	assert_int_equal(CALL(LEDGER_WRITE, "b", "k1", "body2"), 422);
	assert_int_equal(CALL(LEDGER_WRITE, "b", "k1", ""), 422);
	assert_int_equal(calls_done(), 1);
	/* Another key. */
	assert_int_equal(CALL(LEDGER_CONFLICT, "c", "k2", "body"), 409);
	buffer_free(&answer.body);
	assert_int_equal(CALL(LEDGER_WRITE, "c2", "k2", "body"), 409);
	assert_int_equal(answer.replayed, 1);
	buffer_free(&answer.body);
	assert_int_equal(calls_done(), 2);
	driver_stop(d);
	/* The file remembers, until the window is over. */
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_ready(d));
	assert_int_equal(CALL(LEDGER_WRITE, "a3", "k1", "body"), 201);
	assert_int_equal(answer.replayed, 1);
	buffer_free(&answer.body);
	driver_pass_ms(86400000 + 120000);
	WAIT(driver_number("SELECT count(*) FROM idempotency_keys") == 0);
	driver_stop(d);
}

/* More of them than go at a time: soon, and not at the next minute. */
static void
old_keys_go_as_fast_as_they_came(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	WAIT(driver_ready(d));
	driver_stop(d);
	driver_exec("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL"
		    " SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO"
		    " idempotency_keys (scope, key, request, status, body,"
		    " location, answered_at_ms)"
		    " SELECT 'old', i, x'', 200, x'', '', 0 FROM n");
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_ready(d));
	driver_pass_ms(60000);
	WAIT(driver_number("SELECT count(*) FROM idempotency_keys") == 3000);
	driver_pass_ms(100);
	WAIT(driver_number("SELECT count(*) FROM idempotency_keys") == 1000);
	driver_pass_ms(100);
	WAIT(driver_number("SELECT count(*) FROM idempotency_keys") == 0);
	driver_stop(d);
}

/* The tick falls due when the transaction has begun. */
static void
old_keys_go_on_going_beside_commands(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	struct called call;
	int64_t until_us;

	(void)state;
	WAIT(driver_ready(d));
	driver_exec("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL"
		    " SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO"
		    " idempotency_keys (scope, key, request, status, body,"
		    " location, answered_at_ms)"
		    " SELECT 'old', i, x'', 200, x'', '', 0 FROM n");
	driver_pass_ms(59000);
	atomic_store(&ledger.gate, 1);
	call_start(&call, d, LEDGER_GATE, "a", 600000);
	WAIT(atomic_load(&ledger.at_gate) == 1);
	driver_pass_ms(2000);
	atomic_store(&ledger.gate, 0);
	assert_int_equal(call_wait(&call), 0);
	WAIT(driver_number("SELECT count(*) FROM idempotency_keys") == 3000);
	/* Soon, and not when the next tick is due. */
	until_us = driver_moment(10000);
	driver_pass_ms(100);
	while (driver_number("SELECT count(*) FROM idempotency_keys") != 1000)
		assert_false(driver_late(until_us));
	driver_pass_ms(100);
	while (driver_number("SELECT count(*) FROM idempotency_keys") != 0)
		assert_false(driver_late(until_us));
	driver_stop(d);
}

static void
what_did_not_happen_is_not_stored_under_its_key(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	struct stream_answer answer;

	(void)state;
	WAIT(driver_ready(d));
	assert_int_equal(CALL(LEDGER_BUSY, "a", "k1", "x"), 503);
	buffer_free(&answer.body);
	assert_int_equal(CALL(LEDGER_RETRY, "a", "k1", "x"), 503);
	buffer_free(&answer.body);
	assert_int_equal(CALL(LEDGER_REJECT, "a", "k1", "x"), 422);
	buffer_free(&answer.body);
	assert_int_equal(CALL(LEDGER_WRITE, "a", "k1", "x"), 201);
	assert_int_equal(answer.replayed, 0);
	buffer_free(&answer.body);
	driver_stop(d);
}

static struct driven *fifty_driven;
static _Atomic int fifty_first, fifty_replayed;

static void *
fifty_main(void *arg)
{
	struct stream_answer answer;

	(void)arg;
	assert_int_equal(call_with_key(fifty_driven, LEDGER_WRITE, "a", "k",
			     "x", &answer),
	    201);
	assert_string_equal(buffer_text(&answer.body), "{\"text\":\"a\"}");
	atomic_fetch_add(answer.replayed ? &fifty_replayed : &fifty_first, 1);
	buffer_free(&answer.body);
	return (NULL);
}

static void
fifty_callers_with_one_key_have_one_effect(void **state)
{
	pthread_t threads[50];
	int i;

	(void)state;
	fifty_driven = driver_run(&ledger_service, "one", NULL);
	fifty_first = fifty_replayed = 0;
	WAIT(driver_ready(fifty_driven));
	for (i = 0; i < 50; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fifty_main,
				     NULL),
		    0);
	for (i = 0; i < 50; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(fifty_first, 1);
	assert_int_equal(fifty_replayed, 49);
	assert_int_equal(calls_done(), 1);
	driver_stop(fifty_driven);
}

/* Calls that are made anew as they are answered: more than a transaction takes,
 * so that some are always waiting. */
#define ON_AND_ON (COMMANDS_A_BATCH + 100)
static struct again {
	struct stream_call call;
	struct stream_answer answer;
	struct stream_pending pending;
	char text[32];
	int number, made;
} again[ON_AND_ON];
static struct stream *stream_of_calls;
static _Atomic int calls_enough, calls_ended;

static void call_again(void *arg, const struct mr_error *err);

static void
call_once(struct again *a)
{
	struct mr_error err;

	snprintf(a->text, sizeof(a->text), "%d-%d", a->number, a->made++);
	buffer_clear(&a->answer.body);
	a->call = (struct stream_call){.kind = LEDGER_WRITE,
	    .input = a->text,
	    .deadline_ms = 60000};
	assert_int_equal(stream_submit(stream_of_calls, &a->call, &a->answer,
			     &a->pending, call_again, a, &err),
	    0);
}

static void
call_again(void *arg, const struct mr_error *err)
{
	struct again *a = arg;

	assert_null(err);
	assert_int_equal(a->answer.status, 201);
	if (!atomic_load(&calls_enough)) {
		call_once(a);
		return;
	}
	buffer_free(&a->answer.body);
	atomic_fetch_add(&calls_ended, 1);
}

static void
records_are_applied_while_commands_never_end(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	char text[16];
	int i, made = 0;

	(void)state;
	WAIT(driver_ready(d));
	stream_of_calls = driver_stream(d);
	atomic_store(&calls_enough, 0);
	atomic_store(&calls_ended, 0);
	memset(again, 0, sizeof(again));
	for (i = 0; i < ON_AND_ON; i++) {
		again[i].number = i;
		call_once(&again[i]);
	}
	for (i = 0; i < 30; i++) {
		snprintf(text, sizeof(text), "record-%d", i);
		fake_put(INPUT, i % 2, text);
		WAIT(entries() == i + 1);
	}
	atomic_store(&calls_enough, 1);
	WAIT(atomic_load(&calls_ended) == ON_AND_ON);
	for (i = 0; i < ON_AND_ON; i++)
		made += again[i].made;
	assert_int_equal(calls_done(), made);
	driver_stop(d);
}

static void
callers_are_refused_before_the_start_and_after_the_end(void **state)
{
	struct driven *d;
	struct called call;

	(void)state;
	fake_reach(0);
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_says(d, "waiting for the broker"));
	call_start(&call, d, LEDGER_WRITE, "a", 60000);
	assert_int_equal(call_wait(&call), -1);
	assert_string_equal(call.err.message, "the service is starting");
	fake_reach(1);
	WAIT(driver_ready(d));
	assert_int_equal(call_now(d, LEDGER_WRITE, "b"), 201);
	driver_ask(d);
	WAIT(driver_over(d));
	call_start(&call, d, LEDGER_WRITE, "c", 60000);
	assert_int_equal(call_wait(&call), -1);
	assert_string_equal(call.err.message, "the service is stopping");
	driver_stop(d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(commands_are_taken_in_the_order_they_came),
	    cmocka_unit_test(deadline_cancels_what_was_not_taken),
	    cmocka_unit_test(last_of_the_queue_can_be_cancelled),
	    cmocka_unit_test(running_command_is_waited_for_past_its_deadline),
	    cmocka_unit_test(closed_queue_says_why),
	    cmocka_unit_test(full_queue_refuses_more),
	    cmocka_unit_test(id_and_time_are_drawn_before_queueing),
	    cmocka_unit_test(sixteen_callers_get_one_outcome_each),
	    LEDGER_TEST(answers_come_after_the_commit_and_never_before),
	    LEDGER_TEST(commands_share_a_commit_and_fail_alone),
	    LEDGER_TEST(late_command_joins_those_that_run),
	    LEDGER_TEST(silent_command_is_nobodys_success),
	    LEDGER_TEST(same_key_and_body_get_the_stored_answer),
	    LEDGER_TEST(old_keys_go_as_fast_as_they_came),
	    LEDGER_TEST(old_keys_go_on_going_beside_commands),
	    LEDGER_TEST(what_did_not_happen_is_not_stored_under_its_key),
	    LEDGER_TEST(fifty_callers_with_one_key_have_one_effect),
	    LEDGER_TEST(records_are_applied_while_commands_never_end),
	    LEDGER_TEST(callers_are_refused_before_the_start_and_after_the_end),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
