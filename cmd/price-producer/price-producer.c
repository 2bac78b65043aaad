#include <string.h>

#include "migrations.h"

#include "price-producer.h"

struct settings settings;

static int
producer_open(struct stream *s, struct mr_error *err)
{

	if (walk_check(&settings.walk, err) != 0)
		return (mr_error_wrap(err, "--symbols"));
	if (settings.delivery != KAFKA_EXACTLY_ONCE)
		return (direct_start(s, err));
	price_producer_stream.tick_ms = settings.walk.interval_ms;
	return (0);
}

static void
producer_close(struct stream *s)
{

	(void)s;
	direct_stop();
}

static int
emit(struct stream *s, const struct price_event *event, struct mr_error *err)
{
	struct buffer value = {0};

	price_event_encode(event, &value);
	return (stream_emit_buffer(s, PRICES_TOPIC, "price.changed",
	    event->symbol, &value, event->ts_ms, err));
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

static int
producer_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err)
{

	(void)answer;
	return (walk_save(command->input, stream_store(s), err));
}

struct stream_service price_producer_stream = {
    .name = "price-producer",
    .outputs = (const char *const[]){PRICES_TOPIC, NULL},
    .migrations = migrations_price_producer,
    .open = producer_open,
    .command = producer_command,
    .tick = producer_tick,
    .close = producer_close,
};
