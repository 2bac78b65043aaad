#include <math.h>
#include <stddef.h>

#include "producer/internal.h"

#define INTERVAL_MS 100 /* between steps, where records are that frequent */
#define INTERVAL_MOST_MS 60000
#define SECOND_MS 1000
#define APART_MOST_MS 60000

struct producer_settings producer_settings = {.rate = -1,
    .partition = -1,
    .linger_ms = -1,
    .batch_bytes = -1,
    .compression = -1};

/* In the order of their enums. */
static const char *const deliveries[] = {"at-most-once", "at-least-once",
    "exactly-once", "transactional", NULL};
static const char *const partitioners[] = {"key", "spread", "round-robin",
    "sticky", "explicit", "custom", NULL};
const char *const producer_compressions[] = {"none", "gzip", "snappy", "lz4",
    "zstd", NULL};

const struct config_option producer_paced_options[] = {
    {.name = "rate",
	.kind = CONFIG_REAL,
	.target = &producer_settings.rate,
	.least = 0,
	.most = 1e6,
	.help = "records a second; 0: as fast as possible (default: 10, and 0 "
		"for what is read)",
	.group = "Producing"},
    {.name = "count",
	.kind = CONFIG_INT,
	.target = &producer_settings.count,
	.fallback = "0",
	.least = 0,
	.most = 9e15,
	.help = "end when so many records were made in all; 0: never"},
    {.name = "duration",
	.kind = CONFIG_DURATION,
	.target = &producer_settings.duration_ms,
	.fallback = "0",
	.least = 0,
	.most = 3e12,
	.help = "end after so long; 0: never"},
    {.name = "seed",
	.kind = CONFIG_INT,
	.target = &producer_settings.seed,
	.fallback = "1",
	.least = 0,
	.most = 9e15,
	.help = "same seed, same records; another one starts new numbers"},
    {.name = "delivery",
	.kind = CONFIG_CHOICE,
	.target = &producer_settings.delivery,
	.fallback = "exactly-once",
	.choices = deliveries,
	.help = "what a crash may do to a record: lose, repeat or neither"},
    {.name = "one-by-one",
	.kind = CONFIG_BOOL,
	.target = &producer_settings.one_by_one,
	.fallback = "no",
	.help = "wait for each record before the next; not with exactly-once"},
    {.name = "partitioner",
	.kind = CONFIG_CHOICE,
	.target = &producer_settings.partitioner,
	.fallback = "key",
	.choices = partitioners,
	.help =
	    "by key, a key's records in one partition, in order; or spread, "
	    "without their keys; round-robin; sticky, a hundred to one; "
	    "explicit, all to --partition; custom, the program's own"},
    {.name = "partition",
	.kind = CONFIG_INT,
	.target = &producer_settings.partition,
	.least = 0,
	.most = KAFKA_PARTITIONS_MAX - 1,
	.help = "where all records go, with --partitioner explicit"},
    {.name = "linger-ms",
	.kind = CONFIG_DURATION,
	.target = &producer_settings.linger_ms,
	.least = 0,
	.most = 900000,
	.help = "how long a batch waits for more records (default: 50 with "
		"exactly-once, which sends at once what was committed, else 1)",
	.group = "Batches"},
    {.name = "batch-size",
	.kind = CONFIG_SIZE,
	.target = &producer_settings.batch_bytes,
	.least = 1,
	.most = 2147483647,
	.help = "bytes of records in a batch (default: 1000000)"},
    {.name = "compression",
	.kind = CONFIG_CHOICE,
	.target = &producer_settings.compression,
	.choices = producer_compressions,
	.help = "of batches (default: none)"},
    {.name = NULL},
};

double
producer_rate(double otherwise)
{

	if (producer_settings.rate < 0)
		producer_settings.rate = otherwise;
	return (producer_settings.rate);
}

int64_t
producer_pace_interval_ms(double rate)
{

	if (rate == 0)
		return (1);
	if (rate * INTERVAL_MS >= SECOND_MS)
		return (INTERVAL_MS);
	return ((int64_t)fmin(ceil(SECOND_MS / rate), INTERVAL_MOST_MS));
}

/* Records that a steady rate has made by then. */
static double
made_by(double rate, int64_t ms)
{

	return (floor(rate * (double)ms / SECOND_MS));
}

int
producer_pace_due(struct producer_pace *pace, int64_t now_ms,
    int64_t interval_ms, int64_t made)
{
	const struct producer_settings *set = &producer_settings;
	int64_t from_ms;
	double due = PRODUCER_STEP_MOST;

	if (pace->began_ms == 0) {
		pace->began_ms = now_ms;
		pace->now_ms = now_ms - interval_ms;
	}
	if (now_ms != pace->now_ms) {
		pace->before_ms = pace->now_ms;
		pace->now_ms = now_ms;
	}
	if ((set->count > 0 && made >= set->count) ||
	    (set->duration_ms > 0 &&
		now_ms - pace->began_ms >= set->duration_ms))
		return (-1);
	if (set->rate > 0) {
		from_ms = pace->before_ms;
		if (from_ms < now_ms - SECOND_MS && interval_ms < SECOND_MS)
			from_ms = now_ms - SECOND_MS;
		due = made_by(set->rate, now_ms) - made_by(set->rate, from_ms);
	}
	if (set->count > 0)
		due = fmin(due, (double)(set->count - made));
	return ((int)fmax(0, fmin(due, PRODUCER_STEP_MOST)));
}

int64_t
producer_astray_ms(int64_t clock_ms, int64_t now_ms)
{
	const int64_t behind_ms = now_ms - clock_ms;

	return (behind_ms > APART_MOST_MS || behind_ms < -APART_MOST_MS ?
		behind_ms :
		0);
}
