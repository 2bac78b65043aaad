/*
 * inventory -- what the files of this program share.
 *
 * Stock is reserved for an order, or the order is rejected; a cancelled
 * order's stock is given back.  Each order is decided once.
 */
#ifndef MR_INVENTORY_H
#define MR_INVENTORY_H

#include "event/event.h"
#include "stream/stream.h"
#include "web/web.h"

enum inventory_command { INVENTORY_RESTOCK };

struct inventory_restock {
	char item[EVENT_ITEM_SIZE];
	int64_t quantity;
};

int inventory_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err);
int inventory_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err);
int inventory_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err);

extern const struct web_route inventory_routes[];

#endif
