#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "segment/bytes.h"
#include "segment/internal.h"

#define WINDOW ((int64_t)128 << 10)

int
scanner_init(struct scanner *s, int fd, int64_t position, int64_t size,
    int64_t next_offset, int64_t limit_offset, int strict)
{

	memset(s, 0, sizeof(*s));
	s->fd = fd;
	s->position = position;
	s->size = size;
	s->next_offset = next_offset;
	s->limit_offset = limit_offset;
	s->strict = strict;
	s->epoch_most = INT32_MAX;
	s->window = malloc((size_t)WINDOW);
	return (s->window != NULL ? 0 : -1);
}

void
scanner_done(struct scanner *s)
{

	free(s->window);
	s->window = NULL;
}

/* Bytes at a position, at least ${need} of them unless the file ends before;
 * *length is how many.  NULL with errno. */
static const uint8_t *
look(struct scanner *s, int64_t position, int64_t need, int64_t *length)
{
	int64_t end = s->window_at + s->window_length;

	if (position < s->window_at || position + need > end) {
		s->window_at = position;
		s->window_length = s->size - position < WINDOW ?
		    s->size - position :
		    WINDOW;
		if (read_whole(s->fd, s->window, (size_t)s->window_length,
			position) == -1) {
			s->window_length = 0;
			return (NULL);
		}
		end = s->window_at + s->window_length;
	}
	*length = end - position;
	return (s->window + (position - s->window_at));
}

/* Can this header be that of a batch there?  What the CRC leaves out. */
static int
is_plausible(const struct scanner *s, int64_t position, int strict)
{
	const struct batch_header *h = &s->h;

	return (h->magic == 2 && h->length >= BATCH_LENGTH_LEAST &&
	    batch_size(h) <= s->size - position && h->last_offset_delta >= 0 &&
	    h->base_offset >= s->next_offset &&
	    (!strict || h->base_offset == s->next_offset) &&
	    h->base_offset < s->limit_offset - h->last_offset_delta &&
	    h->leader_epoch >= 0 && h->leader_epoch <= s->epoch_most);
}

/* 1 if a batch that may follow is there, -1 if not, -2 with errno. */
static int
check_at(struct scanner *s, int64_t position, int strict)
{
	const uint8_t *p;
	int64_t length, at, end;
	uint32_t sum;

	if (s->size - position < BATCH_HEADER_SIZE)
		return (-1);
	if ((p = look(s, position, BATCH_HEADER_SIZE, &length)) == NULL)
		return (-2);
	if (p[BATCH_AT_MAGIC] != 2)
		return (-1);
	batch_header_read(p, &s->h);
	/* The window is the scanner's, and scanner_done frees it. */
	if (!is_plausible(s, position, strict))
		return (-1); /* NOLINT(clang-analyzer-unix.Malloc) */
	memcpy(s->head, p, sizeof(s->head));
	at = position + BATCH_AT_ATTRIBUTES;
	end = position + batch_size(&s->h);
	for (sum = 0; at < end; at += length) {
		/* As much as the window has, and a new one behind that. */
		if ((p = look(s, at, 1, &length)) == NULL)
			return (-2);
		if (length > end - at)
			length = end - at;
		sum = crc32c(sum, p, (size_t)length);
	}
	return (sum == s->h.crc ? 1 : -1);
}

static void
step(struct scanner *s)
{

	s->batch_position = s->position;
	s->behind_hole = s->h.base_offset > s->next_offset;
	s->position += batch_size(&s->h);
	s->next_offset = s->h.base_offset + s->h.last_offset_delta + 1;
}

int
scanner_next(struct scanner *s)
{
	int rc;

	if (s->position >= s->size)
		return (0);
	if ((rc = check_at(s, s->position, s->strict)) == 1)
		step(s);
	return (rc);
}

int
scanner_resync(struct scanner *s, struct damage *d)
{
	const uint8_t *p;
	int64_t at, length, claimed = 0;
	int rc;

	d->position = s->position;
	d->from = s->next_offset;
	/* Where the batch says that it ends, before anywhere else: a record may
	 * hold what looks like a batch. */
	if (s->size - s->position >= BATCH_HEADER_SIZE) {
		if ((p = look(s, s->position, BATCH_HEADER_SIZE, &length)) ==
		    NULL)
			return (-2);
		claimed = (int64_t)get_i32(p + BATCH_AT_LENGTH) + 12;
	}
	at = s->position + (claimed >= BATCH_HEADER_SIZE ? claimed : 1);
	if (at <= s->size && claimed >= BATCH_HEADER_SIZE) {
		rc = at == s->size ? -1 : check_at(s, at, 0);
		if (rc == -2)
			return (-2);
		if (rc == 1)
			goto found;
	}
	for (at = s->position + 1; at < s->size; at++) {
		rc = check_at(s, at, 0);
		if (rc == -2)
			return (-2);
		if (rc == 1)
			goto found;
	}
	d->to = s->limit_offset;
	d->resume = s->size;
	s->position = s->size;
	return (0);
found:
	d->to = s->h.base_offset;
	d->resume = at;
	s->position = at;
	s->next_offset = s->h.base_offset;
	return (1);
}

/* ---- Checking what a reader is about to get ----------------------------- */

/* From one entry of the index to the next. */
struct interval {
	int64_t number; /* of the entry that it begins with; -1: none */
	struct index_entry begin, end;
	int checked; /* the end knows the sum of the heads */
};

static void
interval_end(struct plog *log, struct plog_segment *segment, struct interval *i)
{

	if (index_get(log, segment, i->number + 1, &i->end))
		i->checked = 1;
	else {
		i->end.position = segment->size;
		i->end.offset = segment->next;
		i->end.heads = segment->last_heads;
		i->checked = segment->sealed;
	}
	i->checked &= !segment->index_lost;
}

/* 0 if all is well from ${from} on, 1 with *d, or -2 with errno.  Damage before
 * that puts *well_from behind it. */
static int
check_interval(struct scanner *s, const struct interval *i, int64_t from,
    int64_t *well_from, struct damage *d)
{
	uint32_t heads = 0;
	int rc, whole = 1;

	s->position = i->begin.position;
	s->next_offset = i->begin.offset;
	s->size = i->end.position;
	s->limit_offset = i->end.offset;
	while ((rc = scanner_next(s)) != 0) {
		if (rc == -2)
			return (-2);
		if (rc == 1) {
			heads = crc32c(heads, s->head, HEAD_SIZE);
			continue;
		}
		whole = 0;
		heads = 0;
		if (scanner_resync(s, d) == -2)
			return (-2);
		if (d->resume > from)
			return (1);
		*well_from = d->resume;
	}
	if (!whole || !i->checked || heads == i->end.heads)
		return (0);
	d->position = i->begin.position;
	d->from = i->begin.offset;
	d->to = i->end.offset;
	d->resume = i->end.position;
	if (d->resume > from)
		return (1);
	*well_from = d->resume;
	return (0);
}

int
segment_check(struct plog *log, struct plog_segment *segment, int64_t from,
    int64_t to, struct damage *d, struct mr_error *err)
{
	struct scanner s;
	struct interval i;
	int64_t first;
	int rc = 0;

	d->position = d->resume = -1;
	if (to > segment->trusted_from)
		to = segment->trusted_from;
	if (from >= to ||
	    (from >= segment->checked_from && to <= segment->checked_to))
		return (PLOG_OK);
	if (from >= segment->known.position && from < segment->known.resume) {
		*d = segment->known;
		return (PLOG_OK);
	}
	if (from >= segment->checked_from && from < segment->checked_to)
		from = segment->checked_to;
	index_find(log, segment, INDEX_POSITION, from, &i.number, &i.begin);
	first = i.begin.position;
	if (scanner_init(&s, segment->fd, first, to, 0, 0,
		!segment->compacted) == -1) {
		mr_error_set(err, MR_RETRY, "no memory to check %s", log->path);
		return (PLOG_NO_MEMORY);
	}
	while (i.begin.position < to && rc == 0) {
		interval_end(log, segment, &i);
		rc = check_interval(&s, &i, from, &first, d);
		if (rc == 0)
			i.begin = i.end;
		i.number++;
	}
	scanner_done(&s);
	if (rc == -2)
		return (io_error(err, "read a segment of", log->path, "log"));
	if (rc == 0)
		d->position = -1;
	else
		segment->known = *d;
	/* One stretch is remembered, and grows as long as reading goes on. */
	if (first > segment->checked_to || first < segment->checked_from)
		segment->checked_from = first;
	segment->checked_to = rc == 0 ? i.begin.position : d->position;
	if (segment->checked_to >= segment->trusted_from)
		segment->trusted_from = segment->checked_from;
	return (PLOG_OK);
}
