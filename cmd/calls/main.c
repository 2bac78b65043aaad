/*
 * calls -- how many calls there were, how long, and which were long.
 */
#include "migrations.h"
#include "service/service.h"

#include "calls.h"

static const struct config_option options[] = {
    {.name = "long-call-s",
	.kind = CONFIG_INT,
	.target = &calls_settings.long_call_s,
	.fallback = "60",
	.least = 1,
	.most = 604800,
	.help = "a call longer than so many seconds is a long one",
	.group = "Calls"},
    {.name = "long-calls-log",
	.kind = CONFIG_TEXT,
	.target = &calls_settings.long_calls_log,
	.help = "where a line for each long call goes (default: "
		"long-calls.log beside the file)"},
    {.name = "keep-minutes",
	.kind = CONFIG_DURATION,
	.target = &calls_settings.keep_minutes_ms,
	.fallback = "30d",
	.least = 60000,
	.most = 3e12,
	.help = "how long the sums of a minute are kept"},
    {.name = "keep-long-calls",
	.kind = CONFIG_DURATION,
	.target = &calls_settings.keep_long_calls_ms,
	.fallback = "30d",
	.least = 1000,
	.most = 3e12,
	.help = "how long the row of a long call is kept"},
    {.name = "ahead",
	.kind = CONFIG_DURATION,
	.target = &calls_settings.ahead_ms,
	.fallback = "24h",
	.least = 0,
	.most = 3e12,
	.help = "a call's time may be so far ahead of its record's"},
    {.name = NULL},
};

static const struct stream_service stream = {
    .name = "calls",
    .inputs = (const char *const[]){"calls", NULL},
    .migrations = migrations_calls,
    .decode = calls_decode,
    .decoded_size = sizeof(struct call_event),
    .apply = calls_apply,
    .tick = calls_tick,
    .tick_ms = 250,
    .close = calls_close,
};

static const struct service calls = {
    .summary = "Counts calls and their durations, overall and by minute, and "
	       "logs each long call exactly once.",
    .stream = &stream,
    .routes = calls_routes,
    .collect = calls_collect,
    .writes = &calls_settings.long_calls_log,
    .options = options,
    .epilogue =
	"URLs:\n"
	"  GET /calls  ?minutes=&limit=: sums, the last minutes, durations, the\n"
	"              latest long calls\n"
	"\n"
	"Long calls are lines of JSON in the log, each exactly once, and on\n"
	"standard output, where a crash may repeat one (see seq).\n"
	"\n"
	"Examples:\n"
	"  calls --brokers localhost:9092 --fcgi unix:run/calls.sock\n"
	"  calls --long-call-s 300 --keep-minutes 7d\n"
	"  curl 'localhost:8000/calls?minutes=10&limit=5'\n"
	"  sqlite3 -readonly data/calls.db \\\n"
	"      'select sum(calls), sum(duration_ms) / 1000.0 from call_totals'\n",
};

int
main(int argc, char **argv)
{

	return (service_main(argc, argv, &calls));
}
