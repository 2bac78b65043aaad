/*
 * stream/output: tails and predecessors as they are in the file, what a
 * savepoint undoes of them, and what leaves the outbox.  On a real file, in
 * transactions of the test's own.
 */
#include "migrations.h"

#include "fake_kafka.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_driver.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_ledger.h"

static struct stream *s;
static struct driven *driven;

/* As it is once connected, the first output with so many partitions. */
static void
count_outputs(int partitions)
{
	struct mr_error err;
	int i;

	assert_int_equal(placement_count(s, &err), 0);
	for (i = 0; i < s->output_count; i++) {
		s->outputs[i].partitions = i == 0 ? partitions : 3;
		s->outputs[i].dirty = s->outputs[i].known = 1;
		memset(s->outputs[i].settled_offset, 0xff,
		    sizeof(s->outputs[i].settled_offset));
		memset(s->outputs[i].acked_offset, 0xff,
		    sizeof(s->outputs[i].acked_offset));
	}
	s->undisturbed = 0;
	output_begin(s);
}

static int
setup(void **state)
{
	ledger_setup(state);
	driven = driver_open(&ledger_service, "one", NULL);
	s = driver_stream(driven);
	count_outputs(2);
	return (0);
}

static int
teardown(void **state)
{
	driver_stop(driven);
	return (ledger_teardown(state));
}

static void
begin(void)
{
	struct mr_error err;

	assert_int_equal(batch_begin(s, &err), 0);
	if (!s->undisturbed)
		assert_int_equal(database_id_check(s, &err), 0);
	s->in_batch = 1;
}

static void
commit(void)
{
	struct mr_error err;

	assert_int_equal(output_write_tails(s, &err), 0);
	s->in_batch = 0;
	assert_int_equal(store_commit(s->st, &err), 0);
	s->version_left = store_data_version(s->st);
}

static void
emit_placed(const char *topic, const char *key, const char *value,
    kafka_partitioner *partitioner)
{
	struct mr_error err = {0};
	struct stream_output out = {.topic = topic,
	    .type = "t",
	    .key = key,
	    .key_size = key == NULL ? 0 : strlen(key),
	    .value = value,
	    .value_size = value == NULL ? 0 : strlen(value),
	    .ts_ms = 9,
	    .partitioner = partitioner};

	if (stream_emit(s, &out, &err) == -1)
		fail_msg("%s", err.message);
}

static void
emit_one(const char *topic, const char *key, const char *value)
{

	emit_placed(topic, key, value, NULL);
}

static int
to_the_last(const void *key, size_t key_size, int64_t turn, int partitions)
{

	(void)key, (void)key_size, (void)turn;
	return (partitions - 1);
}

/* "seq<predecessor", by seq. */
static const char *
chain(void)
{
	return (driver_text("SELECT group_concat(seq || '<' || predecessor,"
			    " ' ') FROM (SELECT * FROM outbox ORDER BY seq)"));
}

static void
chains_run_by_topic_and_partition(void **state)
{
	char a[2] = "a", b[2] = "a";

	(void)state;
	/* Two keys for the two partitions. */
	while (kafka_partition_of(b, 1, 2) == kafka_partition_of(a, 1, 2))
		b[0]++;
	begin();
	emit_one(OUTPUT, a, "1");
	emit_one(OUTPUT, b, "2");
	emit_one(OUTPUT, a, "3");
	emit_one(OTHER_OUTPUT, a, "4");
	emit_one(OUTPUT, b, "5");
	commit();
	assert_string_equal(chain(), "1<0 2<0 3<1 4<0 5<2");
	begin();
	emit_one(OUTPUT, a, "6");
	emit_one(OUTPUT, b, "7");
	commit();
	assert_string_equal(chain(), "1<0 2<0 3<1 4<0 5<2 6<3 7<5");
}

static void
rolled_back_transaction_leaves_no_tail(void **state)
{
	(void)state;
	begin();
	emit_one(OUTPUT, "a", "1");
	commit();
	begin();
	emit_one(OUTPUT, "a", "2");
	emit_one(OTHER_OUTPUT, NULL, "3");
	s->in_batch = 0;
	store_rollback(s->st);
	begin();
	emit_one(OUTPUT, "a", "4");
	emit_one(OTHER_OUTPUT, NULL, "5");
	commit();
	/* What was given out went back as well. */
	assert_string_equal(chain(), "1<0 2<1 3<0");
	assert_int_equal(driver_number("SELECT partition FROM outbox"
				       " WHERE topic = '" OTHER_OUTPUT "'"),
	    0);
}

static void
undone_savepoint_moves_tails_back(void **state)
{
	struct mr_error err;

	(void)state;
	begin();
	emit_one(OUTPUT, "a", "1");
	assert_int_equal(batch_save(s, &err), 0);
	emit_one(OUTPUT, "a", "undone");
	emit_one(OUTPUT, "a", "undone");
	emit_one(OTHER_OUTPUT, NULL, "undone");
	assert_int_equal(batch_undo(s, &err), 0);
	assert_int_equal(s->emitted, 1);
	emit_one(OUTPUT, "a", "2");
	assert_int_equal(batch_save(s, &err), 0);
	emit_one(OUTPUT, "a", "3");
	emit_one(OTHER_OUTPUT, NULL, "4");
	assert_int_equal(batch_keep(s, &err), 0);
	commit();
	assert_string_equal(chain(), "1<0 2<1 3<2 4<0");
	assert_int_equal(driver_number("SELECT partition FROM outbox"
				       " WHERE topic = '" OTHER_OUTPUT "'"),
	    0);
}

/* Tails, number, turn and the outbox's ends are asked for again. */
static void
what_another_instance_wrote_is_gone_on_from(void **state)
{
	struct mr_error err;

	(void)state;
	begin();
	emit_one(OUTPUT, "a", "1");
	emit_one(OTHER_OUTPUT, NULL, "2");
	assert_int_equal(output_settle(s, &err), 0);
	commit();
	driver_exec("INSERT INTO outbox SELECT 10, database, topic, partition,"
		    " type, key, value, ts_ms, 1, NULL, NULL, NULL, NULL"
		    " FROM outbox WHERE seq = 1;"
		    "UPDATE sqlite_sequence SET seq = 10"
		    " WHERE name = 'outbox';"
		    "UPDATE output_tails SET seq = 10 WHERE seq = 1"
		    " AND partition >= 0;"
		    "UPDATE output_tails SET seq = 2 WHERE partition = -1;"
		    "DELETE FROM outbox WHERE seq = 1");
	begin();
	assert_false(s->undisturbed);
	emit_one(OUTPUT, "a", "11");
	emit_one(OTHER_OUTPUT, NULL, "12");
	assert_int_equal(output_settle(s, &err), 0);
	assert_int_equal(s->outbox_first, 2);
	assert_int_equal(s->outbox_last, 12);
	commit();
	assert_string_equal(chain(), "2<0 10<1 11<10 12<0");
	assert_int_equal(driver_number("SELECT partition FROM outbox"
				       " WHERE seq = 12"),
	    2);
}

/* As transactions end: with what is left in the outbox, and whose relay it is. */
static void
end(int then_commit)
{
	struct mr_error err;

	assert_int_equal(output_settle(s, &err), 0);
	assert_int_equal(relay_lease(s, &err), 0);
	if (then_commit) {
		commit();
		return;
	}
	s->in_batch = 0;
	store_rollback(s->st);
}

/* It was taken in a transaction that didn't happen, and not looked at in the
 * next, which had nothing to relay. */
static void
lease_that_was_undone_is_taken_again(void **state)
{

	(void)state;
	begin();
	emit_one(OUTPUT, "a", "undone");
	end(0);
	assert_string_equal(driver_text("SELECT owner FROM relay"), "");
	begin();
	end(1);
	begin();
	assert_true(s->undisturbed);
	emit_one(OUTPUT, "a", "1");
	end(1);
	assert_string_equal(driver_text("SELECT owner FROM relay"), s->owner);
	assert_int_equal(driver_number("SELECT epoch FROM relay"),
	    s->lease_epoch);
	/* And while it is ours, and nobody else writes, it isn't read. */
	begin();
	emit_one(OUTPUT, "a", "2");
	end(1);
	assert_int_equal(s->lease_changed, 1);
	driver_exec("UPDATE relay SET owner = 'another', epoch = epoch + 1");
	begin();
	emit_one(OUTPUT, "a", "3");
	end(1);
	assert_int_equal(s->lease_epoch, 0);
}

/* Without another look they are known as well as by one. */
static void
alone_an_instance_knows_what_it_wrote(void **state)
{
	struct mr_error err;
	int64_t first, last;
	int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		begin();
		assert_int_equal(s->undisturbed, i > 0);
		if (i == 1) {
			emit_one(OUTPUT, "a", "1");
			assert_int_equal(batch_save(s, &err), 0);
			emit_one(OUTPUT, "b", "undone");
			assert_int_equal(batch_undo(s, &err), 0);
			emit_one(OUTPUT, "c", "2");
		} else if (i == 2) {
			emit_one(OTHER_OUTPUT, NULL, "3");
		}
		assert_int_equal(output_settle(s, &err), 0);
		first = s->outbox_first;
		last = s->outbox_last;
		assert_int_equal(output_ends(s, &err), 0);
		assert_int_equal(s->outbox_first, first);
		assert_int_equal(s->outbox_last, last);
		assert_int_equal(last, i == 0 ? 0 : i == 1 ? 2 : 3);
		commit();
	}
}

static void
nulls_and_empty_texts_stay_apart(void **state)
{
	(void)state;
	begin();
	emit_one(OUTPUT, "", "");
	emit_one(OUTPUT, NULL, NULL);
	commit();
	assert_int_equal(driver_number("SELECT count(*) FROM outbox WHERE"
				       " key IS NULL AND value IS NULL"),
	    1);
	assert_int_equal(driver_number("SELECT count(*) FROM outbox WHERE"
				       " key = x'' AND value = x''"),
	    1);
}

static void
cause_rides_along_while_a_record_is_applied(void **state)
{
	struct stream_record cause = {.topic = INPUT,
	    .partition = 1,
	    .offset = 42};

	(void)state;
	begin();
	s->applying = &cause;
	emit_one(OUTPUT, "a", "1");
	s->applying = NULL;
	emit_one(OUTPUT, "a", "2");
	commit();
	assert_string_equal(
	    driver_text("SELECT cause_topic || '/' || cause_partition || '/'"
			" || cause_offset FROM outbox WHERE seq = 1"),
	    INPUT "/1/42");
	assert_int_equal(driver_number("SELECT count(*) FROM outbox WHERE"
				       " seq = 2 AND cause_topic IS NULL"
				       " AND cause_offset IS NULL"),
	    1);
}

static void
emitting_outside_of_a_transaction_is_a_bug(void **state)
{
	struct mr_error err = {0};
	struct stream_output out = {.topic = OUTPUT, .type = "t"};

	(void)state;
	assert_int_equal(stream_emit(s, &out, &err), -1);
	assert_int_equal(err.kind, MR_FATAL);
}

static void
what_can_never_be_sent_is_rejected(void **state)
{
	static char large[EMIT_BYTES_MOST + 1];
	static const char type_63[] = "a23456789b23456789c23456789d23456789"
				      "e23456789f23456789g23456789";
	static const char type_64[] = "a23456789b23456789c23456789d23456789"
				      "e23456789f23456789g23456789h";
	struct {
		const char *what;
		struct stream_output out;
		int status;
	} cases[] = {
	    {"a topic that is an input", {.topic = INPUT, .type = "t"}, -1},
	    {"no type", {.topic = OUTPUT}, -1},
	    {"the longest type", {.topic = OUTPUT, .type = type_63}, 0},
	    {"a longer type", {.topic = OUTPUT, .type = type_64}, -1},
	    {"the largest value",
		{.topic = OUTPUT,
		    .type = "t",
		    .value = large,
		    .value_size = EMIT_BYTES_MOST},
		0},
	    {"a larger value",
		{.topic = OUTPUT,
		    .type = "t",
		    .value = large,
		    .value_size = EMIT_BYTES_MOST + 1},
		-1},
	    {"a key and a value, together too large",
		{.topic = OUTPUT,
		    .type = "t",
		    .key = large,
		    .key_size = EMIT_BYTES_MOST / 2 + 1,
		    .value = large,
		    .value_size = EMIT_BYTES_MOST / 2},
		-1},
	    {"sizes whose sum wraps",
		{.topic = OUTPUT,
		    .type = "t",
		    .key = large,
		    .key_size = 2,
		    .value = large,
		    .value_size = SIZE_MAX},
		-1},
	    {"a larger key",
		{.topic = OUTPUT,
		    .type = "t",
		    .key = large,
		    .key_size = SIZE_MAX},
		-1},
	};
	struct mr_error err;
	size_t i;

	(void)state;
	begin();
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(&err, 0, sizeof(err));
		if (stream_emit(s, &cases[i].out, &err) != cases[i].status)
			fail_msg("%s", cases[i].what);
		if (cases[i].status == -1)
			assert_int_equal(err.kind, MR_REJECT);
	}
	commit();
	assert_int_equal(driver_number("SELECT count(*) FROM outbox"), 2);
}

/* ---- settling -------------------------------------------------------------- */

static void
settle(int then_commit)
{
	struct mr_error err;

	begin();
	assert_int_equal(output_settle(s, &err), 0);
	if (then_commit) {
		commit();
		s->acked_deleted = s->deleted_up_to;
		return;
	}
	s->in_batch = 0;
	store_rollback(s->st);
	output_unsettle(s);
}

static const char sql_acked_offsets[] =
    "SELECT group_concat(partition || ':' || acked_offset, ' ') FROM"
    " (SELECT * FROM output_tails WHERE topic = '" OUTPUT
    "' AND partition >= 0 ORDER BY partition)";

static void
settling_deletes_the_acknowledged_prefix_and_no_more(void **state)
{
	struct mr_error err;
	int i;

	(void)state;
	begin();
	for (i = 0; i < 6; i++)
		emit_one(OUTPUT, NULL, "x");
	assert_int_equal(output_settle(s, &err), 0);
	commit();
	assert_int_equal(s->outbox_first, 1);
	assert_int_equal(s->outbox_last, 6);
	atomic_store(&s->relay.acked, 4);
	atomic_store(&s->outputs[0].acked_offset[0], 11);
	atomic_store(&s->outputs[0].acked_offset[1], 21);
	settle(1);
	assert_int_equal(s->outbox_first, 5);
	assert_int_equal(s->outbox_last, 6);
	assert_int_equal(driver_number("SELECT min(seq) FROM outbox"), 5);
	assert_string_equal(driver_text(sql_acked_offsets), "0:11 1:21");
	atomic_store(&s->relay.acked, 6);
	atomic_store(&s->outputs[0].acked_offset[1], 22);
	settle(1);
	assert_int_equal(s->outbox_first, 0);
	assert_int_equal(s->outbox_last, 0);
	assert_string_equal(driver_text(sql_acked_offsets), "0:11 1:22");
}

static void
what_was_settled_in_vain_is_settled_again(void **state)
{
	(void)state;
	begin();
	emit_one(OUTPUT, NULL, "x");
	commit();
	atomic_store(&s->relay.acked, 1);
	atomic_store(&s->outputs[0].acked_offset[0], 7);
	settle(0);
	assert_int_equal(driver_number("SELECT count(*) FROM outbox"), 1);
	settle(1);
	assert_int_equal(driver_number("SELECT count(*) FROM outbox"), 0);
	assert_string_equal(driver_text(sql_acked_offsets), "0:7");
}

static void
sequence_numbers_are_not_used_again(void **state)
{
	(void)state;
	begin();
	emit_one(OUTPUT, "a", "1");
	commit();
	atomic_store(&s->relay.acked, 1);
	settle(1);
	begin();
	emit_one(OUTPUT, "a", "2");
	commit();
	assert_string_equal(chain(), "2<1");
}

/* The outbox as version 5 of the core had it, and seven given out. */
static void
make_older(void)
{
	const char *begins = strstr(migrations_core[0].sql,
	    "CREATE TABLE outbox");
	const char *ends = strstr(begins, ") STRICT;");
	char sql[2048];

	driver_exec("ALTER TABLE outbox RENAME TO newer");
	snprintf(sql, sizeof(sql), "%.*s) STRICT", (int)(ends - begins),
	    begins);
	driver_exec(sql);
	driver_exec("INSERT INTO outbox SELECT * FROM newer");
	driver_exec("DROP TABLE newer");
	driver_exec("DELETE FROM sqlite_sequence WHERE name = 'newer'");
	driver_exec("UPDATE sqlite_sequence SET seq = 7 WHERE name = 'outbox'");
	driver_exec("DELETE FROM schema_versions WHERE component = 'core'"
		    " AND version > 5");
	snprintf(sql, sizeof(sql), "PRAGMA user_version = %lld",
	    (long long)driver_number("PRAGMA user_version") - 1);
	driver_exec(sql);
}

static void
numbers_of_an_older_file_go_on(void **state)
{
	(void)state;
	begin();
	emit_one(OUTPUT, "a", "1");
	emit_one(OUTPUT, "a", "2");
	commit();
	atomic_store(&s->relay.acked, 1);
	settle(1);
	driver_stop(driven);
	make_older();
	driven = driver_open(&ledger_service, "two", NULL);
	s = driver_stream(driven);
	count_outputs(2);
	begin();
	emit_one(OUTPUT, "a", "3");
	commit();
	assert_string_equal(chain(), "2<1 8<2");
	assert_int_equal(driver_number("SELECT seq FROM sqlite_sequence"
				       " WHERE name = 'outbox'"),
	    8);
}

/* "topic@from=partitions" of each row, in the order that they were written. */
static const char *
placements(void)
{
	return (driver_text("SELECT coalesce(group_concat(topic || '@' ||"
			    " from_seq || '=' || partitions, ' '), '') FROM"
			    " (SELECT * FROM placements ORDER BY number)"));
}

/* Another instance on the same file, or the same after a start. */
static struct stream *
another(const char *name, int partitions)
{
	struct stream *was = s;

	s = driver_stream(driver_open(&ledger_service, name, NULL));
	count_outputs(partitions);
	return (was);
}

static void
counts_are_kept_with_the_first_record_that_they_are_of(void **state)
{
	(void)state;
	begin();
	emit_one(OUTPUT, NULL, "1");
	commit();
	assert_string_equal(placements(), "");
	begin();
	emit_one(OUTPUT, NULL, "2");
	emit_one(OUTPUT, "a", "3");
	emit_one(OUTPUT, "b", "4");
	emit_one(OTHER_OUTPUT, "a", "5");
	emit_one(OUTPUT, "c", "6");
	commit();
	assert_string_equal(placements(), OUTPUT "@3=2 " OTHER_OUTPUT "@5=3");
	begin();
	emit_one(OUTPUT, "a", "7");
	commit();
	/* A start that counts the same has no news; one that counts more has. */
	(void)another("two", 2);
	begin();
	emit_one(OUTPUT, "a", "8");
	commit();
	assert_string_equal(placements(), OUTPUT "@3=2 " OTHER_OUTPUT "@5=3");
	(void)another("three", 4);
	begin();
	emit_one(OTHER_OUTPUT, "a", "9");
	emit_one(OUTPUT, "a", "10");
	emit_one(OUTPUT, "b", "11");
	commit();
	assert_string_equal(placements(),
	    OUTPUT "@3=2 " OTHER_OUTPUT "@5=3 " OUTPUT "@10=4");
	assert_int_equal(driver_number("SELECT partition FROM outbox"
				       " WHERE seq = 10"),
	    kafka_partition_of("a", 1, 4));
}

static void
counts_that_were_undone_are_kept_again(void **state)
{
	struct mr_error err;

	(void)state;
	begin();
	assert_int_equal(batch_save(s, &err), 0);
	emit_one(OUTPUT, "a", "undone");
	assert_int_equal(batch_undo(s, &err), 0);
	emit_one(OTHER_OUTPUT, "a", "1");
	emit_one(OUTPUT, "a", "2");
	s->in_batch = 0;
	store_rollback(s->st);
	assert_string_equal(placements(), "");
	begin();
	emit_one(OTHER_OUTPUT, "a", "1");
	emit_one(OUTPUT, NULL, "2");
	assert_int_equal(batch_save(s, &err), 0);
	emit_one(OUTPUT, "a", "undone");
	assert_int_equal(batch_undo(s, &err), 0);
	emit_one(OUTPUT, NULL, "3");
	emit_one(OUTPUT, "a", "4");
	commit();
	assert_string_equal(placements(), OTHER_OUTPUT "@1=3 " OUTPUT "@4=2");
}

static void
partitioner_is_told_of_and_promises_nothing_until_a_start(void **state)
{
	(void)state;
	begin();
	emit_one(OUTPUT, "a", "1");
	emit_placed(OUTPUT, NULL, "2", to_the_last);
	emit_placed(OUTPUT, "a", "3", to_the_last);
	commit();
	begin();
	emit_one(OUTPUT, "a", "4");
	emit_placed(OUTPUT, "b", "5", to_the_last);
	commit();
	assert_string_equal(placements(), OUTPUT "@1=2 " OUTPUT "@3=0");
	(void)another("two", 2);
	begin();
	emit_one(OUTPUT, "a", "6");
	commit();
	assert_string_equal(placements(),
	    OUTPUT "@1=2 " OUTPUT "@3=0 " OUTPUT "@6=2");
	assert_int_equal(driver_number("SELECT max(partition) FROM outbox"
				       " WHERE seq IN (3, 5)"),
	    1);
}

/* Or the two of them would take turns, and an order's events would part. */
static void
instance_follows_one_that_counted_later(void **state)
{
	struct stream *first;
	char key[2] = "a", text[2] = "0";
	int k;

	(void)state;
	while (kafka_partition_of(key, 1, 4) < 2)
		key[0]++;
	for (k = 1; k < 3; k++) {
		begin();
		emit_one(OUTPUT, key, "1");
		commit();
	}
	first = another("two", 4);
	begin();
	emit_one(OUTPUT, key, "2");
	commit();
	for (k = 3; k < 7; k++) {
		struct stream *other = s;

		s = first;
		first = other;
		text[0] = (char)('0' + k);
		begin();
		emit_one(OUTPUT, NULL, text);
		emit_one(OUTPUT, key, text);
		commit();
		assert_int_equal(s->outputs[0].partitions, 4);
	}
	assert_string_equal(placements(), OUTPUT "@1=2 " OUTPUT "@3=4");
	assert_int_equal(driver_number("SELECT count(DISTINCT partition) FROM"
				       " outbox WHERE key IS NOT NULL AND"
				       " seq > 2"),
	    1);
	/* Each one's predecessor is the one before it there. */
	assert_int_equal(driver_number("SELECT count(*) FROM (SELECT"
				       " predecessor, lag(seq, 1, 0) OVER"
				       " (PARTITION BY partition ORDER BY seq)"
				       " AS due FROM outbox)"
				       " WHERE predecessor <> due"),
	    0);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(chains_run_by_topic_and_partition),
	    TEST(rolled_back_transaction_leaves_no_tail),
	    TEST(undone_savepoint_moves_tails_back),
	    TEST(what_another_instance_wrote_is_gone_on_from),
	    TEST(lease_that_was_undone_is_taken_again),
	    TEST(alone_an_instance_knows_what_it_wrote),
	    TEST(nulls_and_empty_texts_stay_apart),
	    TEST(cause_rides_along_while_a_record_is_applied),
	    TEST(emitting_outside_of_a_transaction_is_a_bug),
	    TEST(what_can_never_be_sent_is_rejected),
	    TEST(settling_deletes_the_acknowledged_prefix_and_no_more),
	    TEST(what_was_settled_in_vain_is_settled_again),
	    TEST(sequence_numbers_are_not_used_again),
	    TEST(numbers_of_an_older_file_go_on),
	    TEST(counts_are_kept_with_the_first_record_that_they_are_of),
	    TEST(counts_that_were_undone_are_kept_again),
	    TEST(partitioner_is_told_of_and_promises_nothing_until_a_start),
	    TEST(instance_follows_one_that_counted_later),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
