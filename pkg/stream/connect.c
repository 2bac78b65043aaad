/*
 * connect -- what must be known of the cluster before the first transaction.
 *
 * Topics exist, the cluster is the one that our positions are of, the
 * outputs' partitions are counted, and the file is not older than what it
 * sent, by the relay's cursor and by what is in the topics (look.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "stream/internal.h"

#define ASK_MS 3000

static const char sql_cluster[] = "SELECT cluster_id FROM cluster";
static const char sql_cluster_meet[] =
    "INSERT INTO cluster (one, cluster_id, met_at_ms) VALUES (1, ?1, ?2)"
    " ON CONFLICT DO NOTHING";

/* Those of the service, into ${names}; returns how many. */
static int
topics_name(const struct stream *s, const char *names[2 * TOPICS_MOST])
{
	int i, count = 0;

	for (i = 0; i < s->input_count; i++)
		names[count++] = s->inputs[i];
	for (i = 0; i < s->output_count; i++)
		names[count++] = s->outputs[i].topic;
	return (count);
}

static int
topics_ensure(struct stream *s, struct mr_error *err)
{
	const char *names[2 * TOPICS_MOST];
	int count = topics_name(s, names);

	return (kafka_admin_ensure(s->admin, names, count, ASK_MS, err));
}

/* What is there may be as its owner wants it: differences are told alone. */
static void
topics_compare(struct stream *s)
{
	struct kafka_difference list[KAFKA_DIFFERENCES_MAX];
	const char *names[2 * TOPICS_MOST];
	struct mr_error err = {0};
	int i, k, found, count = topics_name(s, names);

	for (i = 0; i < count; i++) {
		if ((found = kafka_admin_compare(s->admin,
			 kafka_topic_find(names[i]), list, ASK_MS, &err)) ==
		    -1) {
			log_warn("can't compare topics with what is declared",
			    "why", err.message);
			return;
		}
		for (k = 0; k < found; k++)
			log_warn("topic isn't as declared", "topic", names[i],
			    "setting", list[k].name, "declared",
			    list[k].declared, "actual", list[k].actual, "see",
			    "millrace topics diff");
	}
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
	int i, k;

	memset(states, 0, sizeof(states));
	for (i = 0; i < s->output_count; i++)
		snprintf(states[i].name, sizeof(states[i].name), "%s",
		    s->outputs[i].topic);
	if (placement_count(s, err) == -1)
		return (-1);
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
		s->outputs[i].dirty = s->outputs[i].known = 1;
		for (k = 0; k < KAFKA_PARTITIONS_MAX; k++) {
			atomic_store(&s->outputs[i].acked_offset[k], -1);
			s->outputs[i].settled_offset[k] = -1;
		}
	}
	s->undisturbed = 0;
	output_begin(s);
	return (0);
}

/*
 * What a transactional relay has sent is known without a look at the topics.
 * Before anything is emitted: numbers that were given out before would be taken
 * for sent.  What a transaction may yet add isn't waited for: its owner was
 * killed in the middle of it, and registering soon ends it.
 */
static int
cursor_meet(struct stream *s, struct mr_error *err)
{
	int64_t cursor;
	int found;

	if (relay_mode_read(s, err) == -1)
		return (-1);
	if (!s->transactional)
		return (1);
	found = relay_cursor_read(&s->conf->kafka, s->svc->name, s->database_id,
	    0, &cursor, ASK_MS, err);
	if (found == 1)
		return (relay_cursor_compare(s, s->st, cursor, err));
	/* One that isn't there, or is foreign, halts the relay alone. */
	return (found == 0 ? 1 : -1);
}

int
connect_try(struct stream *s, struct mr_error *err)
{
	if (s->admin == NULL &&
	    (s->admin = kafka_admin_new(&s->conf->kafka, err)) == NULL)
		return (-1);
	if (cluster_meet(s, err) == -1 || topics_ensure(s, err) == -1 ||
	    outputs_describe(s, err) == -1 || cursor_meet(s, err) != 1 ||
	    look_back(s, err) != 1)
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
	topics_compare(s);
	return (1);
wait:
	return (err->kind == MR_FATAL ? -1 : 0);
}
