/*
 * stream/relay: in whatever way sending fails, readers who keep marks get
 * each record once, in order; and who may send.
 */
#include "fake_kafka.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_driver.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_ledger.h"

#include <sqlite3.h>
#include <stdatomic.h>

static int64_t
outputs(void)
{
	return (fake_next(OUTPUT, 0) + fake_next(OUTPUT, 1));
}

static int64_t
outbox(void)
{
	return (driver_number("SELECT count(*) FROM outbox"));
}

static void
emit_some(int count)
{
	int i;

	for (i = 0; i < count; i++)
		fake_put(INPUT, 0,
		    i % 3 == 0     ? "emit:a:x" :
			i % 3 == 1 ? "emit:b:y" :
				     "emit::z");
}

static void
refused_record_is_sent_again_and_none_before_it(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	WAIT(driver_ready(d));
	fake_fail_sends(OUTPUT, 3, 1, FAKE_REFUSED);
	emit_some(30);
	WAIT(accepted_outputs(OUTPUT, 2) == 30);
	WAIT(outbox() == 0);
	assert_true(fake_producers() >= 2);
	driver_stop(d);
}

static void
record_that_was_written_unheard_is_repeated_in_order(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	WAIT(driver_ready(d));
	fake_fail_sends(OUTPUT, 5, 1, FAKE_UNHEARD);
	emit_some(30);
	WAIT(entries() == 30);
	WAIT(outbox() == 0);
	assert_int_equal(accepted_outputs(OUTPUT, 2), 30);
	assert_true(outputs() > 30);
	driver_stop(d);
}

static void
acknowledged_prefix_leaves_and_the_rest_stays(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	WAIT(driver_ready(d));
	fake_fail_sends(OUTPUT, 5, -1, FAKE_STUCK);
	emit_some(9);
	WAIT(outputs() == 5);
	WAIT(outbox() == 4);
	assert_int_equal(driver_number("SELECT min(seq) FROM outbox"), 6);
	NEVER(outbox() != 4, 50);
	fake_release();
	WAIT(outbox() == 0);
	assert_int_equal(outputs(), 9);
	driver_stop(d);
}

static void
unacknowledged_record_does_not_leave(void **state)
{
	struct stream_conf conf = driver_conf();
	struct driven *d;

	(void)state;
	conf.drain_ms = 50;
	d = driver_run(&ledger_service, "one", &conf);
	WAIT(driver_ready(d));
	fake_fail_sends(OUTPUT, 0, -1, FAKE_UNACKED);
	emit_some(3);
	WAIT(outputs() == 1);
	driver_stop(d);
	assert_int_equal(outbox(), 3);
	fake_release();
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(outbox() == 0);
	assert_int_equal(accepted_outputs(OUTPUT, 2), 3);
	driver_stop(d);
}

/* As after `rebind` to another cluster, whose topic has fewer. */
static void
partition_that_is_not_there_halts_until_it_is(void **state)
{
	struct driven *d = driver_open(&ledger_service, "one", NULL);

	(void)state;
	emit_some(12);
	fake_fail_sends(OUTPUT, 0, -1, FAKE_REFUSED);
	driver_begin(d);
	WAIT(entries() == 12);
	driver_ask(d);
	driver_pass_ms(10000);
	driver_stop(d);
	fake_release();
	assert_true(driver_number("SELECT count(*) FROM outbox"
				  " WHERE partition = 1") > 0);
	fake_topic(OUTPUT, 1);
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_says(d, "the relay is halted: seq "));
	assert_true(driver_says(d, "is for partition 1 of topic " OUTPUT));
	assert_true(driver_says(d, "`millrace topics ensure --alter`"));
	assert_true(outbox() > 0);
	fake_topic(OUTPUT, 2);
	driver_pass_ms(2000);
	WAIT(outbox() == 0);
	WAIT(driver_ready(d));
	driver_stop(d);
}

static void
output_that_goes_away_halts_until_it_is_back(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	WAIT(driver_ready(d));
	fake_topic_delete(OUTPUT);
	emit_some(6);
	driver_pass_ms(100);
	WAIT(driver_says(d, "the relay is halted: seq 1 "));
	assert_true(driver_says(d, OUTPUT ", which has only 0 "));
	assert_int_equal(outbox(), 6);
	/* A partition that is halted as well doesn't hide it. */
	fake_cut_front(INPUT, 0, 6);
	fake_cut_end(INPUT, 0, 0);
	fake_topic(INPUT, 1);
	driver_pass_ms(10000);
	WAIT(driver_says(d, INPUT "/0 is halted: "));
	WAIT(driver_says(d, "; so is the relay: seq 1 "));
	fake_topic(OUTPUT, 2);
	driver_pass_ms(2000);
	WAIT(outbox() == 0);
	WAIT(!driver_says(d, "the relay"));
	assert_int_equal(accepted_outputs(OUTPUT, 2), 6);
	driver_stop(d);
}

static void
record_on_its_way_to_what_went_away_halts(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	WAIT(driver_ready(d));
	fake_fail_sends(OUTPUT, 0, -1, FAKE_STUCK);
	emit_some(6);
	WAIT(outbox() == 6);
	NEVER(!driver_ready(d), 50);
	fake_topic_delete(OUTPUT);
	driver_pass_ms(10000);
	driver_pass_ms(100);
	WAIT(driver_says(d, "the relay is halted: seq 1 "));
	fake_release();
	fake_topic(OUTPUT, 2);
	driver_pass_ms(2000);
	WAIT(outbox() == 0);
	WAIT(driver_ready(d));
	driver_stop(d);
}

/* A request of a producer long gone lands behind what came after it. */
static void
late_request_is_a_repeat_for_its_readers(void **state)
{
	struct stream_conf conf = driver_conf();
	struct driven *d;

	(void)state;
	conf.drain_ms = 50;
	d = driver_run(&ledger_service, "one", &conf);
	WAIT(driver_ready(d));
	fake_fail_sends(OUTPUT, 2, 1, FAKE_LATE);
	emit_some(6);
	WAIT(entries() == 6);
	WAIT(outputs() == 2);
	driver_stop(d);
	d = driver_run(&ledger_service, "one", NULL);
	emit_some(4);
	WAIT(entries() == 10);
	WAIT(outbox() == 0);
	WAIT(accepted_outputs(OUTPUT, 2) == 10);
	fake_release();
	assert_true(outputs() > 10);
	assert_int_equal(accepted_outputs(OUTPUT, 2), 10);
	driver_stop(d);
	/* It is no later life of the file, either. */
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_ready(d));
	assert_int_equal(driver_number("SELECT count(*) FROM database_ids"), 1);
	driver_stop(d);
}

static void
whatever_fails_each_record_is_accepted_once(void **state)
{
	static const enum fake_send ways[] = {FAKE_REFUSED, FAKE_UNHEARD,
	    FAKE_STUCK, FAKE_UNACKED, FAKE_LATE};
	struct stream_conf conf = driver_conf();
	struct driven *d;
	struct id_rng rng;
	const char *given = getenv("SEED");
	uint64_t seed = 1;
	int round, total = 0;

	(void)state;
	if (given != NULL)
		seed = strtoull(given, NULL, 10);
	print_message("seed %llu\n", (unsigned long long)seed);
	id_rng_seed(&rng, seed);
	conf.drain_ms = 20;
	conf.batch_records = 7;
	for (round = 0; round < 12; round++) {
		d = driver_run(&ledger_service, "one", &conf);
		fake_fail_sends(OUTPUT, (int64_t)(id_rng_next(&rng) % 20),
		    1 + (int64_t)(id_rng_next(&rng) % 2),
		    ways[id_rng_next(&rng) % 5]);
		emit_some(20);
		total += 20;
		WAIT(entries() == total);
		if (id_rng_next(&rng) % 2)
			fake_release();
		driver_stop(d);
		if (id_rng_next(&rng) % 3 == 0)
			fake_release();
	}
	fake_release();
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(outbox() == 0);
	assert_int_equal(accepted_outputs(OUTPUT, 2), total);
	driver_stop(d);
}

/* ---- who may send ------------------------------------------------------------- */

/* Somebody else, who renewed just now, relays. */
static void
give_relay_away(const char *boot)
{
	char sql[300];

	snprintf(sql, sizeof(sql),
	    "UPDATE relay SET owner = 'somebody', epoch = epoch + 1,"
	    " boot_id = '%s', renewed_boot_ms = %lld",
	    boot, (long long)clock_boot_ms());
	driver_exec(sql);
}

static void
owner_that_is_alive_is_left_alone_for_five_seconds(void **state)
{
	struct driven *d;
	char boot[37];

	(void)state;
	clock_boot_id(boot);
	driver_stop(driver_open(&ledger_service, "one", NULL));
	give_relay_away(boot);
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_ready(d));
	emit_some(3);
	WAIT(entries() == 3);
	driver_pass_ms(4000);
	NEVER(outputs() != 0, 100);
	driver_pass_ms(2100);
	WAIT(outputs() == 3);
	assert_int_equal(driver_number("SELECT epoch FROM relay"), 2);
	driver_stop(d);
}

static void
owner_in_another_boot_is_dead(void **state)
{
	struct driven *d;

	(void)state;
	driver_stop(driver_open(&ledger_service, "one", NULL));
	give_relay_away("11111111-2222-3333-4444-555555555555");
	d = driver_run(&ledger_service, "one", NULL);
	emit_some(3);
	WAIT(outputs() == 3);
	driver_stop(d);
}

static void
owner_that_was_superseded_sends_no_more(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	char boot[37];

	(void)state;
	clock_boot_id(boot);
	WAIT(driver_ready(d));
	emit_some(3);
	WAIT(outputs() == 3);
	WAIT(outbox() == 0);
	give_relay_away(boot);
	emit_some(3);
	WAIT(entries() == 6);
	NEVER(outputs() != 3, 100);
	driver_pass_ms(6000);
	WAIT(outbox() == 0);
	assert_int_equal(outputs(), 6);
	driver_stop(d);
}

/* It looks at the file before each lot, not only when it commits itself. */
static void
superseded_between_its_own_transactions_it_sends_no_more(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	char boot[37];

	(void)state;
	clock_boot_id(boot);
	WAIT(driver_ready(d));
	emit_some(1);
	WAIT(outputs() == 1);
	WAIT(outbox() == 0);
	fake_fail_sends(OUTPUT, 0, 1, FAKE_STUCK);
	emit_some(1);
	WAIT(outbox() == 1);
	NEVER(0, 30);
	/* Another's row, and another's relay, while ours has one under way. */
	give_relay_away(boot);
	driver_exec("INSERT INTO outbox (database, topic, partition, type,"
		    " value, ts_ms, predecessor) VALUES (1, '" OUTPUT
		    "', 0, 't', x'41', 1, 0)");
	fake_release();
	WAIT(outputs() == 2);
	NEVER(outputs() != 2, 100);
	driver_stop(d);
}

static void
row_of_an_instance_that_died_is_relayed_by_the_next(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	WAIT(driver_ready(d));
	driver_exec("INSERT INTO outbox (database, topic, partition, type,"
		    " value, ts_ms, predecessor) VALUES (1, '" OUTPUT
		    "', 0, 't', x'41', 1, 0)");
	driver_pass_ms(2000);
	WAIT(outputs() == 1);
	WAIT(outbox() == 0);
	driver_stop(d);
}

/* A broker refuses what is an hour ahead: all behind it would wait. */
static void
timestamp_is_never_ahead_of_the_clock(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	WAIT(driver_ready(d));
	driver_exec("INSERT INTO outbox (database, topic, partition, type,"
		    " value, ts_ms, predecessor) VALUES (1, '" OUTPUT
		    "', 0, 't', x'41', 253402300799999, 0),"
		    " (1, '" OUTPUT "', 0, 't', x'41', 1, 1)");
	driver_pass_ms(2000);
	WAIT(outputs() == 2);
	assert_true(fake_ts_ms(OUTPUT, 0, 0) <= clock_wall_ms());
	assert_int_equal(fake_ts_ms(OUTPUT, 0, 1), 1);
	driver_stop(d);
}

static void
stopping_hands_the_relay_over_at_once(void **state)
{
	struct driven *one = driver_run(&ledger_service, "one", NULL);
	struct driven *two;

	(void)state;
	WAIT(driver_ready(one));
	emit_some(3);
	WAIT(outputs() == 3);
	two = driver_run(&ledger_service, "two", NULL);
	WAIT(driver_ready(two));
	driver_stop(one);
	assert_int_equal(call_now(two, LEDGER_WRITE, "a"), 201);
	WAIT(outputs() == 4);
	driver_stop(two);
}

/* ---- how the outbox is read ------------------------------------------------ */

static atomic_int lots, sorted;

static int
count_sorts(unsigned type, void *context, void *stmt, void *took_ns)
{
	(void)type;
	(void)context;
	(void)took_ns;
	if (strstr(sqlite3_sql(stmt), "FROM outbox o") == NULL)
		return (0);
	atomic_fetch_add(&lots, 1);
	atomic_fetch_add(&sorted,
	    sqlite3_stmt_status(stmt, SQLITE_STMTSTATUS_SORT, 1));
	return (0);
}

static int
count_sorts_of(sqlite3 *db, char **message, const void *routines)
{
	(void)message;
	(void)routines;
	return (sqlite3_trace_v2(db, SQLITE_TRACE_PROFILE, count_sorts, NULL));
}

/* Sorting is to read all that wait, for each lot. */
static void
outbox_is_read_in_order_without_sorting(void **state)
{
	struct driven *d;

	(void)state;
	assert_int_equal(sqlite3_auto_extension((void (*)(void))count_sorts_of),
	    SQLITE_OK);
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_ready(d));
	emit_some(30);
	WAIT(accepted_outputs(OUTPUT, 2) == 30);
	driver_stop(d);
	sqlite3_reset_auto_extension();
	assert_true(atomic_load(&lots) > 0);
	assert_int_equal(atomic_load(&sorted), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    LEDGER_TEST(refused_record_is_sent_again_and_none_before_it),
	    LEDGER_TEST(record_that_was_written_unheard_is_repeated_in_order),
	    LEDGER_TEST(partition_that_is_not_there_halts_until_it_is),
	    LEDGER_TEST(output_that_goes_away_halts_until_it_is_back),
	    LEDGER_TEST(record_on_its_way_to_what_went_away_halts),
	    LEDGER_TEST(acknowledged_prefix_leaves_and_the_rest_stays),
	    LEDGER_TEST(unacknowledged_record_does_not_leave),
	    LEDGER_TEST(late_request_is_a_repeat_for_its_readers),
	    LEDGER_TEST(whatever_fails_each_record_is_accepted_once),
	    LEDGER_TEST(owner_that_is_alive_is_left_alone_for_five_seconds),
	    LEDGER_TEST(owner_in_another_boot_is_dead),
	    LEDGER_TEST(owner_that_was_superseded_sends_no_more),
	    LEDGER_TEST(
		superseded_between_its_own_transactions_it_sends_no_more),
	    LEDGER_TEST(row_of_an_instance_that_died_is_relayed_by_the_next),
	    LEDGER_TEST(timestamp_is_never_ahead_of_the_clock),
	    LEDGER_TEST(stopping_hands_the_relay_over_at_once),
	    LEDGER_TEST(outbox_is_read_in_order_without_sorting),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
