/*
 * segment_batches -- batches as a client sends them, a folder to keep logs in,
 * and what reading a log gives, for the tests of pkg/segment.
 */
#ifndef MR_TEST_SEGMENT_BATCHES_H
#define MR_TEST_SEGMENT_BATCHES_H

#include <sys/stat.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "segment/bytes.h"
#include "segment/internal.h"

#define RECORD_MOST 20000 /* bytes, about */

struct test_record {
	const char *key; /* NULL: null */
	const char *value; /* NULL: a tombstone */
	int64_t time_ms;
};

struct test_producer {
	int64_t id;
	int16_t epoch;
	int32_t sequence;
};

static inline uint8_t *
put_varint(uint8_t *p, int64_t n)
{
	uint64_t z = ((uint64_t)n << 1) ^ (n < 0 ? UINT64_MAX : 0);

	for (; z >= 0x80; z >>= 7)
		*p++ = (uint8_t)(z | 0x80);
	*p++ = (uint8_t)z;
	return (p);
}

static inline uint8_t *
put_text(uint8_t *p, const char *text)
{
	size_t length = text != NULL ? strlen(text) : 0;

	p = put_varint(p, text != NULL ? (int64_t)length : -1);
	if (text != NULL)
		memcpy(p, text, length);
	return (p + length);
}

/* Records one behind the other; returns the end. */
static inline uint8_t *
make_records(uint8_t *p, const struct test_record *records, int count)
{
	uint8_t body[RECORD_MOST], *q;
	int i;

	for (i = 0; i < count; i++) {
		q = body;
		*q++ = 0;
		q = put_varint(q, records[i].time_ms - records[0].time_ms);
		q = put_varint(q, i);
		q = put_text(q, records[i].key);
		q = put_text(q, records[i].value);
		q = put_varint(q, 0);
		p = put_varint(p, q - body);
		memcpy(p, body, (size_t)(q - body));
		p += q - body;
	}
	return (p);
}

/* The header around a body that is there already; returns the batch's size. */
static inline size_t
finish_batch(uint8_t *bytes, const uint8_t *end, int codec,
    const struct test_record *records, int count,
    const struct test_producer *producer)
{
	int64_t newest = records[0].time_ms;
	size_t size = (size_t)(end - bytes);
	int i;

	for (i = 1; i < count; i++)
		if (records[i].time_ms > newest)
			newest = records[i].time_ms;
	memset(bytes, 0, BATCH_HEADER_SIZE);
	put_i32(bytes + BATCH_AT_LENGTH, (int32_t)size - 12);
	put_i32(bytes + BATCH_AT_LEADER_EPOCH, -1);
	bytes[BATCH_AT_MAGIC] = 2;
	put_i16(bytes + BATCH_AT_ATTRIBUTES, (int16_t)codec);
	put_i32(bytes + BATCH_AT_LAST_OFFSET_DELTA, count - 1);
	put_i64(bytes + BATCH_AT_BASE_TIMESTAMP, records[0].time_ms);
	put_i64(bytes + BATCH_AT_MAX_TIMESTAMP, newest);
	put_i64(bytes + BATCH_AT_PRODUCER_ID,
	    producer != NULL ? producer->id : -1);
	put_i16(bytes + BATCH_AT_PRODUCER_EPOCH,
	    (int16_t)(producer != NULL ? producer->epoch : -1));
	put_i32(bytes + BATCH_AT_BASE_SEQUENCE,
	    producer != NULL ? producer->sequence : -1);
	put_i32(bytes + BATCH_AT_RECORD_COUNT, count);
	batch_seal(bytes, size);
	return (size);
}

static inline size_t
make_batch(uint8_t *bytes, const struct test_record *records, int count,
    const struct test_producer *producer)
{
	const uint8_t *end;

	end = make_records(bytes + BATCH_HEADER_SIZE, records, count);
	return (finish_batch(bytes, end, BATCH_NONE, records, count, producer));
}

/* One record with a key and a value of ${length} bytes. */
static inline size_t
make_one(uint8_t *bytes, const char *key, int length, int64_t time_ms,
    const struct test_producer *producer)
{
	char value[RECORD_MOST - 100];
	struct test_record record = {key, value, time_ms};

	assert_true(length < (int)sizeof(value));
	memset(value, 'v', (size_t)length);
	value[length] = '\0';
	return (make_batch(bytes, &record, 1, producer));
}

/* Append one record; the code. */
static inline int
append_one(struct plog *log, const char *key, int length, int64_t time_ms,
    struct plog_appended *out)
{
	uint8_t bytes[RECORD_MOST];
	struct plog_appended unwanted;
	struct mr_error err = {MR_OK, ""};

	return (
	    plog_append(log, bytes, make_one(bytes, key, length, time_ms, NULL),
		1000, out != NULL ? out : &unwanted, &err));
}

static inline void
flush_log(struct plog *log)
{
	struct plog_sync *sync;
	struct mr_error err;

	while ((sync = plog_sync_begin(log)) != NULL) {
		assert_int_equal(plog_sync_run(sync, &err), 0);
		(void)plog_sync_finish(log, sync);
	}
}

/* What a whole log reads as: the offset of each record that isn't missing, in
 * order, and how often damage was stepped over. */
struct reading {
	int64_t offsets[4096];
	int32_t values[4096]; /* bytes of the batch, as a check */
	int count;
	int damaged;
	int64_t damaged_offsets;
};

static inline void
read_span(const struct plog_span *span, struct reading *out)
{
	uint8_t *bytes = malloc((size_t)span->length), *p;
	struct batch_header h;
	int32_t i;

	assert_non_null(bytes);
	assert_int_equal(read_whole(span->fd, bytes, (size_t)span->length,
			     span->position),
	    0);
	for (p = bytes; p < bytes + span->length; p += batch_size(&h)) {
		batch_header_read(p, &h);
		assert_true(batch_size(&h) <= bytes + span->length - p);
		assert_int_equal(crc32c(0, p + BATCH_AT_ATTRIBUTES,
				     (size_t)batch_size(&h) -
					 BATCH_AT_ATTRIBUTES),
		    h.crc);
		for (i = 0; i <= h.last_offset_delta; i++) {
			assert_true(out->count < 4096);
			out->offsets[out->count] = h.base_offset + i;
			out->values[out->count++] = (int32_t)batch_size(&h);
		}
		assert_true(
		    h.base_offset + h.last_offset_delta < span->next_offset);
	}
	free(bytes);
}

static inline void
read_log(struct plog *log, int64_t most, struct reading *out)
{
	int64_t offset = plog_start(log);
	struct plog_span span;
	struct mr_error err;
	int code;

	out->count = out->damaged = 0;
	out->damaged_offsets = 0;
	while (offset < plog_high(log)) {
		code = plog_read(log, offset, most, 1, &span, &err);
		if (code == PLOG_DAMAGED) {
			out->damaged++;
			assert_true(span.next_offset > offset);
			out->damaged_offsets += span.next_offset - offset;
			offset = span.next_offset;
			continue;
		}
		assert_int_equal(code, PLOG_OK);
		if (span.length == 0)
			break;
		read_span(&span, out);
		assert_true(span.next_offset > offset);
		offset = span.next_offset;
		plog_release(log, &span);
	}
}

/* ---- Folders ------------------------------------------------------------ */

static char test_root[64];

static inline void
make_root(void)
{

	/* In memory where there is such a place: nothing here pulls a plug. */
	snprintf(test_root, sizeof(test_root), "%s/test-segment-XXXXXX",
	    access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(test_root));
}

static inline void
empty_folder(const char *path)
{
	char name[600];
	struct dirent *entry;
	DIR *dir = opendir(path);

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%.300s/%.255s", path,
		    entry->d_name);
		if (unlink(name) == -1) {
			empty_folder(name);
			rmdir(name);
		}
	}
	closedir(dir);
}

static inline void
remove_root(void)
{

	empty_folder(test_root);
	rmdir(test_root);
}

static inline const char *
log_path(void)
{
	static char path[80];

	snprintf(path, sizeof(path), "%s/0", test_root);
	return (path);
}

static inline void
copy_file(const char *from, const char *to)
{
	char bytes[65536];
	ssize_t n;
	int in = open(from, O_RDONLY), out;

	out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(in != -1 && out != -1);
	while ((n = read(in, bytes, sizeof(bytes))) > 0)
		assert_int_equal(write(out, bytes, (size_t)n), n);
	close(in);
	close(out);
}

/* The files of a folder into another, which is emptied first. */
static inline void
copy_folder(const char *from, const char *to)
{
	char a[600], b[600];
	struct dirent *entry;
	DIR *dir;

	empty_folder(to);
	(void)mkdir(to, 0700);
	dir = opendir(from);
	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(a, sizeof(a), "%.300s/%.255s", from, entry->d_name);
		snprintf(b, sizeof(b), "%.300s/%.255s", to, entry->d_name);
		copy_file(a, b);
	}
	closedir(dir);
}

#endif
