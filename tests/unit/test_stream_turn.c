/*
 * stream/batch: records of a turn share a savepoint.  What one that fails
 * undoes is done again, so that nobody can tell.
 */
#include "fake_kafka.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_driver.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_ledger.h"

#include <signal.h>
#include <unistd.h>

#include "base/signals.h"

static int64_t
header_number(int64_t offset, const char *name)
{
	const char *text = fake_header(OUTPUT, 0, offset, name);

	assert_non_null(text);
	return (strtoll(text, NULL, 10));
}

/* Each output names the one before it, and all are there once, in order. */
static void
assert_chain(const char *const *texts, int64_t count)
{
	int64_t i, before = 0;

	WAIT(fake_next(OUTPUT, 0) + fake_next(OUTPUT, 1) == count);
	assert_int_equal(fake_next(OUTPUT, 0), count);
	for (i = 0; i < count; i++) {
		assert_string_equal(fake_value(OUTPUT, 0, i), texts[i]);
		assert_int_equal(header_number(i, "ce_predecessor"), before);
		before = header_number(i, "ce_id");
	}
}

/* A key of the outputs' partition 0. */
static const char *
key_of_0(void)
{
	return (kafka_partition_of("a", 1, 2) == 0 ? "a" :
		kafka_partition_of("b", 1, 2) == 0 ? "b" :
						     "c");
}

static void
put(const char *text)
{
	char value[64];

	snprintf(value, sizeof(value), "emit:%s:%s", key_of_0(), text);
	fake_put(INPUT, 0, value);
}

static void
rejected_record_leaves_the_rest_of_its_turn_whole(void **state)
{
	static const char *const texts[] = {"one", "two", "three", "four"};
	struct driven *d;

	(void)state;
	put("one");
	put("two");
	fake_put(INPUT, 0, "reject:in the middle");
	put("three");
	fake_put(INPUT, 0, "reject:again");
	put("four");
	d = driver_run(&ledger_service, "one", NULL);
	assert_chain(texts, 4);
	WAIT(fake_next(DEAD_LETTERS, 0) == 2);
	assert_int_equal(driver_number("SELECT count(*) FROM entries"), 4);
	assert_int_equal(driver_number("SELECT count(*) FROM dead_letters"), 2);
	assert_int_equal(driver_number(
			     "SELECT sum(next_offset) FROM positions"),
	    6);
	driver_stop(d);
}

static void
rejected_first_record_costs_nobody_a_second_try(void **state)
{
	static const char *const texts[] = {"one", "two"};
	struct driven *d;

	(void)state;
	fake_put(INPUT, 0, "reject:first");
	put("one");
	put("two");
	d = driver_run(&ledger_service, "one", NULL);
	assert_chain(texts, 2);
	assert_int_equal(atomic_load(&ledger.applied), 3);
	driver_stop(d);
}

static void
record_that_waits_keeps_what_came_before_it(void **state)
{
	static const char *const texts[] = {"one", "two", "three"};
	struct driven *d;

	(void)state;
	atomic_store(&ledger.retrying, 1);
	put("one");
	put("two");
	fake_put(INPUT, 0, "retry");
	put("three");
	d = driver_run(&ledger_service, "one", NULL);
	assert_chain(texts, 2);
	assert_int_equal(driver_number("SELECT next_offset FROM positions"
				       " WHERE partition = 0"),
	    2);
	atomic_store(&ledger.retrying, 0);
	driver_pass_ms(60000);
	assert_chain(texts, 3);
	assert_int_equal(driver_number("SELECT count(*) FROM entries"), 4);
	driver_stop(d);
}

#define SHOP "/millrace/shop/0123456789abcdef0123456789abcdef"

static void
marks_go_back_with_an_undone_turn(void **state)
{
	struct driven *d;

	(void)state;
	fake_put_from(INPUT, 0, SHOP, 1, 0, "a");
	fake_put_from(INPUT, 0, SHOP, 2, 1, "b");
	fake_put_from(INPUT, 0, SHOP, 2, 1, "b");
	fake_put_from(INPUT, 0, SHOP, 3, 2, "reject:no");
	fake_put_from(INPUT, 0, SHOP, 4, 3, "c");
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_number("SELECT count(*) FROM entries") == 3);
	assert_int_equal(driver_number("SELECT seq FROM marks"), 4);
	assert_int_equal(driver_number("SELECT count(*) FROM dead_letters"), 1);
	driver_stop(d);
}

#define BACKLOG 20000

/* A partition with much to do keeps nobody waiting: not another one that is to
 * be tried again, and not who asks whether the loop comes round. */
static void
backlog_is_no_reason_to_look_at_nothing_else(void **state)
{
	struct driven *d;
	char why[256];
	int i;

	(void)state;
	for (i = 0; i < BACKLOG; i++)
		fake_put(INPUT, 0,
		    i == 2000 || i == BACKLOG - 2000 ? "gate" : "one of many");
	fake_put(INPUT, 1, "retry");
	atomic_store(&ledger.retrying, 1);
	atomic_store(&ledger.gate, 1);
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(atomic_load(&ledger.at_gate) == 1);
	atomic_store(&ledger.retrying, 0);
	driver_pass_ms(31000);
	assert_false(stream_alive(driver_stream(d), why, sizeof(why)));
	atomic_store(&ledger.passes, 1);
	WAIT(atomic_load(&ledger.applied) > BACKLOG / 2);
	WAIT(atomic_load(&ledger.at_gate) == 1);
	assert_true(stream_alive(driver_stream(d), why, sizeof(why)));
	assert_int_equal(driver_number("SELECT count(*) FROM entries"
				       " WHERE partition = 1"),
	    1);
	atomic_store(&ledger.gate, 0);
	WAIT(entries() == BACKLOG + 1);
	driver_stop(d);
}

static void
backlog_is_left_when_told_to_end(void **state)
{
	struct mr_error err = {0};
	struct driven *d;
	int i, fd;

	(void)state;
	assert_true((fd = signals_open(&err)) != -1);
	driver_signals(fd);
	for (i = 0; i < BACKLOG; i++)
		fake_put(INPUT, 0,
		    i == 2000 || i == BACKLOG - 2000 ? "gate" : "one of many");
	atomic_store(&ledger.gate, 1);
	d = driver_run(&ledger_service, "one", NULL);
	driver_signals(-1);
	WAIT(atomic_load(&ledger.at_gate) == 1);
	/* NOLINTNEXTLINE(bugprone-bad-signal-to-kill-thread): it is blocked. */
	assert_int_equal(pthread_kill(d->thread, SIGTERM), 0);
	atomic_store(&ledger.passes, 1);
	WAIT(driver_over(d) || atomic_load(&ledger.applied) > BACKLOG / 2);
	assert_true(driver_over(d));
	assert_true(entries() < BACKLOG / 2);
	driver_stop(d);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    LEDGER_TEST(rejected_record_leaves_the_rest_of_its_turn_whole),
	    LEDGER_TEST(rejected_first_record_costs_nobody_a_second_try),
	    LEDGER_TEST(record_that_waits_keeps_what_came_before_it),
	    LEDGER_TEST(marks_go_back_with_an_undone_turn),
	    LEDGER_TEST(backlog_is_no_reason_to_look_at_nothing_else),
	    LEDGER_TEST(backlog_is_left_when_told_to_end),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
