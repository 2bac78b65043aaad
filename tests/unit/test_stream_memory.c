/*
 * stream: memory runs out once, at each allocation of a turn's: a record
 * applied, a command called, and their outputs relayed.  Whatever fails, each
 * has its effects once, and nobody hears of one that it doesn't have.
 *
 * The n-th allocation of the service's threads and of the caller's fails, and
 * no other; SQLite's are among them.  The cluster's in this test's memory and
 * the test's own aren't counted.  A process that ends is started again.  With
 * ALLOCATIONS=all each one of a start fails, else a sample drawn by SEED.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "failing_memory.c" /* NOLINT(bugprone-suspicious-include) */

static int64_t chosen; /* the number of the one that fails, for messages */

static void
fail_nth(int64_t n)
{
	chosen = n;
	atomic_store(&to_go, n);
}

#define malloc(size) __real_malloc(size)
#define calloc(n, size) __real_calloc(n, size)
#define realloc(p, size) __real_realloc(p, size)
#define reallocarray(p, n, size) __real_reallocarray(p, n, size)
#include "fake_kafka.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_driver.c" /* NOLINT(bugprone-suspicious-include) */
#undef malloc
#undef calloc
#undef realloc
#undef reallocarray
#include "stream_ledger.h"

#define SAMPLE 40

static struct mr_error ended; /* of the last process that ended by itself */
static int ends;

/* Free one that ended by itself; it must have said a good reason. */
static void
bury(struct driven *d)
{
	struct driven last;

	driven_done(d, &last);
	ended = last.err;
	ends++;
	if (last.status == 0 ||
	    (strstr(last.err.message, "memory") == NULL &&
		strstr(last.err.message, "consumer can't go on") == NULL &&
		strstr(last.err.message, "outcome") == NULL))
		fail_msg("it ended with %d: %s", last.status, last.err.message);
}

/* One that runs: this, or the next one if it has ended. */
static struct driven *
alive(struct driven *d)
{
	if (d != NULL && !driver_over(d))
		return (d);
	if (d != NULL)
		bury(d);
	return (driver_run(&ledger_decoding, "one", NULL));
}

/* A call under a key, until it is answered. */
static struct driven *
call_until_answered(struct driven *d, const char *text)
{
	int64_t until_us = driver_deadline();
	struct stream_answer answer;
	struct mr_error err;
	char wanted[64];
	int status;

	snprintf(wanted, sizeof(wanted), "{\"text\":\"%s\"}", text);
	for (;;) {
		const struct stream_call call = {.kind = LEDGER_WRITE,
		    .input = text,
		    .scope = "POST /calls",
		    .key = text,
		    .body = text,
		    .body_size = strlen(text),
		    .deadline_ms = 10000};

		d = alive(d);
		memset(&answer, 0, sizeof(answer));
		memset(&err, 0, sizeof(err));
		exempt = 0;
		status = stream_call(driver_stream(d), &call, &answer, &err);
		exempt = 1;
		if (status == 0 && answer.status == 201)
			break;
		buffer_free(&answer.body);
		if (status == 0 ||
		    (err.kind != MR_RETRY && err.kind != MR_FATAL))
			fail_msg("%s: %d, %d: %s", text, status, answer.status,
			    err.message);
		if (driver_late(until_us))
			fail_msg("%s is never answered: %s (allocation %lld "
				 "failed)",
			    text, err.message, (long long)chosen);
	}
	if (answer.body.length != strlen(wanted) ||
	    memcmp(answer.body.data, wanted, answer.body.length) != 0)
		fail_msg("%s was answered %.*s", text, (int)answer.body.length,
		    answer.body.data);
	buffer_free(&answer.body);
	return (d);
}

/* Outputs of a partition as a reader takes them, without repeats. */
static int64_t
read_outputs(int partition)
{
	int64_t offset, count = 0, mark = 0, seq;
	const char *text;

	for (offset = 0; offset < fake_next(OUTPUT, partition); offset++) {
		text = fake_header(OUTPUT, partition, offset, "ce_id");
		assert_non_null(text);
		if ((seq = strtoll(text, NULL, 10)) <= mark)
			continue;
		text = fake_header(OUTPUT, partition, offset, "ce_predecessor");
		assert_non_null(text);
		assert_int_equal(strtoll(text, NULL, 10), mark);
		mark = seq;
		count++;
	}
	return (count);
}

/* The effects of ${turns} turns are there; time leaps for who waits. */
static struct driven *
settle(struct driven *d, int64_t turns)
{
	int64_t until_us = driver_deadline();

	while (driver_number("SELECT count(*) FROM entries") < turns ||
	    driver_number("SELECT count(*) FROM outbox") > 0 ||
	    read_outputs(0) + read_outputs(1) < 2 * turns) {
		if (driver_late(until_us))
			fail_msg("turn %lld, in which allocation %lld failed, "
				 "doesn't come to an end",
			    (long long)turns, (long long)chosen);
		d = alive(d);
		driver_pass_ms(20);
	}
	assert_int_equal(driver_number("SELECT count(*) FROM entries"), turns);
	assert_int_equal(driver_number("SELECT count(*) FROM calls"), turns);
	assert_int_equal(driver_number("SELECT count(*) FROM dead_letters"), 0);
	assert_int_equal(read_outputs(0) + read_outputs(1), 2 * turns);
	return (d);
}

/* A turn in which the ${n}th allocation fails; 0 if it has fewer. */
static int
turn(struct driven **d, int64_t turns, int64_t n)
{
	char value[64], text[32];
	int failed;

	snprintf(value, sizeof(value), "emit:k:r%lld", (long long)turns);
	snprintf(text, sizeof(text), "c%lld", (long long)turns);
	fail_nth(n);
	fake_put(INPUT, (int)(turns % 2), value);
	*d = call_until_answered(*d, text);
	*d = settle(*d, turns);
	failed = atomic_exchange(&to_go, 0) <= 0;
	return (failed);
}

static void
any_allocation_of_a_turn_may_fail(void **state)
{
	struct driven *d = alive(NULL);
	int64_t turns = 1, n, failed = 0, idle = 0;

	(void)state;
	(void)turn(&d, turns, 0);
	/* Some turns have more than 20, some 3: what was kept differs. */
	for (n = 1; n <= 16 || idle < 3; n++) {
		idle = turn(&d, ++turns, n) ? 0 : idle + 1;
		failed += idle == 0;
	}
	print_message("# %lld of %lld allocations failed, %d ends\n",
	    (long long)failed, (long long)n - 1, ends);
	assert_true(failed > 3);
	driver_stop(d);
}

#define LIVES_MOST 16 /* of a cluster: it remembers its members */
#define PLENTY (INT64_MAX / 2)

/* Another one, if this has seen enough members. */
static void
new_cluster(int64_t *turns, void **state)
{
	if (*turns < LIVES_MOST)
		return;
	(void)ledger_teardown(state);
	(void)ledger_setup(state);
	*turns = 0;
}

/* Open, and run until a turn is over; the ${n}th allocation since fails. */
static int
life(int64_t turns, int64_t n, int64_t *used)
{
	struct driven *d = driver_open(&ledger_decoding, "one", NULL);
	char value[64], text[32];
	int64_t rest;

	snprintf(value, sizeof(value), "emit:k:r%lld", (long long)turns);
	snprintf(text, sizeof(text), "c%lld", (long long)turns);
	fake_put(INPUT, (int)(turns % 2), value);
	fail_nth(n);
	driver_begin(d);
	d = call_until_answered(d, text);
	d = settle(d, turns);
	rest = atomic_exchange(&to_go, 0);
	if (used != NULL)
		*used = n - rest;
	driver_stop(d);
	return (rest <= 0);
}

static void
any_allocation_of_a_start_may_fail(void **state)
{
	const char *given = getenv("SEED"), *which = getenv("ALLOCATIONS");
	unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) :
					(unsigned)time(NULL);
	int all = which != NULL && strcmp(which, "all") == 0;
	int64_t turns = 0, used = 0, n, i;
	int failed = 0;

	ends = 0;
	(void)life(++turns, PLENTY, NULL);
	(void)life(++turns, PLENTY, &used);
	print_message("# SEED=%u\n", seed);
	for (i = 1; i <= (all ? used : SAMPLE); i++) {
		n = all ?
		    i :
		    1 + (int64_t)((unsigned)rand_r(&seed) % (unsigned)used);
		new_cluster(&turns, state);
		failed += life(++turns, n, NULL);
	}
	print_message("# %d of %lld allocations failed, %d ends, the last: "
		      "%s\n",
	    failed, (long long)used, ends, ended.message);
	assert_true(used > 100);
	assert_true(failed > SAMPLE / 2);
}

/* Making a stream: it works, or is refused for now, and works the next time. */
static void
any_allocation_of_opening_may_fail(void **state)
{
	struct stream_conf conf = driver_conf();
	struct stream *s = NULL;
	struct driven *d;
	struct mr_error err;
	int64_t n = 0, turns = 0;

	conf.instance = "one";
	conf.db_path = driver.path;
	while (s == NULL) {
		memset(&err, 0, sizeof(err));
		fail_nth(++n);
		exempt = 0;
		s = stream_new(&ledger_decoding, &conf, &err);
		exempt = 1;
		if (s == NULL && strstr(err.message, "memory") == NULL)
			fail_msg("allocation %lld: %s", (long long)n,
			    err.message);
		if (s != NULL && atomic_load(&to_go) <= 0) {
			d = driver_take(s); /* it could do without */
			s = NULL;
			driver_begin(d);
			(void)turn(&d, ++turns, 0);
			driver_stop(d);
			new_cluster(&turns, state);
		}
	}
	atomic_store(&to_go, 0);
	stream_free(s);
	print_message("# %lld allocations\n", (long long)n - 1);
	assert_true(n > 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    LEDGER_TEST(any_allocation_of_opening_may_fail),
	    LEDGER_TEST(any_allocation_of_a_start_may_fail),
	    LEDGER_TEST(any_allocation_of_a_turn_may_fail),
	};

	exempt = 1;
	return (cmocka_run_group_tests(tests, NULL, NULL));
}
