#include <stdio.h>

#include "notifications.h"

#define DELETE_MOST 2000 /* rows a tick */

int64_t notifications_keep_ms;

static const char sql_insert[] =
    "INSERT INTO notifications"
    " (order_id, outcome, message, created_at_ms, seq)"
    " SELECT ?1, ?2, ?3, ?4, seq + 1 FROM notifications_cursor WHERE true"
    " ON CONFLICT DO NOTHING";
static const char sql_count[] = "UPDATE notifications_cursor SET seq = seq + 1";
static const char sql_expire[] =
    "DELETE FROM notifications WHERE (order_id, outcome) IN"
    " (SELECT order_id, outcome FROM notifications WHERE created_at_ms < ?1"
    "  ORDER BY created_at_ms LIMIT ?2)";

/* The outcome that an event is, and the text of it; NULL if it is none. */
static const char *
outcome_of(const struct inventory_event *event, char *message, size_t size)
{
	long long quantity = (long long)event->quantity;

	switch (event->type) {
	case INVENTORY_RESERVED:
		snprintf(message, size, "Your order of %lld %s is confirmed",
		    quantity, event->item);
		return ("confirmed");
	case INVENTORY_REJECTED:
		snprintf(message, size,
		    "Your order of %lld %s was rejected: %s", quantity,
		    event->item, event->reason);
		return ("rejected");
	case INVENTORY_RELEASED:
	case INVENTORY_CANCELLED:
		snprintf(message, size, "Your order of %lld %s was cancelled",
		    quantity, event->item);
		return ("cancelled");
	case INVENTORY_ADJUSTED:
		break;
	}
	return (NULL);
}

int
notifications_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err)
{

	return (inventory_event_decode(record->type, record->value,
	    record->value_size, decoded, err));
}

int
notifications_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{
	struct store *st = stream_store(s);
	const struct inventory_event *event = record->decoded;
	char message[EVENT_ITEM_SIZE + EVENT_REASON_SIZE + 64];
	const char *outcome;
	int64_t inserted;

	if ((outcome = outcome_of(event, message, sizeof(message))) == NULL)
		return (0);
	inserted = store_run(st, err, sql_insert, store_text(event->order_id),
	    store_text(outcome), store_text(message), store_i64(event->ts_ms));
	if (inserted != 1) /* 0: the customer knows */
		return ((int)inserted);
	if (store_run(st, err, sql_count) == -1)
		return (-1);
	stream_say(s, "notification sent", "order", event->order_id, "outcome",
	    outcome, "text", message, (const char *)NULL);
	return (0);
}

int
notifications_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{
	int64_t deleted = store_run(stream_store(s), err, sql_expire,
	    store_i64(now_ms - notifications_keep_ms), store_i64(DELETE_MOST));

	return (deleted == -1 ? -1 : deleted == DELETE_MOST);
}
