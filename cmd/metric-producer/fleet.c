#include <math.h>
#include <stdio.h>
#include <string.h>

#include "producer/producer.h"

#include "fleet.h"

#define DAY_MS 86400000
#define HOUR_MS 3600000
#define QUIETEST_MS (4 * HOUR_MS)
#define ANOMALIES 0.8 /* of spans */
#define PI 3.14159265358979323846

static const char sql_load[] =
    "SELECT epoch_ms, clock_ms, slot, samples FROM fleet";
static const char sql_save[] =
    "INSERT INTO fleet VALUES (1, ?1, ?2, ?3, ?4)"
    " ON CONFLICT (one) DO UPDATE SET epoch_ms = excluded.epoch_ms,"
    " clock_ms = excluded.clock_ms, slot = excluded.slot,"
    " samples = excluded.samples";

/* ---- chance, as a function of what it is for ---------------------------------- */

enum purpose { OF_HOST = METRICS, OF_SPAN, OF_LATENESS };

static struct id_rng
chance(const struct fleet_settings *settings, int64_t host, int purpose,
    int64_t when)
{
	uint64_t word = (uint64_t)settings->seed;
	struct id_rng rng;

	/* Odd factors: different inputs stay different, bit by bit. */
	word = word * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)host;
	word = word * UINT64_C(0xbf58476d1ce4e5b9) + (uint64_t)purpose;
	word = word * UINT64_C(0x94d049bb133111eb) + (uint64_t)when;
	id_rng_seed(&rng, word);
	return (rng);
}

static double
between(struct id_rng *rng, double least, double most)
{

	return (least + (most - least) * id_rng_uniform(rng));
}

/* ---- values ------------------------------------------------------------------ */

/* What a host is like. */
struct character {
	double cores;
	double cpu, cpu_by_day; /* percent */
	double memory;
	double disk, network; /* bytes a second, at its busiest */
	double phase_ms; /* how much later than others its day is */
};

static struct character
character_of(const struct fleet_settings *settings, int64_t host)
{
	struct id_rng rng = chance(settings, host, OF_HOST, 0);
	struct character c;

	c.cores = (double)(INT64_C(2) << (int)between(&rng, 0, 4));
	c.cpu = between(&rng, 5, 30);
	c.cpu_by_day = between(&rng, 10, 40);
	c.memory = between(&rng, 25, 70);
	c.disk = 1e5 * exp(between(&rng, 0, 4));
	c.network = 1e5 * exp(between(&rng, 0, 5));
	c.phase_ms = between(&rng, -2, 2) * HOUR_MS;
	return (c);
}

/* 0 when all sleep to 1 when all are awake. */
static double
day_at(const struct character *c, int64_t ts_ms)
{
	const double ms = (double)(ts_ms % DAY_MS) - QUIETEST_MS - c->phase_ms;

	return (0.5 - 0.5 * cos(2 * PI * ms / DAY_MS));
}

static double
usual_value(const struct character *c, enum metric_kind kind, int64_t ts_ms,
    double noise)
{
	const double day = day_at(c, ts_ms);
	const double cpu = c->cpu + c->cpu_by_day * day;

	switch (kind) {
	case METRIC_CPU:
		return (cpu + 2 * noise);
	case METRIC_MEMORY:
		return (c->memory + 8 * day + 0.4 * noise);
	case METRIC_LOAD:
		return (c->cores * (cpu + 3 * noise) / 100);
	case METRIC_DISK_READ:
		return (c->disk * (0.2 + 0.8 * day) * exp(0.2 * noise));
	case METRIC_DISK_WRITTEN:
		return (c->disk * (0.1 + 0.4 * day) * exp(0.2 * noise));
	case METRIC_DISK_BUSY:
		return (5 + 25 * day + 1.5 * noise);
	case METRIC_NET_RECEIVED:
		return (c->network * (0.1 + 0.9 * day) * exp(0.1 * noise));
	case METRIC_NET_SENT:
	default:
		return (c->network * (0.3 + 2.7 * day) * exp(0.1 * noise));
	}
}

static int
is_percent(enum metric_kind kind)
{

	return (kind == METRIC_CPU || kind == METRIC_MEMORY ||
	    kind == METRIC_DISK_BUSY);
}

int
fleet_anomaly(const struct fleet_settings *settings, int64_t host,
    int64_t ts_ms, struct fleet_anomaly *anomaly)
{
	const int64_t span_ms = settings->anomaly_every_ms;
	struct id_rng rng;

	if (span_ms == 0)
		return (0);
	rng = chance(settings, host, OF_SPAN, ts_ms / span_ms);
	if (id_rng_uniform(&rng) >= ANOMALIES)
		return (0);
	anomaly->kind = (enum metric_kind)(METRICS * id_rng_uniform(&rng));
	anomaly->down = id_rng_uniform(&rng) < 0.3;
	anomaly->from_ms = ts_ms / span_ms * span_ms +
	    (int64_t)(between(&rng, 0.05, 0.8) * (double)span_ms);
	anomaly->to_ms = anomaly->from_ms +
	    (int64_t)(between(&rng, 0.02, 0.15) * (double)span_ms);
	return (1);
}

int64_t
fleet_value(const struct fleet_settings *settings, int64_t host,
    enum metric_kind kind, int64_t ts_ms)
{
	const struct character c = character_of(settings, host);
	struct id_rng rng = chance(settings, host, (int)kind, ts_ms);
	struct fleet_anomaly anomaly;
	const double noise = id_rng_normal(&rng);
	double value = usual_value(&c, kind, ts_ms, noise);

	if (fleet_anomaly(settings, host, ts_ms, &anomaly) &&
	    anomaly.kind == kind && ts_ms >= anomaly.from_ms &&
	    ts_ms < anomaly.to_ms)
		value = anomaly.down ? 0.02 * value :
		    is_percent(kind) ? 97 + noise :
				       5 * value;
	value = fmax(value, 0);
	if (is_percent(kind))
		value = fmin(value, 100);
	return ((int64_t)round(1000 * value));
}

/* ---- steps ------------------------------------------------------------------- */

/* All hosts have a sample of this time: the clock leaps. */
static void
end_round(struct fleet *fleet, const struct fleet_settings *settings)
{

	if (fleet->slot < settings->hosts * METRICS)
		return;
	fleet->slot = 0;
	fleet->clock_ms += settings->every_ms;
}

static void
make_sample(struct fleet *fleet, const struct fleet_settings *settings)
{
	struct metric_event *event = &fleet->made[fleet->made_count++];
	const int64_t host = 1 + fleet->slot / METRICS;
	const enum metric_kind kind = (enum metric_kind)(fleet->slot % METRICS);
	struct id_rng rng;

	memset(event, 0, sizeof(*event));
	event->ts_ms = fleet->epoch_ms + fleet->clock_ms;
	rng = chance(settings, host, OF_LATENESS + (int)kind, event->ts_ms);
	if (id_rng_uniform(&rng) < settings->late_share)
		event->ts_ms += (int64_t)((double)settings->late_ms *
		    log1p(-id_rng_uniform(&rng)));
	if (event->ts_ms < 0)
		event->ts_ms = 0;
	snprintf(event->host, sizeof(event->host), "host-%lld",
	    (long long)host);
	snprintf(event->metric, sizeof(event->metric), "%s",
	    metric_names[kind]);
	event->value_milli = fleet_value(settings, host, kind, event->ts_ms);
	fleet->samples++;
	fleet->slot++;
	end_round(fleet, settings);
}

void
fleet_step(struct fleet *fleet, const struct fleet_settings *settings,
    int64_t now_ms, int count)
{
	int64_t astray_ms;

	if (fleet->epoch_ms == 0)
		fleet->epoch_ms = settings->start_ms != 0 ?
		    settings->start_ms :
		    now_ms - now_ms % settings->every_ms;
	end_round(fleet, settings); /* there may be fewer hosts than before */
	/* By whole steps: the clock leaps from each to the next. */
	astray_ms = producer_astray_ms(fleet->epoch_ms + fleet->clock_ms,
	    now_ms);
	if (settings->follow)
		fleet->epoch_ms += astray_ms - astray_ms % settings->every_ms;
	fleet->made_count = 0;
	while (fleet->made_count < count && fleet->made_count < FLEET_STEP_MOST)
		make_sample(fleet, settings);
}

/* ---- the file ---------------------------------------------------------------- */

int
fleet_load(struct fleet *fleet, struct store *st, struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	fleet->epoch_ms = fleet->clock_ms = fleet->slot = fleet->samples = 0;
	fleet->made_count = 0;
	if ((rows = store_query(st, err, sql_load)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		fleet->epoch_ms = store_get_i64(rows, 0);
		fleet->clock_ms = store_get_i64(rows, 1);
		fleet->slot = store_get_i64(rows, 2);
		fleet->samples = store_get_i64(rows, 3);
	}
	store_rows_done(rows);
	return (found == -1 ? -1 : 0);
}

int
fleet_save(const struct fleet *fleet, struct store *st, struct mr_error *err)
{

	return (store_run(st, err, sql_save, store_i64(fleet->epoch_ms),
		    store_i64(fleet->clock_ms), store_i64(fleet->slot),
		    store_i64(fleet->samples)) == -1 ?
		-1 :
		0);
}
