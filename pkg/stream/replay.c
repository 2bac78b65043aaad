/*
 * replay -- a dead letter is applied once more, or dropped.
 *
 * The record isn't put back into its topic, which others read as well: the
 * service gets it as a command, in its own transaction.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "stream/internal.h"

static const char sql_letter[] =
    "SELECT topic, partition, record_offset, ts_ms, key, value, headers"
    " FROM dead_letters WHERE id = ?1";
static const char sql_gone[] =
    "INSERT INTO dead_letters_gone (id, topic, partition, record_offset,"
    " put_at_ms, outcome, gone_at_ms) SELECT id, topic, partition,"
    " record_offset, put_at_ms, ?2, ?3 FROM dead_letters WHERE id = ?1";
static const char sql_drop[] = "DELETE FROM dead_letters WHERE id = ?1";
/* Tools meet files of older versions. */
static const char sql_has_gone[] =
    "SELECT 1 FROM schema_versions WHERE component = 'core' AND version >= 5";

/* Headers as a record has them, with room for their names' ends. */
struct unpacked {
	struct kafka_header *list;
	size_t count;
	char *names;
};

static void
unpacked_free(struct unpacked *u)
{
	free(u->list);
	free(u->names);
	u->list = NULL;
	u->names = NULL;
	u->count = 0;
}

/* How many there are; damaged ones end the list. */
static size_t
headers_count(const void *blob, size_t size, char *name, size_t name_size)
{
	const void *value;
	size_t at = 0, count = 0, value_size;

	while (headers_next(blob, size, &at, name, name_size, &value,
		   &value_size) == 1)
		count++;
	return (count);
}

/* ${blob} is borrowed by what comes of it. */
static int
headers_unpack(const void *blob, size_t size, struct unpacked *u,
    struct mr_error *err)
{
	size_t at = 0, used = 0, count;
	struct kafka_header *h;

	/* A name isn't longer than the blob, and its end takes the place of
	 * its length. */
	u->names = malloc(size + 1);
	count = u->names == NULL ?
	    0 :
	    headers_count(blob, size, u->names, size + 1);
	u->list = calloc(count + 1, sizeof(*u->list));
	if (u->names == NULL || u->list == NULL) {
		unpacked_free(u);
		return (mr_error_set(err, MR_RETRY, "out of memory"));
	}
	for (u->count = 0; u->count < count; u->count++) {
		h = &u->list[u->count];
		h->name = u->names + used;
		(void)headers_next(blob, size, &at, u->names + used,
		    size + 1 - used, &h->value, &h->size);
		used += strlen(h->name) + 1;
	}
	return (0);
}

static int
input_find(const struct stream *s, const char *topic)
{
	int i;

	for (i = 0; i < s->input_count; i++)
		if (strcmp(s->inputs[i], topic) == 0)
			return (i);
	return (-1);
}

static void
refuse_unknown(const struct stream *s, int64_t id, struct stream_answer *answer)
{
	answer->status = 404;
	buffer_clear(&answer->body);
	buffer_addf(&answer->body, "%s has no dead letter %lld", s->svc->name,
	    (long long)id);
}

static int
file_is_meant(const struct stream *s, const struct stream_dead_letter *letter,
    struct stream_answer *answer)
{

	if (strcmp(letter->database_id, s->database_id) == 0)
		return (1);
	answer->status = 409;
	buffer_clear(&answer->body);
	buffer_addf(&answer->body,
	    "%s works with another file, whose database id is %s", s->svc->name,
	    s->database_id);
	return (0);
}

/* The row's record, its bytes borrowed. */
static void
record_read(struct store_rows *row, struct kafka_record *r)
{

	r->topic = store_get_text(row, 0);
	r->partition = (int)store_get_i64(row, 1);
	r->offset = r->fetch_offset = store_get_i64(row, 2);
	r->leader_epoch = -1;
	r->ts_ms = store_get_i64(row, 3);
	if (!store_is_null(row, 4))
		r->key = store_get_blob(row, 4, &r->key_size);
	if (!store_is_null(row, 5))
		r->value = store_get_blob(row, 5, &r->value_size);
}

/* 1 it was applied, 0 the answer says why not, -1. */
static int
row_apply(struct stream *s, struct store_rows *row,
    struct stream_answer *answer, struct mr_error *err)
{
	struct unpacked headers = {NULL, 0, NULL};
	struct kafka_record r = {.topic = NULL};
	struct stream_record record;
	struct identity id;
	const void *blob;
	size_t size;
	int input, status;

	record_read(row, &r);
	if ((input = input_find(s, r.topic)) == -1) {
		answer->status = 409;
		buffer_clear(&answer->body);
		buffer_addf(&answer->body, "%s doesn't read topic %s",
		    s->svc->name, r.topic);
		return (0);
	}
	blob = store_get_blob(row, 6, &size);
	if (headers_unpack(blob, size, &headers, err) == -1)
		return (-1);
	r.kept = headers.list;
	r.kept_count = headers.count;
	r.topic_index = input;
	identity_read(&r, &id);
	batch_describe(s, input, &r, &id, &record);
	s->applying = &record;
	status = batch_apply(s, &record, err);
	s->applying = NULL;
	if (status == 0)
		stream_say(s, "dead letter applied", "topic", r.topic,
		    "partition", log_i64(r.partition), "offset",
		    log_i64(r.offset), NULL);
	unpacked_free(&headers);
	return (status == -1 ? -1 : 1);
}

static int
letter_apply(struct stream *s, int64_t id, struct stream_answer *answer,
    struct mr_error *err)
{
	struct store_rows *rows;
	int found, done = -1;

	if ((rows = store_query(s->st, err, sql_letter, store_i64(id))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1)
		done = row_apply(s, rows, answer, err);
	store_rows_done(rows);
	if (found == 0) {
		refuse_unknown(s, id, answer);
		return (0);
	}
	return (found == -1 ? -1 : done);
}

/* The row goes, and the file says that it went on purpose: 1, 0 if it isn't
 * there, -1. */
static int
letter_gone(struct store *st, int64_t id, const char *outcome, int64_t now_ms,
    struct mr_error *err)
{
	if (store_run(st, err, sql_gone, store_i64(id), store_text(outcome),
		store_i64(now_ms)) == -1)
		return (-1);
	return ((int)store_run(st, err, sql_drop, store_i64(id)));
}

int
stream_drop_letter(struct store *st, int64_t id, struct mr_error *err)
{
	int64_t one;
	int has;

	if ((has = store_find(st, err, &one, sql_has_gone)) == -1)
		return (-1);
	if (has == 0)
		return (mr_error_set(err, MR_REJECT,
		    "%s is of a version that doesn't keep what was dropped: "
		    "start the service once, as of this version",
		    store_path(st)));
	return (letter_gone(st, id, "dropped", clock_wall_ms(), err));
}

int
replay_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err)
{
	const struct stream_dead_letter *letter = command->input;
	struct json_writer w;
	int again = command->kind == STREAM_REPLAY_DEAD_LETTER;
	const char *outcome = again ? "applied" : "dropped";
	int done = 1;

	if (!file_is_meant(s, letter, answer))
		return (0);
	if (again)
		done = letter_apply(s, letter->id, answer, err);
	if (done != 1)
		return (done);
	if ((done = letter_gone(s->st, letter->id, outcome, s->batch_now_ms,
		 err)) == 0)
		refuse_unknown(s, letter->id, answer);
	if (done != 1)
		return (done);
	buffer_clear(&answer->body);
	json_init(&w, &answer->body);
	json_object_open(&w);
	json_member_i64(&w, "id", letter->id);
	json_member_text(&w, "outcome", outcome);
	json_object_close(&w);
	return (0);
}
