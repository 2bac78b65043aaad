/*
 * look -- is this file as new as what it sent?
 *
 * A file that was put back by hand, without the restore command, would
 * number new records like old ones, and their readers would drop them as
 * repeats.  So before the first emission of a process's life it looks for its own
 * records behind the last ones that it knows to be acknowledged: one with a
 * higher sequence number than the file has issued means that the file had a
 * later life, and draws a new database id.  The highest is looked for, not
 * the last: a late or repeated request can land behind a newer one.
 *
 * Kafka is read first and the file after it, since another instance may be
 * sending meanwhile.  A look is done in slices, so that a long log doesn't
 * keep the loop from being told to stop.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "stream/internal.h"

#define ASK_MS 3000
#define SLICE_MS 500
#define POLLED_MOST 256
#define AGAIN_US INT64_C(5000000)

static const char sql_acked[] = "SELECT acked_offset FROM output_tails"
				" WHERE topic = ?1 AND partition = ?2";
static const char sql_acked_first[] =
    "INSERT INTO output_tails (topic, partition, seq, acked_offset)"
    " VALUES (?1, ?2, 0, ?3)"
    " ON CONFLICT DO UPDATE SET acked_offset = excluded.acked_offset";

struct look {
	struct kafka_consumer *consumer;
	struct kafka_position *positions;
	int64_t *ends; /* as of the start; -1: reached */
	int count;
	int left; /* partitions whose end was not reached */
	int anew; /* what was to be read has gone meanwhile */
	int64_t again_us; /* an end came too soon: when to ask again; 0: none */
	int unread; /* something can't be read */
	int64_t read;
	int64_t highest;
};

void
look_free(struct stream *s)
{
	struct look *look = s->look;

	if (look == NULL)
		return;
	kafka_consumer_free(look->consumer);
	free(look->positions);
	free(look->ends);
	free(look);
	s->look = NULL;
}

/*
 * Where to look from: behind the last record that this file knows to be
 * acknowledged; from the start if it knows none, or the log is shorter.
 */
static int
look_from(struct stream *s, const char *topic, int partition, int64_t first,
    int64_t next, int64_t *from, struct mr_error *err)
{
	int64_t acked = -1;

	if (store_find(s->st, err, &acked, sql_acked, store_text(topic),
		store_i64(partition)) == -1)
		return (-1);
	*from = acked >= first && acked < next ? acked + 1 : first;
	return (0);
}

static int
look_list(struct stream *s, struct look *look, struct mr_error *err)
{
	int64_t first, next, end, from;
	int i, k;

	for (i = 0; i < s->output_count; i++)
		for (k = 0; k < s->outputs[i].partitions; k++) {
			if (kafka_admin_offsets(s->admin, s->outputs[i].topic,
				k, &first, &next, ASK_MS, err) == -1 ||
			    kafka_admin_end(s->admin, s->outputs[i].topic, k,
				&end, ASK_MS, err) == -1 ||
			    look_from(s, s->outputs[i].topic, k, first, end,
				&from, err) == -1)
				return (-1);
			if (from == end)
				continue;
			look->ends[look->count] = end;
			look->positions[look->count++] =
			    (struct kafka_position){
				.topic = s->outputs[i].topic,
				.topic_index = -1,
				.partition = k,
				.offset = from,
				.leader_epoch = -1,
			    };
		}
	look->left = look->count;
	return (0);
}

/* Of all outputs. */
static size_t
partitions_out(const struct stream *s)
{
	size_t count = 0;
	int i;

	for (i = 0; i < s->output_count; i++)
		count += (size_t)s->outputs[i].partitions;
	return (count);
}

static int
look_start(struct stream *s, struct mr_error *err)
{
	struct kafka_group_handlers none = {0};
	size_t most = partitions_out(s);
	struct look *look;

	if ((look = calloc(1, sizeof(*look))) == NULL)
		return (mr_error_set(err, MR_RETRY, "out of memory"));
	s->look = look;
	look->positions = calloc(most + 1, sizeof(*look->positions));
	look->ends = calloc(most + 1, sizeof(*look->ends));
	if (look->positions == NULL || look->ends == NULL) {
		look_free(s);
		return (mr_error_set(err, MR_RETRY, "out of memory"));
	}
	if (look_list(s, look, err) == -1)
		goto fail;
	if (look->count == 0)
		return (0);
	if ((look->consumer = kafka_consumer_new(&s->conf->kafka, NULL, &none,
		 s, err)) == NULL ||
	    kafka_consumer_assign(look->consumer, look->positions, look->count,
		err) == -1)
		goto fail;
	return (0);
fail:
	look_free(s);
	return (-1);
}

/*
 * Whether this is the end that the partition had at the start, or lies behind
 * it.  An end before it is a stranger's open transaction, behind which records
 * of ours may lie.  Our own transactions hold back only what the relay's cursor
 * tells.
 */
static int
is_end(const struct stream *s, const struct kafka_record *r, int64_t end)
{

	if (r->end_of_partition)
		return (r->offset >= end || s->transactional);
	return (r->out_of_range || r->offset + 1 >= end);
}

/* The end now may move for as long as another instance sends. */
static void
look_end(struct stream *s, struct look *look, const struct kafka_record *r)
{
	int i;

	for (i = 0; i < look->count; i++) {
		if (look->ends[i] == -1 ||
		    look->positions[i].partition != r->partition ||
		    strcmp(look->positions[i].topic, r->topic) != 0)
			continue;
		if (is_end(s, r, look->ends[i])) {
			look->ends[i] = -1;
			look->left--;
		} else if (r->end_of_partition && look->again_us == 0) {
			look->again_us = clock_mono_us() + AGAIN_US;
		}
	}
}

/* Retention, or a truncated log, was faster: from where it begins now.  Who
 * can't read a batch never will, and can't say what was in it. */
static void
look_lose(struct look *look, const struct kafka_record *r)
{

	if (r->out_of_range == 2)
		look->unread = 1;
	else
		look->anew = 1;
}

static void
look_at(struct stream *s, struct look *look, const struct kafka_record *r)
{
	struct identity id;

	look_end(s, look, r);
	if (r->out_of_range)
		look_lose(look, r);
	if (r->end_of_partition || r->out_of_range)
		return;
	look->read++;
	identity_read(r, &id);
	if (id.ours && strcmp(id.source, s->source) == 0 &&
	    id.seq > look->highest)
		look->highest = id.seq;
}

static void
look_slice(struct stream *s, struct look *look)
{
	struct kafka_record records[POLLED_MOST];
	int64_t until_us = clock_mono_us() + 1000 * (int64_t)SLICE_MS;
	int got, i;

	while (look->left > 0 && !look->anew && clock_mono_us() < until_us) {
		got = kafka_consumer_poll(look->consumer, records, POLLED_MOST,
		    50);
		for (i = 0; i < got; i++) {
			look_at(s, look, &records[i]);
			kafka_record_free(&records[i]);
		}
	}
}

static int
ends_write(struct stream *s, const int64_t *ends, struct mr_error *err)
{
	int i, k;

	if (store_begin(s->st, err) == -1)
		return (-1);
	for (i = 0; i < s->output_count; i++)
		for (k = 0; k < s->outputs[i].partitions; k++)
			if (store_run(s->st, err, sql_acked_first,
				store_text(s->outputs[i].topic), store_i64(k),
				store_i64(*ends++ - 1)) == -1) {
				store_rollback(s->st);
				return (-1);
			}
	return (store_commit(s->st, err));
}

/*
 * Nothing was emitted under a new id, so whatever is in the outputs is
 * somebody else's: note where they end, for the next start to look from.  Kafka
 * is asked before the pen is taken, for which other instances wait.
 */
static int
ends_note(struct stream *s, struct mr_error *err)
{
	int64_t *ends, first;
	size_t count = 0;
	int i, k, status = 0;

	if ((ends = calloc(partitions_out(s) + 1, sizeof(*ends))) == NULL)
		return (mr_error_set(err, MR_RETRY, "out of memory"));
	for (i = 0; i < s->output_count; i++)
		for (k = 0; status == 0 && k < s->outputs[i].partitions; k++)
			status = kafka_admin_offsets(s->admin,
			    s->outputs[i].topic, k, &first, &ends[count++],
			    ASK_MS, err);
	if (status == 0)
		status = ends_write(s, ends, err);
	free(ends);
	return (status);
}

/* All of it was read: compare with what the file has issued by now. */
static int
look_judge(struct stream *s, struct mr_error *err)
{
	int64_t highest = s->look->highest, issued = 0;
	int unread = s->look->unread && !s->transactional;

	look_free(s);
	if (output_issued(s->st, &issued, err) == -1)
		return (-1);
	if (highest <= issued && !unread)
		return (1);
	/* Rows of its outbox may have been sent: the cursor knows. */
	if (s->transactional)
		return (relay_cursor_compare(s, s->st, highest, err));
	log_warn(unread ? "not all of what this file's life sent can be read: "
			  "drawing a new database id" :
			  "this file is older than what it sent: drawing a new "
			  "database id",
	    "path", s->db_path, "seq_in_kafka", log_i64(highest), "seq_in_file",
	    log_i64(issued), "database", s->database_id);
	if (database_id_redraw(s, err) == -1 || ends_note(s, err) == -1)
		return (-1);
	return (1);
}

int
look_back(struct stream *s, struct mr_error *err)
{
	if (s->output_count == 0)
		return (1);
	if (s->database_is_new)
		return (ends_note(s, err) == -1 ? -1 : 1);
	if (s->look == NULL && look_start(s, err) == -1)
		return (-1);
	assert(s->look != NULL);
	look_slice(s, s->look);
	if (s->look->left == 0 && !s->look->anew)
		return (look_judge(s, err));
	/* A transaction is open yet, or a log was cut below what it was told to
	 * end at. */
	if (s->look->anew ||
	    (s->look->again_us != 0 && clock_mono_us() >= s->look->again_us)) {
		look_free(s);
		mr_error_set(err, MR_RETRY,
		    "looking for our own last records once more: not all "
		    "could be read");
		return (0);
	}
	mr_error_set(err, MR_RETRY,
	    "looking for our own last records, %lld read so far",
	    (long long)s->look->read);
	return (0);
}
