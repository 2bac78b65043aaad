/*
 * notifications -- what the files of this program share.
 *
 * A customer is told once of each outcome of an order: that stock was
 * reserved, that the order was rejected, that it was cancelled.
 */
#ifndef MR_NOTIFICATIONS_H
#define MR_NOTIFICATIONS_H

#include "event/event.h"
#include "stream/stream.h"
#include "web/web.h"

int notifications_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err);
int notifications_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err);
int notifications_tick(struct stream *s, int64_t now_ms, struct mr_error *err);

extern const struct web_route notifications_routes[];
extern int64_t notifications_keep_ms; /* a setting: --keep */

#endif
