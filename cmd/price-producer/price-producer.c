#include <string.h>

#include "migrations.h"

#include "price-producer.h"

struct settings settings;

static struct walk walk;

static int
prices_load(void *state, struct store *st, struct mr_error *err)
{

	return (walk_load(state, &settings.walk, st, err));
}

static int
prices_save(const void *state, struct store *st, struct mr_error *err)
{

	return (walk_save(state, st, err));
}

static void
prices_step(void *state, int64_t now_ms, int due)
{

	(void)now_ms;
	(void)due;
	walk_step(state, &settings.walk);
}

static int
prices_count(const void *state)
{

	return (((const struct walk *)state)->symbol_count);
}

static void
prices_record(const void *state, int index, int64_t now_ms,
    struct producer_record *record)
{
	struct price_event event;

	walk_event(state, index, now_ms, &event);
	memcpy(record->key, event.symbol, sizeof(event.symbol));
	price_event_encode(&event, &record->value);
	record->ts_ms = event.ts_ms;
}

static int64_t
prices_made(const void *state)
{

	return (((const struct walk *)state)->record_count);
}

static const struct producer_source source = {
    .topic = PRICES_TOPIC,
    .type = PRICE_EVENT_TYPE,
    .load = prices_load,
    .save = prices_save,
    .step = prices_step,
    .count = prices_count,
    .record = prices_record,
    .made = prices_made,
};

/* For --partitioner custom: symbols in turn as --symbols names them, so that no
 * partition has two more than another; by hash it might have all of them. */
static int
by_place(const void *key, size_t key_size, int64_t turn, int partitions)
{
	const char *name = settings.walk.symbols;
	size_t length;
	int place;

	(void)turn;
	for (place = 0; *name != '\0'; place++) {
		length = strcspn(name, ",");
		if (length == key_size && memcmp(name, key, length) == 0)
			return (place % partitions);
		name += length + (name[length] == ',');
	}
	return (kafka_partition_of(key, key_size, partitions));
}

static struct producer producer = {.source = &source,
    .state = &walk,
    .partitioner = by_place};

static int
price_producer_open(struct stream *s, struct mr_error *err)
{

	settings.walk.seed = producer_settings.seed;
	if (walk_check(&settings.walk, err) != 0)
		return (mr_error_wrap(err, "--symbols"));
	producer.interval_ms = settings.walk.interval_ms;
	return (
	    producer_open(&producer, s, &price_producer_stream.tick_ms, err));
}

static int
price_producer_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{

	return (producer_tick(&producer, s, now_ms, err));
}

static int
price_producer_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err)
{

	(void)command;
	(void)answer;
	return (producer_command(&producer, s, err));
}

static void
price_producer_close(struct stream *s)
{

	(void)s;
	producer_close();
}

struct stream_service price_producer_stream = {
    .name = "price-producer",
    .outputs = (const char *const[]){PRICES_TOPIC, NULL},
    .migrations = migrations_price_producer,
    .open = price_producer_open,
    .command = price_producer_command,
    .tick = price_producer_tick,
    .close = price_producer_close,
};
