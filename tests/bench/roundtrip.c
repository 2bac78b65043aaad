/*
 * roundtrip -- what Kafka itself takes from producing to consuming.
 *
 *	roundtrip BROKERS RATE SECONDS
 *
 * Bare librdkafka: acks=all, no lingering, one producer, one consumer of one
 * partition, both in this process; the record says when it was produced.
 * rate is what was reached: below RATE if the broker can't keep up.
 * The topic bench-roundtrip is made when it isn't there.
 */
#include <pthread.h>
#include <string.h>

#include "base/clock.h"

#include "client.h"

#define TOPIC "bench-roundtrip"
#define FLUSH_MS 120000

static int64_t count, *took_us, began_us;

static rd_kafka_t *
client(rd_kafka_type_t type, const char *brokers)
{
	int produces = type == RD_KAFKA_PRODUCER;
	const struct client_setting settings[] = {{"bootstrap.servers",
						      brokers},
	    {produces ? "linger.ms" : "group.id", produces ? "0" : TOPIC},
	    {produces ? "acks" : "enable.auto.commit",
		produces ? "all" : "false"}};

	return (client_new(type, settings,
	    sizeof(settings) / sizeof(settings[0]), NULL));
}

static void *
consume(void *arg)
{
	rd_kafka_t *rk = arg;
	rd_kafka_message_t *message;
	int64_t at_us, n = 0;

	while (n < count) {
		if ((message = rd_kafka_consumer_poll(rk, 20000)) == NULL)
			die("consuming", "nothing for 20 s");
		if (message->err != 0)
			die("consuming", rd_kafka_message_errstr(message));
		if (message->len == sizeof(at_us)) {
			memcpy(&at_us, message->payload, sizeof(at_us));
			took_us[n++] = clock_mono_us() - at_us;
		}
		rd_kafka_message_destroy(message);
	}
	return (NULL);
}

static void
produce(rd_kafka_t *rk, double rate)
{
	int64_t left_us, now, n;
	rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, TOPIC, NULL);

	if (topic == NULL)
		die(TOPIC, rd_kafka_err2str(rd_kafka_last_error()));
	began_us = clock_mono_us();
	for (n = 0; n < count; n++) {
		left_us = began_us + (int64_t)((double)n * 1e6 / rate) -
		    clock_mono_us();
		if (left_us > 0)
			usleep((useconds_t)left_us);
		now = clock_mono_us();
		if (rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, &now,
			sizeof(now), NULL, 0, NULL) == -1)
			die("producing",
			    rd_kafka_err2str(rd_kafka_last_error()));
		rd_kafka_poll(rk, 0);
	}
	/* One that can't keep up takes longer. */
	if (rd_kafka_flush(rk, FLUSH_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("producing", "not acknowledged within two minutes");
	rd_kafka_topic_destroy(topic);
}

static int
by_number(const void *a, const void *b)
{
	int64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return ((x > y) - (x < y));
}

int
main(int argc, char **argv)
{
	rd_kafka_t *producer, *consumer;
	int64_t middle, late, all_us;
	double rate;
	pthread_t thread;

	if (argc != 4) {
		fprintf(stderr, "usage: roundtrip BROKERS RATE SECONDS\n");
		return (2);
	}
	rate = strtod(argv[2], NULL);
	count = (int64_t)(rate * strtod(argv[3], NULL));
	if ((took_us = calloc((size_t)count, sizeof(*took_us))) == NULL)
		die("start", "out of memory");
	producer = client(RD_KAFKA_PRODUCER, argv[1]);
	consumer = client(RD_KAFKA_CONSUMER, argv[1]);
	rd_kafka_poll_set_consumer(consumer);
	client_make_topic(producer, TOPIC, 1);
	client_assign(consumer, TOPIC, 1, RD_KAFKA_OFFSET_END);
	if (pthread_create(&thread, NULL, consume, consumer) != 0)
		die("start", "no thread");
	produce(producer, rate);
	pthread_join(thread, NULL);
	all_us = clock_mono_us() - began_us;
	qsort(took_us, (size_t)count, sizeof(*took_us), by_number);
	middle = (count - 1) / 2;
	late = (count - 1) * 99 / 100;
	printf("records=%lld rate=%.0f p50=%.2f p99=%.2f\n", (long long)count,
	    (double)count * 1e6 / (double)all_us,
	    (double)took_us[middle] / 1000, (double)took_us[late] / 1000);
	rd_kafka_consumer_close(consumer);
	rd_kafka_destroy(consumer);
	rd_kafka_destroy(producer);
	return (0);
}
