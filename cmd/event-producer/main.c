/*
 * event-producer -- the users of a simulated web shop, as a stream of records.
 */
#include <string.h>

#include "migrations.h"
#include "producer/producer.h"
#include "service/service.h"

#include "shop.h"

#define EVENTS_TOPIC "user-events"
#define FASTEST_PACE 1000

static struct shop_settings settings;
static double pace;

/* ---- the shop as a source -------------------------------------------------- */

static struct shop shop;

static int
events_load(void *state, struct store *st, struct mr_error *err)
{

	return (shop_load(state, &settings, st, err));
}

static int
events_save(const void *state, struct store *st, struct mr_error *err)
{

	return (shop_save(state, st, err));
}

static void
events_step(void *state, int64_t now_ms, int due)
{

	shop_step(state, &settings, now_ms, due);
}

static int
events_count(const void *state)
{

	return (((const struct shop *)state)->made_count);
}

static void
events_record(const void *state, int index, int64_t now_ms,
    struct producer_record *record)
{
	const struct user_event *event = &((const struct shop *)state)
					      ->made[index];

	memcpy(record->key, event->user_id, sizeof(event->user_id));
	user_event_encode(event, &record->value);
	record->ts_ms = now_ms;
}

static int64_t
events_made(const void *state)
{

	return (((const struct shop *)state)->events);
}

static const struct producer_source source = {
    .topic = EVENTS_TOPIC,
    .type = USER_EVENT_TYPE,
    .load = events_load,
    .save = events_save,
    .step = events_step,
    .count = events_count,
    .record = events_record,
    .made = events_made,
};
static struct producer producer = {.source = &source, .state = &shop};

/* ---- the service ----------------------------------------------------------- */

static int event_producer_open(struct stream *s, struct mr_error *err);

static int
event_producer_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{

	return (producer_tick(&producer, s, now_ms, err));
}

static int
event_producer_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err)
{

	(void)command;
	(void)answer;
	return (producer_command(&producer, s, err));
}

static void
event_producer_close(struct stream *s)
{

	(void)s;
	producer_close();
}

static struct stream_service stream = {
    .name = "event-producer",
    .outputs = (const char *const[]){EVENTS_TOPIC, NULL},
    .migrations = migrations_event_producer,
    .open = event_producer_open,
    .command = event_producer_command,
    .tick = event_producer_tick,
    .close = event_producer_close,
};

static int
event_producer_open(struct stream *s, struct mr_error *err)
{

	const double rate = producer_rate(10);

	settings.seed = producer_settings.seed;
	settings.rate = pace > 0 ? pace : rate > 0 ? rate : FASTEST_PACE;
	settings.follow = settings.rate == rate && settings.start_ms == 0;
	return (producer_open(&producer, s, &stream.tick_ms, err));
}

static const struct service_gauge gauges[] = {
    {"millrace_events_made", "User events made so far, as committed.",
	"SELECT events FROM shop"},
    {0},
};

static const struct config_option options[] = {
    {.name = "users",
	.kind = CONFIG_INT,
	.target = &settings.users,
	.fallback = "1000",
	.least = 1,
	.most = 1e9,
	.help = "how many users there are at first; others sign up",
	.group = "Users"},
    {.name = "zipf",
	.kind = CONFIG_REAL,
	.target = &settings.zipf,
	.fallback = "1",
	.most = 5,
	.help = "how unequal they are: the n-th comes n^zipf times less often "
		"than the first; 0: all alike"},
    {.name = "sessions",
	.kind = CONFIG_INT,
	.target = &settings.sessions,
	.fallback = "50",
	.least = 1,
	.most = SHOP_SESSIONS_MOST,
	.help = "how many are in the shop at a time; so many seconds by --rate "
		"a user thinks between two events, in the mean"},
    {.name = "late-share",
	.kind = CONFIG_REAL,
	.target = &settings.late_share,
	.fallback = "0.01",
	.most = 1,
	.help = "share of events that come late"},
    {.name = "late-by",
	.kind = CONFIG_DURATION,
	.target = &settings.late_ms,
	.fallback = "30s",
	.least = 0,
	.most = 1e9,
	.help = "how late, in the mean (exponential)"},
    {.name = "pace",
	.kind = CONFIG_REAL,
	.target = &pace,
	.fallback = "0",
	.most = 1e6,
	.help =
	    "events a second of the shop's own clock; 0: as --rate says, or "
	    "1000 where that is 0"},
    {.name = "start-ms",
	.kind = CONFIG_INT,
	.target = &settings.start_ms,
	.fallback = "0",
	.least = 0,
	.most = 2e14,
	.help = "the first event's time, in milliseconds since 1970; 0: when "
		"it is made"},
    {.name = NULL},
};

static const struct service event_producer = {
    .summary = "Produces what the users of a simulated web shop do, to "
	       "user-events, and goes on where it stopped.",
    .stream = &stream,
    .gauges = gauges,
    .options = options,
    .common = producer_paced_options,
    .epilogue = PRODUCER_DELIVERIES
    "\n"
    "Examples:\n"
    "  event-producer --brokers localhost:9092\n"
    "  event-producer --rate 200 --sessions 400 --users 100000 --seed 42\n"
    "  event-producer --rate 0 --count 1000000 --pace 50 \\\n"
    "      --db /tmp/events.db\n"
    "  event-producer --compression zstd --rate 5000\n",
};

int
main(int argc, char **argv)
{

	return (service_main(argc, argv, &event_producer));
}
