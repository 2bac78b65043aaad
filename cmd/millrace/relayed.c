#include <stdio.h>
#include <string.h>

#include "stream/stream.h"

#include "relayed.h"

#define ASK_MS 15000 /* a broker that starts is asked again meanwhile */

static const char sql_has_mode[] =
    "SELECT 1 FROM schema_versions WHERE component = 'core' AND version >= 3";
static const char sql_relay[] =
    "SELECT transactional, (SELECT service FROM store_identity),"
    " (SELECT database_id FROM database_ids ORDER BY number DESC LIMIT 1),"
    " (SELECT cluster_id FROM cluster),"
    " (SELECT seq FROM sqlite_sequence WHERE name = 'outbox'),"
    " (SELECT count(*) FROM outbox) FROM relay";
static const char sql_drop[] = "DELETE FROM outbox WHERE seq <= ?1";

int
relayed_read(struct store *st, struct relayed *r, struct mr_error *err)
{
	struct store_rows *rows;
	int64_t one;
	int found;

	memset(r, 0, sizeof(*r));
	if ((found = store_find(st, err, &one, sql_has_mode)) != 1)
		return (found);
	if ((rows = store_query_values(st, err, sql_relay, NULL, 0)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1 &&
	    store_get_i64(rows, 0) != 0) {
		r->transactional = 1;
		snprintf(r->service, sizeof(r->service), "%s",
		    store_get_text(rows, 1));
		snprintf(r->database_id, sizeof(r->database_id), "%s",
		    store_get_text(rows, 2));
		snprintf(r->cluster_id, sizeof(r->cluster_id), "%s",
		    store_get_text(rows, 3));
		r->issued = store_get_i64(rows, 4);
		r->waiting = store_get_i64(rows, 5);
	}
	store_rows_done(rows);
	return (found == -1 ? -1 : 0);
}

int
relayed_cluster_check(const struct kafka_conf *conf, const char *cluster_id,
    struct mr_error *err)
{
	char id[KAFKA_CLUSTER_ID_SIZE];
	struct kafka_admin *admin;
	int status;

	if (cluster_id[0] == '\0')
		return (0);
	if ((admin = kafka_admin_new(conf, err)) == NULL)
		return (-1);
	status = kafka_admin_cluster_id(admin, id, ASK_MS, err);
	kafka_admin_free(admin);
	if (status == 0 && strcmp(id, cluster_id) != 0)
		return (mr_error_set(err, MR_REJECT,
		    "%s is cluster %s, and the file works with %s: say "
		    "--brokers, or bind it to this one with `millrace state "
		    "rebind`",
		    conf->brokers, id, cluster_id));
	return (status);
}

int
relayed_ask(const struct kafka_conf *conf, struct relayed *r,
    struct mr_error *err)
{
	if (relayed_cluster_check(conf, r->cluster_id, err) == -1 ||
	    (r->found = stream_end_relay(conf, r->service, r->database_id,
		 &r->cursor, ASK_MS, err)) == -1)
		return (-1);
	if (!r->found)
		snprintf(r->why, sizeof(r->why), "%s", err->message);
	return (0);
}

int
relayed_drop(struct store *st, const struct relayed *r, struct mr_error *err)
{
	if (!r->transactional || !r->found)
		return (0);
	return (
	    store_run(st, err, sql_drop, store_i64(r->cursor)) == -1 ? -1 : 0);
}
