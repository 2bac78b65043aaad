/*
 * connect -- what must be known of the cluster before the first transaction.
 *
 * Topics exist, the cluster is the one that our positions are of, the
 * outputs' partitions are counted, and the file is not older than what it
 * sent: a file that was put back without the restore command would number
 * new records like old ones, and its readers would drop them as repeats.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "stream/internal.h"

#define ASK_MS 3000
#define LOOK_BACK 64 /* records a partition, for our own last one */
#define LOOK_MS 8000

static const char sql_cluster[] = "SELECT cluster_id FROM cluster";
static const char sql_cluster_meet[] =
    "INSERT INTO cluster (one, cluster_id, met_at_ms) VALUES (1, ?1, ?2)"
    " ON CONFLICT DO NOTHING";
static const char sql_issued[] =
    "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'";

static int
topics_ensure(struct stream *s, struct mr_error *err)
{
	const char *names[2 * TOPICS_MOST];
	int i, count = 0;

	for (i = 0; i < s->input_count; i++)
		names[count++] = s->inputs[i];
	for (i = 0; i < s->output_count; i++)
		names[count++] = s->outputs[i].topic;
	return (kafka_admin_ensure(s->admin, names, count, ASK_MS, err));
}

/* 1: it is the cluster that the file works with; 0: another one. */
static int
cluster_compare(struct stream *s, struct mr_error *err)
{
	struct store_rows *rows;
	char known[KAFKA_CLUSTER_ID_SIZE] = "";
	int found;

	if ((rows = store_query(s->st, err, sql_cluster)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1)
		snprintf(known, sizeof(known), "%s", store_get_text(rows, 0));
	store_rows_done(rows);
	if (found == -1)
		return (-1);
	if (found == 1)
		return (strcmp(known, s->cluster_id) == 0);
	if (store_begin(s->st, err) == -1)
		return (-1);
	if (store_run(s->st, err, sql_cluster_meet, store_text(s->cluster_id),
		store_i64(clock_wall_ms())) == -1) {
		store_rollback(s->st);
		return (-1);
	}
	return (store_commit(s->st, err) == -1 ? -1 : 1);
}

static int
cluster_meet(struct stream *s, struct mr_error *err)
{
	int same;

	if (kafka_admin_cluster_id(s->admin, s->cluster_id, ASK_MS, err) == -1)
		return (-1);
	if ((same = cluster_compare(s, err)) == -1)
		return (-1);
	if (same == 0)
		return (mr_error_set(err, MR_RETRY,
		    "%s is cluster %s, but %s works with another one; `millrace "
		    "state rebind` moves it",
		    s->conf->kafka.brokers, s->cluster_id, s->db_path));
	return (0);
}

static int
outputs_describe(struct stream *s, struct mr_error *err)
{
	struct kafka_topic_state states[TOPICS_MOST];
	int i;

	memset(states, 0, sizeof(states));
	for (i = 0; i < s->output_count; i++)
		snprintf(states[i].name, sizeof(states[i].name), "%s",
		    s->outputs[i].topic);
	if (s->output_count > 0 &&
	    kafka_admin_describe(s->admin, states, s->output_count, ASK_MS,
		err) == -1)
		return (-1);
	for (i = 0; i < s->output_count; i++) {
		if (states[i].partitions == 0)
			return (mr_error_set(err, MR_RETRY,
			    "topic %s is not there yet", states[i].name));
		if (states[i].partitions > KAFKA_PARTITIONS_MAX)
			return (mr_error_set(err, MR_FATAL,
			    "topic %s has %d partitions, above %d",
			    states[i].name, states[i].partitions,
			    KAFKA_PARTITIONS_MAX));
		s->outputs[i].partitions = states[i].partitions;
		s->outputs[i].dirty = 1;
	}
	output_forget_tails(s);
	return (0);
}

/* ---- our own last record --------------------------------------------------- */

struct look {
	struct kafka_position *positions;
	int count;
	int capacity;
};

static int
look_add(struct look *look, const char *topic, int partition, int64_t offset,
    struct mr_error *err)
{
	struct kafka_position *grown;
	int capacity;

	if (look->count == look->capacity) {
		capacity = look->capacity == 0 ? 16 : 2 * look->capacity;
		grown = realloc(look->positions,
		    (size_t)capacity * sizeof(*grown));
		if (grown == NULL)
			return (mr_error_set(err, MR_RETRY, "out of memory"));
		look->positions = grown;
		look->capacity = capacity;
	}
	look->positions[look->count++] = (struct kafka_position){
	    .topic = topic,
	    .topic_index = -1,
	    .partition = partition,
	    .offset = offset,
	    .leader_epoch = -1,
	};
	return (0);
}

/* The partitions of our outputs that have records, each from near its end. */
static int
look_list(struct stream *s, struct look *look, struct mr_error *err)
{
	int64_t first, next;
	int i, k;

	for (i = 0; i < s->output_count; i++)
		for (k = 0; k < s->outputs[i].partitions; k++) {
			if (kafka_admin_offsets(s->admin, s->outputs[i].topic,
				k, &first, &next, ASK_MS, err) == -1)
				return (-1);
			if (next == first)
				continue;
			if (next - first > LOOK_BACK)
				first = next - LOOK_BACK;
			if (look_add(look, s->outputs[i].topic, k, first,
				err) == -1)
				return (-1);
		}
	return (0);
}

/* Read to every partition's end; the highest seq under our present id. */
static int
look_read(struct stream *s, const struct look *look, int64_t *highest,
    struct mr_error *err)
{
	struct kafka_group_handlers none = {0};
	struct kafka_consumer *consumer;
	struct kafka_record records[64];
	struct identity id;
	int64_t until_us = clock_mono_us() + 1000 * (int64_t)LOOK_MS;
	int i, got, ended = 0;

	if ((consumer = kafka_consumer_new(&s->conf->kafka, NULL, &none, s,
		 err)) == NULL)
		return (-1);
	if (kafka_consumer_assign(consumer, look->positions, look->count,
		err) == -1) {
		kafka_consumer_free(consumer);
		return (-1);
	}
	while (ended < look->count && clock_mono_us() < until_us) {
		got = kafka_consumer_poll(consumer, records, 64, 100);
		for (i = 0; i < got; i++) {
			if (records[i].end_of_partition ||
			    records[i].out_of_range) {
				ended++;
			} else {
				identity_read(&records[i], &id);
				if (id.ours &&
				    strcmp(id.source, s->source) == 0 &&
				    id.seq > *highest)
					*highest = id.seq;
			}
			kafka_record_free(&records[i]);
		}
	}
	kafka_consumer_free(consumer);
	if (ended < look->count)
		return (mr_error_set(err, MR_RETRY,
		    "reading our own last records took above %d ms", LOOK_MS));
	return (0);
}

/* Kafka first and the file after it: another instance may be sending. */
static int
file_is_newest(struct stream *s, struct mr_error *err)
{
	struct look look = {0};
	int64_t highest = 0, issued = 0;
	int status;

	status = look_list(s, &look, err);
	if (status == 0 && look.count > 0)
		status = look_read(s, &look, &highest, err);
	free(look.positions);
	if (status == -1 || store_find(s->st, err, &issued, sql_issued) == -1)
		return (-1);
	if (highest <= issued)
		return (0);
	log_warn("this file is older than what it sent: drawing a new "
		 "database id",
	    "path", s->db_path, "seq_in_kafka", log_i64(highest), "seq_in_file",
	    log_i64(issued), "database", s->database_id);
	return (database_id_redraw(s, err));
}

int
connect_try(struct stream *s, struct mr_error *err)
{
	if (s->admin == NULL &&
	    (s->admin = kafka_admin_new(&s->conf->kafka, err)) == NULL)
		return (-1);
	if (cluster_meet(s, err) == -1 || topics_ensure(s, err) == -1 ||
	    outputs_describe(s, err) == -1 || file_is_newest(s, err) == -1)
		goto wait;
	if (s->input_count > 0) {
		if ((s->consumer = kafka_consumer_new(&s->conf->kafka,
			 s->svc->name, &partition_handlers, s, err)) == NULL)
			return (-1);
		if (kafka_consumer_subscribe(s->consumer, s->inputs,
			s->input_count, err) == -1)
			return (-1);
	}
	s->connected = 1;
	log_info("connected", "brokers", s->conf->kafka.brokers, "cluster",
	    s->cluster_id, "database", s->database_id);
	return (1);
wait:
	return (err->kind == MR_FATAL ? -1 : 0);
}
