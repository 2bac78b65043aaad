/*
 * calls -- how both ends of the call stream show their sums as metrics.
 */
#ifndef MR_CALLS_METRICS_H
#define MR_CALLS_METRICS_H

#include <stdint.h>

/* How many buckets of durations the metrics have; the last takes the rest. */
#define CALLS_BOUNDS 12

/* calls_bound_of -- the bucket that a duration belongs to, from 0. */
int calls_bound_of(int64_t duration_ms);

/*
 * calls_show -- set millrace_calls_total, millrace_call_duration_seconds_total
 * and the histogram millrace_call_length_seconds.  ${counts} are not
 * cumulative.  For a collector (metrics.h).
 */
void calls_show(int64_t calls, int64_t duration_ms,
    const int64_t counts[CALLS_BOUNDS]);

#endif
