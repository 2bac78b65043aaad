/*
 * keeper -- the SQL.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "broker/keeper.h"
#include "migrations.h"

/* ---- transactions ------------------------------------------------------- */

/* End one that went well so far. */
static int
finish(struct store *st, int rc, struct mr_error *err)
{

	if (rc != 0) {
		store_rollback(st);
		return (-1);
	}
	return (store_commit(st, err));
}

/* ---- topics ------------------------------------------------------------- */

static const char sql_add_topic[] =
    "INSERT INTO topics (topic_id, name, partitions, created_at_ms) "
    "VALUES (?1, ?2, ?3, ?4)";

static const char sql_add_setting[] =
    "INSERT INTO topic_settings (topic_id, name, value) VALUES (?1, ?2, ?3)";

static const char sql_clear_settings[] =
    "DELETE FROM topic_settings WHERE topic_id = ?1";

static const char sql_remove_topic[] = "DELETE FROM topics WHERE topic_id = ?1";

static const char sql_note_deleted[] =
    "INSERT INTO deleted_topics (topic_id) VALUES (?1)";

static const char sql_was_deleted[] =
    "SELECT 1 FROM deleted_topics WHERE topic_id = ?1";

static const char sql_forget_deleted[] = "DELETE FROM deleted_topics";

static const char sql_set_partitions[] =
    "UPDATE topics SET partitions = ?2 WHERE topic_id = ?1";

static int
add_overrides(struct store *st, const char *id_text,
    char *const overrides[SETTING_COUNT], struct mr_error *err)
{
	int i;

	for (i = 0; i < SETTING_COUNT; i++)
		if (overrides[i] != NULL &&
		    store_run(st, err, sql_add_setting, store_text(id_text),
			store_text(setting_name(i)),
			store_text(overrides[i])) == -1)
			return (-1);
	return (0);
}

static int
add_topic(struct store *st, const struct topic *t, struct mr_error *err)
{

	if (store_run(st, err, sql_add_topic, store_text(t->id_text),
		store_text(t->name), store_i64(t->partition_count),
		store_i64(clock_wall_ms())) == -1)
		return (-1);
	return (add_overrides(st, t->id_text, t->overrides, err));
}

int
keeper_add_topics(struct broker *b, struct topic *const *topics, size_t count,
    struct mr_error *err)
{
	size_t i;
	int rc = 0;

	if (store_begin(b->st, err) == -1)
		return (-1);
	for (i = 0; i < count && rc == 0; i++)
		if (topics[i] != NULL)
			rc = add_topic(b->st, topics[i], err);
	return (finish(b->st, rc, err));
}

int
keeper_remove_topics(struct broker *b, struct topic *const *topics,
    size_t count, struct mr_error *err)
{
	size_t i;
	int rc = 0;

	if (store_begin(b->st, err) == -1)
		return (-1);
	for (i = 0; i < count && rc == 0; i++)
		if (topics[i] != NULL &&
		    (store_run(b->st, err, sql_remove_topic,
			 store_text(topics[i]->id_text)) == -1 ||
			store_run(b->st, err, sql_note_deleted,
			    store_text(topics[i]->id_text)) == -1))
			rc = -1;
	return (finish(b->st, rc, err));
}

int
keeper_was_deleted(struct broker *b, const char *id_text, struct mr_error *err)
{
	int64_t one;

	return (
	    store_find(b->st, err, &one, sql_was_deleted, store_text(id_text)));
}

int
keeper_forget_deleted(struct broker *b, struct mr_error *err)
{

	if (store_begin(b->st, err) == -1)
		return (-1);
	return (finish(b->st,
	    store_run(b->st, err, sql_forget_deleted) == -1 ? -1 : 0, err));
}

int
keeper_set_partitions(struct broker *b, const char *id_text, int32_t partitions,
    struct mr_error *err)
{
	int rc;

	if (store_begin(b->st, err) == -1)
		return (-1);
	rc = store_run(b->st, err, sql_set_partitions, store_text(id_text),
		 store_i64(partitions)) == -1 ?
	    -1 :
	    0;
	return (finish(b->st, rc, err));
}

int
keeper_set_overrides(struct broker *b, const char *id_text,
    char *const overrides[SETTING_COUNT], struct mr_error *err)
{
	int rc = 0;

	if (store_begin(b->st, err) == -1)
		return (-1);
	if (store_run(b->st, err, sql_clear_settings, store_text(id_text)) ==
	    -1)
		rc = -1;
	if (rc == 0)
		rc = add_overrides(b->st, id_text, overrides, err);
	return (finish(b->st, rc, err));
}

/* ---- producers ---------------------------------------------------------- */

static const char sql_reserve[] =
    "UPDATE cluster SET next_producer_id = next_producer_id + ?1 "
    "RETURNING next_producer_id";

int
keeper_reserve_producers(struct broker *b, int64_t count, int64_t *first,
    struct mr_error *err)
{
	int64_t end = 0;
	int rc;

	if (store_begin(b->st, err) == -1)
		return (-1);
	rc = store_find(b->st, err, &end, sql_reserve, store_i64(count)) == 1 ?
	    0 :
	    -1;
	*first = end - count;
	return (finish(b->st, rc, err));
}

/* ---- offsets ------------------------------------------------------------ */

static const char sql_put_offset[] =
    "INSERT INTO group_offsets (group_id, topic_id, partition, next_offset, "
    "leader_epoch, metadata, committed_at_ms) "
    "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 "
    "WHERE EXISTS (SELECT 1 FROM topics WHERE topic_id = ?2) "
    "ON CONFLICT (group_id, topic_id, partition) DO UPDATE SET "
    "next_offset = excluded.next_offset, "
    "leader_epoch = excluded.leader_epoch, metadata = excluded.metadata, "
    "committed_at_ms = excluded.committed_at_ms";

static const char sql_delete_offset[] =
    "DELETE FROM group_offsets WHERE group_id = ?1 AND topic_id = ?2 AND "
    "partition = ?3 AND committed_at_ms <= ?4";

static const char sql_delete_group[] =
    "DELETE FROM group_offsets WHERE group_id = ?1";

static int64_t
put_offset(struct store *st, const struct keeper_offset *o,
    struct mr_error *err)
{

	if (o->topic_id == NULL)
		return (
		    store_run(st, err, sql_delete_group, store_text(o->group)));
	if (o->offset < 0)
		return (store_run(st, err, sql_delete_offset,
		    store_text(o->group), store_text(o->topic_id),
		    store_i64(o->partition), store_i64(o->committed_ms)));
	return (store_run(st, err, sql_put_offset, store_text(o->group),
	    store_text(o->topic_id), store_i64(o->partition),
	    store_i64(o->offset), store_i64(o->leader_epoch),
	    store_text(o->metadata), store_i64(o->committed_ms)));
}

int
keeper_put_offsets(struct broker *b, const struct keeper_offset *list,
    size_t count, struct mr_error *err)
{
	size_t i;
	int rc = 0;

	if (store_begin(b->st, err) == -1)
		return (-1);
	for (i = 0; i < count && rc == 0; i++)
		if (put_offset(b->st, &list[i], err) == -1)
			rc = -1;
	return (finish(b->st, rc, err));
}

/* ---- at start ----------------------------------------------------------- */

static const char sql_cluster[] =
    "SELECT cluster_id, leader_epoch FROM cluster";
static const char sql_new_cluster[] =
    "INSERT INTO cluster (one, cluster_id, leader_epoch, next_producer_id) "
    "SELECT 1, ?1, -1, 0 WHERE NOT EXISTS (SELECT 1 FROM cluster)";
/* A log that has an id which this file is still to give out is from after it was
 * copied.  More may have been given out since than the logs know. */
static const char sql_start[] =
    "UPDATE cluster SET leader_epoch = ?1, next_producer_id = "
    "CASE WHEN next_producer_id > ?2 THEN next_producer_id "
    "ELSE ?2 + 1000000 END";
static const char sql_topics[] =
    "SELECT topic_id, name, partitions FROM topics ORDER BY name";
static const char sql_settings[] =
    "SELECT name, value FROM topic_settings WHERE topic_id = ?1";
static const char sql_offsets[] =
    "SELECT o.group_id, t.name, o.partition, o.next_offset, o.leader_epoch, "
    "o.metadata, o.committed_at_ms FROM group_offsets o "
    "JOIN topics t USING (topic_id)";

/* As Kafka's: 16 random bytes in URL-safe base64 without padding. */
static void
draw_cluster_id(char id[23])
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmn"
				     "opqrstuvwxyz0123456789-_";
	unsigned char bytes[22];
	int i;

	id_random_bytes(bytes, sizeof(bytes));
	for (i = 0; i < 22; i++)
		id[i] = digits[bytes[i] & 63];
	/* 128 bits leave two for the last digit; and no dash in front. */
	id[21] = digits[bytes[21] & 48];
	if (id[0] == '-')
		id[0] = 'M';
	id[22] = '\0';
}

/* Who this is; each start is a new leader's, which keeper_start notes. */
static int
load_cluster(struct broker *b, struct mr_error *err)
{
	struct store_rows *rows;
	char drawn[23];
	int rc;

	draw_cluster_id(drawn);
	if (store_begin(b->st, err) == -1)
		return (-1);
	rc = store_run(b->st, err, sql_new_cluster, store_text(drawn)) == -1 ?
	    -1 :
	    0;
	if (finish(b->st, rc, err) == -1 ||
	    (rows = store_query(b->st, err, sql_cluster)) == NULL)
		return (-1);
	if ((rc = store_next(rows, err)) == 1) {
		snprintf(b->cluster_id, sizeof(b->cluster_id), "%s",
		    store_get_text(rows, 0));
		b->leader_epoch = (int32_t)store_get_i64(rows, 1) + 1;
	}
	store_rows_done(rows);
	if (rc == 0)
		mr_error_set(err, MR_FATAL, "%s: the cluster's row is missing",
		    store_path(b->st));
	return (rc == 1 ? 0 : -1);
}

static int
load_settings(struct broker *b, struct topic *t, struct mr_error *err)
{
	struct store_rows *rows;
	const char *name;
	int rc, setting;

	rows = store_query(b->st, err, sql_settings, store_text(t->id_text));
	if (rows == NULL)
		return (-1);
	while ((rc = store_next(rows, err)) == 1) {
		name = store_get_text(rows, 0);
		setting = setting_find(name, strlen(name));
		if (setting == -1 ||
		    topic_override(b, t, setting, store_get_text(rows, 1),
			err) == -1)
			log_warn("a topic's setting is ignored", "topic",
			    t->name, "setting", name);
	}
	store_rows_done(rows);
	return (rc);
}

/* Partitions are opened later. */
static int
load_topic(struct broker *b, struct store_rows *rows, struct mr_error *err)
{
	struct topic *t = topic_new(b, store_get_text(rows, 1));

	if (t == NULL)
		return (mr_error_set(err, MR_FATAL, "out of memory"));
	t->partition_count = (int32_t)store_get_i64(rows, 2);
	t->partitions = calloc((size_t)t->partition_count,
	    sizeof(struct partition *));
	if (t->partitions == NULL) {
		t->partition_count = 0;
		topic_free(t);
		return (mr_error_set(err, MR_FATAL, "out of memory"));
	}
	snprintf(t->id_text, sizeof(t->id_text), "%s", store_get_text(rows, 0));
	if (uuid_from_text(t->id_text, &t->id) == -1) {
		mr_error_set(err, MR_FATAL, "topic %s: its id is %s", t->name,
		    t->id_text);
		topic_free(t);
		return (-1);
	}
	if (load_settings(b, t, err) == -1 || catalog_add(b, t, err) == -1) {
		topic_free(t);
		return (-1);
	}
	return (0);
}

static int
load_topics(struct broker *b, struct mr_error *err)
{
	struct store_rows *rows;
	int rc;

	if ((rows = store_query(b->st, err, sql_topics)) == NULL)
		return (-1);
	while ((rc = store_next(rows, err)) == 1)
		if (load_topic(b, rows, err) == -1) {
			rc = -1;
			break;
		}
	store_rows_done(rows);
	return (rc);
}

static int
load_offsets(struct broker *b, struct mr_error *err)
{
	struct store_rows *rows;
	int rc;

	if ((rows = store_query(b->st, err, sql_offsets)) == NULL)
		return (-1);
	while ((rc = store_next(rows, err)) == 1)
		if (group_put_offset(b->groups, store_get_text(rows, 0),
			store_get_text(rows, 1),
			(int32_t)store_get_i64(rows, 2), store_get_i64(rows, 3),
			(int32_t)store_get_i64(rows, 4), store_get_i64(rows, 6),
			store_get_text(rows, 5), err) == -1) {
			rc = -1;
			break;
		}
	store_rows_done(rows);
	group_loaded(b->groups, clock_wall_ms());
	return (rc);
}

int
keeper_open(struct broker *b, struct mr_error *err)
{
	struct store_options options = {.service = "broker",
	    .own = migrations_broker,
	    .on_progress = b->conf.on_progress};
	char path[4096];

	snprintf(path, sizeof(path), "%s/broker.db", b->conf.data);
	options.path = path;
	if ((b->st = store_open(&options, err)) == NULL)
		return (-1);
	if (load_cluster(b, err) == -1 || load_topics(b, err) == -1 ||
	    load_offsets(b, err) == -1)
		return (-1);
	return (0);
}

int
keeper_start(struct broker *b, int64_t last_producer, struct mr_error *err)
{

	if (store_begin(b->st, err) == -1)
		return (-1);
	return (finish(b->st,
	    store_run(b->st, err, sql_start, store_i64(b->leader_epoch),
		store_i64(last_producer)) == -1 ?
		-1 :
		0,
	    err));
}
