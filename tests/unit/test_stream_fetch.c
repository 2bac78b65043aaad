/*
 * stream: where it reads from, and what makes it stop rather than guess:
 * topics made anew, logs cut at either end, other people's files and
 * clusters, files put back.
 */
#include "fake_kafka.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_driver.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_ledger.h"

static const char sql_next[] = "SELECT next_offset FROM positions";

static int64_t
outputs(void)
{
	return (fake_next(OUTPUT, 0) + fake_next(OUTPUT, 1));
}

/* Whether a loop that has nothing to do is at rest. */
static int
at_rest(int member)
{
	int64_t looks = fake_looks(GROUP, member);

	NEVER(0, 100);
	return (fake_looks(GROUP, member) - looks < 20);
}

/* ---- starting ------------------------------------------------------------------ */

static void
broker_that_is_absent_at_the_start_is_waited_for(void **state)
{
	struct driven *d;

	(void)state;
	fake_reach(0);
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_says(d, "waiting for the broker"));
	fake_put(INPUT, 0, "a");
	fake_reach(1);
	WAIT(driver_ready(d));
	WAIT(entries() == 1);
	driver_stop(d);
}

static void
partition_that_cannot_be_verified_is_not_read(void **state)
{
	struct driven *d = driver_open(&ledger_service, "one", NULL);

	(void)state;
	fake_fail(FAKE_COMMITTED, 1);
	fake_put(INPUT, 0, "a");
	fake_put(INPUT, 1, "b");
	driver_begin(d);
	WAIT(driver_says(d, "is not verified yet"));
	NEVER(entries() > 0, 30);
	driver_pass_ms(1000);
	WAIT(driver_ready(d));
	WAIT(entries() == 2);
	driver_stop(d);
}

/* With each of them the loop would wait as long for nothing. */
static void
after_one_answer_that_did_not_come_no_other_partition_asks(void **state)
{
	struct driven *d = driver_open(&ledger_service, "one", NULL);

	(void)state;
	fake_topic(INPUT, 20);
	fake_fail(FAKE_COMMITTED, 100);
	driver_begin(d);
	WAIT(driver_says(d, "is not verified yet"));
	assert_true(fake_to_fail(FAKE_COMMITTED) >= 95);
	fake_fail(FAKE_COMMITTED, 0);
	driver_pass_ms(1000);
	WAIT(driver_ready(d));
	driver_stop(d);
}

static void
topics_without_ids_are_not_read(void **state)
{
	struct driven *d = driver_open(&ledger_service, "one", NULL);

	(void)state;
	fake_hide_ids(1);
	fake_put(INPUT, 0, "a");
	driver_begin(d);
	WAIT(driver_says(d, "is not verified yet"));
	fake_hide_ids(0);
	driver_pass_ms(1000);
	WAIT(entries() == 1);
	driver_stop(d);
}

static void
new_service_takes_what_retention_has_left(void **state)
{
	struct driven *d;
	int i;

	(void)state;
	for (i = 0; i < 10; i++)
		fake_put(INPUT, 0, "a");
	fake_cut_front(INPUT, 0, 4);
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(entries() == 6);
	WAIT(driver_ready(d));
	driver_stop(d);
}

/* Whichever partition is met first: the service is new to all of the topic. */
static void
new_service_that_meets_its_partitions_one_by_one(void **state)
{
	struct driven *d;
	int i;

	(void)state;
	for (i = 0; i < 10; i++) {
		fake_put(INPUT, 0, "a");
		fake_put(INPUT, 1, "b");
	}
	fake_cut_front(INPUT, 1, 4);
	fake_move(GROUP, INPUT, 1, FAKE_NOBODY);
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(entries() == 10);
	fake_move(GROUP, INPUT, 1, 0);
	WAIT(entries() == 16);
	WAIT(driver_ready(d));
	driver_stop(d);
}

static void
new_partition_that_lost_records_halts(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	int i;

	(void)state;
	fake_put(INPUT, 0, "a");
	WAIT(entries() == 1);
	driver_stop(d);
	for (i = 0; i < 10; i++)
		fake_put(INPUT, 1, "b");
	fake_cut_front(INPUT, 1, 4);
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_says(d, "deleted by retention before they were read"));
	assert_int_equal(entries(), 1);
	driver_stop(d);
}

/* ---- other people's -------------------------------------------------------------- */

static void
another_cluster_is_not_worked_with(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	fake_put(INPUT, 0, "a");
	WAIT(entries() == 1);
	driver_stop(d);
	fake_end();
	fake_start("cluster-two");
	fake_topic(INPUT, 2);
	fake_put(INPUT, 0, "b");
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_says(d, "cluster-two"));
	NEVER(entries() != 1, 50);
	driver_stop(d);
}

static void
offsets_of_another_file_halt(void **state)
{
	struct driven *d = driver_open(&ledger_service, "one", NULL);

	(void)state;
	fake_commit(GROUP, INPUT, 0, 5, "0123456789abcdef0123456789abcdef");
	fake_put(INPUT, 0, "a");
	fake_put(INPUT, 1, "b");
	driver_begin(d);
	WAIT(driver_says(d, "0123456789abcdef0123456789abcdef"));
	assert_true(driver_says(d, "two files in one group"));
	WAIT(entries() == 1);
	NEVER(entries() != 1, 50);
	driver_stop(d);
	assert_int_equal(fake_committed(GROUP, INPUT, 0, NULL, 0), 5);
}

static void
file_that_joins_the_group_later_halts_too(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	fake_put(INPUT, 0, "a");
	WAIT(entries() == 1);
	/* Its partitions are others, and stay. */
	fake_commit(GROUP, INPUT, 1, 5, "0123456789abcdef0123456789abcdef");
	driver_pass_ms(10000);
	WAIT(driver_says(d, "two files in one group"));
	fake_put(INPUT, 0, "b");
	NEVER(entries() != 1, 30);
	driver_stop(d);
}

static void
offsets_of_an_earlier_id_and_of_strangers_do_not(void **state)
{
	struct driven *d;
	char id[64];

	(void)state;
	driver_stop(driver_open(&ledger_service, "one", NULL));
	snprintf(id, sizeof(id), "%s",
	    driver_text("SELECT database_id FROM database_ids"));
	driver_exec(
	    "INSERT INTO database_ids (number, database_id, drawn_at_ms) VALUES (2, "
	    "'fedcba9876543210fedcba9876543210', 1)");
	fake_commit(GROUP, INPUT, 0, 0, id);
	fake_commit(GROUP, INPUT, 1, 0, "set by a tool");
	fake_put(INPUT, 0, "a");
	fake_put(INPUT, 1, "b");
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(entries() == 2);
	WAIT(driver_ready(d));
	driver_stop(d);
}

static void
file_restored_while_in_use_ends_the_run(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	WAIT(driver_ready(d));
	driver_exec(
	    "INSERT INTO database_ids (number, database_id, drawn_at_ms) VALUES (2, "
	    "'fedcba9876543210fedcba9876543210', 1)");
	fake_put(INPUT, 0, "a");
	driver_failed(d, "restored while in use");
	assert_int_equal(entries(), 0);
}

/* Also where there is nothing left but to let go of the relay. */
static void
file_restored_before_the_last_transaction_is_left_alone(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	WAIT(driver_ready(d));
	assert_int_equal(call_now(d, LEDGER_WRITE, "a"), 201);
	WAIT(driver_number("SELECT count(*) FROM outbox") == 0);
	driver_exec(
	    "INSERT INTO database_ids (number, database_id, drawn_at_ms) VALUES (2, "
	    "'fedcba9876543210fedcba9876543210', 1)");
	driver_ask(d);
	driver_failed(d, "restored while in use");
}

/* ---- topics made anew -------------------------------------------------------------- */

static void
topic_made_anew_while_stopped_halts(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	fake_put(INPUT, 0, "a");
	WAIT(entries() == 1);
	driver_stop(d);
	fake_topic(INPUT, 2);
	fake_put(INPUT, 0, "b");
	fake_put(INPUT, 0, "c");
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_says(d, "made anew"));
	NEVER(entries() != 1, 30);
	driver_stop(d);
}

static void
topic_made_anew_while_reading_halts(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	fake_put(INPUT, 0, "a");
	fake_put(INPUT, 0, "b");
	WAIT(entries() == 2);
	/* As long as the one that it replaces: its end tells nothing. */
	fake_freeze(GROUP, 0, 1);
	fake_topic(INPUT, 2);
	fake_put(INPUT, 0, "c");
	fake_put(INPUT, 0, "d");
	fake_freeze(GROUP, 0, 0);
	driver_pass_ms(10000);
	WAIT(driver_says(d, "made anew"));
	fake_put(INPUT, 0, "e");
	NEVER(entries() != 2, 30);
	driver_stop(d);
}

static void
topic_that_is_gone_halts(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	fake_put(INPUT, 0, "a");
	WAIT(entries() == 1);
	fake_freeze(GROUP, 0, 1);
	fake_topic_delete(INPUT);
	driver_pass_ms(10000);
	WAIT(driver_says(d, "is gone"));
	fake_freeze(GROUP, 0, 0);
	driver_stop(d);
}

/* ---- what doesn't come --------------------------------------------------------------- */

/* As where the broker can't read its disk: the client asks again, and says nothing. */
static void
what_does_not_come_is_told(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	fake_put(INPUT, 0, "a");
	WAIT(entries() == 1);
	WAIT(driver_ready(d));
	fake_freeze(GROUP, 0, 1);
	fake_put(INPUT, 0, "b");
	driver_pass_ms(20000);
	NEVER(!driver_ready(d), 50);
	driver_pass_ms(11000);
	WAIT(driver_says(d,
	    "nothing comes of " INPUT "/0 from offset 1 on, "
	    "though it ends at 2"));
	fake_freeze(GROUP, 0, 0);
	WAIT(entries() == 2);
	WAIT(driver_ready(d));
	driver_stop(d);
}

static void
who_is_at_the_end_waits_in_peace(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	int i;

	(void)state;
	fake_put(INPUT, 0, "a");
	WAIT(entries() == 1);
	WAIT(driver_ready(d));
	for (i = 0; i < 3; i++) {
		driver_pass_ms(40000);
		NEVER(!driver_ready(d), 30);
	}
	driver_stop(d);
}

/* ---- logs that were cut ------------------------------------------------------------- */

static void
retention_that_outran_us_halts(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	int i;

	(void)state;
	fake_put(INPUT, 0, "a");
	WAIT(entries() == 1);
	driver_stop(d);
	for (i = 0; i < 9; i++)
		fake_put(INPUT, 0, "b");
	fake_cut_front(INPUT, 0, 5);
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_says(d, "records 1 to 4 were deleted by retention"));
	assert_int_equal(entries(), 1);
	assert_true(at_rest(1));
	driver_stop(d);
}

/* What is in hand is nowhere else any more: it is applied first. */
static void
records_in_hand_outlive_the_log(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	int i;

	(void)state;
	atomic_store(&ledger.retrying, 1);
	WAIT(driver_ready(d));
	fake_allow(GROUP, 0, 0);
	fake_put(INPUT, 0, "retry");
	fake_put(INPUT, 0, "in hand");
	fake_allow(GROUP, 0, 2); /* both at once */
	WAIT(atomic_load(&ledger.applied) > 0);
	for (i = 0; i < 8; i++)
		fake_put(INPUT, 0, "b");
	fake_cut_front(INPUT, 0, 5);
	NEVER(entries() != 0, 100);
	atomic_store(&ledger.retrying, 0);
	WAIT(driver_says(d, "records 2 to 4 were deleted by retention"));
	assert_int_equal(entries(), 2);
	assert_int_equal(driver_number(sql_next), 2);
	driver_stop(d);
}

static void
truncated_log_halts(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	int i;

	(void)state;
	for (i = 0; i < 5; i++)
		fake_put(INPUT, 0, "a");
	WAIT(entries() == 5);
	fake_cut_end(INPUT, 0, 3);
	WAIT(driver_says(d, "the log ends at 3 but we have read up to 5"));
	assert_true(at_rest(0));
	driver_stop(d);
}

/* KIP-320: the same offsets hold other records now. */
static void
log_that_was_cut_and_grew_again_halts(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	int i;

	(void)state;
	for (i = 0; i < 5; i++)
		fake_put(INPUT, 0, "a");
	WAIT(entries() == 5);
	driver_stop(d);
	fake_cut_end(INPUT, 0, 3);
	for (i = 0; i < 4; i++)
		fake_put(INPUT, 0, "b");
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_says(d,
	    "the log was cut below 5, up to which we have "
	    "read, and has grown again to 7"));
	assert_true(at_rest(1));
	assert_int_equal(entries(), 5);
	driver_stop(d);
}

/* Behind a transaction's mark, the record before it can't say. */
static void
end_behind_a_mark_is_no_sign_of_a_cut(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	fake_put(INPUT, 0, "a");
	fake_put_nothing(INPUT, 0);
	WAIT(entries() == 1);
	WAIT(driver_number(sql_next) == 2);
	assert_int_equal(driver_number("SELECT leader_epoch FROM positions"),
	    -1);
	fake_put(INPUT, 0, "b");
	WAIT(entries() == 2);
	assert_int_equal(driver_number("SELECT leader_epoch FROM positions"),
	    0);
	driver_stop(d);
}

/* It isn't skipped, and not asked for again and again. */
static void
record_that_cannot_be_read_halts(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	fake_put(INPUT, 0, "a");
	fake_put_damaged(INPUT, 0);
	fake_put(INPUT, 0, "b");
	WAIT(driver_says(d, "what is at offset 1 can't be read"));
	WAIT(entries() == 1);
	assert_true(at_rest(0));
	assert_int_equal(driver_number(sql_next), 1);
	driver_stop(d);
}

static void
cut_log_is_judged_once_the_broker_answers(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	int i;

	(void)state;
	for (i = 0; i < 5; i++)
		fake_put(INPUT, 0, "a");
	WAIT(entries() == 5);
	fake_fail(FAKE_OFFSETS, -1);
	fake_cut_end(INPUT, 0, 3);
	WAIT(driver_says(d, "not verified yet"));
	fake_fail(FAKE_OFFSETS, 0);
	driver_pass_ms(1000);
	WAIT(driver_says(d, "the log ends at 3 but we have read up to 5"));
	driver_stop(d);
}

/* ---- holes and seeks ---------------------------------------------------------------- */

static void
hole_above_the_stored_position_is_fetched_again(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	int i;

	(void)state;
	for (i = 0; i < 10; i++)
		fake_put(INPUT, 0, "a");
	WAIT(entries() == 10);
	driver_exec("UPDATE positions SET next_offset = 6");
	fake_put(INPUT, 0, "b");
	WAIT(entries() == 15);
	NEVER(entries() != 15, 30);
	assert_int_equal(driver_number(sql_next), 11);
	assert_int_equal(driver_number("SELECT count(*) FROM entries"
				       " WHERE record_offset = 10"),
	    1);
	driver_stop(d);
}

static void
position_that_was_moved_on_by_another_is_taken_over(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	int i;

	(void)state;
	fake_put(INPUT, 0, "a");
	WAIT(entries() == 1);
	fake_allow(GROUP, 0, 0);
	for (i = 0; i < 10; i++)
		fake_put(INPUT, 0, "b");
	driver_exec("UPDATE positions SET next_offset = 6");
	fake_allow(GROUP, 0, -1);
	WAIT(entries() == 6);
	assert_int_equal(driver_number(sql_next), 11);
	driver_stop(d);
}

static void
seek_that_fails_is_tried_again(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	int i;

	(void)state;
	for (i = 0; i < 10; i++)
		fake_put(INPUT, 0, "a");
	WAIT(entries() == 10);
	driver_exec("UPDATE positions SET next_offset = 6");
	fake_fail(FAKE_SEEK, 1);
	fake_put(INPUT, 0, "b");
	WAIT(driver_says(d, "not verified yet"));
	driver_pass_ms(1000);
	WAIT(entries() == 15);
	WAIT(driver_ready(d));
	driver_stop(d);
}

/* ---- files that were put back ---------------------------------------------------------- */

/* A header that must be there. */
static const char *
header_of(const char *topic, int partition, int64_t offset, const char *name)
{
	const char *value = fake_header(topic, partition, offset, name);

	if (value == NULL)
		fail_msg("%s/%d/%lld has no header %s", topic, partition,
		    (long long)offset, name);
	return (value == NULL ? "" : value);
}

/* Has all of what is in the log under that source, from ${from} on, ids that
 * rise without a gap in what they say? */
static void
follow_source(const char *source, int partition, int64_t from)
{
	const char *id;
	int64_t offset, before = -1;

	for (offset = from; offset < fake_next(OUTPUT, partition); offset++) {
		if (strcmp(header_of(OUTPUT, partition, offset, "ce_source"),
			source) != 0)
			continue;
		id = header_of(OUTPUT, partition, offset, "ce_predecessor");
		if (before != -1)
			assert_true(strtoll(id, NULL, 10) <= before);
		else
			assert_string_equal(id, "0");
		id = header_of(OUTPUT, partition, offset, "ce_id");
		assert_true(strtoll(id, NULL, 10) > before);
		before = strtoll(id, NULL, 10);
	}
	assert_true(before != -1);
}

static void
file_put_back_draws_an_id_before_it_emits(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	char source[SOURCE_SIZE], old_source[SOURCE_SIZE];
	int64_t end;
	int i;

	(void)state;
	WAIT(driver_ready(d));
	for (i = 0; i < 5; i++)
		assert_int_equal(call_now(d, LEDGER_WRITE, "k"), 201);
	WAIT(driver_number("SELECT count(*) FROM outbox") == 0);
	/* One is in the copy's outbox, and goes out from both. */
	fake_fail_sends(OUTPUT, 0, -1, FAKE_STUCK);
	assert_int_equal(call_now(d, LEDGER_WRITE, "k"), 201);
	driver_save();
	fake_release();
	for (i = 0; i < 5; i++)
		assert_int_equal(call_now(d, LEDGER_WRITE, "k"), 201);
	WAIT(outputs() == 11);
	driver_stop(d);
	snprintf(old_source, sizeof(old_source), "/millrace/" GROUP "/%s",
	    driver_text("SELECT database_id FROM database_ids"));
	driver_restore();
	end = fake_next(OUTPUT, kafka_partition_of("k", 1, 2));
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_ready(d));
	assert_int_equal(driver_number("SELECT count(*) FROM database_ids"), 2);
	assert_int_equal(call_now(d, LEDGER_WRITE, "k"), 201);
	assert_int_equal(call_now(d, LEDGER_WRITE, "k"), 201);
	WAIT(outputs() == 14);
	snprintf(source, sizeof(source), "/millrace/" GROUP "/%s",
	    driver_text("SELECT database_id FROM database_ids"
			" ORDER BY number DESC"));
	/* The row keeps the source that it was emitted under. */
	assert_string_equal(header_of(OUTPUT, kafka_partition_of("k", 1, 2),
				end, "ce_source"),
	    old_source);
	assert_string_equal(header_of(OUTPUT, kafka_partition_of("k", 1, 2),
				end, "ce_id"),
	    "6");
	follow_source(source, kafka_partition_of("k", 1, 2), end);
	driver_stop(d);
}

static void
file_put_back_that_lost_nothing_keeps_its_id(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	WAIT(driver_ready(d));
	assert_int_equal(call_now(d, LEDGER_WRITE, "k"), 201);
	WAIT(driver_number("SELECT count(*) FROM outbox") == 0);
	driver_save();
	driver_stop(d);
	driver_restore();
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_ready(d));
	assert_int_equal(call_now(d, LEDGER_WRITE, "k"), 201);
	assert_int_equal(driver_number("SELECT count(*) FROM database_ids"), 1);
	driver_stop(d);
}

/*
 * The later life's records lie behind a stranger's open transaction, so that
 * the partition seems to end before them; or retention moves the log's start
 * while they are looked for; or there is something that can't be read; or the
 * log is cut, by a leader who hadn't all of it, and what is left is looked at.
 */
static void
later_life_is_found_behind_what_hides_it(void **state)
{
	enum { HELD, CUT, DAMAGED, SHORTER } how;
	struct driven *d;
	int partition = kafka_partition_of("k", 1, 2), i;
	int64_t end;

	(void)state;
	for (how = HELD; how <= SHORTER; how++) {
		d = driver_run(&ledger_service, "one", NULL);
		WAIT(driver_ready(d));
		assert_int_equal(call_now(d, LEDGER_WRITE, "k"), 201);
		WAIT(driver_number("SELECT count(*) FROM outbox") == 0);
		driver_stop(d);
		driver_save();
		end = fake_next(OUTPUT, partition);
		(void)fake_put(OUTPUT, partition, "a stranger's");
		if (how == DAMAGED)
			(void)fake_put_damaged(OUTPUT, partition);
		d = driver_run(&ledger_service, "one", NULL);
		WAIT(driver_ready(d));
		for (i = 0; i < 5; i++)
			assert_int_equal(call_now(d, LEDGER_WRITE, "k"), 201);
		WAIT(driver_number("SELECT count(*) FROM outbox") == 0);
		driver_stop(d);
		driver_restore();
		if (how != DAMAGED)
			fake_hold(OUTPUT, partition, end);
		d = driver_run(&ledger_service, "one", NULL);
		if (how != DAMAGED)
			WAIT(driver_says(d, "looking for our own last"));
		if (how == CUT)
			fake_cut_front(OUTPUT, partition, end + 1);
		if (how == SHORTER) {
			fake_cut_end(OUTPUT, partition,
			    fake_next(OUTPUT, partition) - 1);
			NEVER(driver_ready(d), 100);
			driver_pass_ms(5000);
		}
		fake_hold(OUTPUT, partition, -1);
		WAIT(driver_ready(d));
		assert_int_equal(driver_number("SELECT count(*)"
					       " FROM database_ids"),
		    how + 2);
		driver_stop(d);
	}
}

static void
copy_of_a_file_draws_an_id_of_its_own_once(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	char first[DATABASE_ID_SIZE], source[SOURCE_SIZE];
	int64_t end;
	int lives;

	(void)state;
	WAIT(driver_ready(d));
	assert_int_equal(call_now(d, LEDGER_WRITE, "k"), 201);
	WAIT(driver_number("SELECT count(*) FROM outbox") == 0);
	snprintf(first, sizeof(first), "%s",
	    driver_text("SELECT database_id FROM database_ids"));
	driver_save();
	driver_stop(d);
	driver_replace();
	end = fake_next(OUTPUT, kafka_partition_of("k", 1, 2));
	for (lives = 0; lives < 2; lives++) {
		d = driver_run(&ledger_service, "one", NULL);
		WAIT(driver_ready(d));
		assert_int_equal(call_now(d, LEDGER_WRITE, "k"), 201);
		WAIT(driver_number("SELECT count(*) FROM outbox") == 0);
		assert_int_equal(driver_number("SELECT count(*)"
					       " FROM database_ids"),
		    2);
		driver_stop(d);
	}
	snprintf(source, sizeof(source), "/millrace/" GROUP "/%s",
	    driver_text("SELECT database_id FROM database_ids"
			" ORDER BY number DESC"));
	assert_null(strstr(source, first));
	follow_source(source, kafka_partition_of("k", 1, 2), end);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    LEDGER_TEST(broker_that_is_absent_at_the_start_is_waited_for),
	    LEDGER_TEST(partition_that_cannot_be_verified_is_not_read),
	    LEDGER_TEST(
		after_one_answer_that_did_not_come_no_other_partition_asks),
	    LEDGER_TEST(topics_without_ids_are_not_read),
	    LEDGER_TEST(new_service_takes_what_retention_has_left),
	    LEDGER_TEST(new_service_that_meets_its_partitions_one_by_one),
	    LEDGER_TEST(new_partition_that_lost_records_halts),
	    LEDGER_TEST(another_cluster_is_not_worked_with),
	    LEDGER_TEST(offsets_of_another_file_halt),
	    LEDGER_TEST(file_that_joins_the_group_later_halts_too),
	    LEDGER_TEST(offsets_of_an_earlier_id_and_of_strangers_do_not),
	    LEDGER_TEST(file_restored_while_in_use_ends_the_run),
	    LEDGER_TEST(
		file_restored_before_the_last_transaction_is_left_alone),
	    LEDGER_TEST(topic_made_anew_while_stopped_halts),
	    LEDGER_TEST(topic_made_anew_while_reading_halts),
	    LEDGER_TEST(topic_that_is_gone_halts),
	    LEDGER_TEST(what_does_not_come_is_told),
	    LEDGER_TEST(who_is_at_the_end_waits_in_peace),
	    LEDGER_TEST(retention_that_outran_us_halts),
	    LEDGER_TEST(records_in_hand_outlive_the_log),
	    LEDGER_TEST(truncated_log_halts),
	    LEDGER_TEST(log_that_was_cut_and_grew_again_halts),
	    LEDGER_TEST(end_behind_a_mark_is_no_sign_of_a_cut),
	    LEDGER_TEST(record_that_cannot_be_read_halts),
	    LEDGER_TEST(cut_log_is_judged_once_the_broker_answers),
	    LEDGER_TEST(hole_above_the_stored_position_is_fetched_again),
	    LEDGER_TEST(position_that_was_moved_on_by_another_is_taken_over),
	    LEDGER_TEST(seek_that_fails_is_tried_again),
	    LEDGER_TEST(file_put_back_draws_an_id_before_it_emits),
	    LEDGER_TEST(file_put_back_that_lost_nothing_keeps_its_id),
	    LEDGER_TEST(later_life_is_found_behind_what_hides_it),
	    LEDGER_TEST(copy_of_a_file_draws_an_id_of_its_own_once),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
