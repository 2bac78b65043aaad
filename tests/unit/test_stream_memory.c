/*
 * stream: memory runs out once, at each allocation of a turn's: a record
 * applied, one put away as a dead letter, a command called, and their outputs
 * relayed, in both ways.  Whatever fails, each has its effects once, and nobody
 * hears of one that it doesn't have.
 *
 * The n-th allocation of the service's threads and of the caller's fails, and
 * no other; SQLite's are among them.  The cluster's in this test's memory and
 * the test's own aren't counted.  A process that ends is started again.  With
 * ALLOCATIONS=all each one of a start fails, else a sample drawn by SEED; and
 * each of a turn fails several times, as what is the n-th of one turn isn't of
 * the next: records and commands share a transaction, or not.
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
#define PLENTY (INT64_MAX / 2)
#define TICK_MS 60000 /* what a minute brings, each turn has */

/* Each test says how its turns are relayed, and whether they have a record that
 * is rejected. */
static int relay; /* enum stream_relay */
static int rejecting;

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

static struct driven *
opened(void)
{
	struct stream_conf conf = driver_conf();

	conf.relay = relay;
	return (driver_open(&ledger_decoding, "one", &conf));
}

/* One that runs: this, or the next one if it has ended. */
static struct driven *
alive(struct driven *d)
{
	if (d != NULL && !driver_over(d))
		return (d);
	if (d != NULL)
		bury(d);
	d = opened();
	driver_begin(d);
	return (d);
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

/*
 * Outputs of a partition as a reader takes them: without repeats, by their
 * marks; or as they are committed, if there are no repeats.
 */
static int64_t
read_partition(const char *topic, int partition)
{
	int64_t offset, count = 0, mark = 0, seq;
	const char *text;

	for (offset = 0; offset < fake_next(topic, partition); offset++) {
		text = fake_header(topic, partition, offset, "ce_id");
		if (text == NULL && relay == STREAM_RELAY_TRANSACTIONAL)
			continue; /* it isn't committed */
		assert_non_null(text);
		if ((seq = strtoll(text, NULL, 10)) <= mark) {
			if (relay == STREAM_RELAY_TRANSACTIONAL)
				fail_msg("%s/%d: seq %lld again", topic,
				    partition, (long long)seq);
			continue;
		}
		text = fake_header(topic, partition, offset, "ce_predecessor");
		assert_non_null(text);
		assert_int_equal(strtoll(text, NULL, 10), mark);
		mark = seq;
		count++;
	}
	return (count);
}

static int64_t
read_outputs(const char *topic)
{
	return (read_partition(topic, 0) + read_partition(topic, 1));
}

/* ---- what a turn has ----------------------------------------------------- */

#define NOTE                                                         \
	"a header for which a buffer has to grow, and then has to "  \
	"grow once more, as it begins with room for what most have " \
	"and doubles it: this one is so long that neither is enough"

/* A record that is applied; and one that can't be, behind it. */
static void
put_records(int64_t turn)
{
	const int partition = (int)(turn % 2);
	char value[64], key[32];
	const struct fake_record bad = {.key = key,
	    .value = value,
	    .ts_ms = turn,
	    .headers = {"shop", "north", "note", NOTE}};

	snprintf(value, sizeof(value), "emit:k:r%lld", (long long)turn);
	fake_put(INPUT, partition, value);
	if (!rejecting)
		return;
	snprintf(key, sizeof(key), "key %lld", (long long)turn);
	snprintf(value, sizeof(value), "reject:bad %lld", (long long)turn);
	fake_append(INPUT, partition, &bad);
}

static void assert_header(int partition, int64_t offset, const char *name,
    const char *format, ...) __attribute__((format(printf, 4, 5)));
static void
assert_header(int partition, int64_t offset, const char *name,
    const char *format, ...)
{
	const char *found = fake_header(DEAD_LETTERS, partition, offset, name);
	char wanted[64];
	va_list words;

	va_start(words, format);
	vsnprintf(wanted, sizeof(wanted), format, words);
	va_end(words);
	if (found == NULL || strcmp(found, wanted) != 0)
		fail_msg("%s is %s, not %s (allocation %lld failed)", name,
		    found == NULL ? "missing" : found, wanted,
		    (long long)chosen);
}

/* The last record of the input was put away whole: in the file, and sent. */
static void
assert_dead_letter(int64_t turn)
{
	const int from = (int)(turn % 2);
	const int64_t at = fake_next(INPUT, from) - 1;
	char sql[1000], value[64];
	int64_t offset = -1;
	int partition = -1;

	snprintf(sql, sizeof(sql),
	    "SELECT count(*) FROM dead_letters WHERE topic = '%s' AND"
	    " partition = %d AND record_offset = %lld AND ts_ms = %lld AND"
	    " key = CAST('key %lld' AS BLOB) AND"
	    " value = CAST('reject:bad %lld' AS BLOB) AND"
	    " reason = 'bad %lld' AND hex(headers) ="
	    " printf('%%08X%%08X', 4, 5) || hex('shop') || hex('north') ||"
	    " printf('%%08X%%08X', 4, %zu) || hex('note') || hex('%s')",
	    INPUT, from, (long long)at, (long long)turn, (long long)turn,
	    (long long)turn, (long long)turn, strlen(NOTE), NOTE);
	if (driver_number(sql) != 1)
		fail_msg("turn %lld, in which allocation %lld failed, has not "
			 "this one dead letter: %s",
		    (long long)turn, (long long)chosen, sql);
	snprintf(value, sizeof(value), "reject:bad %lld", (long long)turn);
	assert_non_null(find_output(DEAD_LETTERS, value, &partition, &offset));
	snprintf(sql, sizeof(sql), "key %lld", (long long)turn);
	assert_string_equal(fake_key(DEAD_LETTERS, partition, offset), sql);
	assert_int_equal(fake_ts_ms(DEAD_LETTERS, partition, offset), turn);
	assert_header(partition, offset, "dead_letter_topic", INPUT);
	assert_header(partition, offset, "dead_letter_partition", "%d", from);
	assert_header(partition, offset, "dead_letter_offset", "%lld",
	    (long long)at);
	assert_header(partition, offset, "dead_letter_reason", "bad %lld",
	    (long long)turn);
	assert_header(partition, offset, "dead_letter_key_bytes", "%zu",
	    strlen(sql));
	assert_header(partition, offset, "dead_letter_value_bytes", "%zu",
	    strlen(value));
}

/* The effects of ${turns} turns are there; time leaps for who waits. */
static struct driven *
settle(struct driven *d, int64_t turns)
{
	const int64_t letters = rejecting ? turns : 0;
	const int64_t issued = 2 * turns + letters;
	int64_t until_us = driver_deadline();

	while (driver_number("SELECT count(*) FROM entries") < turns ||
	    driver_number("SELECT count(*) FROM dead_letters") < letters ||
	    driver_number("SELECT count(*) FROM outbox") > 0 ||
	    read_outputs(OUTPUT) + read_outputs(DEAD_LETTERS) < issued) {
		if (driver_late(until_us))
			fail_msg("turn %lld, in which allocation %lld failed, "
				 "doesn't come to an end",
			    (long long)turns, (long long)chosen);
		d = alive(d);
		driver_pass_ms(20);
	}
	assert_int_equal(driver_number("SELECT count(*) FROM entries"), turns);
	assert_int_equal(driver_number("SELECT count(*) FROM calls"), turns);
	assert_int_equal(driver_number("SELECT count(*) FROM dead_letters"),
	    letters);
	assert_int_equal(driver_number(
			     "SELECT sum(next_offset) FROM positions"),
	    fake_next(INPUT, 0) + fake_next(INPUT, 1));
	assert_int_equal(driver_number("SELECT seq FROM sqlite_sequence"
				       " WHERE name = 'outbox'"),
	    issued);
	assert_int_equal(read_outputs(OUTPUT), 2 * turns);
	assert_int_equal(read_outputs(DEAD_LETTERS), letters);
	if (relay == STREAM_RELAY_TRANSACTIONAL)
		assert_int_equal(relay_cursor(), issued);
	if (rejecting)
		assert_dead_letter(turns);
	return (d);
}

/* Call, and wait for the end of the turn; the ${n}th allocation fails.
 * 0 if it has fewer; *used says how many, or ${n}. */
static int
end_turn(struct driven **d, int64_t turns, int64_t n, int64_t *used)
{
	char text[32];
	int64_t rest;

	snprintf(text, sizeof(text), "c%lld", (long long)turns);
	*d = call_until_answered(*d, text);
	*d = settle(*d, turns);
	rest = atomic_exchange(&to_go, 0);
	if (used != NULL)
		*used = n - rest;
	return (rest <= 0);
}

/* ---- turns --------------------------------------------------------------- */

/* A turn in which the ${n}th allocation fails, as end_turn says. */
static int
turn(struct driven **d, int64_t turns, int64_t n, int64_t *used)
{
	fail_nth(n);
	driver_pass_ms(TICK_MS);
	put_records(turns);
	return (end_turn(d, turns, n, used));
}

#define WARMING 8 /* they prepare what later ones find prepared */
#define MEASURED 10
#define MARGIN 3
#define PASSES 5 /* until it fails */
#define PASSES_OF_ALL 12

static int
all_are_asked_for(void)
{
	const char *which = getenv("ALLOCATIONS");

	return (which != NULL && strcmp(which, "all") == 0);
}

/* How many allocations turns have, at the least and at the most. */
static void
measure_turns(struct driven **d, int64_t *turns, int64_t *least, int64_t *most)
{
	int64_t used;
	int i;

	for (i = 0; i < WARMING; i++)
		(void)turn(d, ++*turns, PLENTY, NULL);
	*least = PLENTY;
	*most = 0;
	for (i = 0; i < MEASURED; i++) {
		(void)turn(d, ++*turns, PLENTY, &used);
		*least = used < *least ? used : *least;
		*most = used > *most ? used : *most;
	}
}

/* Nearly all of those that every turn has fail, and what others have. */
static void
turns_without_memory(void)
{
	const int all = all_are_asked_for();
	struct driven *d;
	int64_t turns = 0, failed = 0, more = 0, least, most, n;
	int pass, fails;

	ends = 0;
	d = alive(NULL);
	measure_turns(&d, &turns, &least, &most);
	for (n = 1; n <= most + MARGIN; n++) {
		fails = 0;
		for (pass = 0;
		     all ? pass < PASSES_OF_ALL : pass < PASSES && fails == 0;
		     pass++)
			fails += turn(&d, ++turns, n, NULL);
		*(n <= least ? &failed : &more) += fails > 0;
	}
	print_message("# %lld of %lld allocations failed, and %lld of the %lld "
		      "that some turns have, %d ends\n",
	    (long long)failed, (long long)least, (long long)more,
	    (long long)(most - least), ends);
	assert_true(least > 10);
	assert_true(100 * failed >= 95 * least);
	driver_stop(d);
}

static void
any_allocation_of_a_turn_may_fail(void **state)
{
	(void)state;
	relay = STREAM_RELAY_IDEMPOTENT;
	rejecting = 0;
	turns_without_memory();
}

static void
any_allocation_of_a_rejection_may_fail(void **state)
{
	(void)state;
	relay = STREAM_RELAY_IDEMPOTENT;
	rejecting = 1;
	turns_without_memory();
}

/* ---- starts -------------------------------------------------------------- */

#define LIVES_MEASURED 4
#define LIVES_MOST 16 /* of a cluster: it remembers its members */

/* The file says how rows are relayed: so they are, from the first one on. */
static void
ready_cluster(void)
{
	struct driven *d;

	if (relay != STREAM_RELAY_TRANSACTIONAL)
		return;
	d = alive(NULL);
	WAIT(driver_number("SELECT transactional FROM relay") == 1);
	driver_stop(d);
}

/* Another one, if this has seen enough members. */
static void
new_cluster(int64_t *turns, void **state)
{
	if (*turns < LIVES_MOST)
		return;
	(void)ledger_teardown(state);
	(void)ledger_setup(state);
	ready_cluster();
	*turns = 0;
}

/* Open, and run until a turn is over; the ${n}th allocation since fails. */
static int
life(int64_t turns, int64_t n, int64_t *used)
{
	struct driven *d = opened();
	int failed;

	put_records(turns);
	fail_nth(n);
	driver_begin(d);
	failed = end_turn(&d, turns, n, used);
	driver_stop(d);
	return (failed);
}

static void
lives_without_memory(void **state)
{
	const char *given = getenv("SEED");
	unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) :
					(unsigned)time(NULL);
	const int all = all_are_asked_for();
	int64_t turns = 0, least = PLENTY, most = 0, used, n, i;
	int failed = 0, tries = 0;

	ends = 0;
	ready_cluster();
	(void)life(++turns, PLENTY, NULL);
	for (i = 0; i < LIVES_MEASURED; i++) {
		(void)life(++turns, PLENTY, &used);
		least = used < least ? used : least;
		most = used > most ? used : most;
	}
	print_message("# SEED=%u\n", seed);
	for (i = 1; i <= (all ? most : SAMPLE); i++) {
		n = all ?
		    i :
		    1 + (int64_t)((unsigned)rand_r(&seed) % (unsigned)least);
		new_cluster(&turns, state);
		used = life(++turns, n, NULL);
		tries += n <= least;
		failed += used && n <= least;
	}
	print_message("# %d of %d tries failed, of %lld to %lld allocations, "
		      "%d ends, the last: %s\n",
	    failed, tries, (long long)least, (long long)most, ends,
	    ended.message);
	assert_true(least > 100);
	assert_true(100 * failed >= 95 * tries);
}

static void
any_allocation_of_a_start_may_fail(void **state)
{
	relay = STREAM_RELAY_IDEMPOTENT;
	rejecting = 0;
	lives_without_memory(state);
}

static void
any_allocation_of_a_transactional_start_may_fail(void **state)
{
	relay = STREAM_RELAY_TRANSACTIONAL;
	rejecting = 1;
	lives_without_memory(state);
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

	relay = STREAM_RELAY_IDEMPOTENT;
	rejecting = 0;
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
			(void)turn(&d, ++turns, 0, NULL);
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
	    LEDGER_TEST(any_allocation_of_a_transactional_start_may_fail),
	    LEDGER_TEST(any_allocation_of_a_turn_may_fail),
	    LEDGER_TEST(any_allocation_of_a_rejection_may_fail),
	};

	exempt = 1;
	return (cmocka_run_group_tests(tests, NULL, NULL));
}
