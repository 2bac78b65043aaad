/*
 * analytics -- what the files of this program share.
 *
 * Windows are of the events' own time.  An event is late, counted as such and
 * nothing else, when its minute was over for longer than --grace by its
 * partition's watermark, the newest time seen there; this depends on the
 * order within that partition alone, so that whoever reads it again comes to
 * the same.  A minute that was closed stays so, also once --grace is longer.
 * All else adds up in any order.
 */
#ifndef MR_ANALYTICS_H
#define MR_ANALYTICS_H

#include "event/event.h"
#include "stream/stream.h"
#include "web/web.h"

#define MINUTE_MS 60000
#define HOP_MINUTES 5
#define SESSION_GAP_MS 1800000

/* What a session has had; as in migrations/analytics. */
enum step {
	STEP_VISIT = 1, /* any event */
	STEP_PRODUCT = 2, /* a page below /product */
	STEP_CART = 4, /* /cart */
	STEP_CHECKOUT = 8, /* /checkout */
	STEP_PURCHASE = 16, /* the event */
	STEP_SEARCH = 32, /* /search */
	STEP_SIGNUP = 64 /* the event */
};
#define STEPS 7
#define FUNNEL_STEPS 5 /* the first ones */

int analytics_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err);
int analytics_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err);
int analytics_tick(struct stream *s, int64_t now_ms, struct mr_error *err);

extern const struct web_route analytics_routes[];
/* settings: --grace, --keep, --ahead */
extern int64_t analytics_grace_ms;
extern int64_t analytics_keep_ms;
extern int64_t analytics_ahead_ms;

#endif
