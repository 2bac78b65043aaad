/*
 * orders -- what the files of this program share.
 *
 * An order is PENDING until inventory has reserved its stock (CONFIRMED) or
 * refused to (REJECTED).  Pending and confirmed ones can be CANCELLED, and
 * stay so whatever inventory says later.  Every function that takes a stream
 * runs inside its transaction.
 */
#ifndef MR_ORDERS_H
#define MR_ORDERS_H

#include "event/event.h"
#include "stream/stream.h"
#include "web/web.h"

#define ORDER_COLUMNS \
	"id, item, quantity, status, reason, created_at_ms, revision"

struct order {
	char id[ID_UUID_SIZE];
	char item[EVENT_ITEM_SIZE];
	int64_t quantity;
	char status[16];
	char reason[EVENT_REASON_SIZE]; /* "" unless rejected */
	int64_t created_at_ms;
	int64_t revision;
};

/* order_read -- the order of a row that selected ORDER_COLUMNS. */
void order_read(struct store_rows *rows, struct order *order);
/* order_write -- its JSON members, into an open object. */
void order_write(struct json_writer *w, const struct order *order);

enum orders_command { ORDERS_PLACE, ORDERS_CANCEL };

struct orders_place {
	char item[EVENT_ITEM_SIZE];
	int64_t quantity;
};

struct orders_cancel {
	char id[ID_UUID_SIZE];
};

int orders_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err);
int orders_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err);
int orders_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err);

extern const struct web_route orders_routes[];

#endif
