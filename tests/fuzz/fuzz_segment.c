/*
 * A partition's log: a folder whose files were changed anywhere opens or says
 * why not, and gives only whole, right batches in order; bytes that are
 * accepted as a batch come back.
 *
 * The input's first byte says which: even, it goes on with changes to a small
 * log's files, each a file, a position, a count and bytes; odd, the rest is a
 * batch whose CRC is put right.
 */
#include <sys/stat.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "fuzz.h"
#include "segment/batch.h"
#include "segment/bytes.h"

#define RECORDS 12
#define LOG_MOST 65536

static char folder[64];
static struct plog_conf conf;

static const char *const names[] = {"00000000000000000000.log",
    "00000000000000000000.index", "00000000000000000006.log",
    "00000000000000000006.index", "checkpoint", "flushed", "stray.new",
    "00000000000000000003.log"};
#define NAMES (sizeof(names) / sizeof(names[0]))

static void
empty(void)
{
	char path[400];
	struct dirent *entry;
	DIR *dir = opendir(folder);

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		(void)unlink(path);
	}
	if (dir != NULL)
		closedir(dir);
}

static void
clean_up(void)
{

	empty();
	(void)rmdir(folder);
}

static void
flush(struct plog *log)
{
	struct plog_sync *sync = plog_sync_begin(log);

	if (sync == NULL)
		return;
	assert(plog_sync_run(sync, NULL) == 0);
	(void)plog_sync_finish(log, sync);
}

/* One record of a value of ${length} zeros. */
static size_t
make_batch(uint8_t *bytes, size_t length)
{
	size_t size = BATCH_HEADER_SIZE + 9 + length;
	uint8_t *p = bytes + BATCH_HEADER_SIZE;

	assert(length + 7 < 8192 && length >= 64);
	memset(bytes, 0, size);
	put_i32(bytes + BATCH_AT_LENGTH, (int32_t)size - 12);
	bytes[BATCH_AT_MAGIC] = 2;
	put_i64(bytes + BATCH_AT_PRODUCER_ID, -1);
	put_i32(bytes + BATCH_AT_RECORD_COUNT, 1);
	*p++ = (uint8_t)(((length + 7) * 2) & 0x7f) | 0x80;
	*p++ = (uint8_t)(((length + 7) * 2) >> 7);
	p += 3; /* attributes, time, offset */
	*p++ = 1; /* no key */
	*p++ = (uint8_t)((length * 2) & 0x7f) | 0x80;
	*p++ = (uint8_t)((length * 2) >> 7);
	batch_seal(bytes, size);
	return (size);
}

static struct plog *
make_log(void)
{
	struct plog_appended out;
	uint8_t bytes[2048];
	struct plog *log;
	int i;

	if (folder[0] == '\0') {
		snprintf(folder, sizeof(folder), "%s/fuzz-segment-XXXXXX",
		    access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
		assert(mkdtemp(folder) != NULL);
		(void)atexit(clean_up);
		plog_conf_default(&conf);
		conf.segment_bytes = 6300;
		conf.segment_ms = INT64_MAX / 4;
		conf.batch_most = LOG_MOST;
		conf.time_ahead_most_ms = INT64_MAX;
	}
	empty();
	log = plog_open(folder, &conf, 0, NULL, NULL);
	assert(log != NULL);
	for (i = 0; i < RECORDS; i++) {
		assert(plog_append(log, bytes, make_batch(bytes, 900), 1, &out,
			   NULL) == PLOG_OK);
		if (i == 8)
			flush(log);
	}
	return (log);
}

static void
change_files(struct fuzz_input *in)
{
	char path[400];
	const char *bytes;
	size_t length;
	int64_t position;
	int fd;

	while (in->left > 0) {
		snprintf(path, sizeof(path), "%s/%s", folder,
		    names[fuzz_byte(in) % NAMES]);
		position = (int64_t)fuzz_byte(in) << 8;
		position |= fuzz_byte(in);
		length = fuzz_byte(in);
		if ((fd = open(path, O_WRONLY | O_CREAT, 0600)) == -1)
			return;
		bytes = fuzz_bytes(in, length, &length);
		/* None: the file ends there. */
		if (length == 0)
			(void)!ftruncate(fd, position);
		else
			(void)!pwrite(fd, bytes, length, position);
		close(fd);
	}
}

/* One span: whole batches, each right by its CRC, in order. */
static void
check_span(const struct plog_span *span, int64_t offset)
{
	uint8_t *bytes = malloc((size_t)span->length), *p;
	struct batch_header h;

	assert(bytes != NULL);
	assert(pread(span->fd, bytes, (size_t)span->length, span->position) ==
	    span->length);
	for (p = bytes; p < bytes + span->length; p += batch_size(&h)) {
		batch_header_read(p, &h);
		assert(batch_size(&h) <= bytes + span->length - p);
		assert(
		    crc32c(0, p + BATCH_AT_ATTRIBUTES,
			(size_t)batch_size(&h) - BATCH_AT_ATTRIBUTES) == h.crc);
		assert(h.base_offset + h.last_offset_delta >= offset);
		offset = h.base_offset + h.last_offset_delta + 1;
	}
	assert(offset <= span->next_offset);
	free(bytes);
}

static void
check_reading(struct plog *log)
{
	int64_t offset = plog_start(log);
	struct plog_found found;
	struct plog_span span;
	int code;

	while (offset < plog_high(log)) {
		code = plog_read(log, offset, 2000, 1, &span, NULL);
		assert(code == PLOG_OK || code == PLOG_DAMAGED);
		if (code == PLOG_OK && span.length == 0)
			break;
		if (code == PLOG_OK)
			check_span(&span, offset);
		assert(span.next_offset > offset);
		offset = span.next_offset;
		if (code == PLOG_OK)
			plog_release(log, &span);
	}
	(void)plog_find_time(log, 1, &found, NULL);
	(void)plog_find_latest_time(log, &found, NULL);
}

static void
run_changes(struct fuzz_input *in)
{
	struct plog_appended out;
	struct mr_error err = {MR_OK, ""};
	uint8_t bytes[2048];
	struct plog *log;
	int64_t end;

	plog_abandon(make_log());
	change_files(in);
	if ((log = plog_open(folder, &conf, 0, NULL, &err)) == NULL) {
		assert(err.kind != MR_OK);
		return;
	}
	check_reading(log);
	flush(log);
	check_reading(log);
	end = plog_end(log);
	assert(plog_append(log, bytes, make_batch(bytes, 100), 1, &out, NULL) ==
	    PLOG_OK);
	assert(out.base_offset == end);
	assert(plog_close(log, NULL) == 0);
	log = plog_open(folder, &conf, 0, NULL, NULL);
	assert(log != NULL && plog_end(log) == end + 1);
	check_reading(log);
	plog_abandon(log);
}

static void
run_batch(struct fuzz_input *in)
{
	struct plog *log = make_log();
	struct plog_appended out;
	struct plog_span span;
	uint8_t *bytes;
	size_t size = in->left < LOG_MOST ? in->left : LOG_MOST;

	bytes = malloc(size > 0 ? size : 1);
	assert(bytes != NULL);
	if (size > 0)
		memcpy(bytes, in->p, size);
	if (size >= BATCH_HEADER_SIZE) {
		put_i32(bytes + BATCH_AT_LENGTH, (int32_t)size - 12);
		batch_seal(bytes, size);
	}
	if (plog_append(log, bytes, size, 1, &out, NULL) == PLOG_OK) {
		flush(log);
		assert(plog_read(log, out.base_offset, LOG_MOST, 1, &span,
			   NULL) == PLOG_OK);
		assert(span.length == (int64_t)size);
		check_span(&span, out.base_offset);
		plog_release(log, &span);
		check_reading(log);
	}
	plog_abandon(log);
	free(bytes);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};

	if (size > LOG_MOST)
		return (0);
	if ((fuzz_byte(&in) & 1) == 0)
		run_changes(&in);
	else
		run_batch(&in);
	return (0);
}
