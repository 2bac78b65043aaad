/*
 * center -- a call centre by its statistics, and its state in the file.
 *
 * Calls arrive as a Poisson process: the times between them are exponential,
 * by inversion, -mean ln(1 - u) with u uniform in [0, 1).  With a profile the
 * rate depends on the hour of the day (UTC), and the process is thinned: calls
 * arrive at the highest rate, and one is kept with the probability of its
 * hour's rate by the highest (Lewis and Shedler, Naval Research Logistics 26,
 * 1979).  Durations are exponential, by inversion too, and rounded to the
 * millisecond.  Caller and callee are uniform among customers and agents.
 *
 * The centre has a clock of its own, which runs ${speedup} times as fast as the
 * machine's and stands still while the program does.  Same seed and settings:
 * same calls, on every machine; their times are the clock's, counted from the
 * first start.  With another rate or profile than before, the next call is
 * drawn anew.  Without a speed-up, times that have come to be a minute apart
 * from the machine's, since the program was stopped or that clock set, are
 * brought to it.  With one, the clock goes back by a day where a call would
 * begin in time to come, which readers refuse: the same day goes by again, and
 * the profile goes on.  The clock never passes a call that wasn't made: where a
 * step has no room for another, the rest comes with the next one.
 */
#ifndef MR_CENTER_H
#define MR_CENTER_H

#include "base/id.h"
#include "calls/calls.h"
#include "event/event.h"
#include "store/store.h"

#define CENTER_BATCH_MOST 20000

enum center_profile { CENTER_FLAT, CENTER_OFFICE };

struct center_settings {
	double calls_per_minute; /* mean, of a whole day with a profile */
	double mean_duration_s;
	double speedup;
	int64_t interval_ms; /* of the machine's clock, between steps */
	int64_t batch; /* calls a step, at most CENTER_BATCH_MOST */
	int64_t count; /* calls in all, then no more; 0: for ever */
	int64_t seed;
	int64_t customers;
	int64_t agents;
	int profile; /* enum center_profile */
};

struct center {
	int64_t seed;
	struct id_rng rng;
	int64_t epoch_ms;
	double clock_ms;
	double next_ms;
	double calls_per_minute; /* that next_ms was drawn by; 0: not known */
	int profile; /* likewise */
	int64_t calls;
	int64_t duration_ms;
	int64_t durations[CALLS_BOUNDS];
	struct call_event made[CENTER_BATCH_MOST]; /* by the last step */
	int made_count;
};

/*
 * center_load -- where the centre stands in the file; 0 or -1.  With another
 * seed than the file's the numbers begin anew; sums and the clock go on.
 */
int center_load(struct center *center, const struct center_settings *settings,
    struct store *st, struct mr_error *err);
int center_save(const struct center *center, struct store *st,
    struct mr_error *err);

/* center_step -- make the calls of an interval; ${now_ms} is the time now. */
void center_step(struct center *center, const struct center_settings *settings,
    int64_t now_ms);

/* center_rate -- calls a minute at a time of day, in milliseconds. */
double center_rate(const struct center_settings *settings, int64_t ms);

#endif
