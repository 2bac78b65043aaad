/* kafka_readable -- what follows on records that can't be read. */
#include "base/clock.h"

#include "kafka_internal.h"

#define SILENCE_MS 10000
#define TELL_MS 5000

/* What each offset's error says is what is looked for. */
static void
say_nothing(void *arg, const char *what, int fatal)
{

	(void)arg;
	(void)what;
	(void)fatal;
}

/* Whether anything but damage comes from where the consumer is: 1, 0, -1. */
static int
is_readable(struct kafka_consumer *consumer, struct mr_error *err)
{
	int64_t until_us = clock_mono_us() + 1000 * (int64_t)SILENCE_MS;
	struct kafka_record record;
	int readable;

	while (kafka_consumer_poll(consumer, &record, 1, 200) != 1)
		if (clock_mono_us() > until_us)
			return (mr_error_set(err, MR_RETRY,
			    "nothing came of what follows the record that "
			    "can't be read, for %d s",
			    SILENCE_MS / 1000));
	readable = record.out_of_range != 2;
	kafka_record_free(&record);
	return (readable);
}

int64_t
kafka_readable_find(const struct kafka_conf *conf, const char *topic,
    int partition, int64_t offset, int64_t next,
    void (*tell)(void *arg, int64_t offset), void *arg, struct mr_error *err)
{
	static const struct kafka_group_handlers quiet = {NULL, NULL,
	    say_nothing};
	struct kafka_position at = {.topic = topic,
	    .partition = partition,
	    .offset = offset + 1,
	    .leader_epoch = -1};
	struct kafka_conf eager = *conf;
	struct kafka_consumer *consumer;
	int64_t told_us = clock_mono_us();
	int readable = 0;

	/* librdkafka's pause after an error would be taken at each offset. */
	if (eager.properties.count < (int)(sizeof(eager.properties.items) /
					 sizeof(eager.properties.items[0])))
		eager.properties.items[eager.properties.count++] =
		    "fetch.error.backoff.ms=0";
	if ((consumer = kafka_consumer_new(&eager, NULL, &quiet, NULL, err)) ==
	    NULL)
		return (-1);
	if (kafka_consumer_assign(consumer, &at, 1, err) == -1)
		readable = -1;
	while (readable == 0 && at.offset < next) {
		if ((readable = is_readable(consumer, err)) == 0 &&
		    ++at.offset < next &&
		    kafka_consumer_seek(consumer, &at, err) == -1)
			readable = -1;
		if (tell != NULL &&
		    clock_mono_us() - told_us >= 1000 * (int64_t)TELL_MS) {
			told_us = clock_mono_us();
			tell(arg, at.offset);
		}
	}
	kafka_consumer_free(consumer);
	return (readable == -1 ? -1 : at.offset);
}
