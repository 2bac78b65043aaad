/*
 * logs -- a central store of application logs that can be searched.
 */
#include "migrations.h"
#include "service/service.h"

#include "logs.h"

static const struct config_option options[] = {
    {.name = "keep",
	.kind = CONFIG_DURATION,
	.group = "Logs",
	.target = &logs_keep_ms,
	.fallback = "14d",
	.least = 1000,
	.most = 3e12,
	.help = "how long a line is kept, by its own time, in the order in "
		"which lines arrived"},
    {.name = "keep-bytes",
	.kind = CONFIG_SIZE,
	.target = &logs_keep_bytes,
	.fallback = "1g",
	.least = 1048576,
	.most = 1e15,
	.help = "how much is kept, as bytes of records; the file takes two to "
		"three times as much"},
    {.name = "route",
	.kind = CONFIG_LIST,
	.target = &logs_rules,
	.fallback = "level>=error",
	.help = "what goes on to application-errors: conditions with spaces "
		"between, as in 'level>=warn service=payments'; may be given "
		"many times, one fitting rule is enough"},
    {.name = NULL},
};

static const struct stream_service stream = {
    .name = "logs",
    .inputs = (const char *const[]){"application-logs", NULL},
    .outputs = (const char *const[]){"application-errors", NULL},
    .migrations = migrations_logs,
    .open = logs_open,
    .apply = logs_apply,
    .tick = logs_tick,
    .tick_ms = 1000,
};

static const struct service_gauge gauges[] = {
    {"millrace_logs_entries", "Log lines that are kept.",
	"SELECT entries FROM logs_state"},
    {"millrace_logs_bytes", "Bytes of records of the lines that are kept.",
	"SELECT bytes FROM logs_state"},
    {0},
};

static const struct service logs = {
    .summary = "Keeps the log lines in application-logs, lets them be "
	       "searched, and passes errors on to application-errors.",
    .stream = &stream,
    .routes = logs_routes,
    .gauges = gauges,
    .options = options,
    .epilogue =
	"URLs:\n"
	"  GET /logs           ?q=&service=&level=&request_id=&from=&to=\n"
	"                      &after=&limit=: newest first; with since=, what\n"
	"                      came after a cursor, oldest first\n"
	"  GET /logs/services  who writes\n"
	"\n"
	"A search (q) finds lines with all its words, \"words side by side\",\n"
	"beginnings* and -not these. A level stands for itself and all above.\n"
	"\n"
	"Examples:\n"
	"  logs --brokers localhost:9092 --fcgi unix:run/logs.sock\n"
	"  curl 'localhost:8000/logs?q=timeout+-retry&level=warn'\n"
	"  curl 'localhost:8000/logs?q=%22card+refused%22&service=payments'\n"
	"  sqlite3 -readonly data/logs.db 'select * from log limit 5'\n",
};

int
main(int argc, char **argv)
{

	return (service_main(argc, argv, &logs));
}
