/*
 * prices -- what the files of this program share.
 *
 * Each price becomes a point and moves three candles.  Points and candles of
 * a second are kept for a day or so, longer candles for a month; a seq,
 * counted in the transaction that applies a record, tells readers what is
 * new to them.  Whatever clocks say, a symbol's newest price moves on with its
 * records.
 */
#ifndef MR_PRICES_H
#define MR_PRICES_H

#include "event/event.h"
#include "stream/stream.h"
#include "web/web.h"

int prices_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err);
int prices_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err);
int prices_tick(struct stream *s, int64_t now_ms, struct mr_error *err);

extern const struct web_route prices_routes[];
/* settings: --poll-ms, --keep-points, --keep-candles */
extern int64_t prices_keep_points_ms;
extern int64_t prices_keep_candles_ms;

#endif
