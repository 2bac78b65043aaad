#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "segment/bytes.h"
#include "segment/internal.h"

/* As much is checked at once of what nobody has checked yet. */
#define CHECK_MOST ((int64_t)1 << 20)

/* Where reading is to start. */
struct place {
	struct plog_segment *segment;
	int64_t limit; /* what of the file may be read */
	int64_t position;
	struct batch_header h; /* of the batch there */
};

static int64_t
limit_of(const struct plog *log, const struct plog_segment *segment)
{
	int64_t base, position;

	plog_high_at(log, &base, &position);
	if (segment->base < base)
		return (segment->size);
	return (segment->base == base ? position : 0);
}

static void
keep_cursor(struct plog *log, const struct plog_segment *segment,
    int64_t offset, int64_t position)
{
	struct cursor *c = NULL;
	unsigned i;

	for (i = 0; i < CURSORS; i++)
		if (log->cursors[i].segment == segment &&
		    log->cursors[i].offset == offset)
			return;
	c = &log->cursors[log->next_cursor++ % CURSORS];
	c->segment = segment;
	c->offset = offset;
	c->position = position;
}

static int64_t
find_cursor(const struct plog *log, const struct plog_segment *segment,
    int64_t offset)
{
	unsigned i;

	for (i = 0; i < CURSORS; i++)
		if (log->cursors[i].segment == segment &&
		    log->cursors[i].offset == offset)
			return (log->cursors[i].position);
	return (-1);
}

static int
say_damaged(const struct plog *log, const struct plog_segment *segment,
    const struct damage *d, struct plog_span *span, struct mr_error *err)
{
	char name[NAME_SIZE];

	file_name(name, segment->base, ".log");
	span->base_offset = d->from;
	span->next_offset = d->to;
	mr_error_set(err, MR_REJECT,
	    "%s/%s is damaged at byte %lld: offsets %lld to %lld can't be read",
	    log->path, name, (long long)d->position, (long long)d->from,
	    (long long)d->to - 1);
	return (PLOG_DAMAGED);
}

/* The header at a position of a file, whole and inside of the limit: 0, or -1
 * with errno; 0: it was read, and is none. */
static int
read_header(const struct place *at, int64_t position, struct batch_header *h)
{
	uint8_t bytes[BATCH_HEADER_SIZE];

	errno = 0;
	if (at->limit - position < BATCH_HEADER_SIZE ||
	    read_whole(at->segment->fd, bytes, sizeof(bytes), position) == -1)
		return (-1);
	batch_header_read(bytes, h);
	errno = 0;
	return (h->magic == 2 && h->length >= BATCH_LENGTH_LEAST &&
		    batch_size(h) <= at->limit - position ?
		0 :
		-1);
}

/* It was changed since it was written or scanned: all of it is looked at anew. */
static void
doubt(struct plog *log, struct plog_segment *segment)
{

	segment->trusted_from = segment->size;
	segment->checked_from = segment->checked_to = 0;
	memset(&segment->known, 0, sizeof(segment->known));
	memset(log->cursors, 0, sizeof(log->cursors));
	log->doubted = 1;
}

static int
unreadable(struct plog *log, const struct place *at, int64_t position,
    struct mr_error *err)
{
	char name[NAME_SIZE];

	if (errno == 0)
		doubt(log, at->segment);
	file_name(name, at->segment->base, ".log");
	mr_error_set(err, MR_RETRY, "can't read %s/%s at byte %lld", log->path,
	    name, (long long)position);
	return (PLOG_IO);
}

/*
 * The batch in a segment that has an offset or the first behind it: PLOG_OK, with
 * at->position at the limit if there is none, or a code.
 */
static int
locate(struct plog *log, struct place *at, int64_t offset,
    struct plog_span *span, struct mr_error *err)
{
	struct index_entry e;
	struct damage d;
	int64_t number;
	int code;

	at->position = find_cursor(log, at->segment, offset);
	if (at->position == -1) {
		index_find(log, at->segment, INDEX_OFFSET, offset, &number, &e);
		at->position = e.position;
	}
	while (at->position < at->limit) {
		code = segment_check(log, at->segment, at->position,
		    at->position + 1, &d, err);
		if (code != PLOG_OK)
			return (code);
		if (d.position != -1 && offset >= d.to) {
			at->position = d.resume;
			continue;
		}
		if (d.position != -1 &&
		    (offset >= d.from || d.position <= at->position))
			return (say_damaged(log, at->segment, &d, span, err));
		if (read_header(at, at->position, &at->h) == -1)
			return (unreadable(log, at, at->position, err));
		if (at->h.base_offset + at->h.last_offset_delta >= offset)
			return (PLOG_OK);
		at->position += batch_size(&at->h);
	}
	return (PLOG_OK);
}

/* The segment, and the batch in it, where an offset is read. */
static int
find_place(struct plog *log, int64_t offset, struct place *at,
    struct plog_span *span, struct mr_error *err)
{
	struct damage d;
	size_t i = segments_find(log, offset);
	int code;

	for (;; i++) {
		at->segment = log->segments[i];
		at->limit = limit_of(log, at->segment);
		at->position = at->limit;
		if (offset < at->segment->next) {
			code = segment_open(log, at->segment, err);
			if (code == PLOG_OK)
				code = locate(log, at, offset, span, err);
			if (code != PLOG_OK)
				return (code);
		}
		if (at->position < at->limit || i + 1 == log->count)
			return (PLOG_OK);
		/* Nothing is missing between segments but by compaction. */
		d.from = at->segment->next;
		d.to = log->segments[i + 1]->base;
		d.position = at->segment->size;
		if (!at->segment->compacted && offset >= d.from &&
		    offset < d.to)
			return (say_damaged(log, at->segment, &d, span, err));
		if (offset < log->segments[i + 1]->base)
			offset = log->segments[i + 1]->base;
	}
}

/* The last boundary of batches that isn't above ${target}. */
static int
find_end(struct plog *log, const struct place *at, int64_t target,
    struct plog_span *span, struct mr_error *err)
{
	struct batch_header h = at->h;
	struct index_entry e;
	int64_t number, position = at->position, next = h.base_offset;

	index_find(log, at->segment, INDEX_POSITION, target, &number, &e);
	if (e.position > position) {
		position = e.position;
		next = e.offset;
	}
	while (position < target) {
		if (read_header(at, position, &h) == -1)
			return (unreadable(log, at, position, err));
		if (position + batch_size(&h) > target)
			break;
		position += batch_size(&h);
		next = h.base_offset + h.last_offset_delta + 1;
	}
	span->length = position - at->position;
	span->next_offset = next;
	return (PLOG_OK);
}

/* How far from a place reading may go: by size, by the file, by damage. */
static int
measure(struct plog *log, struct place *at, int64_t most, int whole,
    struct plog_span *span, struct mr_error *err)
{
	int64_t first = batch_size(&at->h), target;
	struct damage d;
	int code;

	if (first > most && !whole)
		return (PLOG_OK);
	if (most < first)
		most = first;
	if (at->position < at->segment->trusted_from && most > CHECK_MOST)
		most = first > CHECK_MOST ? first : CHECK_MOST;
	target = most < at->limit - at->position ? at->position + most :
						   at->limit;
	code = segment_check(log, at->segment, at->position, target, &d, err);
	if (code != PLOG_OK)
		return (code);
	if (d.position != -1 && d.position <= at->position)
		return (say_damaged(log, at->segment, &d, span, err));
	if (d.position != -1 && d.position < target)
		target = d.position;
	if (target == at->limit) {
		span->length = target - at->position;
		span->next_offset = target == at->segment->size ?
		    at->segment->next :
		    plog_high(log);
		return (PLOG_OK);
	}
	return (find_end(log, at, target, span, err));
}

static int
read_span(struct plog *log, int64_t offset, int64_t most, int whole,
    struct plog_span *span, struct mr_error *err)
{
	struct place at;
	int64_t base, position;
	int code;

	memset(span, 0, sizeof(*span));
	span->fd = -1;
	span->base_offset = span->next_offset = offset;
	if (offset < log->start || offset > log->end) {
		mr_error_set(err, MR_REJECT,
		    "offset %lld is outside of %lld to %lld", (long long)offset,
		    (long long)log->start, (long long)log->end);
		return (PLOG_OUT_OF_RANGE);
	}
	if (offset >= plog_high(log)) {
		plog_high_at(log, &base, &position);
		keep_cursor(log, log->segments[segments_find(log, base)],
		    offset, position);
		return (PLOG_OK);
	}
	if ((code = find_place(log, offset, &at, span, err)) != PLOG_OK)
		return (code);
	if (at.position >= at.limit)
		return (PLOG_OK);
	span->base_offset = at.h.base_offset;
	span->next_offset = at.h.base_offset;
	if ((code = measure(log, &at, most, whole, span, err)) != PLOG_OK)
		return (code);
	span->fd = at.segment->fd;
	span->position = at.position;
	span->segment = at.segment;
	at.segment->refs++;
	at.segment->used_ms = clock_mono_us() / 1000;
	keep_cursor(log, at.segment, span->next_offset,
	    at.position + span->length);
	return (PLOG_OK);
}

int
plog_read(struct plog *log, int64_t offset, int64_t most, int whole,
    struct plog_span *span, struct mr_error *err)
{
	int code;

	log->doubted = 0;
	code = read_span(log, offset, most, whole, span, err);
	/* Then it's known by now what can't be read, and what can. */
	if (code == PLOG_IO && log->doubted)
		code = read_span(log, offset, most, whole, span, err);
	return (code);
}

void
plog_release(struct plog *log, struct plog_span *span)
{

	if (span->segment != NULL)
		segment_release(log, span->segment);
	span->segment = NULL;
	span->fd = -1;
}

int64_t
plog_available(const struct plog *log, int64_t offset)
{
	const struct plog_segment *segment;
	int64_t position, bytes, limit;
	double part;
	size_t i;

	if (offset >= plog_high(log))
		return (0);
	i = segments_find(log, offset);
	segment = log->segments[i];
	limit = limit_of(log, segment);
	position = find_cursor(log, segment, offset);
	if (position == -1) {
		part = segment->next > segment->base ?
		    (double)(offset - segment->base) /
			(double)(segment->next - segment->base) :
		    0;
		position = part < 1 ? (int64_t)(part * (double)segment->size) :
				      segment->size;
	}
	bytes = limit > position ? limit - position : 0;
	while (++i < log->count)
		bytes += limit_of(log, log->segments[i]);
	/* There is something; that much is certain. */
	return (bytes > 0 ? bytes : 1);
}

/* ---- By time ------------------------------------------------------------ */

/* What is looked for: the first record at or behind an offset and a time. */
struct search {
	int64_t offset, time_ms;
	int latest; /* the time is the largest that there is */
};

/* In a batch's records: 0 if it isn't among them, 1 if it is, in *out, or if
 * not all of them can be read. */
static int
find_in_records(const struct batch_header *h, const uint8_t *body,
    const uint8_t *end, const struct search *want, struct plog_found *out)
{
	struct batch_record r;
	int32_t count;
	int rc;

	for (count = 0; (rc = batch_record_next(&body, end, &r)) == 1;
	     count++) {
		if (h->base_offset + r.offset_delta < want->offset ||
		    h->base_timestamp_ms + r.timestamp_delta < want->time_ms)
			continue;
		out->offset = h->base_offset + r.offset_delta;
		out->timestamp_ms = h->base_timestamp_ms + r.timestamp_delta;
		return (1);
	}
	return (rc == -1 || count < h->record_count);
}

/* In a batch that has one by its header: 1, 0, or -1 without memory. */
static int
find_in_batch(const struct scanner *s, const struct search *want,
    struct plog_found *out)
{
	const struct batch_header *h = &s->h;
	int append_time = (h->attributes & BATCH_APPEND_TIME) != 0;
	struct plog_found whole = {.timestamp_ms = h->max_timestamp_ms};
	struct buffer memory;
	const uint8_t *body;
	uint8_t *batch;
	size_t size;
	int found;

	whole.offset = want->latest && !append_time ?
	    h->base_offset + h->last_offset_delta :
	    h->base_offset;
	if (whole.offset < want->offset)
		whole.offset = want->offset;
	*out = whole;
	if (append_time)
		return (1);
	buffer_init(&memory, 0);
	if ((batch = malloc((size_t)batch_size(h))) == NULL)
		return (-1);
	found = 1;
	if (read_whole(s->fd, batch, (size_t)batch_size(h),
		s->batch_position) == 0 &&
	    batch_body(batch, h, &memory, &body, &size) == 1)
		found = find_in_records(h, body, body + size, want, out);
	/* A header may say what isn't so; but the log isn't read for it. */
	if (found == 0 && h->base_offset >= want->offset) {
		*out = whole;
		found = 1;
	}
	buffer_free(&memory);
	free(batch);
	return (found);
}

static int
find_in_segment(struct plog *log, struct plog_segment *segment, int64_t limit,
    const struct search *want, struct plog_found *out, struct mr_error *err)
{
	struct plog_found found;
	struct index_entry e;
	struct scanner s;
	struct damage d;
	int64_t number;
	int rc, code;

	if ((code = segment_open(log, segment, err)) != PLOG_OK)
		return (code);
	index_find(log, segment, INDEX_TIME, want->time_ms, &number, &e);
	if (scanner_init(&s, segment->fd, e.position, limit, 0, INT64_MAX, 0) ==
	    -1) {
		mr_error_set(err, MR_RETRY, "no memory to search %s",
		    log->path);
		return (PLOG_NO_MEMORY);
	}
	while ((rc = scanner_next(&s)) != 0 && rc != -2) {
		if (rc == -1) {
			if (scanner_resync(&s, &d) == -2)
				break;
			continue;
		}
		if (s.h.max_timestamp_ms < want->time_ms ||
		    s.next_offset <= want->offset)
			continue;
		if ((rc = find_in_batch(&s, want, &found)) == 0)
			continue;
		if (rc == 1) {
			*out = found;
			out->leader_epoch = plog_epoch_at(log, out->offset);
		}
		break;
	}
	scanner_done(&s);
	if (rc < 0)
		return (io_error(err, "search", log->path, "log"));
	return (PLOG_OK);
}

static int
find_time(struct plog *log, const struct search *want, struct plog_found *out,
    struct mr_error *err)
{
	struct plog_segment *segment;
	int64_t limit;
	size_t i;
	int code;

	out->offset = -1;
	out->timestamp_ms = -1;
	out->leader_epoch = -1;
	for (i = segments_find(log, log->start);
	     i < log->count && out->offset == -1; i++) {
		segment = log->segments[i];
		limit = limit_of(log, segment);
		if (limit == 0 || segment->max_time_ms < want->time_ms)
			continue;
		code = find_in_segment(log, segment, limit, want, out, err);
		if (code != PLOG_OK)
			return (code);
	}
	return (PLOG_OK);
}

int
plog_find_time(struct plog *log, int64_t timestamp_ms, struct plog_found *out,
    struct mr_error *err)
{
	const struct search want = {log->start, timestamp_ms, 0};

	return (find_time(log, &want, out, err));
}

/* The largest timestamp in the part of a segment below a position. */
static int
latest_below(struct plog *log, struct plog_segment *segment, int64_t limit,
    int64_t *time_ms, struct mr_error *err)
{
	struct place at = {.segment = segment, .limit = limit};
	struct index_entry e;
	int64_t number;
	int code;

	*time_ms = segment->max_time_ms;
	if (limit == segment->size)
		return (PLOG_OK);
	if ((code = segment_open(log, segment, err)) != PLOG_OK)
		return (code);
	index_find(log, segment, INDEX_POSITION, limit, &number, &e);
	*time_ms = e.max_time_ms;
	for (at.position = e.position; at.position < limit;
	     at.position += batch_size(&at.h)) {
		if (read_header(&at, at.position, &at.h) == -1)
			return (unreadable(log, &at, at.position, err));
		if (at.h.max_timestamp_ms > *time_ms)
			*time_ms = at.h.max_timestamp_ms;
	}
	return (PLOG_OK);
}

int
plog_find_latest_time(struct plog *log, struct plog_found *out,
    struct mr_error *err)
{
	struct search want = {0, NO_TIME, 1};
	int64_t time_ms, limit;
	size_t i;
	int code;

	out->offset = -1;
	out->timestamp_ms = -1;
	out->leader_epoch = -1;
	for (i = segments_find(log, log->start); i < log->count; i++) {
		if ((limit = limit_of(log, log->segments[i])) == 0)
			continue;
		code = latest_below(log, log->segments[i], limit, &time_ms,
		    err);
		if (code != PLOG_OK)
			return (code);
		if (time_ms > want.time_ms)
			want.time_ms = time_ms;
	}
	if (want.time_ms == NO_TIME)
		return (PLOG_OK);
	return (find_time(log, &want, out, err));
}
