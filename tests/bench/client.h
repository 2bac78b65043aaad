/*
 * client -- bare librdkafka, as the benches that compare brokers have it.
 *
 * Each is a program that ends with a word about what went wrong.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static _Noreturn void
die(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

struct client_setting {
	const char *name, *value;
};

/*
 * A client with ${count} settings, owned by the caller.  ${on_report} is called
 * for each record produced, by rd_kafka_poll; NULL: nobody asks.
 */
static inline rd_kafka_t *
client_new(rd_kafka_type_t type, const struct client_setting *settings,
    size_t count,
    void (*on_report)(rd_kafka_t *, const rd_kafka_message_t *, void *))
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *rk;
	char why[256];
	size_t i;

	for (i = 0; i < count; i++)
		if (rd_kafka_conf_set(conf, settings[i].name, settings[i].value,
			why, sizeof(why)) != RD_KAFKA_CONF_OK)
			die(settings[i].name, why);
	if (on_report != NULL)
		rd_kafka_conf_set_dr_msg_cb(conf, on_report);
	if ((rk = rd_kafka_new(type, conf, why, sizeof(why))) == NULL)
		die("client", why);
	return (rk);
}

/* Make the topic if it isn't there, with as many replicas as the cluster gives
 * one that doesn't say. */
static inline void
client_make_topic(rd_kafka_t *rk, const char *name, int partitions)
{
	char why[256];
	rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, partitions, -1,
	    why, sizeof(why));
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_event_t *event;
	const rd_kafka_topic_result_t **results;
	size_t n;

	rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
	if ((event = rd_kafka_queue_poll(queue, 20000)) == NULL)
		die(name, "no answer");
	results = rd_kafka_CreateTopics_result_topics(
	    rd_kafka_event_CreateTopics_result(event), &n);
	if (n != 1 ||
	    (rd_kafka_topic_result_error(results[0]) != 0 &&
		rd_kafka_topic_result_error(results[0]) !=
		    RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS))
		die(name, "could not be made");
	rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
	rd_kafka_NewTopic_destroy(topic);
}

/* Where a partition ends.  It takes a moment until a topic that was just made
 * has its leader, and a broker that flushes each record may take seconds. */
static inline int64_t
client_end(rd_kafka_t *rk, const char *topic, int32_t partition)
{
	rd_kafka_resp_err_t error;
	int64_t low, high;
	int tries;

	for (tries = 0; tries < 1000; tries++) {
		error = rd_kafka_query_watermark_offsets(rk, topic, partition,
		    &low, &high, 20000);
		if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
			return (high);
		usleep(100000);
	}
	die(topic, rd_kafka_err2str(error));
}

/* Have a consumer read a topic's first partitions from an offset;
 * RD_KAFKA_OFFSET_END: from where each ends at this moment. */
static inline void
client_assign(rd_kafka_t *rk, const char *topic, int partitions, int64_t offset)
{
	rd_kafka_topic_partition_list_t
	    *list = rd_kafka_topic_partition_list_new(partitions);
	int i;

	for (i = 0; i < partitions; i++)
		rd_kafka_topic_partition_list_add(list, topic, i)
		    ->offset = offset == RD_KAFKA_OFFSET_END ?
		    client_end(rk, topic, i) :
		    offset;
	if (rd_kafka_assign(rk, list) != RD_KAFKA_RESP_ERR_NO_ERROR)
		die(topic, "could not be assigned");
	rd_kafka_topic_partition_list_destroy(list);
}

#endif
