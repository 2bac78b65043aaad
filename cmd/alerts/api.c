#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "service/service.h"

#include "alerts.h"

/* Of all that an answer tells; each of these only rises. */
static const char sql_revision[] =
    "SELECT seq + acknowledged + expired + (SELECT coalesce(sum(records), 0)"
    " FROM progress) FROM alerts_state";

/*
 * Alerts before ?1, the newest first.  Which index is looked in depends on
 * what is asked for, so there is a statement for each.
 */
#define COLUMNS                                                            \
	"SELECT id, rule, kind, severity, summary, service, host, metric," \
	" state, value, score, bound, started_ms, fired_ms, resolved_ms,"  \
	" acknowledged_ms FROM alerts"
#define NEWEST " AND id < ?1 ORDER BY id DESC LIMIT ?2"
static const char sql_all[] = COLUMNS " WHERE TRUE" NEWEST;
static const char sql_by_state[] = COLUMNS " WHERE state = ?3" NEWEST;
static const char sql_by_rule[] = COLUMNS
    " WHERE rule = ?4 AND (?3 = '' OR +state = ?3)" NEWEST;
static const char sql_one[] = COLUMNS " WHERE id = ?1";
static const char sql_transitions[] =
    "SELECT seq, state, at_ms, value, score, reason, fingerprint"
    " FROM transitions WHERE alert = ?1 ORDER BY seq";
static const char sql_rules[] =
    "SELECT name, definition FROM rules ORDER BY name";
static const char sql_deliveries[] =
    "SELECT target, seq, delivered, failed, attempts, error FROM deliveries"
    " ORDER BY target";
static const char sql_counts[] =
    "SELECT count(*) FILTER (WHERE state = 'pending'),"
    " count(*) FILTER (WHERE state = 'firing') FROM alerts"
    " WHERE state IN ('pending', 'firing')";
static const char sql_records[] = "SELECT sum(records) FROM progress";

struct asked {
	char state[16];
	char rule[EVENT_NAME_SIZE];
	int64_t after, limit;
};

/* ---- what is asked for --------------------------------------------------------- */

static int
read_asked(struct web_request *req, struct web_response *res,
    struct asked *asked)
{
	static const char *const known[] = {"state", "rule", "after", "limit",
	    NULL};

	*asked = (struct asked){.after = INT64_MAX, .limit = 100};
	if (web_query_only(req, res, known) != 0 ||
	    web_query_text(req, res, "state", asked->state,
		sizeof(asked->state)) == -1 ||
	    web_query_text(req, res, "rule", asked->rule,
		sizeof(asked->rule)) == -1 ||
	    web_query_i64(req, res, "after", 1, INT64_MAX, &asked->after) ==
		-1 ||
	    web_query_i64(req, res, "limit", 1, 1000, &asked->limit) == -1)
		return (-1);
	if (asked->state[0] != '\0' &&
	    track_state_find(asked->state) <= TRACK_NONE)
		return (web_problem_field(res, "state",
		    "must be pending, firing or resolved"));
	return (0);
}

/* 0 and the id in the path; -1 and a 404. */
static int
read_id(struct web_request *req, struct web_response *res, int64_t *id)
{
	const char *text = web_param(req, "id");
	char *end;

	errno = 0;
	*id = strtoll(text, &end, 10);
	if (errno == 0 && *end == '\0' && *id >= 1)
		return (0);
	web_problem(res, 404, "%.40s is no alert's id", text);
	return (-1);
}

/* ---- answers -------------------------------------------------------------------- */

static void
member_time(struct json_writer *w, const char *name, struct store_rows *rows,
    int column)
{

	json_key(w, name);
	if (store_is_null(rows, column))
		json_nil(w);
	else
		json_i64(w, store_get_i64(rows, column));
}

static void
member_number(struct json_writer *w, const char *name, struct store_rows *rows,
    int column)
{

	json_key(w, name);
	if (store_is_null(rows, column))
		json_nil(w);
	else
		json_f64(w, store_get_f64(rows, column));
}

/* An alert's members, in an object that is open. */
static void
write_alert(struct json_writer *w, struct store_rows *rows)
{
	static const char *const texts[] = {"rule", "kind", "severity",
	    "summary", "service", "host", "metric", "state"};
	const char *text;
	int i;

	json_member_i64(w, "id", store_get_i64(rows, 0));
	for (i = 0; i < 8; i++)
		if (*(text = store_get_text(rows, 1 + i)) != '\0')
			json_member_text(w, texts[i], text);
	member_number(w, "value", rows, 9);
	member_number(w, "score", rows, 10);
	member_number(w, "bound", rows, 11);
	member_time(w, "started_ms", rows, 12);
	member_time(w, "fired_ms", rows, 13);
	member_time(w, "resolved_ms", rows, 14);
	member_time(w, "acknowledged_ms", rows, 15);
}

/* How many there are that aren't resolved, and of how many records. */
static int
write_counts(struct store *reader, struct json_writer *w, struct mr_error *err)
{
	struct store_rows *rows;
	int64_t records = 0;
	int found;

	if (store_find(reader, err, &records, sql_records) == -1 ||
	    (rows = store_query(reader, err, sql_counts)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		json_member_i64(w, "pending", store_get_i64(rows, 0));
		json_member_i64(w, "firing", store_get_i64(rows, 1));
		json_member_i64(w, "records", records);
	}
	store_rows_done(rows);
	return (found == -1 ? -1 : 0);
}

static struct store_rows *
query(struct web_request *req, const struct asked *asked, struct mr_error *err)
{
	const struct store_value values[] = {store_i64(asked->after),
	    store_i64(asked->limit), store_text(asked->state),
	    store_text(asked->rule)};

	/* A statement takes as many as it has places for. */
	if (asked->rule[0] != '\0')
		return (store_query_values(req->reader, err, sql_by_rule,
		    values, 4));
	if (asked->state[0] != '\0')
		return (store_query_values(req->reader, err, sql_by_state,
		    values, 3));
	return (store_query_values(req->reader, err, sql_all, values, 2));
}

static void
get_alerts(struct web_request *req, struct web_response *res)
{
	int64_t revision, id = 0, count = 0;
	struct store_rows *rows;
	struct json_writer w;
	struct asked asked;
	struct mr_error err;
	int more;

	if (read_asked(req, res, &asked) != 0 ||
	    service_revision(req, res, sql_revision, &revision) != 0)
		return;
	if ((rows = query(req, &asked, &err)) == NULL) {
		web_problem_error(res, &err);
		return;
	}
	json_init(&w, &res->body);
	json_object_open(&w);
	json_key(&w, "alerts");
	json_array_open(&w);
	for (; (more = store_next(rows, &err)) == 1; count++) {
		id = store_get_i64(rows, 0);
		json_object_open(&w);
		write_alert(&w, rows);
		json_object_close(&w);
	}
	store_rows_done(rows);
	json_array_close(&w);
	if (more == -1 || write_counts(req->reader, &w, &err) == -1) {
		web_problem_error(res, &err);
		return;
	}
	json_key(&w, "next_after");
	if (count == asked.limit)
		json_i64(&w, id);
	else
		json_nil(&w);
	json_member_i64(&w, "poll_ms", service_poll_ms());
	json_object_close(&w);
}

/* 1 with the alert's members written, 0 if there is none, -1. */
static int
write_one(struct store *reader, struct json_writer *w, int64_t id,
    struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if ((rows = store_query(reader, err, sql_one, store_i64(id))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1)
		write_alert(w, rows);
	store_rows_done(rows);
	return (found);
}

static int
write_transitions(struct store *reader, struct json_writer *w, int64_t id,
    struct mr_error *err)
{
	struct store_rows *rows;
	int more;

	if ((rows = store_query(reader, err, sql_transitions, store_i64(id))) ==
	    NULL)
		return (-1);
	json_key(w, "transitions");
	json_array_open(w);
	while ((more = store_next(rows, err)) == 1) {
		json_object_open(w);
		json_member_i64(w, "seq", store_get_i64(rows, 0));
		json_member_text(w, "state", store_get_text(rows, 1));
		json_member_i64(w, "at_ms", store_get_i64(rows, 2));
		member_number(w, "value", rows, 3);
		member_number(w, "score", rows, 4);
		if (store_get_text(rows, 5)[0] != '\0')
			json_member_text(w, "reason", store_get_text(rows, 5));
		json_member_text(w, "fingerprint", store_get_text(rows, 6));
		json_object_close(w);
	}
	store_rows_done(rows);
	json_array_close(w);
	return (more);
}

static void
get_alert(struct web_request *req, struct web_response *res)
{
	static const char *const known[] = {NULL};
	struct json_writer w;
	struct mr_error err;
	int64_t id;
	int found;

	if (web_query_only(req, res, known) != 0 || read_id(req, res, &id) != 0)
		return;
	json_init(&w, &res->body);
	json_object_open(&w);
	if ((found = write_one(req->reader, &w, id, &err)) == 1)
		found = write_transitions(req->reader, &w, id, &err) == -1 ?
		    -1 :
		    1;
	json_object_close(&w);
	if (found == -1)
		web_problem_error(res, &err);
	else if (found == 0)
		web_problem(res, 404, "there is no alert of this id");
}

static void
post_acknowledge(struct web_request *req, struct web_response *res)
{
	int64_t id;

	if (read_id(req, res, &id) == 0)
		service_command(req, res, ALERTS_ACKNOWLEDGE, &id, sizeof(id));
}

/* As they were read: their text is JSON already. */
static void
get_rules(struct web_request *req, struct web_response *res)
{
	static const char *const known[] = {NULL};
	struct store_rows *rows;
	struct mr_error err;
	int more, count = 0;

	if (web_query_only(req, res, known) != 0)
		return;
	if ((rows = store_query(req->reader, &err, sql_rules)) == NULL) {
		web_problem_error(res, &err);
		return;
	}
	buffer_add_text(&res->body, "{\"rules\":[");
	for (; (more = store_next(rows, &err)) == 1; count++) {
		buffer_add_text(&res->body, count > 0 ? "," : "");
		buffer_add_text(&res->body, store_get_text(rows, 1));
	}
	store_rows_done(rows);
	buffer_add_text(&res->body, "]}");
	if (more == -1)
		web_problem_error(res, &err);
}

static void
get_deliveries(struct web_request *req, struct web_response *res)
{
	static const char *const known[] = {NULL};

	if (web_query_only(req, res, known) == 0)
		service_rows(req, res, "deliveries", NULL, sql_deliveries);
}

const struct web_route alerts_routes[] = {
    {"GET", "/alerts", get_alerts},
    {"GET", "/alerts/rules", get_rules},
    {"GET", "/alerts/deliveries", get_deliveries},
    {"GET", "/alerts/{id}", get_alert},
    {"POST", "/alerts/{id}/acknowledge", post_acknowledge},
    {NULL, NULL, NULL},
};
