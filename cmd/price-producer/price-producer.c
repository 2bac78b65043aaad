#include <string.h>

#include "migrations.h"

#include "price-producer.h"

struct settings settings;

static int
producer_open(struct stream *s, struct mr_error *err)
{

	(void)s;
	price_producer_stream.tick_ms = settings.walk.interval_ms;
	return (walk_check(&settings.walk, err));
}

static int
emit(struct stream *s, const struct price_event *event, struct mr_error *err)
{
	struct buffer value = {0};
	int status;

	price_event_encode(event, &value);
	if (value.failed) {
		buffer_free(&value);
		return (mr_error_set(err, MR_RETRY, "no memory for an event"));
	}
	status = stream_emit(s,
	    &(struct stream_output){.topic = PRICES_TOPIC,
		.type = "price.changed",
		.key = event->symbol,
		.key_size = strlen(event->symbol),
		.value = value.data,
		.value_size = value.length,
		.ts_ms = event->ts_ms},
	    err);
	buffer_free(&value);
	return (status);
}

static int
producer_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{
	struct price_event event;
	struct walk walk;
	int i;

	if (walk_load(&walk, &settings.walk, stream_store(s), err) != 0)
		return (-1);
	walk_step(&walk, &settings.walk);
	for (i = 0; i < walk.symbol_count; i++) {
		walk_event(&walk, i, now_ms, &event);
		if (emit(s, &event, err) != 0)
			return (-1);
	}
	return (walk_save(&walk, stream_store(s), err));
}

struct stream_service price_producer_stream = {
    .name = "price-producer",
    .outputs = (const char *const[]){PRICES_TOPIC, NULL},
    .migrations = migrations_price_producer,
    .open = producer_open,
    .tick = producer_tick,
};
