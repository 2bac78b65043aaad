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

static const char *
checkpoint_path(void)
{
	static char path[100];

	snprintf(path, sizeof(path), "%s/checkpoint", log_path());
	return (path);
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

/* A round takes so many of a log, and says that there may be others. */
static void
a_log_with_much_that_is_old_has_several_rounds(void **state)
{
	struct plog_tidied did;
	struct plog *log = open_log(NULL);
	int gone = 0, rounds = 0;

	(void)state;
	fill_segments(log, 150, "k", 1000, 1000);
	conf.retention_ms = 5000;
	plog_configure(log, &conf);
	do {
		did = tidy_log(log, 6001);
		gone += did.segments_deleted;
		rounds++;
	} while (did.more);
	assert_true(gone >= 150);
	assert_int_equal(rounds, 3);
	assert_int_equal(plog_start(log), plog_end(log));
	close_log(log);
}

/* ---- Tombstones --------------------------------------------------------- */

#define KEPT_MS 10000 /* delete.retention.ms */
#define ROUND_MS 50000 /* when the first round is */

/* Of a batch of one record, as they are here. */
static int
is_tombstone(const struct plog_span *span, const char *key)
{
	const uint8_t *at, *end;
	struct buffer none = {0};
	struct batch_record r;
	struct batch_header h;
	uint8_t bytes[512];
	size_t size;

	assert_true(span->length <= (int64_t)sizeof(bytes));
	assert_int_equal(read_whole(span->fd, bytes, (size_t)span->length,
			     span->position),
	    0);
	batch_header_read(bytes, &h);
	assert_int_equal(batch_body(bytes, &h, &none, &at, &size), 1);
	end = at + size;
	assert_int_equal(batch_record_next(&at, end, &r), 1);
	return (r.value_length < 0 && r.key_length == (int32_t)strlen(key) &&
	    memcmp(r.key, key, strlen(key)) == 0);
}

static int
has_tombstone(struct plog *log, const char *key)
{
	int64_t offset = plog_start(log);
	struct plog_span span;
	struct mr_error err;
	int found = 0;

	for (; offset < plog_high(log); offset = span.next_offset) {
		assert_int_equal(plog_read(log, offset, 1, 1, &span, &err),
		    PLOG_OK);
		found |= span.length > 0 && is_tombstone(&span, key);
		plog_release(log, &span);
	}
	return (found);
}

/* A round that has something to do, the first but for where it had. */
static void
next_round(struct plog *log, int64_t now_ms)
{

	fill_segments(log, 1, "filler", 5, 1000);
	(void)tidy_log(log, now_ms);
}

/* A tombstone in a segment of which the first round takes something, or that it
 * leaves ${whole}. */
static struct plog *
dirty_log(int whole)
{
	struct plog *log;
	char key[2] = "A";

	conf.cleanup = PLOG_COMPACT;
	conf.delete_retention_ms = KEPT_MS;
	log = open_log(NULL);
	put(log, "d", NULL, 5, 1000);
	for (; plog_active(log)->size < 900; key[0]++)
		put(log, whole ? key : "filler", "v", 5, 1000);
	fill_segments(log, 2, "filler", 5, 1000);
	flush_log(log);
	return (log);
}

static struct plog *
deleted_log(int whole)
{
	struct plog *log = dirty_log(whole);

	(void)tidy_log(log, ROUND_MS);
	assert_int_equal(log->segments[0]->compacted, !whole);
	assert_int_equal(has_tombstone(log, "d"), 1);
	return (log);
}

/* KIP-534: a reader who saw what it deletes has that long to see it, however old
 * it was when it was first compacted. */
static void
a_tombstone_stays_from_its_first_round_on(void **state)
{
	struct plog *log;
	int whole;

	(void)state;
	for (whole = 0; whole < 2; whole++) {
		log = deleted_log(whole);
		next_round(log, ROUND_MS + KEPT_MS);
		assert_int_equal(has_tombstone(log, "d"), 1);
		close_log(log);
		log = open_log(NULL);
		next_round(log, ROUND_MS + KEPT_MS);
		assert_int_equal(has_tombstone(log, "d"), 1);
		next_round(log, ROUND_MS + KEPT_MS + 1);
		assert_int_equal(has_tombstone(log, "d"), 0);
		close_log(log);
		empty_folder(test_root);
	}
}

/* What compaction had noted isn't on disk: it can only take longer. */
static void
a_crash_makes_no_tombstone_go_earlier(void **state)
{
	struct plog_tidy *tidy;
	struct mr_error err;
	struct plog *log;

	(void)state;
	log = dirty_log(0);
	assert_non_null(
	    tidy = plog_tidy_begin(log, PLOG_DELETE | PLOG_COMPACT, ROUND_MS));
	assert_int_equal(plog_tidy_run(tidy, &err), 0);
	plog_tidy_finish(log, tidy, NULL);
	plog_abandon(log);
	log = open_log(NULL);
	assert_int_equal(log->segments[0]->clean_ms, 0);
	next_round(log, ROUND_MS + KEPT_MS + 1);
	assert_int_equal(has_tombstone(log, "d"), 1);
	next_round(log, ROUND_MS + 2 * KEPT_MS + 1);
	assert_int_equal(has_tombstone(log, "d"), 1);
	next_round(log, ROUND_MS + 2 * KEPT_MS + 2);
	assert_int_equal(has_tombstone(log, "d"), 0);
	close_log(log);
}

/* A checkpoint of before these times were kept: they begin when it is read. */
static void
an_older_checkpoint_is_read(void **state)
{
	uint8_t bytes[1024];
	struct plog *log;
	ssize_t size;
	int fd, n = 0;
	size_t i;

	(void)state;
	log = deleted_log(0);
	for (i = 0; i < log->count; i++)
		n += log->segments[i]->clean_ms > 0;
	assert_true(n > 0);
	close_log(log);
	fd = open(checkpoint_path(), O_RDWR);
	assert_int_not_equal(fd, -1);
	size = pread(fd, bytes, sizeof(bytes), 0) - n * CLEAN_BYTES;
	assert_true(size > 48);
	put_u32(bytes + size - 4, crc32c(0, bytes, (size_t)size - 4));
	assert_int_equal(pwrite(fd, bytes, (size_t)size, 0), size);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
	log = open_log(NULL);
	assert_int_equal(log->checkpoint_end, plog_end(log));
	next_round(log, ROUND_MS + 2 * KEPT_MS);
	assert_int_equal(has_tombstone(log, "d"), 1);
	next_round(log, ROUND_MS + 3 * KEPT_MS);
	assert_int_equal(has_tombstone(log, "d"), 1);
	next_round(log, ROUND_MS + 3 * KEPT_MS + 1);
	assert_int_equal(has_tombstone(log, "d"), 0);
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
	    TEST(a_log_with_much_that_is_old_has_several_rounds),
	    TEST(a_tombstone_stays_from_its_first_round_on),
	    TEST(a_crash_makes_no_tombstone_go_earlier),
	    TEST(an_older_checkpoint_is_read),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
