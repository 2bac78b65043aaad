/*
 * stream: two instances on one file, with rebalances between them at awkward
 * moments.  Each record has its effects once, in order.
 */
#include "fake_kafka.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_driver.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_ledger.h"

/* Every record of the input once, and each partition in order. */
static void
check_once_and_in_order(int64_t expected)
{
	assert_int_equal(entries(), expected);
	assert_int_equal(driver_number("SELECT count(*) FROM (SELECT DISTINCT"
				       " partition, record_offset"
				       " FROM entries)"),
	    expected);
	assert_int_equal(driver_number(
			     "SELECT count(*) FROM (SELECT record_offset <"
			     " lag(record_offset) OVER (PARTITION BY partition"
			     " ORDER BY n) AS back FROM entries) WHERE back"),
	    0);
}

static void
instances_share_the_partitions_and_one_outbox(void **state)
{
	struct driven *one = driver_run(&ledger_service, "one", NULL);
	struct driven *two = driver_run(&ledger_service, "two", NULL);
	int i;

	(void)state;
	WAIT(driver_ready(one) && driver_ready(two));
	WAIT(fake_owner(GROUP, INPUT, 0) + fake_owner(GROUP, INPUT, 1) == 1);
	for (i = 0; i < 200; i++)
		fake_put(INPUT, i % 2, i % 3 == 0 ? "emit::x" : "emit:k:y");
	WAIT(entries() == 200);
	/* What the one wrote that doesn't relay shows at the other's look. */
	for (i = 0; i < 3; i++)
		driver_pass_ms(2000);
	WAIT(driver_number("SELECT count(*) FROM outbox") == 0);
	check_once_and_in_order(200);
	assert_int_equal(accepted_outputs(OUTPUT, 2), 200);
	assert_int_equal(driver_number(
			     "SELECT count(DISTINCT instance) FROM entries"),
	    2);
	driver_stop(one);
	fake_put(INPUT, 0, "a");
	fake_put(INPUT, 1, "b");
	WAIT(entries() == 202);
	check_once_and_in_order(202);
	driver_stop(two);
}

/* The other has read the old position and fetched from there by the time that
 * the first commits. */
static void
partition_taken_in_the_middle_of_a_batch(void **state)
{
	struct driven *one = driver_run(&ledger_service, "one", NULL);
	struct driven *two;
	int i;

	(void)state;
	WAIT(driver_ready(one));
	two = driver_run(&ledger_service, "two", NULL);
	WAIT(driver_ready(two));
	fake_move(GROUP, INPUT, 0, 0);
	fake_move(GROUP, INPUT, 1, 1);
	WAIT(fake_owner(GROUP, INPUT, 0) == 0);
	atomic_store(&ledger.gate, 1);
	fake_put(INPUT, 0, "a");
	fake_put(INPUT, 0, "gate");
	fake_put(INPUT, 0, "b");
	WAIT(atomic_load(&ledger.at_gate) == 1);
	fake_steal(GROUP, INPUT, 0, 1);
	WAIT(fake_owner(GROUP, INPUT, 0) == 1);
	/* It waits for the pen with all three in hand. */
	NEVER(0, 50);
	for (i = 0; i < 5; i++)
		fake_put(INPUT, 0, "c");
	atomic_store(&ledger.gate, 0);
	WAIT(entries() == 8);
	NEVER(entries() != 8, 50);
	check_once_and_in_order(8);
	driver_stop(one);
	driver_stop(two);
}

/* One that doesn't know yet that its session is over tries again what
 * another did meanwhile. */
static void
records_in_hand_of_a_zombie_are_left_out(void **state)
{
	struct stream_conf conf = driver_conf();
	struct driven *one, *two;

	(void)state;
	conf.retry_ms = 4000;
	one = driver_run(&ledger_service, "one", &conf);
	WAIT(driver_ready(one));
	two = driver_run(&ledger_service, "two", &conf);
	WAIT(driver_ready(two));
	fake_move(GROUP, INPUT, 0, 0);
	WAIT(fake_owner(GROUP, INPUT, 0) == 0);
	fake_put(INPUT, 0, "picky:one");
	fake_put(INPUT, 0, "b");
	WAIT(atomic_load(&ledger.applied) >= 1);
	fake_freeze(GROUP, 0, 1);
	fake_steal(GROUP, INPUT, 0, 1);
	WAIT(entries() == 2);
	driver_pass_ms(4000);
	NEVER(entries() != 2, 100);
	fake_freeze(GROUP, 0, 0);
	fake_put(INPUT, 0, "c");
	WAIT(entries() == 3);
	check_once_and_in_order(3);
	assert_int_equal(driver_number(
			     "SELECT count(*) FROM entries WHERE instance = "
			     "'one'"),
	    0);
	driver_stop(one);
	driver_stop(two);
}

/* Moved away and back: what was in hand is of an earlier assignment. */
static void
partition_that_comes_back_begins_where_the_file_says(void **state)
{
	struct stream_conf conf = driver_conf();
	struct driven *one, *two;

	(void)state;
	conf.retry_ms = 4000;
	one = driver_run(&ledger_service, "one", &conf);
	WAIT(driver_ready(one));
	two = driver_run(&ledger_service, "two", &conf);
	WAIT(driver_ready(two));
	fake_move(GROUP, INPUT, 0, 0);
	WAIT(fake_owner(GROUP, INPUT, 0) == 0);
	fake_put(INPUT, 0, "picky:one");
	fake_put(INPUT, 0, "b");
	WAIT(atomic_load(&ledger.applied) >= 1);
	fake_move(GROUP, INPUT, 0, 1);
	WAIT(entries() == 2);
	fake_move(GROUP, INPUT, 0, 0);
	WAIT(fake_owner(GROUP, INPUT, 0) == 0);
	fake_put(INPUT, 0, "c");
	WAIT(entries() == 3);
	check_once_and_in_order(3);
	assert_string_equal(
	    driver_text("SELECT instance FROM entries WHERE value = 'c'"),
	    "one");
	driver_stop(one);
	driver_stop(two);
}

static void
storm(int late)
{
	struct stream_conf conf = driver_conf();
	struct driven *d[2];
	struct id_rng rng;
	const char *given = getenv("SEED");
	uint64_t seed = 1;
	int i, total = 0, member;

	if (given != NULL)
		seed = strtoull(given, NULL, 10);
	print_message("seed %llu\n", (unsigned long long)seed);
	id_rng_seed(&rng, seed);
	fake_late_rebalance(late);
	conf.batch_records = 5;
	conf.retry_ms = 1;
	d[0] = driver_run(&ledger_service, "one", &conf);
	d[1] = driver_run(&ledger_service, "two", &conf);
	WAIT(driver_ready(d[0]) && driver_ready(d[1]));
	for (i = 0; i < 400; i++) {
		fake_put(INPUT, i % 2, i % 2 ? "emit:k:x" : "emit::y");
		if (i % 50 == 7)
			fake_put_nothing(INPUT, 0);
		total++;
		member = (int)(id_rng_next(&rng) % 2);
		switch (id_rng_next(&rng) % 12) {
		case 0:
			fake_move(GROUP, INPUT, i % 2, member);
			break;
		case 1:
			fake_steal(GROUP, INPUT, i % 2, member);
			break;
		case 2:
			fake_freeze(GROUP, member, 1);
			fake_steal(GROUP, INPUT, i % 2, 1 - member);
			break;
		case 3:
			fake_freeze(GROUP, 0, 0);
			fake_freeze(GROUP, 1, 0);
			break;
		case 4:
			fake_fail(FAKE_COMMITTED, 1);
			break;
		case 5:
			driver_pass_ms(1000);
			break;
		case 6:
			fake_fail_sends(OUTPUT, 0, 1,
			    id_rng_next(&rng) % 2 ? FAKE_UNHEARD :
						    FAKE_REFUSED);
			(void)driver_late(INT64_MAX);
			fake_release();
			break;
		default:
			(void)driver_late(INT64_MAX);
			break;
		}
	}
	fake_freeze(GROUP, 0, 0);
	fake_freeze(GROUP, 1, 0);
	fake_fail(FAKE_COMMITTED, 0);
	for (i = 0; i < 400 && entries() < total; i++) {
		driver_pass_ms(500);
		(void)driver_late(INT64_MAX);
	}
	WAIT(entries() >= total);
	for (i = 0; i < 10; i++)
		driver_pass_ms(2000);
	driver_stop(d[0]);
	driver_stop(d[1]);
	check_once_and_in_order(total);
	assert_int_equal(driver_number("SELECT count(*) FROM outbox"), 0);
	assert_int_equal(accepted_outputs(OUTPUT, 2), total);
}

static void
storm_of_rebalances_applies_each_record_once(void **state)
{
	(void)state;
	storm(0);
}

static void
storm_of_rebalances_in_the_middle_of_polls(void **state)
{
	(void)state;
	storm(1);
}

static void
of_two_instances_one_ticks(void **state)
{
	struct driven *one = driver_run(&ledger_ticking, "one", NULL);
	struct driven *two = driver_run(&ledger_ticking, "two", NULL);
	int i;

	(void)state;
	WAIT(driver_ready(one) && driver_ready(two));
	for (i = 0; i < 20; i++) {
		driver_pass_ms(100);
		NEVER(0, 5);
	}
	WAIT(driver_number("SELECT count(*) FROM ticked") >= 20);
	driver_stop(one);
	driver_stop(two);
	assert_int_equal(driver_number(
			     "SELECT count(*) FROM (SELECT now_ms - lag(now_ms)"
			     " OVER (ORDER BY n) AS apart FROM ticked)"
			     " WHERE apart < 100"),
	    0);
}

static void
tick_that_fails_is_undone_and_comes_again(void **state)
{
	struct driven *d;

	(void)state;
	d = driver_run(&ledger_ticking, "one", NULL);
	WAIT(driver_number("SELECT count(*) FROM ticked") >= 1);
	driver_disk_full(1);
	driver_pass_ms(100);
	WAIT(driver_says(d, "the store is in trouble"));
	driver_disk_full(0);
	driver_pass_ms(5000);
	WAIT(driver_number("SELECT count(*) FROM ticked") >= 3);
	driver_stop(d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    LEDGER_TEST(instances_share_the_partitions_and_one_outbox),
	    LEDGER_TEST(partition_taken_in_the_middle_of_a_batch),
	    LEDGER_TEST(records_in_hand_of_a_zombie_are_left_out),
	    LEDGER_TEST(partition_that_comes_back_begins_where_the_file_says),
	    LEDGER_TEST(storm_of_rebalances_applies_each_record_once),
	    LEDGER_TEST(storm_of_rebalances_in_the_middle_of_polls),
	    LEDGER_TEST(of_two_instances_one_ticks),
	    LEDGER_TEST(tick_that_fails_is_undone_and_comes_again),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
