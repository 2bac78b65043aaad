/*
 * rollups -- what the files of this program share.
 *
 * Every value of a second is kept until its hour is settled: over for longer
 * than --keep-seconds, by its partition's watermark, the newest time seen
 * there.  Then its minutes and the hour itself are made, once and for good,
 * and the seconds go.  Until then minutes and hours are made of the seconds
 * when somebody asks, so they are right at any moment, whatever order samples
 * came in.  A sample of a settled hour is late, counted as such and nothing
 * else; this depends on the order within its partition alone, so that whoever
 * reads it again comes to the same.
 *
 * All figures are exact.  p50 and p99 are by nearest rank: the least value
 * that at least so many hundredths of all are not above.  Only where a host's
 * samples came through several partitions a settled minute or hour has no
 * percentiles, since those of parts don't add up.
 */
#ifndef MR_ROLLUPS_H
#define MR_ROLLUPS_H

#include "event/event.h"
#include "stream/stream.h"
#include "web/web.h"

#define SECOND_MS 1000
#define MINUTE_MS 60000
#define HOUR_MS 3600000

int rollups_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err);
int rollups_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err);
int rollups_tick(struct stream *s, int64_t now_ms, struct mr_error *err);

extern const struct web_route rollups_routes[];
/* settings: --keep-seconds, --keep-minutes, --keep-hours, --ahead */
extern int64_t rollups_keep_seconds_ms;
extern int64_t rollups_keep_minutes_ms;
extern int64_t rollups_keep_hours_ms;
extern int64_t rollups_ahead_ms;

#endif
