#include <stdio.h>
#include <string.h>

#include "inventory.h"

static const char sql_decide[] =
    "INSERT INTO reservations (order_id, item, quantity, status, ts_ms)"
    " VALUES (?1, ?2, ?3, 'reserved', ?4) ON CONFLICT DO NOTHING";
static const char sql_take[] =
    "UPDATE inventory SET on_hand = on_hand - ?2, reserved = reserved + ?2,"
    " revision = revision + 1 WHERE item = ?1 AND on_hand >= ?2";
static const char sql_on_hand[] =
    "SELECT on_hand FROM inventory WHERE item = ?1";
static const char sql_reject[] =
    "UPDATE reservations SET status = 'rejected', reason = ?2"
    " WHERE order_id = ?1";
static const char sql_release[] =
    "UPDATE reservations SET status = 'released', ts_ms = ?2"
    " WHERE order_id = ?1 AND status = 'reserved' RETURNING item, quantity";
static const char sql_cancel_rejected[] =
    "UPDATE reservations SET cancelled_ms = ?2"
    " WHERE order_id = ?1 AND status = 'rejected' AND cancelled_ms IS NULL"
    " RETURNING item, quantity";
static const char sql_give_back[] =
    "UPDATE inventory SET on_hand = on_hand + ?2, reserved = reserved - ?2,"
    " revision = revision + 1 WHERE item = ?1";
static const char sql_is_decided[] =
    "SELECT 1 FROM reservations WHERE order_id = ?1";
static const char sql_restock[] =
    "INSERT INTO inventory (item, on_hand, received) VALUES (?1, ?2, ?2)"
    " ON CONFLICT (item) DO UPDATE SET on_hand = on_hand + excluded.on_hand,"
    " received = received + excluded.received, revision = revision + 1"
    " WHERE on_hand + excluded.on_hand <= ?3 RETURNING on_hand, revision";

static int
emit(struct stream *s, const struct inventory_event *event,
    struct mr_error *err)
{
	const char *key = event->type == INVENTORY_ADJUSTED ? event->item :
							      event->order_id;
	struct buffer value = {0};

	inventory_event_encode(event, &value);
	return (stream_emit_buffer(s, "inventory-events",
	    inventory_event_type_text(event->type), key, &value, event->ts_ms,
	    err));
}

/* The order's stock isn't there: say why. */
static int
reject(struct store *st, struct inventory_event *event, struct mr_error *err)
{
	int64_t on_hand;

	event->type = INVENTORY_REJECTED;
	switch (store_find(st, err, &on_hand, sql_on_hand,
	    store_text(event->item))) {
	case -1:
		return (-1);
	case 0:
		snprintf(event->reason, sizeof(event->reason), "unknown item");
		break;
	default:
		snprintf(event->reason, sizeof(event->reason),
		    "not enough stock: %lld on hand", (long long)on_hand);
	}
	return (store_run(st, err, sql_reject, store_text(event->order_id),
		    store_text(event->reason)) == -1 ?
		-1 :
		0);
}

static int
created(struct stream *s, const struct order_event *order,
    struct inventory_event *event, struct mr_error *err)
{
	struct store *st = stream_store(s);
	int64_t changed;

	changed = store_run(st, err, sql_decide, store_text(order->order_id),
	    store_text(order->item), store_i64(order->quantity),
	    store_i64(order->ts_ms));
	if (changed != 1) /* 0: it was decided before */
		return ((int)changed);
	changed = store_run(st, err, sql_take, store_text(order->item),
	    store_i64(order->quantity));
	if (changed == -1)
		return (-1);
	event->type = INVENTORY_RESERVED;
	if (changed == 0 && reject(st, event, err) != 0)
		return (-1);
	return (emit(s, event, err));
}

/* 1 and what was ordered, if ${sql} changed the order's row; 0, or -1. */
static int
change(struct store *st, const char *sql, const struct order_event *order,
    struct inventory_event *event, struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if ((rows = store_query(st, err, sql, store_text(order->order_id),
		 store_i64(order->ts_ms))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		snprintf(event->item, sizeof(event->item), "%s",
		    store_get_text(rows, 0));
		event->quantity = store_get_i64(rows, 1);
	}
	store_rows_done(rows);
	return (found);
}

static int
cancelled(struct stream *s, const struct order_event *order,
    struct inventory_event *event, struct mr_error *err)
{
	struct store *st = stream_store(s);
	int64_t one;
	int found;

	if ((found = change(st, sql_release, order, event, err)) == -1)
		return (-1);
	if (found == 1) {
		if (store_run(st, err, sql_give_back, store_text(event->item),
			store_i64(event->quantity)) == -1)
			return (-1);
		event->type = INVENTORY_RELEASED;
		return (emit(s, event, err));
	}
	/* It was cancelled before its rejection was known to whoever did. */
	if ((found = change(st, sql_cancel_rejected, order, event, err)) == -1)
		return (-1);
	if (found == 1) {
		event->type = INVENTORY_CANCELLED;
		return (emit(s, event, err));
	}
	/* It was told already; but decided it must be. */
	found = store_find(st, err, &one, sql_is_decided,
	    store_text(order->order_id));
	if (found == 0)
		return (mr_error_set(err, MR_REJECT,
		    "order %s was cancelled but never created",
		    order->order_id));
	return (found == 1 ? 0 : -1);
}

int
inventory_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err)
{

	return (order_event_decode(record->type, record->value,
	    record->value_size, decoded, err));
}

int
inventory_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{
	const struct order_event *order = record->decoded;
	struct inventory_event event = {0};

	memcpy(event.order_id, order->order_id, sizeof(event.order_id));
	memcpy(event.item, order->item, sizeof(event.item));
	event.quantity = order->quantity;
	event.ts_ms = order->ts_ms;
	switch (order->type) {
	case ORDER_CREATED:
		return (created(s, order, &event, err));
	case ORDER_CANCELLED:
		return (cancelled(s, order, &event, err));
	}
	return (0);
}

int
inventory_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err)
{
	const struct inventory_restock *input = command->input;
	struct inventory_event event = {.type = INVENTORY_ADJUSTED,
	    .delta = input->quantity,
	    .ts_ms = command->now_ms};
	struct store_rows *rows;
	struct json_writer w;
	int found;

	if ((rows = store_query(stream_store(s), err, sql_restock,
		 store_text(input->item), store_i64(input->quantity),
		 store_i64(EVENT_STOCK_MOST))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		event.on_hand = store_get_i64(rows, 0);
		answer->status = store_get_i64(rows, 1) == 1 ? 201 : 200;
	}
	store_rows_done(rows);
	if (found == -1)
		return (-1);
	if (found == 0) {
		answer->status = 409;
		buffer_add_text(&answer->body,
		    "there would be more of it than can be counted");
		return (0);
	}
	snprintf(event.item, sizeof(event.item), "%s", input->item);
	if (emit(s, &event, err) != 0)
		return (-1);
	json_init(&w, &answer->body);
	json_object_open(&w);
	json_member_text(&w, "item", event.item);
	json_member_i64(&w, "on_hand", event.on_hand);
	json_object_close(&w);
	return (0);
}
