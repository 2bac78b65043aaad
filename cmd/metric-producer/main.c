/*
 * metric-producer -- the metrics of this host, or of simulated ones, as a
 * stream of records.
 */
#include <stdio.h>
#include <string.h>

#include "migrations.h"
#include "producer/producer.h"
#include "service/service.h"

#include "fleet.h"
#include "machine.h"

#define METRICS_TOPIC "system-metrics"

static struct fleet_settings settings;
static int64_t simulate;
static const char *proc;
static const char *host_name;
static char own_host[EVENT_NAME_SIZE];

/* ---- where samples come from --------------------------------------------------- */

/* A machine's last sample is in the fleet's place; its counters are kept by
 * this process alone, so that a start has no rates at first. */
static struct {
	struct fleet fleet;
	struct machine_counters before;
} origin;

static void
machine_step(int64_t now_ms)
{
	const int64_t count = producer_settings.count;
	struct fleet *fleet = &origin.fleet;
	struct machine_counters now;
	struct metric_event *event;
	struct sample sample;
	int kind;

	machine_read(proc, &now);
	machine_compare(&origin.before, &now, &sample);
	origin.before = now;
	fleet->made_count = 0;
	for (kind = 0; kind < METRICS; kind++) {
		if (!sample.known[kind] ||
		    (count > 0 && fleet->samples >= count))
			continue;
		event = &fleet->made[fleet->made_count++];
		fleet->samples++;
		memcpy(event->host, host_name != NULL ? host_name : own_host,
		    strlen(host_name != NULL ? host_name : own_host) + 1);
		snprintf(event->metric, sizeof(event->metric), "%s",
		    metric_names[kind]);
		event->value_milli = sample.value_milli[kind];
		event->ts_ms = now_ms;
	}
}

static int
samples_load(void *state, struct store *st, struct mr_error *err)
{

	(void)state;
	return (fleet_load(&origin.fleet, st, err));
}

static int
samples_save(const void *state, struct store *st, struct mr_error *err)
{

	(void)state;
	return (fleet_save(&origin.fleet, st, err));
}

static void
samples_step(void *state, int64_t now_ms, int due)
{

	(void)state;
	if (simulate > 0)
		fleet_step(&origin.fleet, &settings, now_ms, due);
	else
		machine_step(now_ms);
}

static int
samples_count(const void *state)
{

	(void)state;
	return (origin.fleet.made_count);
}

static void
samples_record(const void *state, int index, int64_t now_ms,
    struct producer_record *record)
{
	const struct metric_event *event = &origin.fleet.made[index];

	(void)state;
	memcpy(record->key, event->host, sizeof(event->host));
	metric_event_encode(event, &record->value);
	record->ts_ms = now_ms;
}

static int64_t
samples_made(const void *state)
{

	(void)state;
	return (origin.fleet.samples);
}

static const struct producer_source source = {
    .topic = METRICS_TOPIC,
    .type = METRIC_EVENT_TYPE,
    .load = samples_load,
    .save = samples_save,
    .step = samples_step,
    .count = samples_count,
    .record = samples_record,
    .made = samples_made,
};
static struct producer producer = {.source = &source, .state = &origin};

/* ---- the service --------------------------------------------------------------- */

static int metric_producer_open(struct stream *s, struct mr_error *err);

static int
metric_producer_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{

	return (producer_tick(&producer, s, now_ms, err));
}

static int
metric_producer_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err)
{

	(void)command;
	(void)answer;
	return (producer_command(&producer, s, err));
}

static void
metric_producer_close(struct stream *s)
{

	(void)s;
	producer_close();
}

static struct stream_service stream = {
    .name = "metric-producer",
    .outputs = (const char *const[]){METRICS_TOPIC, NULL},
    .migrations = migrations_metric_producer,
    .open = metric_producer_open,
    .command = metric_producer_command,
    .tick = metric_producer_tick,
    .close = metric_producer_close,
};

/* A machine is looked at every so often, whatever came of the look before. */
static int
open_machine(struct mr_error *err)
{

	if (host_name != NULL &&
	    event_check_name(host_name, strlen(host_name), err) != 0)
		return (mr_error_wrap(err, "--host"));
	producer_host_name(own_host);
	if (host_name == NULL && own_host[0] == '\0')
		return (mr_error_set(err, MR_FATAL,
		    "this host has no name that fits: give --host"));
	if (producer_settings.rate > 0)
		settings.every_ms = (int64_t)(1000 * METRICS /
		    producer_settings.rate);
	producer.interval_ms = settings.every_ms > 0 ? settings.every_ms : 1;
	producer_rate(0);
	return (0);
}

static int
metric_producer_open(struct stream *s, struct mr_error *err)
{
	const double rate = 1000.0 * METRICS * (double)simulate /
	    (double)settings.every_ms;

	settings.hosts = simulate;
	settings.seed = producer_settings.seed;
	if (simulate == 0 && open_machine(err) != 0)
		return (-1);
	if (simulate > 0)
		settings.follow = producer_rate(rate) == rate &&
		    settings.start_ms == 0;
	return (producer_open(&producer, s, &stream.tick_ms, err));
}

static const struct service_gauge gauges[] = {
    {"millrace_metric_samples_made", "Samples made so far, as committed.",
	"SELECT samples FROM fleet"},
    {0},
};

static const struct config_option options[] = {
    {.name = "every",
	.kind = CONFIG_DURATION,
	.target = &settings.every_ms,
	.fallback = "1s",
	.least = 10,
	.most = 3600000,
	.help = "between two samples of a host, by its own clock",
	.group = "Samples"},
    {.name = "host",
	.kind = CONFIG_TEXT,
	.target = &host_name,
	.help = "what this host is called (default: its name)"},
    {.name = "proc",
	.kind = CONFIG_TEXT,
	.target = &proc,
	.fallback = "/proc",
	.help = "where the host's /proc is, seen from a container"},
    {.name = "simulate",
	.kind = CONFIG_INT,
	.target = &simulate,
	.fallback = "0",
	.least = 0,
	.most = FLEET_HOSTS_MOST,
	.help = "so many hosts, host-1 and on, instead of this one; --rate, if "
		"given, drives their clock faster or slower than time goes"},
    {.name = "anomaly-every",
	.kind = CONFIG_DURATION,
	.target = &settings.anomaly_every_ms,
	.fallback = "10m",
	.least = 0,
	.most = 3e10,
	.help = "simulated hosts: a span of time that has at most one anomaly; "
		"0: none"},
    {.name = "late-share",
	.kind = CONFIG_REAL,
	.target = &settings.late_share,
	.fallback = "0",
	.most = 1,
	.help = "simulated hosts: share of samples that come late"},
    {.name = "late-by",
	.kind = CONFIG_DURATION,
	.target = &settings.late_ms,
	.fallback = "30s",
	.least = 0,
	.most = 1e9,
	.help = "how late, in the mean (exponential)"},
    {.name = "start-ms",
	.kind = CONFIG_INT,
	.target = &settings.start_ms,
	.fallback = "0",
	.least = 0,
	.most = 2e14,
	.help = "simulated hosts: the first sample's time, in milliseconds "
		"since 1970; 0: when it is made"},
    {.name = NULL},
};

static const struct service metric_producer = {
    .summary = "Produces samples of this host's processors, memory, load, "
	       "disks and network, or of simulated hosts', to system-metrics.",
    .stream = &stream,
    .gauges = gauges,
    .options = options,
    .common = producer_paced_options,
    .reads = &proc,
    .epilogue = PRODUCER_DELIVERIES
    "\n"
    "Examples:\n"
    "  metric-producer --brokers localhost:9092\n"
    "  metric-producer --simulate 20 --seed 42 --anomaly-every 5m\n"
    "  metric-producer --simulate 5 --rate 0 --count 1000000 \\\n"
    "      --start-ms 1795000000000 --db /tmp/metrics.db\n",
};

int
main(int argc, char **argv)
{

	return (service_main(argc, argv, &metric_producer));
}
