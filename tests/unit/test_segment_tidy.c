/*
 * segment: what goes by retention, and when tombstones do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "segment_fixture.h"

/* A few records to a segment. */
static int
set_up_small(void **state)
{

	(void)set_up(state);
	conf.segment_bytes = 1000;
	conf.segment_ms = INT64_MAX / 4;
	conf.retention_ms = -1;
	conf.dirty_ratio_least = 0;
	return (0);
}

static void
put(struct plog *log, const char *key, const char *value, int64_t time_ms,
    int64_t now_ms)
{
	struct test_record record = {key, value, time_ms};
	struct plog_appended out;
	uint8_t bytes[512];
	struct mr_error err;

	assert_int_equal(plog_append(log, bytes,
			     make_batch(bytes, &record, 1, NULL), now_ms, &out,
			     &err),
	    PLOG_OK);
}

/* Records of 100 bytes until a segment is begun that many times. */
static void
fill_segments(struct plog *log, int segments, const char *key, int64_t time_ms,
    int64_t now_ms)
{
	char value[101];
	int most = plog_segments(log) + segments;

	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	while (plog_segments(log) < most)
		put(log, key, value, time_ms, now_ms);
}

/* ---- Retention ---------------------------------------------------------- */

/* Their age is that of their segment's last write, as in Kafka. */
static void
records_without_a_time_expire_after_a_restart_too(void **state)
{
	struct plog *log = open_log(NULL);

	(void)state;
	fill_segments(log, 3, "k", -1, 1000);
	close_log(log);
	conf.retention_ms = 5000;
	log = open_log(NULL);
	assert_int_equal(tidy_log(log, 6000).segments_deleted, 0);
	assert_int_equal(tidy_log(log, 6001).segments_deleted, 3);
	assert_int_equal(plog_segments(log), 1);
	close_log(log);
}

/* What compaction writes anew is as old as it was. */
static void
compaction_makes_nothing_younger(void **state)
{
	struct plog *log;

	(void)state;
	conf.cleanup = PLOG_COMPACT;
	log = open_log(NULL);
	put(log, "other", "v", -1, 1000);
	fill_segments(log, 3, "k", -1, 1000);
	assert_true(tidy_log(log, 2000).segments_compacted > 0);
	close_log(log);
	conf.cleanup = PLOG_DELETE;
	conf.retention_ms = 5000;
	log = open_log(NULL);
	(void)tidy_log(log, 6000);
	assert_int_equal(plog_start(log), 0);
	(void)tidy_log(log, 6001);
	assert_int_equal(plog_segments(log), 1);
	close_log(log);
}

/*
 * Keys that come again empty the segments before their last, and the first of
 * all stays, as the log begins there.
 */
static struct plog *
emptied_log(int cleanup)
{
	struct plog *log;

	conf.cleanup = cleanup;
	log = open_log(NULL);
	fill_segments(log, 4, "k", 1000, 1000);
	(void)tidy_log(log, 2000);
	assert_int_equal(log->segments[0]->size, 0);
	assert_int_equal(tidy_log(log, 2000).segments_deleted, 0);
	assert_int_equal(plog_start(log), 0);
	return (log);
}

static void
an_emptied_first_segment_is_in_nobodys_way(void **state)
{
	static const struct {
		int cleanup, later; /* as it was filled, and afterwards */
		int64_t retention_ms, retention_bytes;
		int goes;
	} table[] = {
	    {PLOG_DELETE | PLOG_COMPACT, PLOG_DELETE | PLOG_COMPACT, 5000, -1,
		1},
	    {PLOG_DELETE | PLOG_COMPACT, PLOG_DELETE | PLOG_COMPACT, -1, 0, 1},
	    /* Nothing is old, or too much: who is at its offsets goes on. */
	    {PLOG_DELETE | PLOG_COMPACT, PLOG_DELETE | PLOG_COMPACT, 5001, -1,
		0},
	    {PLOG_DELETE | PLOG_COMPACT, PLOG_DELETE | PLOG_COMPACT, -1, 2000,
		0},
	    {PLOG_COMPACT, PLOG_COMPACT, 5000, 0, 0},
	    {PLOG_COMPACT, PLOG_DELETE, 5000, -1, 1},
	    {PLOG_COMPACT, PLOG_DELETE, -1, 0, 1},
	};
	struct plog *log;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		log = emptied_log(table[i].cleanup);
		conf.cleanup = table[i].later;
		conf.retention_ms = table[i].retention_ms;
		conf.retention_bytes = table[i].retention_bytes;
		plog_configure(log, &conf);
		(void)tidy_log(log, 6001);
		if ((plog_start(log) > 0) != table[i].goes)
			fail_msg("case %zu: begins at %lld", i,
			    (long long)plog_start(log));
		if (table[i].goes)
			assert_int_equal(plog_segments(log), 1);
		close_log(log);
		empty_folder(test_root);
		conf.retention_ms = conf.retention_bytes = -1;
	}
}

/* The one before it lost nothing, and so doesn't take its offsets over. */
static void
an_emptied_segment_behind_a_whole_one_is_in_nobodys_way(void **state)
{
	struct plog *log;
	char key[2] = "a";

	(void)state;
	conf.cleanup = PLOG_COMPACT;
	log = open_log(NULL);
	/* No other key comes into it, or any of these into the next. */
	for (; plog_active(log)->size < 950; key[0]++)
		put(log, key, "0123456789012345678901234567890123456789", 1000,
		    1000);
	fill_segments(log, 4, "z", 1000, 1000);
	(void)tidy_log(log, 2000);
	(void)tidy_log(log, 2000);
	assert_true(log->segments[0]->size > 0);
	assert_int_equal(log->segments[1]->size, 0);
	conf.cleanup = PLOG_DELETE;
	conf.retention_ms = 5000;
	plog_configure(log, &conf);
	(void)tidy_log(log, 6001);
	assert_int_equal(plog_segments(log), 1);
	assert_int_equal(plog_start(log), plog_end(log));
	close_log(log);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up_small, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(records_without_a_time_expire_after_a_restart_too),
	    TEST(compaction_makes_nothing_younger),
	    TEST(an_emptied_first_segment_is_in_nobodys_way),
	    TEST(an_emptied_segment_behind_a_whole_one_is_in_nobodys_way),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
