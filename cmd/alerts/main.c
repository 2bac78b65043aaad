/*
 * alerts -- rules over logs and metrics, and what they find.
 */
#include "migrations.h"
#include "service/service.h"

#include "alerts.h"
#include "deliver.h"

static const struct config_option options[] = {
    {.name = "rules",
	.kind = CONFIG_TEXT,
	.group = "Alerts",
	.target = &alerts_rules_path,
	.help = "a file of rules as JSON, read at start; without it there are "
		"some of the program's own (GET /alerts/rules)"},
    {.name = "grace",
	.kind = CONFIG_DURATION,
	.target = &alerts_grace_ms,
	.fallback = "5s",
	.least = 0,
	.most = 3e12,
	.help = "how long after a step's end its records still count; later "
		"ones are counted as late"},
    {.name = "keep",
	.kind = CONFIG_DURATION,
	.target = &alerts_keep_ms,
	.fallback = "30d",
	.least = 60000,
	.most = 3e12,
	.help = "how long resolved alerts are kept, and what is known of a "
		"series that nothing more comes for"},
    {.name = "ahead",
	.kind = CONFIG_DURATION,
	.target = &alerts_ahead_ms,
	.fallback = "24h",
	.least = 0,
	.most = 3e12,
	.help = "a record's time may be so far ahead of Kafka's"},
    {.name = "webhook",
	.kind = CONFIG_TEXT,
	.target = &deliver_urls[DELIVER_WEBHOOK],
	.help = "where alerts that fire or are resolved are posted to, as "
		"http://host:port/path"},
    {.name = "alertmanager",
	.kind = CONFIG_TEXT,
	.target = &deliver_urls[DELIVER_ALERTMANAGER],
	.help = "an Alertmanager that is to know of them, as "
		"http://host:port; it is told each minute what fires still"},
    {.name = "deliver-timeout-ms",
	.kind = CONFIG_DURATION,
	.target = &deliver_timeout_ms,
	.fallback = "10s",
	.least = 10,
	.most = 600000,
	.help = "how long either may take to answer, before it is tried again"},
    {.name = NULL},
};

static const struct stream_service stream = {
    .name = "alerts",
    .inputs = (const char *const[]){"application-logs", "system-metrics", NULL},
    .outputs = (const char *const[]){"alerts", NULL},
    .migrations = migrations_alerts,
    .open = alerts_open,
    .apply = alerts_apply,
    .command = alerts_command,
    .tick = alerts_tick,
    .tick_ms = 1000,
    .close = alerts_close,
};

static const struct service_gauge gauges[] = {
    {"millrace_alerts_firing", "Alerts that fire.",
	"SELECT count(*) FROM alerts WHERE state = 'firing'"},
    {"millrace_alerts_pending", "Alerts that have yet to fire.",
	"SELECT count(*) FROM alerts WHERE state = 'pending'"},
    {"millrace_alerts_transitions", "States that alerts have entered.",
	"SELECT seq FROM alerts_state"},
    {"millrace_alerts_records", "Records seen, late ones among them.",
	"SELECT sum(records) FROM progress"},
    {"millrace_alerts_late_records",
	"Records that came too late for one of their rules.",
	"SELECT sum(late) FROM progress"},
    {"millrace_alerts_series", "What rules judge: services, hosts' metrics.",
	"SELECT count(*) FROM series"},
    {"millrace_alerts_watermark_seconds",
	"The time that all partitions have passed, since the epoch.",
	"SELECT min(watermark_ms) / 1000 FROM progress"},
    {"millrace_alerts_delivered", "Transitions that were delivered.",
	"SELECT sum(delivered) FROM deliveries"},
    {"millrace_alerts_failed_deliveries",
	"Attempts that failed, repeats to Alertmanager among them.",
	"SELECT sum(failed) FROM deliveries"},
    {"millrace_alerts_undelivered",
	"Transitions that have yet to be delivered.",
	"SELECT count(*) FROM deliveries AS d JOIN transitions AS t"
	" ON t.seq > d.seq JOIN alerts AS a ON a.id = t.alert"
	" WHERE t.state <> 'pending' AND a.fired_ms IS NOT NULL"},
    {0},
};

static const struct service alerts = {
    .summary = "Judges application-logs and system-metrics by rules, in their "
	       "own time: error rates, thresholds, what is unusual.",
    .stream = &stream,
    .routes = alerts_routes,
    .gauges = gauges,
    .reads = &alerts_rules_path,
    .options = options,
    .epilogue =
	"URLs:\n"
	"  GET  /alerts                   ?state=pending|firing|resolved&rule=\n"
	"                                 &after=&limit=, the newest first\n"
	"  GET  /alerts/{id}              one, with its transitions\n"
	"  POST /alerts/{id}/acknowledge  somebody has seen it\n"
	"  GET  /alerts/rules             the rules in force\n"
	"  GET  /alerts/deliveries        how far they were delivered, and what\n"
	"                                 went wrong last\n"
	"\n"
	"Examples:\n"
	"  alerts --brokers localhost:9092 --fcgi unix:run/alerts.sock\n"
	"  alerts --rules alerts.json --alertmanager http://localhost:9093\n"
	"  curl 'localhost:8000/alerts?state=firing'\n"
	"  curl -X POST localhost:8000/alerts/7/acknowledge\n"
	"  sqlite3 -readonly data/alerts.db 'select * from alert limit 5'\n",
};

int
main(int argc, char **argv)
{

	return (service_main(argc, argv, &alerts));
}
