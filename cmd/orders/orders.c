#include <stdio.h>
#include <string.h>

#include "base/clock.h"

#include "orders.h"

static const char sql_insert[] =
    "INSERT INTO orders (id, item, quantity, status, created_at_ms, revision)"
    " VALUES (?1, ?2, ?3, 'PENDING', ?4, ?5)";
static const char sql_find[] = "SELECT " ORDER_COLUMNS
			       " FROM orders WHERE id = ?1";
static const char sql_cancel[] =
    "UPDATE orders SET status = 'CANCELLED', reason = NULL, revision = ?2"
    " WHERE id = ?1";
static const char sql_decide[] =
    "UPDATE orders SET revision = ?4,"
    " reason = CASE status WHEN 'PENDING' THEN ?3 ELSE reason END,"
    " status = CASE status WHEN 'PENDING' THEN ?2 ELSE status END"
    " WHERE id = ?1";
static const char sql_trace[] =
    "INSERT INTO order_trace (order_id, topic, partition, offset, type, ts_ms)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";
static const char sql_revise[] =
    "UPDATE orders_revision SET revision = revision + 1";
static const char sql_revision[] = "SELECT revision FROM orders_revision";

void
order_read(struct store_rows *rows, struct order *order)
{

	snprintf(order->id, sizeof(order->id), "%s", store_get_text(rows, 0));
	snprintf(order->item, sizeof(order->item), "%s",
	    store_get_text(rows, 1));
	order->quantity = store_get_i64(rows, 2);
	snprintf(order->status, sizeof(order->status), "%s",
	    store_get_text(rows, 3));
	snprintf(order->reason, sizeof(order->reason), "%s",
	    store_get_text(rows, 4));
	order->created_at_ms = store_get_i64(rows, 5);
	order->revision = store_get_i64(rows, 6);
}

void
order_write(struct json_writer *w, const struct order *order)
{
	char created_at[25];

	clock_rfc3339(order->created_at_ms, created_at);
	json_member_text(w, "id", order->id);
	json_member_text(w, "item", order->item);
	json_member_i64(w, "quantity", order->quantity);
	json_member_text(w, "status", order->status);
	if (order->reason[0] != '\0')
		json_member_text(w, "reason", order->reason);
	json_member_text(w, "created_at", created_at);
}

/*
 * The revision of what this transaction changes: one for all, since readers
 * see all of it or nothing.  RETURNING would say it as well, out of a table
 * made for it each time.
 */
static int
revise(struct stream *s, int64_t *revision, struct mr_error *err)
{
	struct store *st = stream_store(s);
	int64_t *note = stream_note(s);

	if (*note == 0 &&
	    (store_run(st, err, sql_revise) != 1 ||
		store_find(st, err, note, sql_revision) != 1))
		return (-1);
	*revision = *note;
	return (0);
}

static int
emit(struct stream *s, enum order_event_type type, const struct order *order,
    int64_t ts_ms, struct mr_error *err)
{
	struct order_event event = {.type = type,
	    .quantity = order->quantity,
	    .ts_ms = ts_ms};
	struct buffer value = {0};

	memcpy(event.order_id, order->id, sizeof(event.order_id));
	memcpy(event.item, order->item, sizeof(event.item));
	order_event_encode(&event, &value);
	return (stream_emit_buffer(s, "order-events",
	    order_event_type_text(type), order->item, &value, ts_ms, err));
}

/* The answer is the order. */
static void
answer_order(struct stream_answer *answer, int status,
    const struct order *order)
{
	struct json_writer w;

	answer->status = status;
	json_init(&w, &answer->body);
	json_object_open(&w);
	order_write(&w, order);
	json_object_close(&w);
}

/* The answer is a problem, and nothing was written. */
static int
answer_problem(struct stream_answer *answer, int status, const char *detail)
{

	answer->status = status;
	buffer_add_text(&answer->body, detail);
	return (0);
}

static int
place(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err)
{
	const struct orders_place *input = command->input;
	struct store *st = stream_store(s);
	struct order order = {.quantity = input->quantity,
	    .status = "PENDING",
	    .created_at_ms = command->now_ms};

	memcpy(order.id, command->id, sizeof(order.id));
	memcpy(order.item, input->item, sizeof(order.item));
	if (revise(s, &order.revision, err) != 0 ||
	    store_run(st, err, sql_insert, store_text(order.id),
		store_text(order.item), store_i64(order.quantity),
		store_i64(order.created_at_ms), store_i64(order.revision)) < 0)
		return (-1);
	if (emit(s, ORDER_CREATED, &order, command->now_ms, err) != 0)
		return (-1);
	snprintf(answer->location, sizeof(answer->location), "/orders/%s",
	    order.id);
	answer_order(answer, 201, &order);
	return (0);
}

/* 1 and the order, 0 if there is none, -1. */
static int
find(struct store *st, const char *id, struct order *order,
    struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if ((rows = store_query(st, err, sql_find, store_text(id))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1)
		order_read(rows, order);
	store_rows_done(rows);
	return (found);
}

static int
cancel(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err)
{
	const struct orders_cancel *input = command->input;
	struct store *st = stream_store(s);
	struct order order = {0};
	int found;

	if ((found = find(st, input->id, &order, err)) == -1)
		return (-1);
	if (found == 0)
		return (answer_problem(answer, 404,
		    "there is no order of this id"));
	if (strcmp(order.status, "REJECTED") == 0)
		return (answer_problem(answer, 409,
		    "a rejected order can't be cancelled"));
	if (strcmp(order.status, "CANCELLED") != 0) {
		if (revise(s, &order.revision, err) != 0 ||
		    store_run(st, err, sql_cancel, store_text(order.id),
			store_i64(order.revision)) < 0 ||
		    emit(s, ORDER_CANCELLED, &order, command->now_ms, err) != 0)
			return (-1);
		snprintf(order.status, sizeof(order.status), "CANCELLED");
	}
	answer_order(answer, 200, &order);
	return (0);
}

int
orders_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err)
{

	switch ((enum orders_command)command->kind) {
	case ORDERS_PLACE:
		return (place(s, command, answer, err));
	case ORDERS_CANCEL:
		return (cancel(s, command, answer, err));
	}
	return (mr_error_set(err, MR_REJECT, "no such command"));
}

static int
is_cancellation(const struct inventory_event *event)
{

	return (event->type == INVENTORY_RELEASED ||
	    event->type == INVENTORY_CANCELLED);
}

/*
 * Where the event was, and the event of ours that it answers.  Inventory's
 * events carry the time of the one that they answer.
 */
static int
trace(struct store *st, const struct stream_record *record,
    const struct inventory_event *event, struct mr_error *err)
{
	const char *cause = order_event_type_text(
	    is_cancellation(event) ? ORDER_CANCELLED : ORDER_CREATED);

	if (record->cause_topic != NULL &&
	    store_run(st, err, sql_trace, store_text(event->order_id),
		store_text(record->cause_topic),
		store_i64(record->cause_partition),
		store_i64(record->cause_offset), store_text(cause),
		store_i64(event->ts_ms)) < 0)
		return (-1);
	if (store_run(st, err, sql_trace, store_text(event->order_id),
		store_text(record->topic), store_i64(record->partition),
		store_i64(record->offset),
		store_text(inventory_event_type_text(event->type)),
		store_i64(event->ts_ms)) < 0)
		return (-1);
	return (0);
}

/* What the event makes of the order's row.  1, 0 if there is none, -1. */
static int64_t
change(struct store *st, const struct inventory_event *event, int64_t revision,
    struct mr_error *err)
{
	int rejected = event->type == INVENTORY_REJECTED;

	/* A restored file may not know any more that it was cancelled. */
	if (is_cancellation(event))
		return (store_run(st, err, sql_cancel,
		    store_text(event->order_id), store_i64(revision)));
	return (store_run(st, err, sql_decide, store_text(event->order_id),
	    store_text(rejected ? "REJECTED" : "CONFIRMED"),
	    store_text(rejected ? event->reason : NULL), store_i64(revision)));
}

int
orders_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err)
{

	return (inventory_event_decode(record->type, record->value,
	    record->value_size, decoded, err));
}

int
orders_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{
	struct store *st = stream_store(s);
	const struct inventory_event *event = record->decoded;
	int64_t revision, changed;

	if (event->type == INVENTORY_ADJUSTED)
		return (0);
	if (revise(s, &revision, err) != 0)
		return (-1);
	if ((changed = change(st, event, revision, err)) == -1)
		return (-1);
	if (changed == 0)
		return (mr_error_set(err, MR_REJECT,
		    "%s of order %s, which was never placed here",
		    inventory_event_type_text(event->type), event->order_id));
	return (trace(st, record, event, err));
}
