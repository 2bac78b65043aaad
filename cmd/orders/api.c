#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "service/service.h"

#include "orders.h"

static const char sql_revision[] = "SELECT revision FROM orders_revision";
static const char sql_list[] = "SELECT " ORDER_COLUMNS
			       " FROM orders WHERE id < ?1"
			       " ORDER BY id DESC LIMIT ?2";
static const char sql_list_status[] =
    "SELECT " ORDER_COLUMNS " FROM orders WHERE status = ?3 AND id < ?1"
    " ORDER BY id DESC LIMIT ?2";
static const char sql_find[] = "SELECT " ORDER_COLUMNS
			       " FROM orders WHERE id = ?1";
static const char sql_trace[] =
    "SELECT type, topic, partition, offset, ts_ms FROM order_trace"
    " WHERE order_id = ?1 ORDER BY ts_ms, topic DESC, partition, offset";

static void
post_order(struct web_request *req, struct web_response *res)
{
	struct orders_place input = {0};
	const struct web_field fields[] = {
	    {.name = "item",
		.kind = WEB_FIELD_TEXT,
		.target = input.item,
		.size = sizeof(input.item),
		.check_text = event_check_item},
	    {.name = "quantity",
		.kind = WEB_FIELD_I64,
		.target = &input.quantity,
		.least = 1,
		.most = EVENT_QUANTITY_MOST},
	    {.name = NULL},
	};

	if (web_read_json(req, res, fields) == 0)
		service_command(req, res, ORDERS_PLACE, &input, sizeof(input));
}

static int
is_status(const char *text)
{

	return (strcmp(text, "PENDING") == 0 ||
	    strcmp(text, "CONFIRMED") == 0 || strcmp(text, "REJECTED") == 0 ||
	    strcmp(text, "CANCELLED") == 0);
}

/* One row more than asked for was selected: it says whether there is more. */
static void
write_list(struct web_response *res, struct store_rows *rows, int64_t limit)
{
	struct json_writer w;
	struct mr_error err;
	struct order order = {0};
	int64_t count = 0;
	int more;

	json_init(&w, &res->body);
	json_object_open(&w);
	json_key(&w, "orders");
	json_array_open(&w);
	while ((more = store_next(rows, &err)) == 1 && count < limit) {
		order_read(rows, &order);
		json_object_open(&w);
		order_write(&w, &order);
		json_object_close(&w);
		count++;
	}
	if (more == -1) {
		web_problem_error(res, &err);
		return;
	}
	json_array_close(&w);
	json_member_text(&w, "next_after", more ? order.id : NULL);
	json_member_i64(&w, "poll_ms", service_poll_ms());
	json_object_close(&w);
}

static void
get_orders(struct web_request *req, struct web_response *res)
{
	static const char *const known[] = {"status", "limit", "after", NULL};
	struct store_rows *rows;
	struct mr_error err;
	char status[16] = "", after[ID_UUID_SIZE] = "g"; /* above any id */
	int64_t limit = 50, revision;

	if (web_query_only(req, res, known) != 0 ||
	    web_query_text(req, res, "status", status, sizeof(status)) == -1 ||
	    web_query_uuid(req, res, "after", after) == -1 ||
	    web_query_i64(req, res, "limit", 1, 200, &limit) == -1)
		return;
	if (status[0] != '\0' && !is_status(status)) {
		web_problem_field(res, "status",
		    "must be PENDING, CONFIRMED, REJECTED or CANCELLED");
		return;
	}
	if (service_revision(req, res, sql_revision, &revision) != 0)
		return;
	if (status[0] != '\0')
		rows = store_query(req->reader, &err, sql_list_status,
		    store_text(after), store_i64(limit + 1),
		    store_text(status));
	else
		rows = store_query(req->reader, &err, sql_list,
		    store_text(after), store_i64(limit + 1));
	if (rows == NULL)
		web_problem_error(res, &err);
	else
		write_list(res, rows, limit);
	store_rows_done(rows);
}

/* The rows, in whose file, that an event of this type becomes. */
static const struct {
	const char *type;
	const char *file;
	const char *table;
	const char *suffix; /* of the order's id, to make the key */
} became[] = {
    {"order.created", "orders.db", "orders", ""},
    {"order.created", "inventory.db", "reservations", ""},
    {"order.cancelled", "orders.db", "orders", ""},
    {"order.cancelled", "inventory.db", "reservations", ""},
    {"inventory.reserved", "orders.db", "orders", ""},
    {"inventory.reserved", "notifications.db", "notifications", "/confirmed"},
    {"inventory.rejected", "orders.db", "orders", ""},
    {"inventory.rejected", "notifications.db", "notifications", "/rejected"},
    {"inventory.released", "orders.db", "orders", ""},
    {"inventory.released", "notifications.db", "notifications", "/cancelled"},
    {"inventory.cancelled", "orders.db", "orders", ""},
    {"inventory.cancelled", "notifications.db", "notifications", "/cancelled"},
};

static void
write_rows(struct json_writer *w, const char *type, const char *id)
{
	char key[ID_UUID_SIZE + 16];
	size_t i;

	json_key(w, "rows");
	json_array_open(w);
	for (i = 0; i < sizeof(became) / sizeof(became[0]); i++) {
		if (strcmp(became[i].type, type) != 0)
			continue;
		snprintf(key, sizeof(key), "%s%s", id, became[i].suffix);
		json_object_open(w);
		json_member_text(w, "file", became[i].file);
		json_member_text(w, "table", became[i].table);
		json_member_text(w, "key", key);
		json_object_close(w);
	}
	json_array_close(w);
}

static int
write_trace(struct json_writer *w, struct store *st, const char *id,
    struct mr_error *err)
{
	struct store_rows *rows;
	int more;

	if ((rows = store_query(st, err, sql_trace, store_text(id))) == NULL)
		return (-1);
	json_key(w, "trace");
	json_array_open(w);
	while ((more = store_next(rows, err)) == 1) {
		json_object_open(w);
		json_member_text(w, "type", store_get_text(rows, 0));
		json_member_text(w, "topic", store_get_text(rows, 1));
		json_member_i64(w, "partition", store_get_i64(rows, 2));
		json_member_i64(w, "offset", store_get_i64(rows, 3));
		json_member_i64(w, "ts_ms", store_get_i64(rows, 4));
		write_rows(w, store_get_text(rows, 0), id);
		json_object_close(w);
	}
	json_array_close(w);
	store_rows_done(rows);
	return (more);
}

/* 0 and the order's id, as it is in the file; -1 with the problem given. */
static int
order_id(struct web_request *req, struct web_response *res,
    char id[ID_UUID_SIZE])
{

	if (id_uuid_read(web_param(req, "id"), id))
		return (0);
	web_problem(res, 404, "there is no order of this id");
	return (-1);
}

static void
get_order(struct web_request *req, struct web_response *res)
{
	struct json_writer w;
	struct mr_error err;
	struct store_rows *rows;
	struct order order = {0};
	char id[ID_UUID_SIZE];
	int found;

	if (order_id(req, res, id) != 0)
		return;
	if ((rows = store_query(req->reader, &err, sql_find, store_text(id))) ==
	    NULL) {
		web_problem_error(res, &err);
		return;
	}
	if ((found = store_next(rows, &err)) == 1)
		order_read(rows, &order);
	store_rows_done(rows);
	if (found == -1)
		web_problem_error(res, &err);
	else if (found == 0)
		web_problem(res, 404, "there is no order of this id");
	if (found != 1 || service_not_modified(req, res, order.revision) != 0)
		return;
	json_init(&w, &res->body);
	json_object_open(&w);
	order_write(&w, &order);
	if (write_trace(&w, req->reader, order.id, &err) != 0) {
		web_problem_error(res, &err);
		return;
	}
	json_object_close(&w);
}

static void
delete_order(struct web_request *req, struct web_response *res)
{
	struct orders_cancel input;

	if (order_id(req, res, input.id) == 0)
		service_command(req, res, ORDERS_CANCEL, &input, sizeof(input));
}

const struct web_route orders_routes[] = {
    {"POST", "/orders", post_order},
    {"GET", "/orders", get_orders},
    {"GET", "/orders/{id}", get_order},
    {"DELETE", "/orders/{id}", delete_order},
    {NULL, NULL, NULL},
};
