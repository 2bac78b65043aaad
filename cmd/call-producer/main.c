/*
 * call-producer -- a simulated call centre, as a stream of records.
 */
#include <string.h>

#include "base/log.h"
#include "migrations.h"
#include "producer/producer.h"
#include "service/service.h"

#include "center.h"

#define CALLS_TOPIC "calls"

static struct center_settings settings;

/* ---- the centre as a source ------------------------------------------------ */

static struct center center;

static int
calls_load(void *state, struct store *st, struct mr_error *err)
{

	return (center_load(state, &settings, st, err));
}

static int
calls_save(const void *state, struct store *st, struct mr_error *err)
{

	return (center_save(state, st, err));
}

static void
calls_step(void *state, int64_t now_ms, int due)
{

	(void)due;
	center_step(state, &settings, now_ms);
}

static int
calls_count(const void *state)
{

	return (((const struct center *)state)->made_count);
}

static void
calls_record(const void *state, int index, int64_t now_ms,
    struct producer_record *record)
{
	const struct call_event *call = &((const struct center *)state)
					     ->made[index];

	memcpy(record->key, call->caller, sizeof(call->caller));
	call_event_encode(call, &record->value);
	record->ts_ms = now_ms;
}

static int64_t
calls_made(const void *state)
{

	return (((const struct center *)state)->calls);
}

static const struct producer_source source = {
    .topic = CALLS_TOPIC,
    .type = CALL_EVENT_TYPE,
    .load = calls_load,
    .save = calls_save,
    .step = calls_step,
    .count = calls_count,
    .record = calls_record,
    .made = calls_made,
};
static struct producer producer = {.source = &source, .state = &center};

/* ---- the service ----------------------------------------------------------- */

static int call_producer_open(struct stream *s, struct mr_error *err);

static int
call_producer_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{

	return (producer_tick(&producer, s, now_ms, err));
}

static int
call_producer_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err)
{

	(void)command;
	(void)answer;
	return (producer_command(&producer, s, err));
}

static void
call_producer_close(struct stream *s)
{

	(void)s;
	producer_close();
}

static struct stream_service stream = {
    .name = "call-producer",
    .outputs = (const char *const[]){CALLS_TOPIC, NULL},
    .migrations = migrations_call_producer,
    .open = call_producer_open,
    .command = call_producer_command,
    .tick = call_producer_tick,
    .close = call_producer_close,
};

static int
call_producer_open(struct stream *s, struct mr_error *err)
{

	producer.interval_ms = settings.interval_ms;
	settings.seed = producer_settings.seed;
	settings.count = producer_settings.count;
	return (producer_open(&producer, s, &stream.tick_ms, err));
}

static void
collect(struct store *reader)
{
	static struct center shown;
	struct mr_error err;

	if (center_load(&shown, &settings, reader, &err) != 0)
		log_warn("the sums of calls can't be read", "error",
		    err.message);
	else
		calls_show(shown.calls, shown.duration_ms, shown.durations);
}

/* In the order of its enum. */
static const char *const profiles[] = {"flat", "office", NULL};

static const struct config_option options[] = {
    {.name = "calls-per-minute",
	.kind = CONFIG_REAL,
	.target = &settings.calls_per_minute,
	.fallback = "60",
	.least = 0.001,
	.most = 1e6,
	.help = "mean of the Poisson distribution of calls in a minute",
	.group = "Calls"},
    {.name = "mean-duration-s",
	.kind = CONFIG_REAL,
	.target = &settings.mean_duration_s,
	.fallback = "30",
	.least = 0.001,
	.most = 86400,
	.help = "mean of the exponential distribution of durations"},
    {.name = "profile",
	.kind = CONFIG_CHOICE,
	.target = &settings.profile,
	.fallback = "flat",
	.choices = profiles,
	.help = "how the rate changes over a day (UTC); its mean stays"},
    {.name = "customers",
	.kind = CONFIG_INT,
	.target = &settings.customers,
	.fallback = "5000",
	.least = 1,
	.most = 9999999,
	.help = "how many numbers call"},
    {.name = "agents",
	.kind = CONFIG_INT,
	.target = &settings.agents,
	.fallback = "40",
	.least = 1,
	.most = 1000000,
	.help = "how many agents are called"},
    {.name = "speedup",
	.kind = CONFIG_REAL,
	.target = &settings.speedup,
	.fallback = "1",
	.least = 0.001,
	.most = 1e6,
	.help = "how much faster than real time the centre works; its clock "
		"goes back by a day rather than past now",
	.group = "Load"},
    {.name = "interval-ms",
	.kind = CONFIG_INT,
	.target = &settings.interval_ms,
	.fallback = "100",
	.least = 1,
	.most = 60000,
	.help = "time between steps, in milliseconds"},
    {.name = "batch",
	.kind = CONFIG_INT,
	.target = &settings.batch,
	.fallback = "1000",
	.least = 1,
	.most = CENTER_BATCH_MOST,
	.help = "calls that a step makes at most"},
    {.name = NULL},
};

static const struct service call_producer = {
    .summary = "Produces the calls of a simulated call centre to calls, and "
	       "goes on where it stopped.",
    .stream = &stream,
    .collect = collect,
    .options = options,
    .common = PRODUCER_OPTIONS,
    .epilogue = PRODUCER_DELIVERIES
    "\n"
    "Examples:\n"
    "  call-producer --brokers localhost:9092\n"
    "  call-producer --calls-per-minute 600 --profile office --seed 42\n"
    "  call-producer --speedup 1000 --batch 5000 --count 1000000\n"
    "  call-producer --delivery at-least-once --one-by-one \\\n"
    "      --db /tmp/calls.db\n",
};

int
main(int argc, char **argv)
{

	return (service_main(argc, argv, &call_producer));
}
