/* output -- what a service emits waits in the outbox, in commit order. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "stream/internal.h"

static const char sql_tail[] =
    "SELECT seq FROM output_tails WHERE topic = ?1 AND partition = ?2";
static const char sql_tail_write[] =
    "INSERT INTO output_tails (topic, partition, seq) VALUES (?1, ?2, ?3)"
    " ON CONFLICT DO UPDATE SET seq = excluded.seq";
static const char sql_issued[] =
    "SELECT max(seq) FROM (SELECT seq FROM sqlite_sequence WHERE name ="
    " 'outbox' UNION ALL SELECT max(seq) FROM outbox)";
static const char sql_issued_write[] =
    "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'outbox'";
static const char sql_issued_first[] =
    "INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', ?1)";
static const char sql_emit[] =
    "INSERT INTO outbox (seq, database, topic, partition, type, key, value,"
    " ts_ms, predecessor, cause_topic, cause_partition, cause_offset, headers)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
static const char sql_settle_offset[] =
    "INSERT INTO output_tails (topic, partition, seq, acked_offset)"
    " VALUES (?1, ?2, 0, ?3)"
    " ON CONFLICT DO UPDATE SET acked_offset = excluded.acked_offset";
static const char sql_settle[] = "DELETE FROM outbox WHERE seq <= ?1";
static const char sql_outbox_ends[] =
    "SELECT (SELECT min(seq) FROM outbox), (SELECT max(seq) FROM outbox)";
static const char sql_dead_letter[] =
    "INSERT INTO dead_letters (topic, topic_id, partition, record_offset,"
    " ts_ms, key, value, headers, reason, put_at_ms)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

static struct output *
output_find(struct stream *s, const char *topic)
{
	int i;

	for (i = 0; i < s->output_count; i++)
		if (strcmp(s->outputs[i].topic, topic) == 0)
			return (&s->outputs[i]);
	return (NULL);
}

static void
forget_tails(struct output *o)
{
	int k;

	if (!o->known)
		return;
	for (k = 0; k < o->partitions; k++)
		o->tails[k] = -1;
	o->turn = -1;
	o->known = 0;
}

void
output_begin(struct stream *s)
{
	struct output *o;
	int i;

	for (i = 0; i < s->output_count; i++) {
		o = &s->outputs[i];
		if (!s->undisturbed)
			forget_tails(o);
		if (!o->dirty)
			continue;
		memset(o->changed, 0, (size_t)o->partitions);
		o->turn_changed = 0;
		o->dirty = 0;
	}
	if (!s->undisturbed)
		s->issued = -1;
	s->issued_in_file = s->issued;
	s->tail_change_count = 0;
	if (s->placement_noted)
		placement_forget(s);
}

/* Move a tail, in memory, so that it can be moved back. */
static int
tail_move(struct stream *s, int64_t *tail, int64_t to, struct mr_error *err)
{
	struct tail_change *grown;
	size_t capacity = s->tail_change_capacity;

	if (s->tail_change_count == capacity) {
		capacity = capacity == 0 ? 64 : 2 * capacity;
		if ((grown = realloc(s->tail_changes,
			 capacity * sizeof(*grown))) == NULL)
			return (mr_error_set(err, MR_RETRY, "out of memory"));
		s->tail_changes = grown;
		s->tail_change_capacity = capacity;
	}
	s->tail_changes[s->tail_change_count].tail = tail;
	s->tail_changes[s->tail_change_count++].was = *tail;
	*tail = to;
	return (0);
}

void
output_undo_tails(struct stream *s)
{
	struct tail_change *change;

	while (s->tail_change_count > 0) {
		change = &s->tail_changes[--s->tail_change_count];
		*change->tail = change->was;
	}
	if (s->placement_noted)
		placement_forget(s);
}

/* A tail as of this transaction, read once; 0 when there is none. */
static int
tail_read(struct stream *s, const char *topic, int partition, int64_t *tail,
    struct mr_error *err)
{
	if (*tail != -1)
		return (0);
	*tail = 0;
	if (store_find(s->st, err, tail, sql_tail, store_text(topic),
		store_i64(partition)) == -1) {
		*tail = -1;
		return (-1);
	}
	return (0);
}

static int
tail_write(struct stream *s, const char *topic, int partition, int64_t tail,
    struct mr_error *err)
{
	return (store_run(s->st, err, sql_tail_write, store_text(topic),
		    store_i64(partition), store_i64(tail)) == -1 ?
		-1 :
		0);
}

int
output_issued(struct store *st, int64_t *seq, struct mr_error *err)
{

	*seq = 0;
	return (store_find(st, err, seq, sql_issued) == -1 ? -1 : 0);
}

/* Likewise read once, and written once. */
static int
issued_read(struct stream *s, struct mr_error *err)
{

	if (s->issued != -1)
		return (0);
	if (output_issued(s->st, &s->issued_in_file, err) == -1)
		return (-1);
	s->issued = s->issued_in_file;
	return (0);
}

static int
issued_write(struct stream *s, struct mr_error *err)
{
	int64_t changed;

	if (s->issued == -1 || s->issued == s->issued_in_file)
		return (0);
	changed = store_run(s->st, err, sql_issued_write, store_i64(s->issued));
	if (changed == 0)
		changed = store_run(s->st, err, sql_issued_first,
		    store_i64(s->issued));
	return (changed == -1 ? -1 : 0);
}

int
output_write_tails(struct stream *s, struct mr_error *err)
{
	struct output *o;
	int i, k;

	if (issued_write(s, err) == -1)
		return (-1);
	for (i = 0; i < s->output_count; i++) {
		o = &s->outputs[i];
		if (!o->dirty)
			continue;
		if (o->turn_changed &&
		    tail_write(s, o->topic, -1, o->turn, err) == -1)
			return (-1);
		for (k = 0; k < o->partitions; k++)
			if (o->changed[k] &&
			    tail_write(s, o->topic, k, o->tails[k], err) == -1)
				return (-1);
	}
	return (0);
}

/* The partition of a record, for ever: as its partitioner says, or by key, or in
 * turn without one. */
static int
partition_choose(struct stream *s, struct output *o,
    const struct stream_output *out, int *partition, struct mr_error *err)
{
	if (out->key != NULL && out->partitioner == NULL) {
		*partition = kafka_partition_of(out->key, out->key_size,
		    o->partitions);
		return (0);
	}
	if (tail_read(s, o->topic, -1, &o->turn, err) == -1)
		return (-1);
	*partition = out->partitioner == NULL ?
	    (int)(o->turn % o->partitions) :
	    out->partitioner(out->key, out->key_size, o->turn, o->partitions);
	if (*partition < 0 || *partition >= o->partitions)
		return (mr_error_set(err, MR_FATAL,
		    "a record is to go to partition %d of %s, which has %d",
		    *partition, o->topic, o->partitions));
	o->turn_changed = 1;
	return (tail_move(s, &o->turn, o->turn + 1, err));
}

static struct store_value
optional_blob(const void *bytes, size_t size)
{
	return (bytes == NULL ? store_null() : store_blob(bytes, size));
}

static int
emit(struct stream *s, struct output *o, const struct stream_output *out,
    const struct buffer *headers, struct mr_error *err)
{
	const struct stream_record *cause = s->applying;
	int64_t *tail, seq;
	int partition;

	o->dirty = o->known = 1;
	if (placement_read(s, o, err) == -1 ||
	    partition_choose(s, o, out, &partition, err) == -1)
		return (-1);
	tail = &o->tails[partition];
	if (tail_read(s, o->topic, partition, tail, err) == -1 ||
	    issued_read(s, err) == -1)
		return (-1);
	seq = s->issued + 1;
	/* Before the row is there: a row without its number would be damage. */
	if (tail_move(s, &s->issued, seq, err) == -1)
		return (-1);
	if (store_run(s->st, err, sql_emit, store_i64(seq),
		store_i64(s->database), store_text(o->topic),
		store_i64(partition), store_text(out->type),
		optional_blob(out->key, out->key_size),
		optional_blob(out->value, out->value_size),
		store_i64(out->ts_ms), store_i64(*tail),
		store_text(cause == NULL ? NULL : cause->topic),
		cause == NULL ? store_null() : store_i64(cause->partition),
		cause == NULL ? store_null() : store_i64(cause->offset),
		headers == NULL ?
		    store_null() :
		    store_blob(headers->data, headers->length)) == -1)
		return (-1);
	s->emitted++;
	if (out->key != NULL &&
	    placement_note(s, o, out->partitioner == NULL, seq, err) == -1)
		return (-1);
	o->changed[partition] = 1;
	return (tail_move(s, tail, seq, err));
}

int
stream_emit(struct stream *s, const struct stream_output *out,
    struct mr_error *err)
{
	struct output *o;

	if (!s->in_batch)
		return (mr_error_set(err, MR_FATAL,
		    "emitting to %s outside of a transaction", out->topic));
	if ((o = output_find(s, out->topic)) == NULL)
		return (mr_error_set(err, MR_REJECT,
		    "%s is not a declared output of %s", out->topic,
		    s->svc->name));
	if (out->type == NULL || strlen(out->type) >= TYPE_SIZE)
		return (mr_error_set(err, MR_REJECT,
		    "a record for %s has no type, or one above %d characters",
		    out->topic, TYPE_SIZE - 1));
	if (out->key_size > EMIT_BYTES_MOST ||
	    out->value_size > EMIT_BYTES_MOST - out->key_size)
		return (mr_error_set(err, MR_REJECT,
		    "a record for %s has %zu bytes, above %d", out->topic,
		    out->key_size + out->value_size, EMIT_BYTES_MOST));
	return (emit(s, o, out, NULL, err));
}

/* All headers of a record, for its row. */
static void
headers_copy(const struct kafka_record *record, struct buffer *blob)
{
	struct kafka_header h;
	size_t i;

	for (i = 0; kafka_record_header_at(record, i, &h); i++)
		headers_add(blob, h.name, h.value, h.size);
}

static void
headers_add_i64(struct buffer *blob, const char *name, int64_t n)
{
	char text[24];
	int length = snprintf(text, sizeof(text), "%lld", (long long)n);

	headers_add(blob, name, text, (size_t)length);
}

static int
dead_letter_row(struct stream *s, const struct partition *p,
    const struct kafka_record *r, const char *reason, struct mr_error *err)
{
	struct buffer headers = {0};
	int64_t changed;

	headers_copy(r, &headers);
	if (headers.failed) {
		buffer_free(&headers);
		return (mr_error_set(err, MR_RETRY, "out of memory"));
	}
	changed = store_run(s->st, err, sql_dead_letter, store_text(r->topic),
	    store_text(p->topic_id), store_i64(r->partition),
	    store_i64(r->offset), store_i64(r->ts_ms),
	    optional_blob(r->key, r->key_size),
	    optional_blob(r->value, r->value_size),
	    store_blob(buffer_text(&headers), headers.length),
	    store_text(reason), store_i64(s->batch_now_ms));
	buffer_free(&headers);
	return (changed == -1 ? -1 : 0);
}

/* The record on the dead-letter topic: its bytes, cut to fit, and where it
 * came from and why in headers. */
static int
dead_letter_emit(struct stream *s, const struct kafka_record *r,
    const char *reason, struct mr_error *err)
{
	struct stream_output out = {.topic = s->dead_letter_topic,
	    .type = "dead-letter"};
	struct buffer headers = {0};
	struct output *o;
	int status;

	out.key = r->key;
	out.key_size = r->key_size;
	if (out.key_size > EMIT_BYTES_MOST / 2)
		out.key_size = EMIT_BYTES_MOST / 2;
	out.value = r->value;
	out.value_size = r->value_size;
	if (out.value_size > EMIT_BYTES_MOST - out.key_size)
		out.value_size = EMIT_BYTES_MOST - out.key_size;
	out.ts_ms = r->ts_ms > 0 ? r->ts_ms : s->batch_now_ms;
	headers_add(&headers, "dead_letter_topic", r->topic, strlen(r->topic));
	headers_add_i64(&headers, "dead_letter_partition", r->partition);
	headers_add_i64(&headers, "dead_letter_offset", r->offset);
	headers_add(&headers, "dead_letter_reason", reason, strlen(reason));
	headers_add_i64(&headers, "dead_letter_key_bytes",
	    (int64_t)r->key_size);
	headers_add_i64(&headers, "dead_letter_value_bytes",
	    (int64_t)r->value_size);
	if (headers.failed) {
		buffer_free(&headers);
		return (mr_error_set(err, MR_RETRY, "out of memory"));
	}
	o = output_find(s, s->dead_letter_topic);
	assert(o != NULL); /* whoever has inputs has it */
	status = emit(s, o, &out, &headers, err);
	buffer_free(&headers);
	return (status);
}

int
output_dead_letter(struct stream *s, const struct partition *p,
    const struct kafka_record *record, const char *reason, struct mr_error *err)
{
	char whole[MR_ERROR_SIZE + 128];

	if (kafka_record_headers_lost(record)) {
		snprintf(whole, sizeof(whole),
		    "%s; its headers are not kept: they are malformed, or more "
		    "than the client library reads",
		    reason);
		reason = whole;
	}
	if (dead_letter_row(s, p, record, reason, err) == -1 ||
	    dead_letter_emit(s, record, reason, err) == -1)
		return (-1);
	return (0);
}

static int
settle_offsets(struct stream *s, struct mr_error *err)
{
	struct output *o;
	int64_t offset;
	int i, k;

	for (i = 0; i < s->output_count; i++) {
		o = &s->outputs[i];
		for (k = 0; k < o->partitions; k++) {
			offset = atomic_load(&o->acked_offset[k]);
			if (offset <= o->settled_offset[k])
				continue;
			if (store_run(s->st, err, sql_settle_offset,
				store_text(o->topic), store_i64(k),
				store_i64(offset)) == -1)
				return (-1);
			o->settled_offset[k] = offset;
		}
	}
	return (0);
}

/* It was not committed: note the offsets again. */
void
output_unsettle(struct stream *s)
{
	int i, k;

	for (i = 0; i < s->output_count; i++)
		for (k = 0; k < s->outputs[i].partitions; k++)
			s->outputs[i].settled_offset[k] = -1;
}

int
output_ends(struct stream *s, struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if ((rows = store_query(s->st, err, sql_outbox_ends)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		s->outbox_first = store_get_i64(rows, 0);
		s->outbox_last = store_get_i64(rows, 1);
	}
	store_rows_done(rows);
	return (found == -1 ? -1 : 0);
}

/* Without a look: they are as they were, but for what this transaction has
 * emitted. */
static void
ends_follow(struct stream *s)
{

	if (s->emitted == 0)
		return;
	s->outbox_last = s->issued;
	if (s->outbox_first == 0)
		s->outbox_first = s->issued_in_file + 1;
}

int
output_settle(struct stream *s, struct mr_error *err)
{
	int64_t acked = atomic_load(&s->relay.acked);

	s->deleted_up_to = acked;
	if (acked > s->acked_deleted) {
		if (store_run(s->st, err, sql_settle, store_i64(acked)) == -1 ||
		    settle_offsets(s, err) == -1)
			return (-1);
	} else if (s->undisturbed) {
		ends_follow(s);
		return (0);
	}
	return (output_ends(s, err));
}
