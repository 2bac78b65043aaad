#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "segment/bytes.h"
#include "segment/internal.h"

#define CHECKPOINT_MAGIC 0x4d524350u /* "MRCP" */
#define CHECKPOINT_VERSION 1u
#define CHECKPOINT_MOST ((int64_t)64 << 20)
#define HEAD_BYTES 44 /* magic, version, flags, 3 offsets, 2 counts */
#define EPOCH_BYTES 12
#define PRODUCER_BYTES 20
#define BATCH_BYTES 24
#define MARK_MAGIC 0x4d52464cu /* "MRFL" */
#define MARK_BYTES 16

/* ---- Leader epochs ------------------------------------------------------ */

int
epochs_note(struct plog *log, int32_t epoch, int64_t offset)
{
	struct leader_epoch *grown;
	size_t capacity;

	if (log->epoch_count > 0 &&
	    log->epochs[log->epoch_count - 1].epoch >= epoch)
		return (0);
	if (log->epoch_count == log->epoch_capacity) {
		capacity = log->epoch_capacity > 0 ? log->epoch_capacity * 2 :
						     4;
		grown = realloc(log->epochs, capacity * sizeof(*grown));
		if (grown == NULL)
			return (-1);
		log->epochs = grown;
		log->epoch_capacity = capacity;
	}
	log->epochs[log->epoch_count].epoch = epoch;
	log->epochs[log->epoch_count++].start = offset;
	return (0);
}

void
epochs_trim(struct plog *log)
{
	size_t drop = 0;

	while (drop + 1 < log->epoch_count &&
	    log->epochs[drop + 1].start <= log->start)
		drop++;
	if (drop == 0)
		return;
	memmove(log->epochs, log->epochs + drop,
	    (log->epoch_count - drop) * sizeof(*log->epochs));
	log->epoch_count -= drop;
	if (log->epochs[0].start < log->start)
		log->epochs[0].start = log->start;
}

int32_t
plog_epoch_at(const struct plog *log, int64_t offset)
{
	size_t i;

	for (i = log->epoch_count; i > 0; i--)
		if (log->epochs[i - 1].start <= offset)
			return (log->epochs[i - 1].epoch);
	return (-1);
}

void
plog_epoch_end(const struct plog *log, int32_t epoch, int32_t *epoch_out,
    int64_t *end)
{
	size_t i;

	*epoch_out = -1;
	*end = -1;
	/* The one that is written under now has no record yet, maybe. */
	if (epoch == log->leader_epoch) {
		*epoch_out = epoch;
		*end = log->end;
		return;
	}
	if (epoch < 0 || epoch > log->leader_epoch || log->epoch_count == 0)
		return;
	/* Of one whose records are gone, as Kafka's LeaderEpochFileCache. */
	*epoch_out = epoch;
	*end = log->epochs[0].start;
	for (i = log->epoch_count; i > 0; i--)
		if (log->epochs[i - 1].epoch <= epoch) {
			*epoch_out = log->epochs[i - 1].epoch;
			*end = i < log->epoch_count ? log->epochs[i].start :
						      log->end;
			return;
		}
}

/* ---- The file ----------------------------------------------------------- */

static void
add_producer(struct buffer *buf, const struct producer *pr)
{
	uint8_t bytes[PRODUCER_BYTES];
	int i;

	put_i64(bytes, pr->id);
	put_i64(bytes + 8, pr->last_ms);
	put_i16(bytes + 16, pr->epoch);
	put_i16(bytes + 18, pr->count);
	buffer_add(buf, bytes, PRODUCER_BYTES);
	for (i = 0; i < pr->count; i++) {
		uint8_t b[BATCH_BYTES];

		put_i32(b, pr->batches[i].first_sequence);
		put_i32(b + 4, pr->batches[i].last_sequence);
		put_i64(b + 8, pr->batches[i].last_offset);
		put_i64(b + 16, pr->batches[i].append_time_ms);
		buffer_add(buf, b, BATCH_BYTES);
	}
}

/* Of each segment that compaction has been over: its base, and when. */
static void
add_clean_times(struct buffer *buf, const struct plog *log)
{
	const struct plog_segment *segment;
	uint8_t bytes[CLEAN_BYTES];
	size_t i;

	for (i = 0; i < log->count; i++) {
		segment = log->segments[i];
		if (segment->clean_ms == 0)
			continue;
		put_i64(bytes, segment->base);
		put_i64(bytes + 8, segment->clean_ms);
		buffer_add(buf, bytes, CLEAN_BYTES);
	}
}

void
checkpoint_write(const struct plog *log, struct buffer *buf)
{
	uint8_t head[HEAD_BYTES], bytes[EPOCH_BYTES];
	const struct producer *pr;
	size_t i;

	buffer_clear(buf);
	put_u32(head, CHECKPOINT_MAGIC);
	put_u32(head + 4, CHECKPOINT_VERSION);
	put_u32(head + 8, 0);
	put_i64(head + 12, log->end);
	put_i64(head + 20, log->start);
	put_i64(head + 28, log->cleaned_to);
	put_u32(head + 36, (uint32_t)log->epoch_count);
	put_u32(head + 40, (uint32_t)log->producers.by_id.count);
	buffer_add(buf, head, sizeof(head));
	for (i = 0; i < log->epoch_count; i++) {
		put_i32(bytes, log->epochs[i].epoch);
		put_i64(bytes + 4, log->epochs[i].start);
		buffer_add(buf, bytes, EPOCH_BYTES);
	}
	for (pr = log->producers.oldest; pr != NULL; pr = pr->newer)
		add_producer(buf, pr);
	add_clean_times(buf, log);
	put_u32(bytes, crc32c(0, buffer_text(buf), buf->length));
	buffer_add(buf, bytes, 4);
}

static const uint8_t *
read_producer(struct plog *log, const uint8_t *p, const uint8_t *end)
{
	struct producer *pr;
	int64_t id;
	int16_t count;
	int i;

	if (end - p < PRODUCER_BYTES)
		return (NULL);
	id = get_i64(p);
	count = get_i16(p + 18);
	if (count < 0 || count > 5 ||
	    end - p - PRODUCER_BYTES < (ptrdiff_t)count * BATCH_BYTES ||
	    producers_reserve(&log->producers, id, INT32_MAX) == -1 ||
	    (pr = map_find(&log->producers.by_id, &id, sizeof(id))) == NULL)
		return (NULL);
	pr->last_ms = get_i64(p + 8);
	pr->epoch = get_i16(p + 16);
	pr->count = (int8_t)count;
	p += PRODUCER_BYTES;
	for (i = 0; i < count; i++, p += BATCH_BYTES) {
		pr->batches[i].first_sequence = get_i32(p);
		pr->batches[i].last_sequence = get_i32(p + 4);
		pr->batches[i].last_offset = get_i64(p + 8);
		pr->batches[i].append_time_ms = get_i64(p + 16);
	}
	return (p);
}

/* What is left, which files of older programs lack. */
static void
read_clean_times(struct plog *log, const uint8_t *p, const uint8_t *end)
{
	struct plog_segment *segment;

	for (; log->count > 0 && end - p >= CLEAN_BYTES; p += CLEAN_BYTES) {
		segment = log->segments[segments_find(log, get_i64(p))];
		if (segment->base == get_i64(p))
			segment->clean_ms = get_i64(p + 8);
	}
}

/* What is right by its CRC: 0, or -1 if memory ran out. */
static int
parse(struct plog *log, const uint8_t *bytes, size_t size)
{
	const uint8_t *p = bytes + HEAD_BYTES, *end = bytes + size - 4;
	uint32_t epochs = get_u32(bytes + 36), count = get_u32(bytes + 40);

	log->checkpoint_end = get_i64(bytes + 12);
	log->start = get_i64(bytes + 20);
	log->cleaned_to = get_i64(bytes + 28);
	for (; epochs > 0 && end - p >= EPOCH_BYTES; epochs--, p += EPOCH_BYTES)
		if (epochs_note(log, get_i32(p), get_i64(p + 4)) == -1)
			return (-1);
	for (; count > 0; count--)
		if ((p = read_producer(log, p, end)) == NULL)
			return (-1);
	read_clean_times(log, p, end);
	return (0);
}

static int
is_right(const uint8_t *bytes, size_t size)
{

	return (size >= HEAD_BYTES + 4 && get_u32(bytes) == CHECKPOINT_MAGIC &&
	    get_u32(bytes + 4) == CHECKPOINT_VERSION &&
	    get_u32(bytes + size - 4) == crc32c(0, bytes, size - 4) &&
	    get_i64(bytes + 12) >= 0 && get_i64(bytes + 20) >= 0 &&
	    get_i64(bytes + 28) >= 0);
}

int
checkpoint_read(struct plog *log, int *damaged, struct mr_error *err)
{
	struct stat st;
	uint8_t *bytes;
	int fd, rc = 0;

	*damaged = 0;
	fd = openat(log->folder_fd, "checkpoint", O_RDONLY | O_CLOEXEC);
	if (fd == -1) {
		if (errno == ENOENT)
			return (0);
		(void)io_error(err, "open", log->path, "checkpoint");
		return (-1);
	}
	*damaged = 1;
	if (fstat(fd, &st) == -1 || st.st_size < 4 ||
	    st.st_size > CHECKPOINT_MOST) {
		close(fd);
		return (0);
	}
	if ((bytes = malloc((size_t)st.st_size)) == NULL) {
		close(fd);
		return (mr_error_set(err, MR_RETRY, "no memory for %s/%s",
		    log->path, "checkpoint"));
	}
	if (read_whole(fd, bytes, (size_t)st.st_size, 0) == 0 &&
	    is_right(bytes, (size_t)st.st_size)) {
		*damaged = 0;
		rc = parse(log, bytes, (size_t)st.st_size) == 0 ? 1 : -1;
		if (rc == -1)
			mr_error_set(err, MR_RETRY,
			    "no memory for what %s/%s says", log->path,
			    "checkpoint");
	}
	free(bytes);
	close(fd);
	return (rc);
}

int
flushed_write(int folder_fd, int64_t end)
{
	uint8_t mark[MARK_BYTES];
	int fd, rc;

	put_u32(mark, MARK_MAGIC);
	put_i64(mark + 4, end);
	put_u32(mark + 12, crc32c(0, mark, 12));
	fd = openat(folder_fd, "flushed", O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
	if (fd == -1)
		return (-1);
	rc = write_whole(fd, mark, sizeof(mark), 0);
	close(fd);
	return (rc);
}

int64_t
flushed_read(int folder_fd)
{
	uint8_t mark[MARK_BYTES];
	int64_t end = 0;
	int fd;

	fd = openat(folder_fd, "flushed", O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return (0);
	if (read_whole(fd, mark, sizeof(mark), 0) == 0 &&
	    get_u32(mark) == MARK_MAGIC &&
	    get_u32(mark + 12) == crc32c(0, mark, 12))
		end = get_i64(mark + 4);
	close(fd);
	return (end);
}
