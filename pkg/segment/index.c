#include <unistd.h>

#include "segment/bytes.h"
#include "segment/internal.h"

#define FOOTER_MAGIC 0x4d524958u /* "MRIX" */
#define FOOTER_COMPACTED 1u

void
index_writer_init(struct index_writer *w)
{

	w->pending_count = 0;
	w->last_position = 0;
	w->max_time_ms = NO_TIME;
	w->heads = 0;
	w->lost = 0;
}

static void
entry_write(uint8_t *p, uint32_t offset_delta, uint32_t position,
    int64_t max_time_ms, uint32_t heads)
{

	put_u32(p, offset_delta);
	put_u32(p + 4, position);
	put_i64(p + 8, max_time_ms);
	put_u32(p + 16, heads);
	put_u32(p + 20, crc32c(0, p, 20));
}

int
index_writer_add(struct index_writer *w, int64_t segment_base, int64_t position,
    int64_t offset, int64_t max_time_ms, const uint8_t head[HEAD_SIZE])
{

	if (position - w->last_position >= INDEX_STEP &&
	    w->pending_count < INDEX_PENDING && !w->lost) {
		entry_write(w->pending +
			(size_t)w->pending_count * INDEX_ENTRY_SIZE,
		    (uint32_t)(offset - segment_base), (uint32_t)position,
		    w->max_time_ms, w->heads);
		w->pending_count++;
		w->last_position = position;
		w->heads = 0;
	}
	w->heads = crc32c(w->heads, head, HEAD_SIZE);
	if (max_time_ms > w->max_time_ms)
		w->max_time_ms = max_time_ms;
	return (w->pending_count == INDEX_PENDING);
}

int
index_writer_flush(struct index_writer *w, int fd, int64_t *entries)
{

	if (w->pending_count == 0)
		return (0);
	if (write_whole(fd, w->pending,
		(size_t)w->pending_count * INDEX_ENTRY_SIZE,
		*entries * INDEX_ENTRY_SIZE) == -1)
		return (-1);
	*entries += w->pending_count;
	w->pending_count = 0;
	return (0);
}

int
index_writer_seal(struct index_writer *w, int fd, struct plog_segment *segment)
{
	uint8_t footer[INDEX_FOOTER_SIZE];

	if (w->lost)
		return (0);
	if (index_writer_flush(w, fd, &segment->entries) == -1)
		return (-1);
	put_u32(footer, FOOTER_MAGIC);
	put_u32(footer + 4, segment->compacted ? FOOTER_COMPACTED : 0);
	put_i64(footer + 8, segment->entries);
	put_i64(footer + 16, segment->size);
	put_i64(footer + 24, segment->next);
	put_i64(footer + 32, w->max_time_ms);
	put_u32(footer + 40, w->heads);
	put_u32(footer + 44, crc32c(0, footer, 44));
	segment->last_heads = w->heads;
	return (write_whole(fd, footer, sizeof(footer),
	    segment->entries * INDEX_ENTRY_SIZE));
}

int
index_read_footer(int fd, int64_t log_size, struct plog_segment *segment)
{
	uint8_t footer[INDEX_FOOTER_SIZE];
	off_t size = lseek(fd, 0, SEEK_END);
	int64_t entries = ((int64_t)size - INDEX_FOOTER_SIZE) /
	    INDEX_ENTRY_SIZE;

	if (size < INDEX_FOOTER_SIZE ||
	    read_whole(fd, footer, sizeof(footer),
		(int64_t)size - INDEX_FOOTER_SIZE) == -1 ||
	    get_u32(footer) != FOOTER_MAGIC ||
	    get_u32(footer + 44) != crc32c(0, footer, 44) ||
	    get_i64(footer + 8) != entries ||
	    get_i64(footer + 16) != log_size ||
	    get_i64(footer + 24) < segment->base)
		return (0);
	segment->compacted = (get_u32(footer + 4) & FOOTER_COMPACTED) != 0;
	segment->entries = entries;
	segment->size = log_size;
	segment->next = get_i64(footer + 24);
	segment->max_time_ms = get_i64(footer + 32);
	segment->last_heads = get_u32(footer + 40);
	return (1);
}

int
index_entry_read(const uint8_t bytes[INDEX_ENTRY_SIZE], int64_t segment_base,
    struct index_entry *e)
{

	e->offset = segment_base + (int64_t)get_u32(bytes);
	e->position = (int64_t)get_u32(bytes + 4);
	e->max_time_ms = get_i64(bytes + 8);
	e->heads = get_u32(bytes + 16);
	return (get_u32(bytes + 20) == crc32c(0, bytes, 20));
}

/* Read an entry of the file: 1, or 0 if it isn't right. */
static int
read_entry(const struct plog_segment *segment, int64_t number,
    struct index_entry *e)
{
	uint8_t bytes[INDEX_ENTRY_SIZE];

	return (read_whole(segment->index_fd, bytes, sizeof(bytes),
		    number * INDEX_ENTRY_SIZE) == 0 &&
	    index_entry_read(bytes, segment->base, e) &&
	    e->position <= segment->size);
}

static void
lose(struct plog *log, struct plog_segment *segment)
{

	segment->index_lost = 1;
	segment->entries = 0;
	if (!segment->sealed) {
		log->index.lost = 1;
		log->index.pending_count = 0;
	}
	/* If it can't be cut, the next process finds the same. */
	if (ftruncate(segment->index_fd, 0) == -1)
		return;
}

int
index_get(struct plog *log, struct plog_segment *segment, int64_t number,
    struct index_entry *e)
{
	int64_t pending = number - segment->entries;

	if (pending < 0) {
		if (read_entry(segment, number, e))
			return (1);
		lose(log, segment);
		return (0);
	}
	if (segment->sealed || pending >= log->index.pending_count)
		return (0);
	(void)index_entry_read(log->index.pending + pending * INDEX_ENTRY_SIZE,
	    segment->base, e);
	return (1);
}

static int
is_beyond(const struct index_entry *e, enum index_key by, int64_t key)
{

	switch (by) {
	case INDEX_OFFSET:
		return (e->offset > key);
	case INDEX_POSITION:
		return (e->position > key);
	default:
		return (e->max_time_ms >= key);
	}
}

static void
begin_segment(const struct plog_segment *segment, int64_t *number,
    struct index_entry *e)
{

	e->offset = segment->base;
	e->position = 0;
	e->max_time_ms = NO_TIME;
	e->heads = 0;
	*number = -1;
}

void
index_find(struct plog *log, struct plog_segment *segment, enum index_key by,
    int64_t key, int64_t *number, struct index_entry *e)
{
	struct index_entry at;
	int64_t low = 0, high = segment->entries, middle;

	if (!segment->sealed)
		high += log->index.pending_count;
	begin_segment(segment, number, e);
	while (low < high) {
		middle = low + (high - low) / 2;
		if (!index_get(log, segment, middle, &at)) {
			begin_segment(segment, number, e);
			return;
		}
		if (is_beyond(&at, by, key)) {
			high = middle;
			continue;
		}
		*e = at;
		*number = middle;
		low = middle + 1;
	}
}
