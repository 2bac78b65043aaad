/*
 * analytics -- what users do, in windows of event time.
 */
#include "migrations.h"
#include "service/service.h"

#include "analytics.h"

static const struct config_option options[] = {
    {.name = "grace",
	.kind = CONFIG_DURATION,
	.group = "Analytics",
	.target = &analytics_grace_ms,
	.fallback = "1m",
	.least = 0,
	.most = 3e12,
	.help = "how long after a minute's end its events still count; later "
		"ones are counted as late, for good"},
    {.name = "keep",
	.kind = CONFIG_DURATION,
	.target = &analytics_keep_ms,
	.fallback = "30d",
	.least = 60000,
	.most = 3e12,
	.help = "how long windows and sessions are kept"},
    {.name = "ahead",
	.kind = CONFIG_DURATION,
	.target = &analytics_ahead_ms,
	.fallback = "24h",
	.least = 0,
	.most = 3e12,
	.help = "an event's time may be so far ahead of its record's"},
    {.name = NULL},
};

static const struct stream_service stream = {
    .name = "analytics",
    .inputs = (const char *const[]){"user-events", NULL},
    .migrations = migrations_analytics,
    .decode = analytics_decode,
    .decoded_size = sizeof(struct user_event),
    .apply = analytics_apply,
    .tick = analytics_tick,
    .tick_ms = 10000,
};

static const struct service_gauge gauges[] = {
    {"millrace_analytics_events", "User events counted, late ones among them.",
	"SELECT sum(events) FROM progress"},
    {"millrace_analytics_late_events", "User events that came too late.",
	"SELECT sum(late) FROM progress"},
    {"millrace_analytics_watermark_seconds",
	"The time that all partitions have passed, since the epoch.",
	"SELECT min(watermark_ms) / 1000 FROM progress"},
    {0},
};

static const struct service analytics = {
    .summary = "Counts user-events in windows of their own time: by minute, "
	       "five minutes and session, with revenue, a funnel, unique users "
	       "and the most active ones.",
    .stream = &stream,
    .routes = analytics_routes,
    .gauges = gauges,
    .options = options,
    .epilogue =
	"URLs, all with from= and to=, the newest hour without:\n"
	"  GET /analytics/summary  counts, revenue, unique users, sessions\n"
	"  GET /analytics/windows  ?kind=tumbling|hopping|session&limit=\n"
	"  GET /analytics/funnel   how far sessions come, and what goes with "
	"what\n"
	"  GET /analytics/top      ?what=pages|users&limit=\n"
	"\n"
	"Examples:\n"
	"  analytics --brokers localhost:9092 --fcgi unix:run/analytics.sock\n"
	"  curl localhost:8000/analytics/summary\n"
	"  curl 'localhost:8000/analytics/windows?kind=hopping&limit=5'\n"
	"  curl 'localhost:8000/analytics/top?what=users&limit=3'\n",
};

int
main(int argc, char **argv)
{

	return (service_main(argc, argv, &analytics));
}
