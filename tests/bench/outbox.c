/*
 * outbox -- inventory's file as it is when Kafka was away for long: nothing in
 * it but records that wait to be sent.
 *
 *	outbox DB RECORDS
 *
 * The file is made, with a database id of its own.  Its rows are what
 * inventory emits for orders of the backlog.
 */
#include "backlog.h"
#include "bare.h"

#define A_COMMIT 10000 /* records */

static struct bare_output output = {.topic = "inventory-events",
    .partitions = BACKLOG_PARTITIONS};

static void
emit(int64_t n)
{
	struct order_event order;
	struct inventory_event event = {.type = INVENTORY_RESERVED};
	struct buffer value = {0};
	int from;

	backlog_order(n, &order);
	memcpy(event.order_id, order.order_id, sizeof(event.order_id));
	memcpy(event.item, order.item, sizeof(event.item));
	event.quantity = order.quantity;
	event.ts_ms = order.ts_ms;
	inventory_event_encode(&event, &value);
	from = kafka_partition_of(order.item, strlen(order.item),
	    BACKLOG_PARTITIONS);
	bare_emit(&output, "inventory.reserved", order.order_id, &value,
	    order.ts_ms, "order-events", from);
	bare_nexts[from]++;
	buffer_free(&value);
}

int
main(int argc, char **argv)
{
	int64_t count, n;

	if (argc != 3 || (count = strtoll(argv[2], NULL, 10)) < 1) {
		fprintf(stderr, "usage: outbox DB RECORDS\n");
		return (2);
	}
	bare_open(argv[1], "inventory", migrations_inventory, NULL, 0,
	    "UPDATE database_ids"
	    " SET database_id = lower(hex(randomblob(16)))");
	for (n = 0; n < count; n++) {
		if (n % A_COMMIT == 0)
			bare_run(BARE_BEGIN);
		emit(n);
		if (n % A_COMMIT == A_COMMIT - 1 || n == count - 1) {
			bare_end_output(&output);
			bare_run(BARE_COMMIT);
		}
	}
	printf("records=%lld\n", (long long)count);
	return (0);
}
