/*
 * roundtrip -- what Kafka itself takes from producing to consuming.
 *
 *	roundtrip BROKERS RATE SECONDS
 *
 * Bare librdkafka: acks=all, no lingering, one producer, one consumer of one
 * partition, both in this process; the record says when it was produced.
 * The topic bench-roundtrip is made when it isn't there.
 */
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define TOPIC "bench-roundtrip"

static int64_t count, *took_us;

static _Noreturn void
die(const char *what, const char *why)
{
	fprintf(stderr, "roundtrip: %s: %s\n", what, why);
	exit(1);
}

static rd_kafka_t *
client(rd_kafka_type_t type, const char *brokers)
{
	const char *const settings[][2] = {{"bootstrap.servers", brokers},
	    {type == RD_KAFKA_PRODUCER ? "linger.ms" : "group.id",
		type == RD_KAFKA_PRODUCER ? "0" : TOPIC},
	    {type == RD_KAFKA_PRODUCER ? "acks" : "enable.auto.commit",
		type == RD_KAFKA_PRODUCER ? "all" : "false"}};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *rk;
	char why[256];
	size_t i;

	for (i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], why,
			sizeof(why)) != RD_KAFKA_CONF_OK)
			die(settings[i][0], why);
	if ((rk = rd_kafka_new(type, conf, why, sizeof(why))) == NULL)
		die("client", why);
	return (rk);
}

static void
make_topic(rd_kafka_t *rk)
{
	char why[256];
	rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(TOPIC, 1, 1, why,
	    sizeof(why));
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_event_t *event;
	const rd_kafka_topic_result_t **results;
	size_t n;

	rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
	if ((event = rd_kafka_queue_poll(queue, 20000)) == NULL)
		die(TOPIC, "no answer");
	results = rd_kafka_CreateTopics_result_topics(
	    rd_kafka_event_CreateTopics_result(event), &n);
	if (n != 1 ||
	    (rd_kafka_topic_result_error(results[0]) != 0 &&
		rd_kafka_topic_result_error(results[0]) !=
		    RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS))
		die(TOPIC, "could not be made");
	rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
	rd_kafka_NewTopic_destroy(topic);
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
	int64_t began_us = clock_mono_us(), left_us, now, n;
	rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, TOPIC, NULL);

	if (topic == NULL)
		die(TOPIC, rd_kafka_err2str(rd_kafka_last_error()));
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
	if (rd_kafka_flush(rk, 20000) != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("producing", "not acknowledged within 20 s");
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
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_t *producer, *consumer;
	int64_t low, high, middle, late;
	double rate;
	int tries;
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
	make_topic(producer);
	/* It takes a moment until a topic just made has its leader. */
	for (tries = 0; rd_kafka_query_watermark_offsets(producer, TOPIC, 0,
			    &low, &high, 1000) != RD_KAFKA_RESP_ERR_NO_ERROR;
	     tries++) {
		if (tries == 100)
			die(TOPIC, "no watermarks");
		usleep(100000);
	}
	list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, TOPIC, 0)->offset = high;
	rd_kafka_assign(consumer, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (pthread_create(&thread, NULL, consume, consumer) != 0)
		die("start", "no thread");
	produce(producer, rate);
	pthread_join(thread, NULL);
	qsort(took_us, (size_t)count, sizeof(*took_us), by_number);
	middle = (count - 1) / 2;
	late = (count - 1) * 99 / 100;
	printf("records=%lld p50=%.2f p99=%.2f\n", (long long)count,
	    (double)took_us[middle] / 1000, (double)took_us[late] / 1000);
	rd_kafka_consumer_close(consumer);
	rd_kafka_destroy(consumer);
	rd_kafka_destroy(producer);
	return (0);
}
