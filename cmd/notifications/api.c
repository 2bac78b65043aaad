#include <stdio.h>

#include "base/clock.h"
#include "service/service.h"

#include "notifications.h"

static const char sql_cursor[] = "SELECT seq FROM notifications_cursor";
#define COLUMNS "SELECT seq, order_id, outcome, message, created_at_ms"
static const char sql_since[] = COLUMNS
    " FROM notifications WHERE seq > ?1 AND seq <= ?2"
    " ORDER BY seq LIMIT ?3";
static const char sql_newest[] = COLUMNS
    " FROM (SELECT * FROM notifications WHERE seq <= ?2"
    "   ORDER BY seq DESC LIMIT ?3)"
    " WHERE seq > ?1 ORDER BY seq";
/* At most three, one for each outcome. */
static const char sql_order[] = COLUMNS
    " FROM notifications WHERE order_id = ?4"
    " AND seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3";

/* The answer's cursor is that of the last row if the limit cut the list. */
static void
write_list(struct web_response *res, struct store_rows *rows, int64_t cursor,
    int64_t limit)
{
	struct json_writer w;
	struct mr_error err;
	char created_at[25];
	int64_t count = 0, last = cursor;
	int more;

	json_init(&w, &res->body);
	json_object_open(&w);
	json_key(&w, "notifications");
	json_array_open(&w);
	for (; (more = store_next(rows, &err)) == 1; count++) {
		last = store_get_i64(rows, 0);
		clock_rfc3339(store_get_i64(rows, 4), created_at);
		json_object_open(&w);
		json_member_i64(&w, "seq", last);
		json_member_text(&w, "order_id", store_get_text(rows, 1));
		json_member_text(&w, "outcome", store_get_text(rows, 2));
		json_member_text(&w, "message", store_get_text(rows, 3));
		json_member_text(&w, "created_at", created_at);
		json_object_close(&w);
	}
	if (more == -1) {
		web_problem_error(res, &err);
		return;
	}
	json_array_close(&w);
	json_member_i64(&w, "cursor", count == limit ? last : cursor);
	json_member_i64(&w, "poll_ms", service_poll_ms());
	json_object_close(&w);
}

static void
get_notifications(struct web_request *req, struct web_response *res)
{
	static const char *const known[] = {"since", "order_id", "limit", NULL};
	struct store_rows *rows;
	struct mr_error err;
	char order_id[ID_UUID_SIZE] = "";
	int64_t cursor, since = -1, limit = 100;
	const char *sql = sql_since;

	if (web_query_only(req, res, known) != 0 ||
	    web_query_i64(req, res, "since", 0, INT64_MAX, &since) == -1 ||
	    web_query_uuid(req, res, "order_id", order_id) == -1 ||
	    web_query_i64(req, res, "limit", 1, 1000, &limit) == -1)
		return;
	if (service_revision(req, res, sql_cursor, &cursor) != 0)
		return;
	/* A cursor from the future is one of a file that was restored. */
	if (since == -1 || since > cursor) {
		since = 0;
		sql = sql_newest;
	}
	if (order_id[0] != '\0')
		rows = store_query(req->reader, &err, sql_order,
		    store_i64(since), store_i64(cursor), store_i64(limit),
		    store_text(order_id));
	else
		rows = store_query(req->reader, &err, sql, store_i64(since),
		    store_i64(cursor), store_i64(limit));
	if (rows == NULL)
		web_problem_error(res, &err);
	else
		write_list(res, rows, cursor, limit);
	store_rows_done(rows);
}

const struct web_route notifications_routes[] = {
    {"GET", "/notifications", get_notifications},
    {NULL, NULL, NULL},
};
