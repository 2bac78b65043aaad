/*
 * rollups -- metrics by second, minute and hour.
 */
#include "migrations.h"
#include "service/service.h"

#include "rollups.h"

static const struct config_option options[] = {
    {.name = "keep-seconds",
	.kind = CONFIG_DURATION,
	.group = "Rollups",
	.target = &rollups_keep_seconds_ms,
	.fallback = "2h",
	.least = 0,
	.most = 3e12,
	.help = "how long after an hour's end its single values are kept, and "
		"samples of it still count; later ones are late"},
    {.name = "keep-minutes",
	.kind = CONFIG_DURATION,
	.target = &rollups_keep_minutes_ms,
	.fallback = "30d",
	.least = 60000,
	.most = 3e12,
	.help = "how long minutes are kept"},
    {.name = "keep-hours",
	.kind = CONFIG_DURATION,
	.target = &rollups_keep_hours_ms,
	.fallback = "730d",
	.least = 60000,
	.most = 3e12,
	.help = "how long hours are kept"},
    {.name = "ahead",
	.kind = CONFIG_DURATION,
	.target = &rollups_ahead_ms,
	.fallback = "24h",
	.least = 0,
	.most = 3e12,
	.help = "a sample's time may be so far ahead of its record's"},
    {.name = NULL},
};

static const struct stream_service stream = {
    .name = "rollups",
    .inputs = (const char *const[]){"system-metrics", NULL},
    .migrations = migrations_rollups,
    .decode = rollups_decode,
    .decoded_size = sizeof(struct metric_event),
    .apply = rollups_apply,
    .tick = rollups_tick,
    .tick_ms = 1000,
};

static const struct service_gauge gauges[] = {
    {"millrace_rollups_samples", "Samples counted, late ones among them.",
	"SELECT sum(samples) FROM progress"},
    {"millrace_rollups_late_samples", "Samples that came too late.",
	"SELECT sum(late) FROM progress"},
    {"millrace_rollups_watermark_seconds",
	"The time that all partitions have passed, since the epoch.",
	"SELECT min(watermark_ms) / 1000 FROM progress"},
    {"millrace_rollups_series", "Metrics of hosts that are kept.",
	"SELECT count(*) FROM series"},
    {0},
};

static const struct service rollups = {
    .summary = "Rolls system-metrics up: count, least, greatest, mean and "
	       "percentiles by second, minute and hour of their own time.",
    .stream = &stream,
    .routes = rollups_routes,
    .gauges = gauges,
    .options = options,
    .epilogue =
	"URLs:\n"
	"  GET /metrics-history         ?host=&metric=&step=1s|1m|1h&from=&to=\n"
	"                               &points=, the newest so many without "
	"from\n"
	"  GET /metrics-history/series  which hosts and metrics there are\n"
	"\n"
	"Examples:\n"
	"  rollups --brokers localhost:9092 --fcgi unix:run/rollups.sock\n"
	"  curl localhost:8000/metrics-history/series\n"
	"  curl 'localhost:8000/metrics-history?host=host-1&\\\n"
	"metric=cpu_percent&step=1s'\n",
};

int
main(int argc, char **argv)
{

	return (service_main(argc, argv, &rollups));
}
