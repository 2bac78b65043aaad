/*
 * calls -- what the files of this program share.
 *
 * Each record adds to the sums of its partition: all, its minute, its bucket
 * of durations.  A long call is a row as well, and its line in the log is
 * written by the tick after the row was committed (long_log.h).
 */
#ifndef MR_CALLS_H
#define MR_CALLS_H

#include "event/event.h"
#include "stream/stream.h"
#include "web/web.h"

#define CALLS_BUCKET_MS 5000
#define CALLS_BUCKETS 121 /* the last one takes the rest */

int calls_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err);
int calls_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err);
int calls_tick(struct stream *s, int64_t now_ms, struct mr_error *err);
void calls_close(struct stream *s);

/* calls_collect -- the sums as metrics, out of a reader of the file. */
void calls_collect(struct store *reader);

extern const struct web_route calls_routes[];

struct calls_settings {
	int64_t long_call_s;
	const char *long_calls_log; /* NULL: long-calls.log beside the file */
	int64_t keep_minutes_ms;
	int64_t keep_long_calls_ms;
	int64_t ahead_ms;
};
extern struct calls_settings calls_settings;

#endif
