/*
 * segment: batches that are compressed, in every way that clients do it: read,
 * searched by time, compacted, and damaged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "segment/batch.h"
#include "segment_codecs.h"
#include "segment_fixture.h"

/* As before the log was one that is compacted: what is in it isn't looked at. */
static void
append(struct plog *log, uint8_t *bytes, size_t size)
{
	struct plog_conf before = conf;
	struct plog_appended out;
	struct mr_error err = {MR_OK, ""};

	before.cleanup = PLOG_DELETE;
	plog_configure(log, &before);
	if (plog_append(log, bytes, size, 1000, &out, &err) != PLOG_OK)
		fail_msg("%s", err.message);
	plog_configure(log, &conf);
}

static void
append_compressed(struct plog *log, int format,
    const struct test_record *records, int count)
{
	uint8_t bytes[2048];

	append(log, bytes, make_compressed(bytes, format, records, count));
}

/* A body of so many bytes by itself: what batch_body makes of it. */
static int
open_body(int codec, const uint8_t *body, size_t size, struct buffer *memory,
    const uint8_t **out, size_t *out_size)
{
	static const struct test_record none[] = {{"k", "v", 1}};
	uint8_t *bytes = malloc(BATCH_HEADER_SIZE + size);
	struct batch_header h;
	int rc;

	/* As large as it is, so that a byte too far is seen by the sanitizer. */
	assert_non_null(bytes);
	if (size > 0)
		memcpy(bytes + BATCH_HEADER_SIZE, body, size);
	(void)finish_batch(bytes, bytes + BATCH_HEADER_SIZE + size, codec, none,
	    1, NULL);
	batch_header_read(bytes, &h);
	rc = batch_body(bytes, &h, memory, out, out_size);
	free(bytes);
	return (rc);
}

static int
try_body(int codec, const uint8_t *body, size_t size)
{
	struct buffer memory;
	const uint8_t *out;
	size_t out_size;
	int rc;

	buffer_init(&memory, 0);
	rc = open_body(codec, body, size, &memory, &out, &out_size);
	buffer_free(&memory);
	return (rc);
}

/* ---- Bodies ------------------------------------------------------------- */

/* Compressible, and not the same everywhere. */
static void
fill(uint8_t *bytes, size_t size)
{
	uint32_t x = 1;
	size_t i;

	for (i = 0; i < size; i++) {
		x = x * 1664525u + 1013904223u;
		bytes[i] = (uint8_t)((x >> 24) % 5 == 0 ? x >> 16 : i >> 10);
	}
}

static void
bodies_of_any_size_come_back(void **state)
{
	static const size_t sizes[] = {0, 1, 2, 70, 999, 65535, 65536, 65537,
	    300000, 5000000};
	const size_t room = 6500000;
	uint8_t *plain = malloc(5000000), *packed = malloc(room);
	struct buffer memory;
	const uint8_t *out;
	size_t i, size, out_size;
	int format;

	(void)state;
	assert_true(plain != NULL && packed != NULL);
	fill(plain, 5000000);
	buffer_init(&memory, 0);
	for (format = 0; format < FORMATS; format++)
		for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			size = compress_into(format, packed, room, plain,
			    sizes[i]);
			assert_int_equal(open_body(codec_of[format], packed,
					     size, &memory, &out, &out_size),
			    1);
			assert_int_equal(out_size, sizes[i]);
			assert_memory_equal(out, plain, out_size);
		}
	buffer_free(&memory);
	free(plain);
	free(packed);
}

static void
what_is_packed_is_smaller_and_comes_back(void **state)
{
	const size_t most = 200000;
	uint8_t *plain = malloc(most), *bytes = malloc(most);
	struct buffer memory;
	const uint8_t *out;
	size_t size, out_size;
	int codec;

	(void)state;
	assert_true(plain != NULL && bytes != NULL);
	fill(plain, most);
	buffer_init(&memory, 0);
	for (codec = BATCH_NONE; codec <= BATCH_ZSTD; codec++) {
		memcpy(bytes, plain, most);
		size = most;
		assert_int_equal(batch_pack(bytes, &size, codec), codec);
		assert_true(size < most || codec == BATCH_NONE);
		assert_memory_equal(bytes, plain, BATCH_HEADER_SIZE);
		assert_int_equal(open_body(codec, bytes + BATCH_HEADER_SIZE,
				     size - BATCH_HEADER_SIZE, &memory, &out,
				     &out_size),
		    1);
		assert_int_equal(out_size, most - BATCH_HEADER_SIZE);
		/* Java's clients read no other blocks. */
		if (codec == BATCH_LZ4)
			assert_true(bytes[BATCH_HEADER_SIZE + 4] & 0x20);
		/* What doesn't get smaller stays. */
		memcpy(bytes, plain, most);
		size = BATCH_HEADER_SIZE + 3;
		assert_int_equal(batch_pack(bytes, &size, codec), BATCH_NONE);
		assert_int_equal(size, BATCH_HEADER_SIZE + 3);
		assert_memory_equal(bytes, plain, size);
	}
	buffer_free(&memory);
	free(plain);
	free(bytes);
}

static void
bodies_above_the_bound_are_not_read(void **state)
{
	const size_t most = (size_t)16 << 20, room = most + (most >> 2);
	uint8_t *plain = calloc(1, most + 1), *packed = malloc(room);
	size_t size;
	int format;

	(void)state;
	assert_true(plain != NULL && packed != NULL);
	for (format = 0; format < FORMATS; format++) {
		size = compress_into(format, packed, room, plain, most);
		assert_int_equal(try_body(codec_of[format], packed, size), 1);
		size = compress_into(format, packed, room, plain, most + 1);
		assert_int_equal(try_body(codec_of[format], packed, size), 0);
	}
	free(plain);
	free(packed);
}

/* Where there is a checksum, it is found out or makes no difference. */
static void
flip_byte(int format, uint8_t *packed, size_t size, size_t at,
    const uint8_t *plain, size_t plain_size)
{
	struct buffer memory;
	const uint8_t *out;
	size_t out_size;
	int rc;

	buffer_init(&memory, 0);
	packed[at] ^= 0x55;
	rc = open_body(codec_of[format], packed, size, &memory, &out,
	    &out_size);
	packed[at] ^= 0x55;
	assert_in_range(rc + 1, 0, 2);
	if (rc == 1 && (format == GZIP || format == LZ4)) {
		assert_int_equal(out_size, plain_size);
		assert_memory_equal(out, plain, plain_size);
	}
	buffer_free(&memory);
}

static void
what_is_cut_off_or_flipped_is_damaged_or_harmless(void **state)
{
	uint8_t plain[700], packed[2048];
	size_t size, at;
	int format, rc;

	(void)state;
	fill(plain, sizeof(plain));
	for (format = 0; format < FORMATS; format++) {
		size = compress_into(format, packed, sizeof(packed), plain,
		    sizeof(plain));
		for (at = 0; at < size; at++) {
			rc = try_body(codec_of[format], packed, at);
			/* Nothing says how many blocks a frame of
			 * snappy-java's has. */
			if (rc != -1)
				assert_int_equal(format, SNAPPY_JAVA);
			flip_byte(format, packed, size, at, plain,
			    sizeof(plain));
		}
	}
}

/* By hand, with what is wrong about each. */
static const struct {
	const char *what;
	int codec, rc;
	size_t size;
	uint8_t bytes[64];
} hostile[] = {
    {"one literal", BATCH_SNAPPY, 1, 5, {3, 2 << 2, 'a', 'b', 'c'}},
    {"nothing at all", BATCH_SNAPPY, -1, 0, {0}},
    {"no bytes", BATCH_SNAPPY, 1, 1, {0}},
    {"a length without an end", BATCH_SNAPPY, -1, 5,
	{0xff, 0xff, 0xff, 0xff, 0xff}},
    {"4 GiB", BATCH_SNAPPY, 0, 8, {0xff, 0xff, 0xff, 0xff, 0xf, 0, 'a', 'b'}},
    {"16 MiB and one", BATCH_SNAPPY, 0, 6, {0x81, 0x80, 0x80, 0x08, 0, 'a'}},
    {"16 MiB that aren't there", BATCH_SNAPPY, -1, 6,
	{0x80, 0x80, 0x80, 0x08, 0, 'a'}},
    {"less than it says", BATCH_SNAPPY, -1, 5, {4, 2 << 2, 'a', 'b', 'c'}},
    {"more than it says", BATCH_SNAPPY, -1, 5, {2, 2 << 2, 'a', 'b', 'c'}},
    {"a literal of 4 GiB", BATCH_SNAPPY, -1, 7,
	{3, 63 << 2, 0xfe, 0xff, 0xff, 0xff, 'a'}},
    {"a copy from before the start", BATCH_SNAPPY, -1, 6,
	{9, 0, 'a', 7 << 2 | 2, 2, 0}},
    {"a copy from nowhere", BATCH_SNAPPY, -1, 6, {9, 0, 'a', 7 << 2 | 2, 0, 0}},
    {"a copy of itself", BATCH_SNAPPY, 1, 6, {9, 0, 'a', 7 << 2 | 2, 1, 0}},
    {"half a tag", BATCH_SNAPPY, -1, 5, {9, 0, 'a', 7 << 2 | 2, 1}},
#define JAVA 0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1
    {"a frame of no block", BATCH_SNAPPY, 1, 16, {JAVA}},
    {"half a frame's head", BATCH_SNAPPY, -1, 12, {JAVA}},
    {"half a length", BATCH_SNAPPY, -1, 19, {JAVA, 0, 0, 0}},
    {"an empty block", BATCH_SNAPPY, -1, 20, {JAVA, 0, 0, 0, 0}},
    {"a block of nothing", BATCH_SNAPPY, 1, 21, {JAVA, 0, 0, 0, 1, 0}},
    {"two blocks", BATCH_SNAPPY, 1, 30,
	{JAVA, 0, 0, 0, 3, 1, 0, 'a', 0, 0, 0, 3, 1, 0, 'b'}},
    {"a block too long", BATCH_SNAPPY, -1, 23, {JAVA, 0, 0, 0, 4, 1, 0, 'a'}},
    {"a block of 4 GiB", BATCH_SNAPPY, -1, 23,
	{JAVA, 0xff, 0xff, 0xff, 0xff, 1, 0, 'a'}},
    {"a copy from the block before", BATCH_SNAPPY, -1, 31,
	{JAVA, 0, 0, 0, 3, 1, 0, 'a', 0, 0, 0, 4, 8, 7 << 2 | 2, 1, 0}},
/* Flags, blocks of 64 KiB at most, and the checksum of both. */
#define LZ4_HEAD 0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82
    {"one block as it is", BATCH_LZ4, 1, 18,
	{LZ4_HEAD, 3, 0, 0, 0x80, 'a', 'b', 'c', 0, 0, 0, 0}},
    {"nothing at all", BATCH_LZ4, -1, 0, {0}},
    {"no block", BATCH_LZ4, 1, 11, {LZ4_HEAD, 0, 0, 0, 0}},
    {"no end", BATCH_LZ4, -1, 14, {LZ4_HEAD, 3, 0, 0, 0x80, 'a', 'b', 'c'}},
    {"bytes behind the end", BATCH_LZ4, 1, 13,
	{LZ4_HEAD, 0, 0, 0, 0, 'x', 'x'}},
    {"another magic", BATCH_LZ4, -1, 11,
	{0x05, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82}},
    {"the checksum of old clients", BATCH_LZ4, -1, 11,
	{0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x1d}},
    {"a block too long", BATCH_LZ4, -1, 18,
	{LZ4_HEAD, 9, 0, 0, 0x80, 'a', 'b', 'c', 0, 0, 0, 0}},
    {"a block above the most", BATCH_LZ4, -1, 18,
	{LZ4_HEAD, 1, 0, 1, 0x80, 'a', 'b', 'c', 0, 0, 0, 0}},
    {"a copy from before the start", BATCH_LZ4, -1, 24,
	{LZ4_HEAD, 9, 0, 0, 0, 0x10, 'a', 9, 0, 0x50, 'a', 'a', 'a', 'a', 'a',
	    0, 0, 0, 0}},
    {"a part to skip", BATCH_LZ4, 1, 11,
	{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'x', 'x', 'x'}},
    {"4 GiB to skip", BATCH_LZ4, -1, 11,
	{0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff, 'x', 'x', 'x'}},
    {"no such codec", 5, 0, 3, {1, 2, 3}},
};

static void
hostile_bodies_are_told_apart(void **state)
{
	size_t i;
	int rc;

	(void)state;
	for (i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		rc = try_body(hostile[i].codec, hostile[i].bytes,
		    hostile[i].size);
		if (rc != hostile[i].rc)
			fail_msg("codec %d, %s: %d", hostile[i].codec,
			    hostile[i].what, rc);
	}
}

/* ---- By time ------------------------------------------------------------ */

static void
times_are_found_inside_of_a_batch(void **state)
{
	static const struct test_record records[] = {{"a", "1", 100},
	    {"b", "2", 300}, {"c", "3", 200}, {"d", "4", 400}, {"e", "5", 50}};
	static const struct {
		int64_t time, offset, found;
	} cases[] = {{0, 0, 100}, {101, 1, 300}, {300, 1, 300}, {301, 3, 400},
	    {400, 3, 400}, {401, -1, -1}};
	struct plog_found found;
	struct plog *log;
	struct mr_error err;
	size_t i;
	int format;

	(void)state;
	for (format = 0; format < FORMATS; format++) {
		empty_folder(log_path());
		log = open_log(NULL);
		append_compressed(log, format, records, 5);
		flush_log(log);
		for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			assert_int_equal(plog_find_time(log, cases[i].time,
					     &found, &err),
			    PLOG_OK);
			assert_int_equal(found.offset, cases[i].offset);
			assert_int_equal(found.timestamp_ms, cases[i].found);
		}
		assert_int_equal(plog_find_latest_time(log, &found, &err),
		    PLOG_OK);
		assert_int_equal(found.offset, 3);
		assert_int_equal(found.timestamp_ms, 400);
		close_log(log);
	}
}

/* A batch of three whose body can't be read, or is empty. */
static size_t
make_unreadable(uint8_t *bytes, int codec, const void *body, size_t size)
{
	static const struct test_record records[] = {{"a", "1", 100},
	    {"b", "2", 300}, {"c", "3", 200}};

	memcpy(bytes + BATCH_HEADER_SIZE, body, size);
	return (finish_batch(bytes, bytes + BATCH_HEADER_SIZE + size, codec,
	    records, 3, NULL));
}

static void
a_batch_that_cannot_be_read_is_found_as_a_whole(void **state)
{
	uint8_t bytes[256];
	struct plog_found found;
	struct plog *log;
	struct mr_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		if (hostile[i].codec > BATCH_ZSTD)
			continue;
		empty_folder(log_path());
		log = open_log(NULL);
		append(log, bytes,
		    make_unreadable(bytes, hostile[i].codec, hostile[i].bytes,
			hostile[i].size));
		flush_log(log);
		assert_int_equal(plog_find_time(log, 200, &found, &err),
		    PLOG_OK);
		assert_int_equal(found.offset, 0);
		assert_int_equal(plog_find_latest_time(log, &found, &err),
		    PLOG_OK);
		assert_int_equal(found.offset, 2);
		assert_int_equal(found.timestamp_ms, 300);
		close_log(log);
	}
}

/* ---- Compacting --------------------------------------------------------- */

static void
compact_always(void)
{

	conf.cleanup = PLOG_COMPACT;
	conf.segment_bytes = 1000;
	conf.segment_ms = INT64_MAX / 4;
	conf.delete_retention_ms = 0;
	conf.dirty_ratio_least = 0.01;
}

/* So that what is before it is in sealed segments. */
static void
append_others(struct plog *log, int count)
{

	for (; count > 0; count--)
		assert_int_equal(append_one(log, "other", 300, 5, NULL),
		    PLOG_OK);
}

/* Records with a key, as "offset=value " each, of what is at or below `to`. */
static const char *
values_of(struct plog *log, const char *key, int64_t to)
{
	static char text[4096];
	const size_t length = strlen(key);
	int64_t offset = plog_start(log), number;
	struct buffer memory;
	struct plog_span span;
	struct batch_header h;
	struct batch_record r;
	const uint8_t *at, *end;
	uint8_t bytes[4096];
	size_t size, n = 0;

	buffer_init(&memory, 0);
	for (text[0] = '\0'; offset <= to; offset = span.next_offset) {
		assert_int_equal(plog_read(log, offset, 1, 1, &span, NULL),
		    PLOG_OK);
		if (span.length == 0)
			break;
		assert_true(span.length < (int64_t)sizeof(bytes));
		assert_int_equal(read_whole(span.fd, bytes, (size_t)span.length,
				     span.position),
		    0);
		plog_release(log, &span);
		batch_header_read(bytes, &h);
		if (batch_body(bytes, &h, &memory, &at, &size) != 1)
			continue;
		for (end = at + size; batch_record_next(&at, end, &r) == 1;) {
			if (r.key_length != (int32_t)length ||
			    memcmp(r.key, key, length) != 0)
				continue;
			number = h.base_offset + r.offset_delta;
			n += (size_t)snprintf(text + n, sizeof(text) - n,
			    "%lld=%s%.*s ", (long long)number,
			    r.value_length < 0 ? "gone" : "",
			    r.value_length > 0 ? r.value_length : 0,
			    (const char *)r.key + length + 1);
		}
	}
	buffer_free(&memory);
	return (text);
}

static void
on_a_compacted_log_compressed_records_are_looked_at(void **state)
{
	static const struct test_record with[] = {{"a", "1", 1}, {"b", "2", 2}};
	static const struct test_record without[] = {{"a", "1", 1},
	    {NULL, "2", 2}};
	struct mr_error err = {MR_OK, ""};
	struct batch_header h;
	uint8_t bytes[2048];
	size_t size;
	int format;

	(void)state;
	for (format = 0; format < FORMATS; format++) {
		size = make_compressed(bytes, format, with, 2);
		assert_int_equal(batch_check(bytes, size, 2048, 1, &h, &err),
		    PLOG_OK);
		put_i32(bytes + BATCH_AT_RECORD_COUNT, 3);
		put_i32(bytes + BATCH_AT_LAST_OFFSET_DELTA, 2);
		batch_seal(bytes, size);
		assert_int_equal(batch_check(bytes, size, 2048, 1, &h, &err),
		    PLOG_INVALID_RECORD);
		size = make_compressed(bytes, format, without, 2);
		assert_int_equal(batch_check(bytes, size, 2048, 0, &h, &err),
		    PLOG_OK);
		assert_int_equal(batch_check(bytes, size, 2048, 1, &h, &err),
		    PLOG_INVALID_RECORD);
		assert_non_null(strstr(err.message, "has no key"));
		memset(bytes + BATCH_HEADER_SIZE, 0, 8);
		batch_seal(bytes, size);
		assert_int_equal(batch_check(bytes, size, 2048, 1, &h, &err),
		    PLOG_INVALID_RECORD);
	}
}

/* More keys than the table of a round takes, in one batch. */
static void
a_batch_of_too_many_keys_does_not_end_compaction(void **state)
{
	enum { MANY = 196609, ROOM = 1 << 20 };
	struct test_record *records = calloc(MANY, sizeof(*records));
	char(*keys)[8] = calloc(MANY, sizeof(*keys));
	uint8_t *plain = malloc(MANY * 20), *bytes = malloc(ROOM);
	struct plog_tidied did;
	struct plog *log;
	size_t size;
	int i, said;

	(void)state;
	assert_true(records != NULL && keys != NULL);
	assert_true(plain != NULL && bytes != NULL);
	for (i = 0; i < MANY; i++) {
		snprintf(keys[i], sizeof(keys[i]), "%x", i);
		records[i].key = keys[i];
		records[i].value = "";
	}
	size = (size_t)(make_records(plain, records, MANY) - plain);
	size = gzip_into(bytes + BATCH_HEADER_SIZE, ROOM - BATCH_HEADER_SIZE,
	    plain, size);
	/* Or so the header says, which may say less than there is. */
	for (said = MANY - 1; said <= MANY; said++) {
		compact_always();
		conf.segment_bytes = ROOM;
		conf.dirty_ratio_least = 0.001;
		empty_folder(log_path());
		log = open_log(NULL);
		append(log, bytes,
		    finish_batch(bytes, bytes + BATCH_HEADER_SIZE + size,
			BATCH_GZIP, records, said, NULL));
		for (i = 0; i < 40; i++)
			assert_int_equal(append_one(log, "again", 100, 1, NULL),
			    PLOG_OK);
		plog_roll(log, plog_end(log), NULL);
		did = tidy_log(log, 2000);
		assert_int_equal(did.unreadable_batches, 1);
		/* What its table had no room for is for the next round. */
		(void)tidy_log(log, 2000);
		assert_true(plog_size(log) < (int64_t)size + 3 * 200);
		close_log(log);
	}
	free(records);
	free(keys);
	free(plain);
	free(bytes);
}

static void
compressed_batches_are_compacted(void **state)
{
	static const struct test_record first[] = {{"a", "1", 1}, {"b", "2", 2},
	    {"c", "3", 3}, {"d", "4", 9}};
	static const struct test_record last[] = {{"a", "5", 5}, {"c", NULL, 6},
	    {"d", "6", 7}};
	const int64_t later = (int64_t)1 << 42;
	struct plog_tidied did;
	struct plog_found found;
	struct plog *log;
	struct mr_error err;
	int format, i;

	(void)state;
	compact_always();
	for (format = 0; format < FORMATS; format++) {
		empty_folder(log_path());
		log = open_log(NULL);
		for (i = 0; i < 20; i++)
			append_compressed(log, format, first, 4);
		append_compressed(log, format, last, 3);
		append_others(log, 8);
		did = tidy_log(log, 2000);
		assert_true(did.segments_compacted > 1);
		assert_int_equal(did.unreadable_batches, 0);
		assert_true(did.bytes_after < did.bytes_before);
		assert_string_equal(values_of(log, "a", 82), "80=5 ");
		assert_string_equal(values_of(log, "b", 82), "77=2 ");
		assert_string_equal(values_of(log, "c", 82), "81=gone ");
		assert_string_equal(values_of(log, "d", 82), "82=6 ");
		/* What is left says the times that are left. */
		assert_int_equal(plog_find_latest_time(log, &found, &err),
		    PLOG_OK);
		assert_int_equal(found.offset, 82);
		assert_int_equal(found.timestamp_ms, 7);
		/* The tombstone goes with the second round over it. */
		append_others(log, 8);
		did = tidy_log(log, later);
		assert_string_equal(values_of(log, "b", 82), "77=2 ");
		assert_string_equal(values_of(log, "c", 82), "");
		close_log(log);
	}
}

static void
tombstones_stay_while_a_batch_cannot_be_read(void **state)
{
	static const struct test_record last[] = {{"c", NULL, 6}};
	const int64_t later = (int64_t)1 << 42;
	uint8_t bytes[256];
	struct plog_tidied did;
	struct plog *log;
	size_t i;
	int round;

	(void)state;
	compact_always();
	for (i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		if (hostile[i].codec > BATCH_ZSTD || hostile[i].rc == 1)
			continue;
		empty_folder(log_path());
		log = open_log(NULL);
		append(log, bytes,
		    make_unreadable(bytes, hostile[i].codec, hostile[i].bytes,
			hostile[i].size));
		append_compressed(log, LZ4, last, 1);
		for (round = 0; round < 4; round++) {
			append_others(log, 8);
			did = tidy_log(log, later);
			assert_int_equal(did.unreadable_batches, 1);
			assert_int_equal(did.damaged_segments, 0);
			assert_string_equal(values_of(log, "c", 3), "3=gone ");
		}
		close_log(log);
	}
}

/* Text of four letters, which LZ4 may do more or less about. */
static void
fill_text(char *text, size_t size)
{
	uint32_t x = 1;

	for (; size > 1; size--) {
		x = x * 1664525u + 1013904223u;
		*text++ = (char)('a' + (x >> 30));
	}
	*text = '\0';
}

static void
what_was_deleted_does_not_come_back(void **state)
{
	static const struct test_record deleted = {"a", NULL, 6};
	struct test_record records[2] = {{"a", "1", 1}, {"b", NULL, 2}};
	const int64_t later = (int64_t)1 << 42;
	int64_t before;
	char value[900];
	struct plog *log;
	int format;

	(void)state;
	compact_always();
	fill_text(value, sizeof(value));
	records[1].value = value;
	for (format = 0; format < FORMATS; format++) {
		empty_folder(log_path());
		log = open_log(NULL);
		append_compressed(log, format, records, 2);
		/* The tombstone is in another segment. */
		append_others(log, 8);
		append_compressed(log, format, &deleted, 1);
		append_others(log, 8);
		before = log->segments[0]->size;
		(void)tidy_log(log, 2000);
		/* Even where what is left has become larger. */
		if (format == LZ4)
			assert_true(log->segments[0]->size > before);
		assert_string_equal(values_of(log, "a", 10), "10=gone ");
		assert_int_equal(values_of(log, "b", 10)[0], '1');
		append_others(log, 8);
		(void)tidy_log(log, later);
		assert_string_equal(values_of(log, "a", 10), "");
		close_log(log);
	}
}

static void
a_batch_with_a_broken_record_stays_whole(void **state)
{
	static const struct test_record records[] = {{"a", "1", 1},
	    {"b", "2", 2}};
	uint8_t plain[256], bytes[512], *to = bytes + BATCH_HEADER_SIZE;
	struct plog_tidied did;
	struct plog *log;
	uint8_t *end;
	int64_t size;
	int i;

	(void)state;
	compact_always();
	log = open_log(NULL);
	end = make_records(plain, records, 2);
	*end++ = 99; /* a record's length, and no record */
	to += compress_into(LZ4, to, 400, plain, (size_t)(end - plain));
	size = (int64_t)finish_batch(bytes, to, BATCH_LZ4, records, 2, NULL);
	append(log, bytes, (size_t)size);
	for (i = 0; i < 20; i++)
		append_compressed(log, LZ4, records, 2);
	append_others(log, 8);
	did = tidy_log(log, 2000);
	assert_true(did.segments_compacted > 0);
	assert_int_equal(did.unreadable_batches, 1);
	assert_string_equal(values_of(log, "a", 41), "0=1 40=1 ");
	close_log(log);
}

static void
an_empty_body_is_kept(void **state)
{
	uint8_t bytes[256];
	struct plog_tidied did;
	struct plog *log;
	struct reading r;
	size_t i;

	(void)state;
	compact_always();
	log = open_log(NULL);
	for (i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++)
		if (hostile[i].rc == 1 && hostile[i].size < 12)
			append(log, bytes,
			    make_unreadable(bytes, hostile[i].codec,
				hostile[i].bytes, hostile[i].size));
	append_others(log, 8);
	did = tidy_log(log, 2000);
	assert_true(did.segments_compacted > 0);
	read_log(log, 1000, &r);
	assert_int_equal(r.offsets[0], 0);
	assert_int_equal(r.damaged, 0);
	close_log(log);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(bodies_of_any_size_come_back),
	    TEST(what_is_packed_is_smaller_and_comes_back),
	    TEST(bodies_above_the_bound_are_not_read),
	    TEST(what_is_cut_off_or_flipped_is_damaged_or_harmless),
	    TEST(hostile_bodies_are_told_apart),
	    TEST(times_are_found_inside_of_a_batch),
	    TEST(a_batch_that_cannot_be_read_is_found_as_a_whole),
	    TEST(on_a_compacted_log_compressed_records_are_looked_at),
	    TEST(a_batch_of_too_many_keys_does_not_end_compaction),
	    TEST(compressed_batches_are_compacted),
	    TEST(tombstones_stay_while_a_batch_cannot_be_read),
	    TEST(what_was_deleted_does_not_come_back),
	    TEST(a_batch_with_a_broken_record_stays_whole),
	    TEST(an_empty_body_is_kept),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
