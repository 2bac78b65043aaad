#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "segment/bytes.h"
#include "segment/tidy.h"

#define SLOTS_LEAST ((size_t)1024)
#define SLOTS_MOST ((size_t)1 << 18) /* 6 MiB */
#define KEYS_MOST (SLOTS_MOST / 4 * 3)

/* The newest offset of each key, the key being 128 bits that stand for it. */
struct latest {
	uint64_t a, b; /* both 0: nothing here */
	int64_t offset;
};

struct compaction {
	struct plog_tidy *tidy;
	struct latest *slots;
	size_t slot_count, used;
	uint64_t secrets[4];
	int full;
	int64_t known_to; /* keys of records below this are in the table */
	int unreadable; /* some keys aren't known */
	struct buffer body; /* uncompressed */
	struct buffer batch; /* as read */
	struct buffer rewritten;
	/* The segment that is being written. */
	int log_fd, index_fd;
	int64_t written;
	struct index_writer index;
	struct plog_segment *fresh;
	int drop_tombstones;
	int dropped; /* it lacks records of the old one */
};

/* ---- Keys --------------------------------------------------------------- */

static uint64_t
rotate(uint64_t x, int bits)
{

	return ((x << bits) | (x >> (64 - bits)));
}

static void
sip_round(uint64_t v[4])
{

	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

/* SipHash-2-4 (Aumasson and Bernstein), so that nobody can choose keys that
 * collide and so make one record delete another. */
static uint64_t
sip(const uint64_t secret[2], const uint8_t *p, size_t size)
{
	uint64_t v[4] = {secret[0] ^ 0x736f6d6570736575u,
	    secret[1] ^ 0x646f72616e646f6du, secret[0] ^ 0x6c7967656e657261u,
	    secret[1] ^ 0x7465646279746573u};
	uint64_t word, last = (uint64_t)size << 56;
	size_t i;

	for (; size >= 8; size -= 8, p += 8) {
		memcpy(&word, p, sizeof(word));
		v[3] ^= word;
		sip_round(v);
		sip_round(v);
		v[0] ^= word;
	}
	for (i = 0; i < size; i++)
		last |= (uint64_t)p[i] << (8 * i);
	v[3] ^= last;
	sip_round(v);
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (i = 0; i < 4; i++)
		sip_round(v);
	return (v[0] ^ v[1] ^ v[2] ^ v[3]);
}

static struct latest
key_of(const struct compaction *c, const struct batch_record *r)
{
	struct latest key;

	key.a = sip(c->secrets, r->key, (size_t)r->key_length) | 1;
	key.b = sip(c->secrets + 2, r->key, (size_t)r->key_length);
	key.offset = 0;
	return (key);
}

static struct latest *
find_slot(struct latest *slots, size_t count, const struct latest *key)
{
	size_t i = key->b & (count - 1);

	while (
	    slots[i].a != 0 && (slots[i].a != key->a || slots[i].b != key->b))
		i = (i + 1) & (count - 1);
	return (&slots[i]);
}

/* Room for one more key: 1, 0 if the table is as large as it gets, -1. */
static int
make_room(struct compaction *c)
{
	struct latest *grown;
	size_t count, i;

	if (c->used < c->slot_count / 4 * 3)
		return (1);
	if (c->slot_count == SLOTS_MOST)
		return (0);
	count = c->slot_count > 0 ? c->slot_count * 2 : SLOTS_LEAST;
	if ((grown = calloc(count, sizeof(*grown))) == NULL)
		return (-1);
	for (i = 0; i < c->slot_count; i++)
		if (c->slots[i].a != 0)
			*find_slot(grown, count, &c->slots[i]) = c->slots[i];
	free(c->slots);
	c->slots = grown;
	c->slot_count = count;
	return (1);
}

/* ---- Reading ------------------------------------------------------------ */

static int
no_memory(const struct compaction *c, struct mr_error *err)
{

	return (mr_error_set(err, MR_RETRY, "no memory to compact %s",
	    c->tidy->path));
}

static int
stopped(const struct compaction *c, struct mr_error *err)
{

	if (!atomic_load(&c->tidy->stop))
		return (0);
	mr_error_set(err, MR_RETRY, "compacting %s was stopped", c->tidy->path);
	return (1);
}

/* The batch that a scanner found, whole: 0 or -1. */
static int
load_batch(struct compaction *c, const struct scanner *s, struct mr_error *err)
{
	int64_t size = batch_size(&s->h), at, piece;
	uint8_t bytes[16384];

	buffer_clear(&c->batch);
	for (at = 0; at < size; at += piece) {
		piece = size - at < (int64_t)sizeof(bytes) ?
		    size - at :
		    (int64_t)sizeof(bytes);
		if (read_whole(s->fd, bytes, (size_t)piece,
			s->batch_position + at) == -1) {
			(void)io_error(err, "read a segment of", c->tidy->path,
			    "");
			return (-1);
		}
		buffer_add(&c->batch, bytes, (size_t)piece);
	}
	return (c->batch.failed ? no_memory(c, err) : 0);
}

static const uint8_t *
batch_bytes(const struct compaction *c)
{

	return ((const uint8_t *)buffer_text(&c->batch));
}

/* Its records: 1, or 0 if they can't be read, or could have more keys than the
 * largest table. */
static int
open_body(struct compaction *c, const struct batch_header *h,
    const uint8_t **at, const uint8_t **end)
{
	size_t size = 0;

	if ((h->attributes & BATCH_CONTROL) != 0 ||
	    h->record_count > (int32_t)KEYS_MOST ||
	    batch_body(batch_bytes(c), h, &c->body, at, &size) != 1)
		return (0);
	*end = *at + size;
	return (1);
}

/* 1, 0 at the end, -1 if it is none, or one more than the batch says. */
static int
next_record(const struct scanner *s, const uint8_t **at, const uint8_t *end,
    int32_t count, struct batch_record *r)
{
	int rc = batch_record_next(at, end, r);

	return (rc == 1 && count >= s->h.record_count ? -1 : rc);
}

/* Keys of one batch into the table: 1, 0 when it is full, -1. */
static int
note_keys(struct compaction *c, const struct scanner *s, struct mr_error *err)
{
	const uint8_t *at, *end;
	struct batch_record r;
	struct latest key, *slot;
	int32_t count = 0;
	int rc;

	if (load_batch(c, s, err) == -1)
		return (-1);
	if (!open_body(c, &s->h, &at, &end)) {
		c->unreadable = 1;
		return (1);
	}
	while ((rc = next_record(s, &at, end, count++, &r)) == 1) {
		if (r.key_length < 0)
			continue;
		if ((rc = make_room(c)) != 1)
			return (rc == 0 ? 0 : no_memory(c, err));
		key = key_of(c, &r);
		key.offset = s->h.base_offset + r.offset_delta;
		slot = find_slot(c->slots, c->slot_count, &key);
		if (slot->a == 0)
			c->used++;
		if (slot->a == 0 || slot->offset < key.offset)
			*slot = key;
	}
	c->unreadable |= rc == -1;
	return (1);
}

static int
start_scan(struct compaction *c, struct scanner *s,
    const struct plog_segment *segment, struct mr_error *err)
{

	if (scanner_init(s, segment->fd, 0, segment->size, segment->base,
		segment->next, 0) == -1)
		return (no_memory(c, err));
	return (0);
}

static int
note_segment(struct compaction *c, const struct plog_segment *segment,
    struct mr_error *err)
{
	struct scanner s;
	struct damage d;
	int rc, ok = 1;

	if (start_scan(c, &s, segment, err) == -1)
		return (-1);
	while (ok == 1 && (rc = scanner_next(&s)) != 0) {
		if (rc == 1 && s.next_offset <= c->tidy->dirty_from)
			; /* noted by the round that had no room for more */
		else if (rc == 1) {
			ok = note_keys(c, &s, err);
			if (ok == 1)
				c->known_to = s.next_offset;
		} else if (rc == -2 || scanner_resync(&s, &d) == -2) {
			(void)io_error(err, "read a segment of", c->tidy->path,
			    "");
			ok = -1;
		} else
			c->unreadable = 1;
		if (stopped(c, err))
			ok = -1;
	}
	scanner_done(&s);
	if (ok == 0)
		c->full = 1;
	else if (ok == 1)
		c->known_to = segment->next;
	return (ok == -1 ? -1 : 0);
}

/* ---- Writing ------------------------------------------------------------ */

static int
is_kept(const struct compaction *c, const struct batch_record *r,
    int64_t offset)
{
	struct latest key;
	const struct latest *slot;

	if (r->key_length < 0 || c->slot_count == 0)
		return (1);
	key = key_of(c, r);
	slot = find_slot(c->slots, c->slot_count, &key);
	if (slot->a != 0 && slot->offset > offset)
		return (0);
	return (r->value_length >= 0 || !c->drop_tombstones);
}

/* Append a batch to the new segment. */
static int
put_batch(struct compaction *c, const uint8_t *batch, size_t size,
    struct mr_error *err)
{
	struct batch_header h;

	batch_header_read(batch, &h);
	if (write_whole(c->log_fd, batch, size, c->written) == -1 ||
	    (index_writer_add(&c->index, c->fresh->base, c->written,
		 h.base_offset, h.max_timestamp_ms, batch) &&
		index_writer_flush(&c->index, c->index_fd,
		    &c->fresh->entries) == -1)) {
		(void)io_error(err, "write a compacted segment of",
		    c->tidy->path, "");
		return (-1);
	}
	c->written += (int64_t)size;
	return (0);
}

/* What was kept of a batch, in its codec: its offsets and sequences stay. */
static size_t
finish_rewritten(uint8_t *p, size_t size, const struct batch_header *h,
    int32_t count, int64_t newest_ms)
{
	int codec = batch_pack(p, &size, h->attributes & BATCH_CODEC_MASK);

	put_i32(p + BATCH_AT_LENGTH, (int32_t)size - 12);
	put_i16(p + BATCH_AT_ATTRIBUTES,
	    (int16_t)((h->attributes & ~BATCH_CODEC_MASK) | codec));
	put_i32(p + BATCH_AT_RECORD_COUNT, count);
	if ((h->attributes & BATCH_APPEND_TIME) == 0)
		put_i64(p + BATCH_AT_MAX_TIMESTAMP, newest_ms);
	batch_seal(p, size);
	return (size);
}

static int
put_as_it_is(struct compaction *c, struct mr_error *err)
{

	return (put_batch(c, batch_bytes(c), c->batch.length, err));
}

/* A batch whose records can't be read.  What tombstones behind it delete may be
 * in there, so those stay: in this round, too, if the batch is from before. */
static int
put_unreadable(struct compaction *c, struct mr_error *err)
{

	c->tidy->did.unreadable_batches++;
	c->unreadable = 1;
	c->drop_tombstones = 0;
	return (put_as_it_is(c, err));
}

/* One batch of an old segment: as it is, a part of it, or nothing. */
static int
rewrite_batch(struct compaction *c, const struct scanner *s,
    struct mr_error *err)
{
	const uint8_t *at, *end;
	struct batch_record r;
	int64_t newest_ms = NO_TIME, time_ms;
	int32_t kept = 0, count = 0;
	uint8_t *p;
	int rc;

	if (load_batch(c, s, err) == -1)
		return (-1);
	if (s->h.base_offset >= c->known_to)
		return (put_as_it_is(c, err));
	if (!open_body(c, &s->h, &at, &end))
		return (put_unreadable(c, err));
	buffer_clear(&c->rewritten);
	buffer_add(&c->rewritten, batch_bytes(c), BATCH_HEADER_SIZE);
	for (; (rc = next_record(s, &at, end, count, &r)) == 1; count++) {
		if (!is_kept(c, &r, s->h.base_offset + r.offset_delta))
			continue;
		kept++;
		buffer_add(&c->rewritten, r.start, r.size);
		time_ms = s->h.base_timestamp_ms + r.timestamp_delta;
		newest_ms = time_ms > newest_ms ? time_ms : newest_ms;
	}
	if (rc == -1)
		return (put_unreadable(c, err));
	if (kept == count)
		return (put_as_it_is(c, err));
	c->dropped = 1;
	if (kept == 0)
		return (0);
	if (c->rewritten.failed)
		return (no_memory(c, err));
	p = (uint8_t *)c->rewritten.data;
	return (put_batch(c, p,
	    finish_rewritten(p, c->rewritten.length, &s->h, kept, newest_ms),
	    err));
}

static int
make_file(struct compaction *c, const char *suffix, int *fd,
    struct mr_error *err)
{
	char name[NAME_SIZE];

	file_name(name, c->fresh->base, suffix);
	*fd = openat(c->tidy->folder_fd, name,
	    O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	if (*fd == -1) {
		(void)io_error(err, "make", c->tidy->path, name);
		return (-1);
	}
	return (0);
}

static int
move_file(const struct compaction *c, const char *from, const char *to)
{
	char old[NAME_SIZE], name[NAME_SIZE];

	file_name(old, c->fresh->base, from);
	file_name(name, c->fresh->base, to);
	return (renameat(c->tidy->folder_fd, old, c->tidy->folder_fd, name));
}

/*
 * Put the new files in the old ones' place.  The index goes first: with the old
 * log it doesn't fit, by the size that it says, and is made anew.
 */
static int
put_in_place(struct compaction *c, const struct plog_segment *old,
    struct mr_error *err)
{
	/* What is left is as old as it was. */
	const struct timespec times[2] = {{0, UTIME_OMIT},
	    {old->written_ms / 1000, old->written_ms % 1000 * 1000000}};

	c->fresh->size = c->written;
	c->fresh->next = old->next;
	c->fresh->max_time_ms = c->index.max_time_ms;
	c->fresh->written_ms = old->written_ms;
	c->fresh->clean_ms = old->clean_ms;
	c->fresh->sealed = c->fresh->compacted = 1;
	if (index_writer_seal(&c->index, c->index_fd, c->fresh) == -1 ||
	    futimens(c->log_fd, times) == -1 || fsync(c->log_fd) == -1 ||
	    fsync(c->index_fd) == -1) {
		(void)io_error(err, "write a compacted segment of",
		    c->tidy->path, "");
		return (-1);
	}
	if (move_file(c, ".index.cleaned", ".index") == -1 ||
	    move_file(c, ".log.cleaned", ".log") == -1 ||
	    fsync(c->tidy->folder_fd) == -1)
		/* Names may now say other files than those that are open. */
		return (mr_error_set(err, MR_FATAL,
		    "can't put a compacted segment into %s: %s", c->tidy->path,
		    strerror(errno)));
	return (0);
}

static void
discard(struct compaction *c)
{
	char name[NAME_SIZE];

	file_name(name, c->fresh->base, ".log.cleaned");
	(void)unlinkat(c->tidy->folder_fd, name, 0);
	file_name(name, c->fresh->base, ".index.cleaned");
	(void)unlinkat(c->tidy->folder_fd, name, 0);
	free(c->fresh);
	c->fresh = NULL;
}

/* All batches of a segment through the sieve: 1, 0 if it is damaged, -1. */
static int
sieve(struct compaction *c, const struct plog_segment *old,
    struct mr_error *err)
{
	struct scanner s;
	int rc;

	if (start_scan(c, &s, old, err) == -1)
		return (-1);
	while ((rc = scanner_next(&s)) == 1)
		if (rewrite_batch(c, &s, err) == -1 || stopped(c, err)) {
			scanner_done(&s);
			return (-1);
		}
	scanner_done(&s);
	if (rc == -2) {
		(void)io_error(err, "read a segment of", c->tidy->path, "");
		return (-1);
	}
	return (rc == 0);
}

/* A tombstone goes delete.retention.ms after the first round over it, which took
 * what it deletes (KIP-534): who read that before has so long to read this. */
static int
tombstones_go(const struct compaction *c, const struct plog_segment *old)
{

	return (!c->unreadable && old->next <= c->tidy->dirty_from &&
	    old->clean_ms > 0 &&
	    old->clean_ms < c->tidy->now_ms - c->tidy->delete_retention_ms);
}

static int
compact_segment(struct compaction *c, struct tidy_segment *ts,
    struct mr_error *err)
{
	int rc = -1;

	c->log_fd = c->index_fd = -1;
	c->written = 0;
	c->dropped = 0;
	index_writer_init(&c->index);
	c->drop_tombstones = tombstones_go(c, ts->old);
	if ((c->fresh = segment_new(ts->old->base)) == NULL)
		return (no_memory(c, err));
	if (make_file(c, ".log.cleaned", &c->log_fd, err) == 0 &&
	    make_file(c, ".index.cleaned", &c->index_fd, err) == 0)
		rc = sieve(c, ts->old, err);
	if (rc == 0) {
		c->tidy->did.damaged_segments++;
		c->unreadable = 1;
	}
	/* One that loses nothing stays.  One that does goes even if what takes
	 * its place is larger, compressed less well: a later round may delete
	 * the tombstones that its records went for. */
	if (rc == 1 && (!c->dropped || c->written > UINT32_MAX))
		rc = 0;
	if (rc == 1 && put_in_place(c, ts->old, err) == -1)
		rc = -1;
	if (c->log_fd != -1)
		close(c->log_fd);
	if (c->index_fd != -1)
		close(c->index_fd);
	if (rc != 1)
		discard(c);
	else
		ts->fresh = c->fresh;
	return (rc == -1 ? -1 : 0);
}

int
tidy_compact(struct plog_tidy *tidy, struct mr_error *err)
{
	struct compaction c;
	size_t i;
	int rc = 0;

	memset(&c, 0, sizeof(c));
	c.tidy = tidy;
	c.known_to = tidy->dirty_from;
	buffer_init(&c.batch, (size_t)INT32_MAX);
	buffer_init(&c.rewritten, (size_t)INT32_MAX);
	if (getrandom(c.secrets, sizeof(c.secrets), 0) !=
	    (ssize_t)sizeof(c.secrets))
		return (mr_error_set(err, MR_RETRY, "no random numbers"));
	for (i = 0; i < tidy->count && rc == 0 && !c.full; i++)
		if (tidy->segments[i].old->next > tidy->dirty_from)
			rc = note_segment(&c, tidy->segments[i].old, err);
	/* Oldest first: a tombstone outlives on disk what it deletes. */
	for (i = 0; i < tidy->count && rc == 0; i++)
		if (tidy->segments[i].old->base < c.known_to)
			rc = compact_segment(&c, &tidy->segments[i], err);
	if (rc == 0)
		tidy->cleaned_to = c.known_to;
	free(c.slots);
	buffer_free(&c.body);
	buffer_free(&c.batch);
	buffer_free(&c.rewritten);
	return (rc);
}
