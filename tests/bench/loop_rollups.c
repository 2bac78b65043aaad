/*
 * loop_rollups -- rollups' work without Millrace: the bare loop to compare
 * with.
 *
 *	loop_rollups DB RECORDS BATCH
 *
 * The statements of the service, hours settled among them, and of its core,
 * on SQLite directly; samples as of metric-producer --simulate 5 --seed 1.
 */
#include "bare.h"

#include "../../cmd/metric-producer/fleet.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/metric-producer/sample.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/rollups/rollups.c" /* NOLINT(bugprone-suspicious-include) */

#define SOURCE "/millrace/metric-producer/00000000000000000000000000000b1c"
#define TOPIC "system-metrics"
#define PARTITIONS 4

enum statement {
	PROGRESS = BARE_OWN,
	FIND_SERIES,
	ADD_SERIES,
	SECOND,
	DUE,
	SETTLED,
	SETTLE,
	UNSETTLE,
	STATEMENTS
};
static const char *const sql[STATEMENTS - BARE_OWN] = {sql_progress,
    sql_find_series, sql_add_series, sql_second, sql_due, sql_settled,
    sql_settle, sql_unsettle};
static const struct fleet_settings settings = {.hosts = 5,
    .every_ms = 1000,
    .anomaly_every_ms = 600000,
    .start_ms = INT64_C(1790000000000),
    .seed = 1};

static void
open_file(const char *path)
{

	bare_open(path, "rollups", migrations_rollups, sql,
	    STATEMENTS - BARE_OWN, "");
}

static void
encode(int64_t n, struct buffer *value)
{
	static struct fleet fleet;

	(void)n;
	fleet_step(&fleet, &settings, settings.start_ms, 1);
	metric_event_encode(&fleet.made[0], value);
}

static void
before(void)
{

	bare_begin(SOURCE, PARTITIONS);
}

static int64_t
series_of(const struct metric_event *event, int partition)
{
	int64_t id = 0;
	int s;

	for (s = FIND_SERIES; id == 0 && s <= ADD_SERIES; s++) {
		bare_text(s, 1, event->host);
		bare_text(s, 2, event->metric);
		bare_number(s, 3, partition);
		while (bare_step(s))
			id = bare_column(s, 0);
	}
	return (id);
}

static void
apply(const struct buffer *value, int64_t n)
{
	struct metric_event event;
	struct mr_error err;
	int64_t late_ms = 0, hour_ms;
	int partition;

	if (metric_event_decode(value->data, value->length, &event, &err) == -1)
		bare_die(err.message);
	partition = kafka_partition_of(event.host, strlen(event.host),
	    PARTITIONS);
	bare_number(PROGRESS, 1, partition);
	bare_number(PROGRESS, 2, event.ts_ms);
	bare_number(PROGRESS, 3, HOUR_MS);
	while (bare_step(PROGRESS))
		late_ms = bare_column(PROGRESS, 0);
	if (event.ts_ms < late_ms)
		bare_die("a sample is late");
	hour_ms = event.ts_ms - event.ts_ms % HOUR_MS;
	bare_number(SECOND, 1, partition);
	bare_number(SECOND, 2, hour_ms);
	bare_number(SECOND, 3, series_of(&event, partition));
	bare_number(SECOND, 4, (event.ts_ms - hour_ms) / SECOND_MS);
	bare_number(SECOND, 5, event.value_milli);
	bare_run(SECOND);
	bare_marks[partition] = n + 1;
	bare_nexts[partition]++;
}

static int
settle(void)
{
	int64_t partition, hour_ms, series;
	int s;

	bare_number(DUE, 1, HOUR_MS);
	if (!bare_step(DUE))
		return (0);
	partition = bare_column(DUE, 0);
	hour_ms = bare_column(DUE, 1);
	series = bare_column(DUE, 2);
	bare_run(DUE);
	for (s = SETTLED; s <= UNSETTLE; s++) {
		bare_number(s, 1, partition);
		bare_number(s, 2, hour_ms);
		if (s != SETTLED)
			bare_number(s, 3, series);
		if (s == SETTLE) {
			bare_number(s, 4, MINUTE_MS / SECOND_MS);
			bare_run(s);
			bare_number(s, 4, HOUR_MS / SECOND_MS);
		}
		bare_run(s);
	}
	return (1);
}

static void
after(int64_t n)
{
	int i;

	(void)n;
	for (i = 0; i < SETTLE_MOST && settle(); i++)
		;
	bare_commit(SOURCE, TOPIC, PARTITIONS);
}

int
main(int argc, char **argv)
{
	static const struct bare_loop loop = {open_file, encode, before, apply,
	    after};

	return (bare_main(argc, argv, &loop));
}
