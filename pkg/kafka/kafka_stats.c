/*
 * kafka_stats -- of what librdkafka tells of itself, what an operator can do
 * something about.  Its STATISTICS.md says what the fields are.
 */
#include <jansson.h>

#include "kafka/kafka_internal.h"

void
client_stats_init(struct client_stats *stats, const char *client)
{
	static const struct {
		const char *name;
		const char *help;
	} counters[CLIENT_STATS_COUNTERS] = {
	    {"millrace_kafka_requests_total", "Requests sent to brokers."},
	    {"millrace_kafka_request_errors_total",
		"Requests that failed to be sent, or whose answer was no good."},
	    {"millrace_kafka_request_retries_total",
		"Requests that were sent once more."},
	    {"millrace_kafka_request_timeouts_total",
		"Requests that got no answer in time."},
	    {"millrace_kafka_disconnects_total",
		"Connections to brokers that ended."},
	};
	char labels[64] = "";
	int i;

	*stats = (struct client_stats){0};
	(void)metrics_label(labels, sizeof(labels), "client", client);
	for (i = 0; i < CLIENT_STATS_COUNTERS; i++)
		stats->counters[i] = metrics_counter(counters[i].name, labels,
		    counters[i].help);
	stats->round_trip = metrics_gauge("millrace_kafka_round_trip_seconds",
	    labels,
	    "99th percentile of the slowest broker's answers of late, what a "
	    "fetch waits for records included.");
	stats->queued = metrics_gauge("millrace_kafka_queued_records", labels,
	    "Records in the client's memory: fetched and not taken, or not "
	    "acknowledged.");
}

static int64_t
number(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	return (json_is_integer(value) ? json_integer_value(value) : 0);
}

/* A counter that begins anew with each client goes on where it was. */
static void
raise_to(struct client_stats *stats, int i, int64_t total)
{

	if (total > stats->seen[i])
		metric_add(stats->counters[i], total - stats->seen[i]);
	stats->seen[i] = total;
}

static void
take_brokers(struct client_stats *stats, json_t *brokers)
{
	int64_t totals[CLIENT_STATS_COUNTERS] = {0}, round_trip_us = 0, us;
	const char *name;
	json_t *broker;
	int i;

	json_object_foreach(brokers, name, broker)
	{
		totals[0] += number(broker, "tx");
		totals[1] += number(broker, "txerrs") +
		    number(broker, "rxerrs");
		totals[2] += number(broker, "txretries");
		totals[3] += number(broker, "req_timeouts");
		totals[4] += number(broker, "disconnects");
		us = number(json_object_get(broker, "rtt"), "p99");
		if (us > round_trip_us)
			round_trip_us = us;
	}
	for (i = 0; i < CLIENT_STATS_COUNTERS; i++)
		raise_to(stats, i, totals[i]);
	metric_set_f64(stats->round_trip, (double)round_trip_us / 1e6);
}

static int64_t
count_fetched(json_t *topics)
{
	json_t *topic, *partition;
	const char *name, *id;
	int64_t count = 0;

	json_object_foreach(topics, name, topic)
	{
		json_object_foreach(json_object_get(topic, "partitions"), id,
		    partition)
		{
			count += number(partition, "fetchq_cnt");
		}
	}
	return (count);
}

void
client_stats_take(struct client_stats *stats, const char *text, size_t size)
{
	json_t *root = json_loadb(text, size, 0, NULL);

	if (root == NULL)
		return;
	take_brokers(stats, json_object_get(root, "brokers"));
	metric_set(stats->queued,
	    number(root, "msg_cnt") +
		count_fetched(json_object_get(root, "topics")));
	json_decref(root);
}
