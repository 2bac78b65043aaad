/*
 * segment: appending, flushing, reading, rolling, retention and producers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "segment_fixture.h"

static void
expect_read(struct plog *log, int64_t offset, int64_t most, int64_t base,
    int64_t next)
{
	struct plog_span span;
	struct mr_error err = {MR_OK, ""};

	if (plog_read(log, offset, most, 1, &span, &err) != PLOG_OK)
		fail_msg("%s", err.message);
	assert_true(span.length > 0);
	assert_int_equal(span.base_offset, base);
	assert_int_equal(span.next_offset, next);
	plog_release(log, &span);
}

static void
crc_is_that_of_published_vectors(void **state)
{
	uint8_t bytes[48];
	uint32_t (*const sums[])(uint32_t, const void *, size_t) = {crc32c,
	    crc32c_portable};
	size_t i, n, cut;

	(void)state;
	for (i = 0; i < 2; i++) {
		/* RFC 3720, B.4, and the check value of the CRC catalogue. */
		memset(bytes, 0, 32);
		assert_int_equal(sums[i](0, bytes, 32), 0x8a9136aau);
		memset(bytes, 0xff, 32);
		assert_int_equal(sums[i](0, bytes, 32), 0x62a8ab43u);
		for (n = 0; n < 32; n++)
			bytes[n] = (uint8_t)n;
		assert_int_equal(sums[i](0, bytes, 32), 0x46dd794eu);
		for (n = 0; n < 32; n++)
			bytes[n] = (uint8_t)(31 - n);
		assert_int_equal(sums[i](0, bytes, 32), 0x113fdb5cu);
		assert_int_equal(sums[i](0, "123456789", 9), 0xe3069283u);
		for (cut = 0; cut <= 32; cut++)
			assert_int_equal(sums[i](sums[i](0, bytes, cut),
					     bytes + cut, 32 - cut),
			    0x113fdb5cu);
	}
}

/* Around the sizes from which several words are summed at once. */
static void
crc_is_the_same_by_instruction(void **state)
{
	static const size_t sizes[] = {0, 1, 7, 8, 63, 64, 65, 127, 128, 129,
	    191, 192, 193, 255, 256, 1000, 4096, 65535};
	uint8_t *bytes;
	uint32_t word = 1;
	size_t i, at;

	(void)state;
	bytes = malloc(65536 + 16);
	assert_non_null(bytes);
	for (i = 0; i < 65536 + 16; i++) {
		word = word * 1664525u + 1013904223u;
		bytes[i] = (uint8_t)(word >> 24);
	}
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (at = 0; at < 16; at++)
			assert_int_equal(crc32c((uint32_t)at, bytes + at,
					     sizes[i]),
			    crc32c_portable((uint32_t)at, bytes + at,
				sizes[i]));
	free(bytes);
}

static void
a_batch_is_refused_for_the_right_reason(void **state)
{
	static const struct test_record two[] = {{"k", "v", 5}, {"k", "w", 7}};
	static const struct test_record bare[] = {{NULL, "v", 5}};
	uint8_t good[512], bad[512];
	struct batch_header h;
	struct mr_error err;
	size_t size, cut, i;
	static const struct {
		size_t at;
		uint8_t value;
		int seal;
		int code;
	} changes[] = {
	    {BATCH_AT_MAGIC, 1, 0, PLOG_OLD_FORMAT},
	    {BATCH_AT_MAGIC, 0, 0, PLOG_OLD_FORMAT},
	    {BATCH_AT_MAGIC, 3, 0, PLOG_CORRUPT},
	    {BATCH_AT_LENGTH, 0x7f, 0, PLOG_CORRUPT},
	    {BATCH_AT_LENGTH, 0xff, 0, PLOG_CORRUPT},
	    {BATCH_AT_CRC, 0x55, 0, PLOG_CORRUPT},
	    {BATCH_AT_MAX_TIMESTAMP, 1, 0, PLOG_CORRUPT},
	    {BATCH_AT_ATTRIBUTES + 1, 5, 1, PLOG_BAD_CODEC},
	    {BATCH_AT_ATTRIBUTES + 1, BATCH_CONTROL, 1, PLOG_INVALID_RECORD},
	    {BATCH_AT_ATTRIBUTES + 1, BATCH_TRANSACTIONAL, 1,
		PLOG_INVALID_RECORD},
	    {BATCH_AT_RECORD_COUNT + 3, 3, 1, PLOG_INVALID_RECORD},
	    {BATCH_AT_RECORD_COUNT, 0xff, 1, PLOG_INVALID_RECORD},
	    {BATCH_AT_LAST_OFFSET_DELTA + 3, 0, 1, PLOG_INVALID_RECORD},
	    {BATCH_AT_PRODUCER_ID, 0, 1, PLOG_INVALID_RECORD},
	    {BATCH_HEADER_SIZE, 0x7e, 1, PLOG_INVALID_RECORD},
	    {BATCH_HEADER_SIZE + 3, 8, 1, PLOG_INVALID_RECORD},
	};

	(void)state;
	size = make_batch(good, two, 2, NULL);
	assert_int_equal(batch_check(good, size, 1000, 1, &h, &err), PLOG_OK);
	assert_int_equal(h.record_count, 2);
	assert_int_equal(h.max_timestamp_ms, 7);
	for (cut = 0; cut < size; cut++)
		assert_int_equal(batch_check(good, cut, 1000, 1, &h, &err),
		    PLOG_CORRUPT);
	assert_int_equal(batch_check(good, size, (int64_t)size - 1, 0, &h,
			     &err),
	    PLOG_TOO_LARGE);
	for (i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		memcpy(bad, good, size);
		bad[changes[i].at] = changes[i].value;
		if (changes[i].seal)
			batch_seal(bad, size);
		err.kind = MR_OK;
		if (batch_check(bad, size, 1000, 0, &h, &err) !=
		    changes[i].code)
			fail_msg("change %zu: %s", i, err.message);
		assert_int_equal(err.kind, MR_REJECT);
	}
	size = make_batch(good, bare, 1, NULL);
	assert_int_equal(batch_check(good, size, 1000, 0, &h, &err), PLOG_OK);
	assert_int_equal(batch_check(good, size, 1000, 1, &h, &err),
	    PLOG_INVALID_RECORD);
}

static void
what_is_appended_is_read_back_whole_and_only_once_flushed(void **state)
{
	struct plog *log = open_log(NULL);
	struct plog_appended out;
	struct plog_span span;
	struct plog_sync *sync;
	struct mr_error err;
	struct reading r;
	int i;

	(void)state;
	for (i = 0; i < 300; i++) {
		assert_int_equal(append_one(log, "k", i % 50, i, &out),
		    PLOG_OK);
		assert_int_equal(out.base_offset, i);
		assert_int_equal(out.append_time_ms, -1);
	}
	assert_int_equal(plog_high(log), 0);
	assert_int_equal(plog_read(log, 0, 1000, 1, &span, &err), PLOG_OK);
	assert_int_equal(span.length, 0);
	/* What isn't flushed is there, and not to be read yet. */
	assert_int_equal(plog_read(log, 300, 1000, 1, &span, &err), PLOG_OK);
	assert_int_equal(span.length, 0);
	assert_int_equal(plog_read(log, 301, 1000, 1, &span, &err),
	    PLOG_OUT_OF_RANGE);
	/* What comes after the begin isn't in this flush. */
	sync = plog_sync_begin(log);
	assert_non_null(sync);
	assert_null(plog_sync_begin(log));
	assert_int_equal(append_one(log, "k", 1, 1, NULL), PLOG_OK);
	assert_int_equal(plog_sync_run(sync, &err), 0);
	assert_int_equal(plog_sync_finish(log, sync), 1);
	assert_int_equal(plog_high(log), 300);
	assert_int_equal(plog_end(log), 301);
	read_log(log, 1, &r);
	assert_int_equal(r.count, 300);
	read_log(log, 1000000, &r);
	assert_int_equal(r.count, 300);
	for (i = 0; i < 300; i++)
		assert_int_equal(r.offsets[i], i);
	/* From any offset, and never more than asked for but for the first. */
	for (i = 0; i < 300; i++) {
		assert_int_equal(plog_read(log, i, 500, 1, &span, &err),
		    PLOG_OK);
		assert_int_equal(span.base_offset, i);
		assert_true(span.length <= 500 && span.length > 0);
		plog_release(log, &span);
	}
	assert_int_equal(plog_read(log, 5, 10, 0, &span, &err), PLOG_OK);
	assert_int_equal(span.length, 0);
	plog_release(log, &span);
	close_log(log);
}

static void
segments_roll_by_size_and_time_and_are_found_again(void **state)
{
	struct plog_recovery found;
	struct plog *log;
	struct mr_error err;
	struct reading r;
	uint8_t bytes[4096];
	struct plog_appended out;
	int i;

	(void)state;
	conf.segment_bytes = 2000;
	conf.segment_ms = 10000;
	log = open_log(NULL);
	for (i = 0; i < 100; i++)
		assert_int_equal(append_one(log, "key", 100, 1000 + i, NULL),
		    PLOG_OK);
	assert_true(plog_segments(log) > 8);
	i = plog_segments(log);
	assert_int_equal(plog_append(log, bytes,
			     make_one(bytes, "k", 1, 5, NULL), 11001, &out,
			     &err),
	    PLOG_OK);
	assert_int_equal(plog_segments(log), i + 1);
	flush_log(log);
	/* What was left, and nobody reads, is closed: here, and at a start. */
	assert_int_equal(log->open_fds, PLOG_ACTIVE_FDS);
	read_log(log, 700, &r);
	assert_int_equal(r.count, 101);
	plog_abandon(log);
	log = open_log(NULL);
	assert_int_equal(log->open_fds, PLOG_ACTIVE_FDS);
	close_log(log);
	log = plog_open(log_path(), &conf, 0, &found, &err);
	assert_non_null(log);
	assert_true(found.clean);
	assert_int_equal(found.cut_bytes, 0);
	assert_int_equal(found.damaged, 0);
	assert_int_equal(found.indexes_rebuilt, 0);
	assert_int_equal(plog_end(log), 101);
	assert_int_equal(plog_high(log), 101);
	read_log(log, 700, &r);
	assert_int_equal(r.count, 101);
	assert_int_equal(r.damaged, 0);
	close_log(log);
}

/* Bytes that a segment's file has on disk beyond its size. */
static int64_t
reserved(int64_t base)
{
	char name[NAME_SIZE], path[PATH_MAX];
	struct stat st;

	file_name(name, base, ".log");
	snprintf(path, sizeof(path), "%s/%s", log_path(), name);
	assert_int_equal(stat(path, &st), 0);
	return ((int64_t)st.st_blocks * 512 - (int64_t)st.st_size);
}

static void
disk_is_reserved_for_large_batches_and_given_back(void **state)
{
	struct plog *log;

	(void)state;
	conf.segment_bytes = 60000;
	log = open_log(NULL);
	assert_int_equal(append_one(log, "k", 3000, 1000, NULL), PLOG_OK);
	assert_true(reserved(0) < 8192);
	assert_int_equal(append_one(log, "k", 18000, 1000, NULL), PLOG_OK);
	if (reserved(0) < 8192) {
		close_log(log);
		skip(); /* not on this file system */
	}
	assert_in_range(reserved(0), RESERVE_STEP - 65536, RESERVE_STEP);
	/* A clean close after a kill sees it, too. */
	plog_abandon(log);
	close_log(open_log(NULL));
	assert_true(reserved(0) < 8192);
	log = open_log(NULL);
	assert_int_equal(append_one(log, "k", 18000, 1000, NULL), PLOG_OK);
	assert_in_range(reserved(0), RESERVE_STEP - 65536, RESERVE_STEP);
	assert_int_equal(append_one(log, "k", 18000, 1000, NULL), PLOG_OK);
	assert_int_equal(append_one(log, "k", 18000, 1000, NULL), PLOG_OK);
	assert_int_equal(plog_segments(log), 2);
	assert_true(reserved(0) < 8192);
	assert_in_range(reserved(4), RESERVE_STEP - 65536, RESERVE_STEP);
	close_log(log);
	assert_true(reserved(4) < 8192);
}

static void
append_time_is_stamped_and_sealed(void **state)
{
	uint8_t bytes[512];
	struct plog *log;
	struct plog_appended out;
	struct batch_header h;
	struct mr_error err;
	size_t size;

	(void)state;
	conf.append_time = 1;
	log = open_log(NULL);
	size = make_one(bytes, "k", 5, 7, NULL);
	assert_int_equal(plog_append(log, bytes, size, 4242, &out, &err),
	    PLOG_OK);
	assert_int_equal(out.append_time_ms, 4242);
	assert_int_equal(batch_check(bytes, size, 512, 0, &h, &err), PLOG_OK);
	assert_int_equal(h.max_timestamp_ms, 4242);
	assert_true((h.attributes & BATCH_APPEND_TIME) != 0);
	assert_int_equal(h.leader_epoch, 0);
	close_log(log);
}

static void
times_are_found_by_record(void **state)
{
	static const struct test_record records[] = {{"a", "1", 100},
	    {"b", "2", 300}, {"c", "3", 200}, {"d", "4", 400}};
	static const struct {
		int64_t time, offset, found;
	} cases[] = {{0, 0, 100}, {100, 0, 100}, {101, 1, 300}, {300, 1, 300},
	    {301, 3, 400}, {400, 3, 400}, {401, 4, 500}, {501, -1, -1}};
	uint8_t bytes[1024];
	struct plog *log = open_log(NULL);
	struct plog_appended out;
	struct plog_found found;
	struct mr_error err;
	size_t i;

	(void)state;
	assert_int_equal(plog_append(log, bytes,
			     make_batch(bytes, records, 4, NULL), 1, &out,
			     &err),
	    PLOG_OK);
	assert_int_equal(append_one(log, "e", 1, 500, NULL), PLOG_OK);
	assert_int_equal(append_one(log, "f", 1, 450, NULL), PLOG_OK);
	/* Not flushed: not there. */
	assert_int_equal(plog_find_time(log, 0, &found, &err), PLOG_OK);
	assert_int_equal(found.offset, -1);
	flush_log(log);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(plog_find_time(log, cases[i].time, &found,
				     &err),
		    PLOG_OK);
		assert_int_equal(found.offset, cases[i].offset);
		assert_int_equal(found.timestamp_ms, cases[i].found);
		assert_int_equal(found.leader_epoch,
		    cases[i].offset < 0 ? -1 : 0);
	}
	assert_int_equal(append_one(log, "g", 1, 900, NULL), PLOG_OK);
	assert_int_equal(plog_find_latest_time(log, &found, &err), PLOG_OK);
	assert_int_equal(found.offset, 4);
	assert_int_equal(found.timestamp_ms, 500);
	close_log(log);
}

/* A header may promise a time that no record has: the log isn't searched for it. */
static void
a_header_is_believed_about_its_times(void **state)
{
	static const struct test_record records[] = {{"a", "1", 100},
	    {"b", "2", 200}};
	uint8_t bytes[1024];
	struct plog *log = open_log(NULL);
	struct plog_appended out;
	struct plog_found found;
	struct mr_error err;
	size_t size = make_batch(bytes, records, 2, NULL);

	(void)state;
	put_i64(bytes + BATCH_AT_MAX_TIMESTAMP, 300);
	batch_seal(bytes, size);
	assert_int_equal(plog_append(log, bytes, size, 1, &out, &err), PLOG_OK);
	assert_int_equal(append_one(log, "c", 1, 250, NULL), PLOG_OK);
	flush_log(log);
	assert_int_equal(plog_find_time(log, 250, &found, &err), PLOG_OK);
	assert_int_equal(found.offset, 0);
	assert_int_equal(plog_find_latest_time(log, &found, &err), PLOG_OK);
	assert_int_equal(found.offset, 1);
	assert_int_equal(found.timestamp_ms, 300);
	close_log(log);
}

/* Records that are deleted aren't found, nor lend their times to others. */
static void
a_time_is_looked_for_behind_what_was_deleted(void **state)
{
	static const struct test_record records[] = {{"a", "1", 2000},
	    {"b", "2", 1000}, {"c", "3", 1000}};
	uint8_t bytes[1024];
	struct plog *log = open_log(NULL);
	struct plog_appended out;
	struct plog_found found;
	struct mr_error err;
	int i;

	(void)state;
	assert_int_equal(plog_append(log, bytes,
			     make_batch(bytes, records, 3, NULL), 1, &out,
			     &err),
	    PLOG_OK);
	flush_log(log);
	assert_int_equal(plog_delete_records(log, 1, &err), PLOG_OK);
	for (i = 0; i < 2; i++) {
		assert_int_equal(plog_find_time(log, 1500, &found, &err),
		    PLOG_OK);
		assert_int_equal(found.offset, i == 0 ? -1 : 3);
		assert_int_equal(found.timestamp_ms, i == 0 ? -1 : 1600);
		assert_int_equal(append_one(log, "d", 1, 1600, NULL), PLOG_OK);
		flush_log(log);
	}
	assert_int_equal(plog_find_time(log, 900, &found, &err), PLOG_OK);
	assert_int_equal(found.offset, 1);
	assert_int_equal(found.timestamp_ms, 1000);
	/* Kafka's is the segment's, too. */
	assert_int_equal(plog_find_latest_time(log, &found, &err), PLOG_OK);
	assert_int_equal(found.offset, 0);
	assert_int_equal(found.timestamp_ms, 2000);
	close_log(log);
}

static void
epochs_end_where_the_next_begins(void **state)
{
	struct plog *log = open_log(NULL);
	struct mr_error err;
	int64_t end;
	int32_t epoch;
	int i;

	(void)state;
	for (i = 0; i < 3; i++)
		assert_int_equal(append_one(log, "k", 1, 1, NULL), PLOG_OK);
	close_log(log);
	log = plog_open(log_path(), &conf, 4, NULL, &err);
	assert_non_null(log);
	assert_int_equal(append_one(log, "k", 1, 1, NULL), PLOG_OK);
	close_log(log);
	log = plog_open(log_path(), &conf, 4, NULL, &err);
	assert_non_null(log);
	plog_epoch_end(log, 0, &epoch, &end);
	assert_int_equal(epoch, 0);
	assert_int_equal(end, 3);
	plog_epoch_end(log, 3, &epoch, &end);
	assert_int_equal(epoch, 0);
	assert_int_equal(end, 3);
	plog_epoch_end(log, 4, &epoch, &end);
	assert_int_equal(epoch, 4);
	assert_int_equal(end, 4);
	plog_epoch_end(log, 5, &epoch, &end);
	assert_int_equal(epoch, -1);
	plog_epoch_end(log, -1, &epoch, &end);
	assert_int_equal(epoch, -1);
	assert_int_equal(plog_epoch_at(log, 2), 0);
	assert_int_equal(plog_epoch_at(log, 3), 4);
	/* Its records go: it ends where the next begins. */
	assert_int_equal(plog_delete_records(log, -1, &err), PLOG_OK);
	(void)tidy_log(log, 1000);
	plog_epoch_end(log, 0, &epoch, &end);
	assert_int_equal(epoch, 0);
	assert_int_equal(end, 4);
	close_log(log);
}

static int
produce(struct plog *log, int64_t id, int16_t epoch, int32_t sequence,
    struct plog_appended *out)
{
	struct test_producer pr = {id, epoch, sequence};
	uint8_t bytes[512];
	struct mr_error err;

	return (plog_append(log, bytes, make_one(bytes, "k", 3, 9, &pr), 1000,
	    out, &err));
}

static void
sequences_are_checked_and_survive_a_restart(void **state)
{
	struct plog *log = open_log(NULL);
	struct plog_appended out;
	struct plog_producer pr;
	size_t at = 0;
	int i, round;

	(void)state;
	for (i = 0; i < 8; i++)
		assert_int_equal(produce(log, 7, 0, i, &out), PLOG_OK);
	for (round = 0; round < 3; round++) {
		for (i = 3; i < 8; i++) {
			assert_int_equal(produce(log, 7, 0, i, &out),
			    PLOG_DUPLICATE);
			assert_int_equal(out.base_offset, i);
			assert_int_equal(out.last_offset, i);
		}
		assert_int_equal(produce(log, 7, 0, 2, &out),
		    PLOG_OUT_OF_ORDER);
		assert_int_equal(produce(log, 7, 0, 9, &out),
		    PLOG_OUT_OF_ORDER);
		assert_int_equal(plog_end(log), 8);
		/* Closed cleanly, then as if killed. */
		flush_log(log);
		if (round == 0)
			close_log(log);
		else
			plog_abandon(log);
		log = open_log(NULL);
	}
	assert_int_equal(produce(log, 7, 1, 1, &out), PLOG_OUT_OF_ORDER);
	assert_int_equal(produce(log, 7, 1, 0, &out), PLOG_OK);
	assert_int_equal(produce(log, 7, 0, 8, &out), PLOG_FENCED);
	assert_int_equal(plog_producer_next(log, &at, &pr), 1);
	assert_int_equal(pr.producer_id, 7);
	assert_int_equal(pr.epoch, 1);
	assert_int_equal(pr.last_sequence, 0);
	assert_int_equal(pr.last_offset, 8);
	assert_int_equal(plog_producer_next(log, &at, &pr), 0);
	close_log(log);
}

/* What it had here before may be gone. */
static void
unknown_producers_begin_anywhere(void **state)
{
	struct plog *log = open_log(NULL);
	struct plog_appended out;

	(void)state;
	assert_int_equal(produce(log, 7, 4, 3, &out), PLOG_OK);
	assert_int_equal(produce(log, 7, 4, 3, &out), PLOG_DUPLICATE);
	assert_int_equal(produce(log, 7, 4, 5, &out), PLOG_OUT_OF_ORDER);
	assert_int_equal(produce(log, 7, 3, 0, &out), PLOG_FENCED);
	assert_int_equal(produce(log, 7, 4, 4, &out), PLOG_OK);
	assert_int_equal(produce(log, 7, 5, 1, &out), PLOG_OUT_OF_ORDER);
	close_log(log);
}

static void
one_batch_is_taken_at_a_time(void **state)
{
	struct plog *log = open_log(NULL);
	struct plog_appended out;
	uint8_t bytes[512];
	struct mr_error err;
	size_t size = make_one(bytes, "a", 1, 9, NULL);

	(void)state;
	size += make_one(bytes + size, "b", 1, 9, NULL);
	assert_int_equal(plog_append(log, bytes, size, 1000, &out, &err),
	    PLOG_SEVERAL);
	size = make_one(bytes, "a", 1, 9, NULL);
	assert_int_equal(plog_append(log, bytes, size + 20, 1000, &out, &err),
	    PLOG_CORRUPT);
	assert_int_equal(plog_end(log), 0);
	close_log(log);
}

static void
times_are_not_far_ahead_of_the_clock(void **state)
{
	static const struct {
		int64_t ahead_ms, most_ms;
		int append_time, code;
	} cases[] = {
	    {3600000, 3600000, 0, PLOG_OK},
	    {3600001, 3600000, 0, PLOG_AHEAD},
	    {3600001, 3600000, 1, PLOG_OK}, /* the clock's is put in */
	    {INT64_MAX - 1000, 3600000, 0, PLOG_AHEAD},
	    {INT64_MAX - 1000, INT64_MAX, 0, PLOG_OK},
	    {-1001, 0, 0, PLOG_OK}, /* none */
	    {1, 0, 0, PLOG_AHEAD},
	};
	struct plog_appended out;
	uint8_t bytes[512];
	struct mr_error err;
	struct plog *log;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		conf.time_ahead_most_ms = cases[i].most_ms;
		conf.append_time = cases[i].append_time;
		log = open_log(NULL);
		assert_int_equal(plog_append(log, bytes,
				     make_one(bytes, "k", 1,
					 1000 + cases[i].ahead_ms, NULL),
				     1000, &out, &err),
		    cases[i].code);
		close_log(log);
	}
}

static void
sequences_begin_again_behind_the_largest(void **state)
{
	struct producers p;
	struct producer_batch again;
	struct batch_header h;
	struct mr_error err;

	(void)state;
	memset(&p, 0, sizeof(p));
	memset(&h, 0, sizeof(h));
	h.base_sequence = INT32_MAX - 1;
	h.last_offset_delta = 2;
	assert_int_equal(producers_reserve(&p, 0, 10), 0);
	producers_note(&p, &h, 100, -1, 5);
	assert_int_equal(producers_check(&p, &h, &again, &err), PLOG_DUPLICATE);
	h.base_sequence = 0;
	assert_int_equal(producers_check(&p, &h, &again, &err),
	    PLOG_OUT_OF_ORDER);
	h.base_sequence = 1;
	assert_int_equal(producers_check(&p, &h, &again, &err), PLOG_OK);
	/* The longest idle go when there are too many. */
	assert_int_equal(producers_reserve(&p, 1, 2), 0);
	assert_int_equal(producers_reserve(&p, 2, 2), 0);
	assert_int_equal(p.by_id.count, 2);
	h.base_sequence = 9;
	assert_int_equal(producers_check(&p, &h, &again, &err), PLOG_OK);
	assert_int_equal(producers_expire(&p, 1), 2);
	producers_free(&p);
}

static void
retention_drops_the_oldest_and_offsets_go_on(void **state)
{
	struct plog_span span;
	struct plog *log;
	struct mr_error err;
	int64_t start;
	int i;

	(void)state;
	conf.segment_bytes = 1000;
	conf.retention_ms = 5000;
	conf.retention_bytes = 4000;
	log = open_log(NULL);
	for (i = 0; i < 60; i++)
		assert_int_equal(append_one(log, "k", 100, 1000, NULL),
		    PLOG_OK);
	/* A span that is held outlives its segment. */
	flush_log(log);
	assert_int_equal(plog_read(log, 0, 500, 1, &span, &err), PLOG_OK);
	assert_true(tidy_log(log, 2000).segments_deleted > 0);
	assert_true(plog_size(log) >= 4000 && plog_size(log) < 5000);
	start = plog_start(log);
	assert_true(start > 0);
	assert_int_equal(fcntl(span.fd, F_GETFD) & ~FD_CLOEXEC, 0);
	plog_release(log, &span);
	assert_int_equal(plog_read(log, start - 1, 500, 1, &span, &err),
	    PLOG_OUT_OF_RANGE);
	expect_read(log, start, 1, start, start + 1);
	assert_int_equal(tidy_log(log, 6000).segments_deleted, 0);
	/* By time all of it goes, even what is written to. */
	assert_true(tidy_log(log, 6001).segments_deleted > 0);
	assert_int_equal(plog_start(log), 60);
	assert_int_equal(plog_size(log), 0);
	close_log(log);
	log = open_log(NULL);
	assert_int_equal(plog_start(log), 60);
	assert_int_equal(plog_end(log), 60);
	assert_int_equal(append_one(log, "k", 1, 1, NULL), PLOG_OK);
	assert_int_equal(plog_end(log), 61);
	close_log(log);
}

static void
deleted_records_stay_deleted(void **state)
{
	struct plog_span span;
	struct plog *log = open_log(NULL);
	struct mr_error err;
	int i;

	(void)state;
	for (i = 0; i < 10; i++)
		assert_int_equal(append_one(log, "k", 10, 1000, NULL), PLOG_OK);
	assert_int_equal(plog_delete_records(log, 5, &err), PLOG_OUT_OF_RANGE);
	flush_log(log);
	assert_int_equal(plog_delete_records(log, 5, &err), PLOG_OK);
	assert_int_equal(plog_delete_records(log, 3, &err), PLOG_OK);
	assert_int_equal(plog_start(log), 5);
	assert_int_equal(plog_read(log, 4, 500, 1, &span, &err),
	    PLOG_OUT_OF_RANGE);
	flush_log(log);
	plog_abandon(log);
	log = open_log(NULL);
	assert_int_equal(plog_start(log), 5);
	assert_int_equal(plog_end(log), 10);
	expect_read(log, 5, 1, 5, 6);
	assert_int_equal(plog_delete_records(log, -1, &err), PLOG_OK);
	assert_int_equal(plog_start(log), 10);
	close_log(log);
}

/* Its position there was in a segment that goes before the next flush. */
static void
who_waits_at_the_end_goes_on_where_all_was_deleted(void **state)
{
	struct plog *log = open_log(NULL);
	struct plog_tidy *tidy;
	struct plog_span span;
	struct mr_error err;
	int i;

	(void)state;
	for (i = 0; i < 5; i++)
		assert_int_equal(append_one(log, "k", 10, 1000, NULL), PLOG_OK);
	flush_log(log);
	assert_int_equal(plog_delete_records(log, -1, &err), PLOG_OK);
	assert_non_null(
	    tidy = plog_tidy_begin(log, PLOG_DELETE | PLOG_COMPACT, 1000));
	assert_int_equal(plog_tidy_run(tidy, &err), 0);
	plog_tidy_finish(log, tidy, NULL);
	assert_int_equal(plog_segments(log), 1);
	assert_int_equal(plog_read(log, 5, 500, 1, &span, &err), PLOG_OK);
	assert_int_equal(span.length, 0);
	for (i = 0; i < 9; i++)
		assert_int_equal(append_one(log, "k", 10, 1000, NULL), PLOG_OK);
	flush_log(log);
	expect_read(log, 5, 1, 5, 6);
	close_log(log);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(crc_is_that_of_published_vectors),
	    TEST(crc_is_the_same_by_instruction),
	    TEST(a_batch_is_refused_for_the_right_reason),
	    TEST(what_is_appended_is_read_back_whole_and_only_once_flushed),
	    TEST(segments_roll_by_size_and_time_and_are_found_again),
	    TEST(disk_is_reserved_for_large_batches_and_given_back),
	    TEST(append_time_is_stamped_and_sealed),
	    TEST(times_are_found_by_record),
	    TEST(a_time_is_looked_for_behind_what_was_deleted),
	    TEST(a_header_is_believed_about_its_times),
	    TEST(epochs_end_where_the_next_begins),
	    TEST(sequences_are_checked_and_survive_a_restart),
	    TEST(unknown_producers_begin_anywhere),
	    TEST(one_batch_is_taken_at_a_time),
	    TEST(times_are_not_far_ahead_of_the_clock),
	    TEST(sequences_begin_again_behind_the_largest),
	    TEST(retention_drops_the_oldest_and_offsets_go_on),
	    TEST(deleted_records_stay_deleted),
	    TEST(who_waits_at_the_end_goes_on_where_all_was_deleted),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
