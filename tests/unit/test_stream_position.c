/*
 * stream/position: positions by compare-and-set, marks that only rise, the
 * database id.  On a real file, in transactions of the test's own.
 */
#include "fake_kafka.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_driver.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_ledger.h"

#define ID "fakeTopicId00000000001"
#define OTHER_ID "fakeTopicId00000000002"
#define SHOP "/millrace/shop/0123456789abcdef0123456789abcdef"

static struct stream *s;
static struct driven *driven;
static struct partition part;

static int
setup(void **state)
{
	ledger_setup(state);
	driven = driver_open(&ledger_service, "one", NULL);
	s = driver_stream(driven);
	memset(&part, 0, sizeof(part));
	part.number = 1;
	memcpy(part.topic_id, ID, sizeof(part.topic_id));
	part.expected = -1;
	part.leader_epoch = -1;
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

	s->mark_count = 0;
	assert_int_equal(store_begin(s->st, &err), 0);
}

static void
commit(void)
{
	struct mr_error err;

	assert_int_equal(store_commit(s->st, &err), 0);
}

static int
move_to(int64_t expected, int64_t next, struct mr_error *err)
{
	part.expected = expected;
	part.next = next;
	return (position_move(s, &part, err));
}

static void
position_moves_from_what_was_read_and_from_nothing_else(void **state)
{
	struct mr_error err = {0};
	int64_t next = 0;
	int32_t epoch = 0;

	(void)state;
	begin();
	assert_int_equal(position_read(s, ID, 1, &next, &epoch, &err), 0);
	part.leader_epoch = 3;
	assert_int_equal(move_to(-1, 5, &err), 0);
	assert_int_equal(move_to(5, 9, &err), 0);
	commit();
	begin();
	assert_int_equal(position_read(s, ID, 1, &next, &epoch, &err), 1);
	assert_int_equal(next, 9);
	assert_int_equal(epoch, 3);
	/* Not from elsewhere, not from nothing, not another partition's. */
	assert_int_equal(move_to(5, 10, &err), -1);
	assert_int_equal(err.kind, MR_FATAL);
	assert_int_equal(move_to(-1, 10, &err), -1);
	part.number = 2;
	assert_int_equal(move_to(9, 10, &err), -1);
	part.number = 1;
	memcpy(part.topic_id, OTHER_ID, sizeof(part.topic_id));
	assert_int_equal(move_to(9, 10, &err), -1);
	assert_int_equal(position_read(s, ID, 1, &next, &epoch, &err), 1);
	assert_int_equal(next, 9);
	store_rollback(s->st);
}

static void
beginning_does_not_move_what_is_there(void **state)
{
	struct mr_error err = {0};
	int64_t next = 0;
	int32_t epoch = 0;

	(void)state;
	begin();
	assert_int_equal(position_begin(s, INPUT, ID, 1, 4, &err), 0);
	assert_int_equal(position_begin(s, INPUT, ID, 1, 7, &err), 0);
	assert_int_equal(position_read(s, ID, 1, &next, &epoch, &err), 1);
	assert_int_equal(next, 4);
	assert_int_equal(epoch, -1);
	commit();
}

static void
topic_is_known_by_its_id(void **state)
{
	struct mr_error err = {0};
	char other[KAFKA_TOPIC_ID_SIZE] = "";

	(void)state;
	begin();
	assert_int_equal(position_topic_known(s, INPUT, ID, other, &err), 0);
	assert_int_equal(position_begin(s, INPUT, ID, 1, 4, &err), 0);
	assert_int_equal(position_topic_known(s, INPUT, ID, other, &err), 1);
	assert_int_equal(position_topic_known(s, INPUT, OTHER_ID, other, &err),
	    2);
	assert_string_equal(other, ID);
	/* Whoever was accepted under both is known under both. */
	assert_int_equal(position_begin(s, INPUT, OTHER_ID, 1, 0, &err), 0);
	assert_int_equal(position_topic_known(s, INPUT, OTHER_ID, other, &err),
	    1);
	assert_int_equal(position_topic_known(s, INPUT, ID, other, &err), 1);
	assert_int_equal(position_topic_known(s, OUTPUT, ID, other, &err), 0);
	commit();
}

static struct mark *
mark_of(const char *source)
{
	struct mr_error err = {0};
	struct mark *m = mark_find(s, &part, source, &err);

	assert_non_null(m);
	return (m);
}

static void
mark_set(const char *source, int64_t seq)
{
	struct mark *m = mark_of(source);

	m->seq = seq;
	m->dirty = 1;
}

static void
marks_rise_and_are_read_once_a_transaction(void **state)
{
	struct mr_error err = {0};

	(void)state;
	begin();
	assert_int_equal(mark_of(SHOP)->seq, -1);
	mark_set(SHOP, 7);
	assert_int_equal(mark_of(SHOP)->seq, 7);
	assert_int_equal(s->mark_count, 1);
	assert_int_equal(mark_write_all(s, &err), 0);
	commit();
	begin();
	assert_int_equal(mark_of(SHOP)->seq, 7);
	/* The file knows better than whoever would lower it. */
	mark_set(SHOP, 3);
	assert_int_equal(mark_write_all(s, &err), 0);
	commit();
	begin();
	assert_int_equal(mark_of(SHOP)->seq, 7);
	commit();
}

static void
marks_are_by_source_topic_id_and_partition(void **state)
{
	struct mr_error err = {0};

	(void)state;
	begin();
	mark_set(SHOP, 7);
	assert_int_equal(mark_write_all(s, &err), 0);
	commit();
	begin();
	assert_int_equal(mark_of(SHOP "x")->seq, -1);
	s->mark_count = 0;
	part.number = 2;
	assert_int_equal(mark_of(SHOP)->seq, -1);
	s->mark_count = 0;
	part.number = 1;
	memcpy(part.topic_id, OTHER_ID, sizeof(part.topic_id));
	assert_int_equal(mark_of(SHOP)->seq, -1);
	commit();
}

static void
many_marks_in_a_transaction_are_all_written(void **state)
{
	struct mr_error err = {0};
	char source[SOURCE_SIZE];
	int i;

	(void)state;
	begin();
	for (i = 0; i < 100; i++) {
		snprintf(source, sizeof(source), "/millrace/shop%d/x", i);
		mark_set(source, i + 1);
	}
	assert_int_equal(mark_write_all(s, &err), 0);
	commit();
	assert_int_equal(driver_number("SELECT count(*) FROM marks"), 100);
	assert_int_equal(driver_number("SELECT sum(seq) FROM marks"), 5050);
}

static void
undone_savepoint_moves_marks_back(void **state)
{
	struct mr_error err = {0};
	struct mark *in_hand;

	(void)state;
	begin();
	mark_set(SHOP, 7);
	assert_int_equal(batch_save(s, &err), 0);
	mark_set(SHOP, 9);
	in_hand = mark_of("/millrace/new/x");
	in_hand->seq = 4;
	in_hand->dirty = 1;
	assert_int_equal(batch_undo(s, &err), 0);
	assert_int_equal(mark_of(SHOP)->seq, 7);
	/* One that was read meanwhile is as it was read, and stays in hand. */
	assert_ptr_equal(mark_of("/millrace/new/x"), in_hand);
	assert_int_equal(in_hand->seq, -1);
	assert_int_equal(in_hand->dirty, 0);
	in_hand->seq = 5;
	in_hand->dirty = 1;
	assert_int_equal(mark_write_all(s, &err), 0);
	commit();
	assert_int_equal(driver_number(
			     "SELECT seq FROM marks WHERE source = '" SHOP "'"),
	    7);
	assert_int_equal(driver_number("SELECT seq FROM marks WHERE source ="
				       " '/millrace/new/x'"),
	    5);
}

/* ---- the database id -------------------------------------------------------- */

static void
database_id_is_drawn_once_and_checked(void **state)
{
	struct mr_error err = {0};
	char id[DATABASE_ID_SIZE], source[SOURCE_SIZE];

	(void)state;
	assert_int_equal(strlen(s->database_id), 32);
	assert_int_equal(strspn(s->database_id, "0123456789abcdef"), 32);
	snprintf(source, sizeof(source), "/millrace/" GROUP "/%s",
	    s->database_id);
	assert_string_equal(s->source, source);
	memcpy(id, s->database_id, sizeof(id));
	assert_int_equal(database_id_load(s, &err), 0);
	assert_string_equal(s->database_id, id);
	begin();
	assert_int_equal(database_id_check(s, &err), 0);
	commit();
	assert_int_equal(database_id_known(s, id, &err), 1);
	assert_int_equal(database_id_known(s, "somebody else's", &err), 0);
}

static void
redrawn_database_id_forgets_the_tails_but_not_the_turns(void **state)
{
	struct mr_error err = {0};
	char id[DATABASE_ID_SIZE];

	(void)state;
	memcpy(id, s->database_id, sizeof(id));
	driver_exec("INSERT INTO output_tails (topic, partition, seq) VALUES"
		    " ('" OUTPUT "', -1, 5), ('" OUTPUT "', 0, 7)");
	assert_int_equal(database_id_redraw(s, &err), 0);
	assert_string_not_equal(s->database_id, id);
	assert_int_equal(s->database, 2);
	assert_int_equal(database_id_known(s, id, &err), 1);
	assert_int_equal(driver_number("SELECT seq FROM output_tails"
				       " WHERE partition = 0"),
	    0);
	assert_int_equal(driver_number("SELECT seq FROM output_tails"
				       " WHERE partition = -1"),
	    5);
	begin();
	assert_int_equal(database_id_check(s, &err), 0);
	commit();
}

static void
database_id_that_changed_underneath_is_fatal(void **state)
{
	struct mr_error err = {0};

	(void)state;
	driver_exec(
	    "INSERT INTO database_ids (number, database_id, drawn_at_ms) VALUES (2,"
	    " 'fedcba9876543210fedcba9876543210', 1)");
	begin();
	assert_int_equal(database_id_check(s, &err), -1);
	assert_int_equal(err.kind, MR_FATAL);
	store_rollback(s->st);
	/* Nor is it redrawn over somebody else's. */
	assert_int_equal(database_id_redraw(s, &err), -1);
	assert_int_equal(driver_number("SELECT count(*) FROM database_ids"), 2);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(position_moves_from_what_was_read_and_from_nothing_else),
	    TEST(beginning_does_not_move_what_is_there),
	    TEST(topic_is_known_by_its_id),
	    TEST(marks_rise_and_are_read_once_a_transaction),
	    TEST(marks_are_by_source_topic_id_and_partition),
	    TEST(many_marks_in_a_transaction_are_all_written),
	    TEST(undone_savepoint_moves_marks_back),
	    TEST(database_id_is_drawn_once_and_checked),
	    TEST(redrawn_database_id_forgets_the_tails_but_not_the_turns),
	    TEST(database_id_that_changed_underneath_is_fatal),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
