/*
 * measure -- metrics, one set a process.
 */
#include "broker/measure.h"
#include "metrics/metrics.h"
#include "wire/wire.h"

#define KEYS_MOST 128

static struct metric *request_seconds[KEYS_MOST];
static struct metric *refused, *received, *sent, *memory, *connections;
static struct metric *appended, *syncs, *partitions, *groups, *members;

void
measure_start(void)
{
	const struct wire_api *api;
	char labels[64];
	size_t i;

	for (i = 0; (api = wire_api_at(i)) != NULL; i++) {
		labels[0] = '\0';
		(void)metrics_label(labels, sizeof(labels), "api", api->name);
		if (api->key < KEYS_MOST)
			request_seconds[api->key] = metrics_histogram(
			    "millrace_broker_request_seconds", labels,
			    "From when a request is worked on to its answer, "
			    "waiting for records or members included");
	}
	refused = metrics_counter("millrace_broker_requests_refused_total",
	    NULL, "Requests of an API or version that isn't spoken");
	received = metrics_counter("millrace_broker_received_bytes_total", NULL,
	    "Bytes read from clients");
	sent = metrics_counter("millrace_broker_sent_bytes_total", NULL,
	    "Bytes written to clients");
	memory = metrics_gauge("millrace_broker_request_memory_bytes", NULL,
	    "Memory taken by requests that are under way");
	connections = metrics_gauge("millrace_broker_connections", NULL,
	    "Open connections");
	appended = metrics_counter("millrace_broker_appended_bytes_total", NULL,
	    "Bytes of record batches appended to logs");
	syncs = metrics_histogram("millrace_broker_sync_seconds", NULL,
	    "How long each flush to disk took");
	partitions = metrics_gauge("millrace_broker_partitions", NULL,
	    "Partitions of all topics");
	groups = metrics_gauge("millrace_broker_groups", NULL,
	    "Consumer groups, those without members included");
	members = metrics_gauge("millrace_broker_group_members", NULL,
	    "Members of all consumer groups");
}

void
measure_request(int api_key, int64_t us)
{

	if (api_key >= 0 && api_key < KEYS_MOST &&
	    request_seconds[api_key] != NULL)
		metric_observe_us(request_seconds[api_key], us);
}

static void
count(struct metric *m, int64_t n)
{

	if (m != NULL)
		metric_add(m, n);
}

static void
set(struct metric *m, int64_t n)
{

	if (m != NULL)
		metric_set(m, n);
}

void
measure_refused(void)
{

	count(refused, 1);
}

void
measure_received(size_t bytes)
{

	count(received, (int64_t)bytes);
}

void
measure_sent(size_t bytes)
{

	count(sent, (int64_t)bytes);
}

void
measure_memory(int64_t bytes)
{

	set(memory, bytes);
}

void
measure_connections(int64_t n)
{

	set(connections, n);
}

void
measure_append(int64_t bytes)
{

	count(appended, bytes);
}

void
measure_sync(int64_t us)
{

	if (syncs != NULL)
		metric_observe_us(syncs, us);
}

void
measure_partitions(int64_t n)
{

	set(partitions, n);
}

void
measure_groups(int64_t n, int64_t m)
{

	set(groups, n);
	set(members, m);
}
