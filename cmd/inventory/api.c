#include <stdio.h>
#include <string.h>

#include "service/service.h"

#include "inventory.h"

/* Every change of any row moves the sum, and rows are never deleted. */
static const char sql_revision[] = "SELECT total(revision) FROM inventory";
static const char sql_list[] =
    "SELECT item, on_hand, reserved FROM inventory WHERE item > ?1"
    " ORDER BY item LIMIT ?2";

/* One row more than asked for was selected: it says whether there is more. */
static void
write_stock(struct web_response *res, struct store_rows *rows, int64_t limit)
{
	struct json_writer w;
	struct mr_error err;
	char item[EVENT_ITEM_SIZE] = "";
	int64_t count = 0;
	int more;

	json_init(&w, &res->body);
	json_object_open(&w);
	json_key(&w, "stock");
	json_array_open(&w);
	while ((more = store_next(rows, &err)) == 1 && count++ < limit) {
		snprintf(item, sizeof(item), "%s", store_get_text(rows, 0));
		json_object_open(&w);
		json_member_text(&w, "item", item);
		json_member_i64(&w, "on_hand", store_get_i64(rows, 1));
		json_member_i64(&w, "reserved", store_get_i64(rows, 2));
		json_object_close(&w);
	}
	if (more == -1) {
		web_problem_error(res, &err);
		return;
	}
	json_array_close(&w);
	json_member_text(&w, "next_after", more ? item : NULL);
	json_member_i64(&w, "poll_ms", service_poll_ms());
	json_object_close(&w);
}

static void
get_stock(struct web_request *req, struct web_response *res)
{
	static const char *const known[] = {"limit", "after", NULL};
	struct store_rows *rows;
	struct mr_error err;
	char after[EVENT_ITEM_SIZE] = "";
	int64_t limit = 200, revision;

	if (web_query_only(req, res, known) != 0 ||
	    web_query_text(req, res, "after", after, sizeof(after)) == -1 ||
	    web_query_i64(req, res, "limit", 1, 1000, &limit) == -1)
		return;
	if (service_revision(req, res, sql_revision, &revision) != 0)
		return;
	if ((rows = store_query(req->reader, &err, sql_list, store_text(after),
		 store_i64(limit + 1))) == NULL)
		web_problem_error(res, &err);
	else
		write_stock(res, rows, limit);
	store_rows_done(rows);
}

static void
post_stock(struct web_request *req, struct web_response *res)
{
	struct inventory_restock input = {0};
	const struct web_field fields[] = {
	    {.name = "quantity",
		.kind = WEB_FIELD_I64,
		.target = &input.quantity,
		.least = 1,
		.most = EVENT_QUANTITY_MOST},
	    {.name = NULL},
	};
	const char *item = web_param(req, "item");
	struct mr_error err;

	if (event_check_item(item, strlen(item), &err) != 0) {
		web_problem_field(res, "item", "%s", err.message);
		return;
	}
	snprintf(input.item, sizeof(input.item), "%s", item);
	if (web_read_json(req, res, fields) == 0)
		service_command(req, res, INVENTORY_RESTOCK, &input,
		    sizeof(input));
}

const struct web_route inventory_routes[] = {
    {"GET", "/stock", get_stock},
    {"POST", "/stock/{item}", post_stock},
    {NULL, NULL, NULL},
};
