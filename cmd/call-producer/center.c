#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "producer/producer.h"

#include "center.h"

#define HOUR_MS 3600000
#define DAY_MS 86400000

static const char sql_load[] =
    "SELECT seed, word0, word1, word2, word3, epoch_ms, clock_ms, next_ms,"
    " calls, duration_ms, calls_per_minute, profile FROM center";
static const char sql_load_durations[] =
    "SELECT bound, calls FROM center_durations";
static const char sql_save[] =
    "INSERT INTO center VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10,"
    " ?11, ?12)"
    " ON CONFLICT (one) DO UPDATE SET seed = excluded.seed,"
    " word0 = excluded.word0, word1 = excluded.word1,"
    " word2 = excluded.word2, word3 = excluded.word3,"
    " epoch_ms = excluded.epoch_ms, clock_ms = excluded.clock_ms,"
    " next_ms = excluded.next_ms, calls = excluded.calls,"
    " duration_ms = excluded.duration_ms,"
    " calls_per_minute = excluded.calls_per_minute,"
    " profile = excluded.profile";
static const char sql_save_duration[] =
    "INSERT INTO center_durations VALUES (?1, ?2)"
    " ON CONFLICT (bound) DO UPDATE SET calls = excluded.calls"
    " WHERE calls <> excluded.calls";

/* Of the mean rate, by the hour; a day's mean is 1. */
static const double office[24] = {0.10, 0.05, 0.05, 0.05, 0.10, 0.25, 0.60,
    1.20, 2.10, 2.55, 2.55, 2.20, 1.55, 1.75, 2.05, 1.95, 1.55, 1.20, 0.80,
    0.50, 0.35, 0.25, 0.15, 0.10};
#define OFFICE_MOST 2.55

double
center_rate(const struct center_settings *settings, int64_t ms)
{

	if (settings->profile == CENTER_FLAT)
		return (settings->calls_per_minute);
	return (settings->calls_per_minute * office[ms / HOUR_MS % 24]);
}

static double
highest_rate(const struct center_settings *settings)
{

	return (settings->calls_per_minute *
	    (settings->profile == CENTER_FLAT ? 1 : OFFICE_MOST));
}

static double
draw_exponential(struct id_rng *rng, double mean)
{

	return (-mean * log1p(-id_rng_uniform(rng)));
}

static int64_t
draw_number(struct id_rng *rng, int64_t most)
{

	return (1 + (int64_t)(id_rng_uniform(rng) * (double)most));
}

/* Set when the next call comes. */
static void
draw_next(struct center *center, const struct center_settings *settings)
{
	const double most = highest_rate(settings);
	double rate;

	do {
		center->next_ms += draw_exponential(&center->rng, 60000 / most);
		rate = center_rate(settings,
		    center->epoch_ms + (int64_t)center->next_ms);
	} while (settings->profile != CENTER_FLAT &&
	    id_rng_uniform(&center->rng) * most >= rate);
}

/* No call is to begin in time to come, but at its time of the day. */
static void
turn_back(struct center *center, const struct center_settings *settings,
    int64_t now_ms)
{
	const int64_t ahead_ms = center->epoch_ms + (int64_t)center->next_ms -
	    now_ms;

	if (settings->speedup > 1 && ahead_ms > 0)
		center->epoch_ms -= (ahead_ms + DAY_MS - 1) / DAY_MS * DAY_MS;
}

static void
make_call(struct center *center, const struct center_settings *settings)
{
	struct call_event *call = &center->made[center->made_count++];
	double seconds;

	seconds = draw_exponential(&center->rng, settings->mean_duration_s);
	memset(call, 0, sizeof(*call));
	snprintf(call->call_id, sizeof(call->call_id), "%lld-%lld",
	    (long long)center->seed, (long long)center->calls + 1);
	snprintf(call->caller, sizeof(call->caller), "+4930%07lld",
	    (long long)draw_number(&center->rng, settings->customers));
	snprintf(call->callee, sizeof(call->callee), "agent-%lld",
	    (long long)draw_number(&center->rng, settings->agents));
	call->started_ms = center->epoch_ms + (int64_t)center->next_ms;
	call->duration_ms = (int64_t)fmin(round(seconds * 1000),
	    (double)EVENT_DURATION_MOST_MS);
	center->calls++;
	center->duration_ms += call->duration_ms;
	center->durations[calls_bound_of(call->duration_ms)]++;
}

/* The clock's 0 is the first step's time, or another if it was stopped since,
 * or the machine's was set. */
static void
set_epoch(struct center *center, const struct center_settings *settings,
    int64_t now_ms)
{

	if (center->epoch_ms == 0)
		center->epoch_ms = now_ms;
	else if (settings->speedup == 1)
		center->epoch_ms += producer_astray_ms(center->epoch_ms +
			(int64_t)center->clock_ms,
		    now_ms);
}

/*
 * With another rate or profile than it was drawn by, the next call might be
 * hours away, or much too near.  How long it is until then doesn't depend on
 * how long it has been (the exponential distribution has no memory), so it is
 * drawn anew from now on.
 */
static void
keep_settings(struct center *center, const struct center_settings *settings)
{
	const int known = center->calls_per_minute > 0;

	if (known && center->calls_per_minute == settings->calls_per_minute &&
	    center->profile == settings->profile)
		return;
	center->calls_per_minute = settings->calls_per_minute;
	center->profile = settings->profile;
	if (known || center->next_ms == 0) {
		center->next_ms = center->clock_ms;
		draw_next(center, settings);
	}
}

void
center_step(struct center *center, const struct center_settings *settings,
    int64_t now_ms)
{
	const double until_ms = center->clock_ms +
	    settings->speedup * (double)settings->interval_ms;

	set_epoch(center, settings, now_ms);
	center->made_count = 0;
	keep_settings(center, settings);
	while (center->next_ms <= until_ms) {
		if (settings->count > 0 && center->calls >= settings->count)
			return;
		if (center->made_count == settings->batch) {
			center->clock_ms = center->next_ms;
			return;
		}
		turn_back(center, settings, now_ms);
		make_call(center, settings);
		draw_next(center, settings);
	}
	center->clock_ms = until_ms;
}

static int
load_durations(struct center *center, struct store *st, struct mr_error *err)
{
	struct store_rows *rows;
	int64_t bound;
	int more;

	if ((rows = store_query(st, err, sql_load_durations)) == NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1) {
		bound = store_get_i64(rows, 0);
		if (bound >= 0 && bound < CALLS_BOUNDS)
			center->durations[bound] = store_get_i64(rows, 1);
	}
	store_rows_done(rows);
	return (more);
}

int
center_load(struct center *center, const struct center_settings *settings,
    struct store *st, struct mr_error *err)
{
	struct store_rows *rows;
	int found, i;

	memset(center, 0, offsetof(struct center, made));
	center->made_count = 0;
	if ((rows = store_query(st, err, sql_load)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		center->seed = store_get_i64(rows, 0);
		for (i = 0; i < 4; i++)
			center->rng.s[i] = (uint64_t)store_get_i64(rows, 1 + i);
		center->epoch_ms = store_get_i64(rows, 5);
		center->clock_ms = store_get_f64(rows, 6);
		center->next_ms = store_get_f64(rows, 7);
		center->calls = store_get_i64(rows, 8);
		center->duration_ms = store_get_i64(rows, 9);
		center->calls_per_minute = store_get_f64(rows, 10);
		center->profile = (int)store_get_i64(rows, 11);
	}
	store_rows_done(rows);
	if (found == -1)
		return (-1);
	if (found == 0 || center->seed != settings->seed) {
		center->seed = settings->seed;
		id_rng_seed(&center->rng, (uint64_t)settings->seed);
	}
	return (load_durations(center, st, err));
}

int
center_save(const struct center *center, struct store *st, struct mr_error *err)
{
	int i;

	if (store_run(st, err, sql_save, store_i64(center->seed),
		store_i64((int64_t)center->rng.s[0]),
		store_i64((int64_t)center->rng.s[1]),
		store_i64((int64_t)center->rng.s[2]),
		store_i64((int64_t)center->rng.s[3]),
		store_i64(center->epoch_ms), store_f64(center->clock_ms),
		store_f64(center->next_ms), store_i64(center->calls),
		store_i64(center->duration_ms),
		store_f64(center->calls_per_minute),
		store_i64(center->profile)) == -1)
		return (-1);
	for (i = 0; i < CALLS_BOUNDS; i++) {
		if (store_run(st, err, sql_save_duration, store_i64(i),
			store_i64(center->durations[i])) == -1)
			return (-1);
	}
	return (0);
}
