/*
 * fleet -- simulated hosts, and where their clock stands in the file.
 *
 * All hosts are sampled at the same moments of one clock, a host's metrics
 * one after another.  Each host has levels of its own; load, traffic and the
 * like follow the time of day (UTC), least at four in the morning.  In each
 * span of --anomaly-every a host has at most one anomaly (in four of five
 * spans), of one metric: for 2 to 15 hundredths of the span it is far above,
 * or next to nothing.
 *
 * A value depends on the seed, host, metric and time alone: same seed and
 * times, same values, whatever came before.  Where the clock has come
 * to be a minute apart from the machine's, since the program was stopped or ran
 * faster, it is brought to it by whole steps, unless the start was given.
 */
#ifndef MR_FLEET_H
#define MR_FLEET_H

#include "base/id.h"
#include "event/event.h"
#include "store/store.h"

#include "sample.h"

#define FLEET_STEP_MOST 1000
#define FLEET_HOSTS_MOST 10000

struct fleet_settings {
	int64_t hosts; /* 1 to FLEET_HOSTS_MOST */
	int64_t every_ms; /* between two samples of a host */
	int64_t anomaly_every_ms; /* a span; 0: no anomalies */
	double late_share; /* of samples, 0 to 1 */
	int64_t late_ms; /* how far back their time is, in the mean */
	int64_t start_ms; /* the first time; 0: that of the first step */
	int64_t seed;
	int follow; /* bring the clock to the machine's */
};

struct fleet {
	int64_t epoch_ms; /* the time of day when the clock was at 0 */
	int64_t clock_ms;
	int64_t slot; /* host and metric of the next sample */
	int64_t samples; /* made so far */
	struct metric_event made[FLEET_STEP_MOST]; /* by the last step */
	int made_count;
};

/* fleet_load, fleet_save -- where it stands in the file; 0 or -1. */
int fleet_load(struct fleet *fleet, struct store *st, struct mr_error *err);
int fleet_save(const struct fleet *fleet, struct store *st,
    struct mr_error *err);

/* fleet_step -- make ${count} samples; ${now_ms} is the time now. */
void fleet_step(struct fleet *fleet, const struct fleet_settings *settings,
    int64_t now_ms, int count);

/* fleet_value -- what a host's metric is at a time, in thousandths. */
int64_t fleet_value(const struct fleet_settings *settings, int64_t host,
    enum metric_kind kind, int64_t ts_ms);

/* fleet_anomaly -- 1 and what it is, if the host has one in that time's span,
 * be it over or still to come; else 0. */
struct fleet_anomaly {
	enum metric_kind kind;
	int64_t from_ms, to_ms; /* the last one isn't in it */
	int down; /* 1: next to nothing; 0: far above */
};
int fleet_anomaly(const struct fleet_settings *settings, int64_t host,
    int64_t ts_ms, struct fleet_anomaly *anomaly);

#endif
