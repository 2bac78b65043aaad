/*
 * backlog -- publish order events as orders would have.
 *
 *	backlog BROKERS RECORDS
 *
 * Keyed by item, with the headers of a Millrace source, so that the reader
 * keeps its marks.  The topic must be there and empty.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "kafka/kafka.h"

#include "backlog.h"

static int64_t failed;

static void
on_report(void *arg, const struct kafka_report *report)
{
	(void)arg;
	if (report->kind != MR_OK)
		failed++;
}

static int
send_order(struct kafka_producer *producer, int64_t n, int64_t *predecessors,
    struct mr_error *err)
{
	struct order_event order;
	struct buffer value = {0};
	char seq[24], predecessor[24], time[25];
	int partition, status;

	backlog_order(n, &order);
	order_event_encode(&order, &value);
	partition = kafka_partition_of(order.item, strlen(order.item),
	    BACKLOG_PARTITIONS);
	snprintf(seq, sizeof(seq), "%lld", (long long)n + 1);
	snprintf(predecessor, sizeof(predecessor), "%lld",
	    (long long)predecessors[partition]);
	clock_rfc3339(order.ts_ms, time);
	const struct kafka_header headers[] = {
	    {"ce_specversion", "1.0", 3},
	    {"ce_type", "order.created", 13},
	    {"ce_source", BACKLOG_SOURCE, sizeof(BACKLOG_SOURCE) - 1},
	    {"ce_id", seq, strlen(seq)},
	    {"ce_time", time, strlen(time)},
	    {"content-type", "application/json", 16},
	    {"ce_predecessor", predecessor, strlen(predecessor)},
	};
	while (
	    (status = kafka_producer_send(producer, "order-events", partition,
		 order.item, strlen(order.item), value.data, value.length,
		 headers, (int)(sizeof(headers) / sizeof(headers[0])),
		 order.ts_ms, NULL, err)) == -1 &&
	    err->kind == MR_RETRY)
		kafka_producer_poll(producer, 100);
	predecessors[partition] = n + 1;
	buffer_free(&value);
	return (status);
}

int
main(int argc, char **argv)
{
	struct kafka_conf conf = {.client_id = "backlog"};
	struct kafka_producer *producer = NULL;
	struct mr_error err = {.kind = MR_OK};
	int64_t predecessors[BACKLOG_PARTITIONS] = {0};
	int64_t n, count, began_us = clock_mono_us();

	if (argc != 3) {
		fprintf(stderr, "usage: backlog BROKERS RECORDS\n");
		return (2);
	}
	conf.brokers = argv[1];
	count = strtoll(argv[2], NULL, 10);
	if ((producer = kafka_producer_new(&conf, KAFKA_AT_LEAST_ONCE,
		 on_report, NULL, &err)) == NULL)
		goto fail;
	for (n = 0; n < count; n++)
		if (send_order(producer, n, predecessors, &err) == -1)
			goto fail;
	if (kafka_producer_flush(producer, 60000, &err) == -1)
		goto fail;
	kafka_producer_free(producer);
	printf("records=%lld failed=%lld seconds=%.2f\n", (long long)count,
	    (long long)failed, (double)(clock_mono_us() - began_us) / 1e6);
	return (failed == 0 ? 0 : 1);
fail:
	fprintf(stderr, "backlog: %s\n", err.message);
	kafka_producer_free(producer);
	return (1);
}
