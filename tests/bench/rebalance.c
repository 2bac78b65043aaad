/*
 * rebalance -- how long a group takes once a member has left it cleanly.
 *
 *	rebalance BROKERS HEARTBEAT_MS TURNS
 *
 * Bare librdkafka: of two consumers of four partitions one is closed, which is
 * when the clock starts, and the other one has all four, which is when it stops.
 * The other one learns of it by its next heartbeat: up to HEARTBEAT_MS of it is
 * waiting.  The topic bench-rebalance is made when it isn't there.
 */
#include <pthread.h>
#include <string.h>

#include "base/clock.h"

#include "client.h"

#define TOPIC "bench-rebalance"
#define PARTITIONS 4
#define PATIENCE_US 60000000
#define TURNS_MOST 1000

static rd_kafka_t *
join(const char *brokers, const char *heartbeat_ms)
{
	const struct client_setting settings[] = {{"bootstrap.servers",
						      brokers},
	    {"group.id", TOPIC}, {"enable.auto.commit", "false"},
	    {"heartbeat.interval.ms", heartbeat_ms}};
	rd_kafka_topic_partition_list_t
	    *topics = rd_kafka_topic_partition_list_new(1);
	rd_kafka_t *rk = client_new(RD_KAFKA_CONSUMER, settings,
	    sizeof(settings) / sizeof(settings[0]), NULL);

	rd_kafka_poll_set_consumer(rk);
	rd_kafka_topic_partition_list_add(topics, TOPIC, RD_KAFKA_PARTITION_UA);
	if (rd_kafka_subscribe(rk, topics) != RD_KAFKA_RESP_ERR_NO_ERROR)
		die(TOPIC, "could not be subscribed to");
	rd_kafka_topic_partition_list_destroy(topics);
	return (rk);
}

/* How many partitions it has, after a look at what has happened. */
static int
assigned(rd_kafka_t *rk)
{
	rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, 1);
	rd_kafka_topic_partition_list_t *list;
	int n;

	if (message != NULL)
		rd_kafka_message_destroy(message);
	if (rd_kafka_assignment(rk, &list) != RD_KAFKA_RESP_ERR_NO_ERROR)
		die(TOPIC, "no assignment");
	n = list->cnt;
	rd_kafka_topic_partition_list_destroy(list);
	return (n);
}

/* Until the first one has ${wanted}, and the second one the rest. */
static void
wait_for(rd_kafka_t *one, rd_kafka_t *two, int wanted)
{
	int64_t until_us = clock_mono_us() + PATIENCE_US;

	while (assigned(one) != wanted ||
	    (two != NULL && assigned(two) != PARTITIONS - wanted))
		if (clock_mono_us() > until_us)
			die(TOPIC, "no rebalance within a minute");
}

static void *
leave(void *arg)
{

	rd_kafka_consumer_close(arg);
	return (NULL);
}

static int
by_number(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return ((x > y) - (x < y));
}

int
main(int argc, char **argv)
{
	static double took_ms[TURNS_MOST];
	rd_kafka_t *one, *two;
	int64_t began_us;
	pthread_t thread;
	int turns, i;

	if (argc != 4 || (turns = atoi(argv[3])) < 1 || turns > TURNS_MOST) {
		fprintf(stderr,
		    "usage: rebalance BROKERS HEARTBEAT_MS TURNS\n");
		return (2);
	}
	one = client_new(RD_KAFKA_PRODUCER,
	    &(struct client_setting){"bootstrap.servers", argv[1]}, 1, NULL);
	client_make_topic(one, TOPIC, PARTITIONS);
	for (i = 0; i < PARTITIONS; i++)
		(void)client_end(one, TOPIC, i);
	rd_kafka_destroy(one);
	one = join(argv[1], argv[2]);
	for (i = 0; i < turns; i++) {
		two = join(argv[1], argv[2]);
		wait_for(one, two, PARTITIONS / 2);
		began_us = clock_mono_us();
		if (pthread_create(&thread, NULL, leave, two) != 0)
			die("start", "no thread");
		wait_for(one, NULL, PARTITIONS);
		took_ms[i] = (double)(clock_mono_us() - began_us) / 1000;
		pthread_join(thread, NULL);
		rd_kafka_destroy(two);
	}
	qsort(took_ms, (size_t)turns, sizeof(took_ms[0]), by_number);
	printf("turns=%d p50=%.1f most=%.1f\n", turns, took_ms[turns / 2],
	    took_ms[turns - 1]);
	rd_kafka_consumer_close(one);
	rd_kafka_destroy(one);
	return (0);
}
