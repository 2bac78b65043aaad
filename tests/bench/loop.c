/*
 * loop -- inventory's work without Millrace: the bare loop to compare with.
 *
 *	loop DB RECORDS BATCH
 *
 * The schema, the settings and the statements of the service and its core
 * (reservation, stock, outbox in and out, tails, marks, positions), on
 * SQLite directly.  Decodes each order and encodes what follows from it, like
 * the service; no Kafka, no savepoints, no checks, no HTTP.  The events are
 * made outside of the time that is measured.
 */
#include "backlog.h"
#include "bare.h"

enum statement { DECIDE = BARE_OWN, TAKE, STATEMENTS };

static const char *const sql[STATEMENTS - BARE_OWN] = {
    [DECIDE - BARE_OWN] =
	"INSERT INTO reservations"
	" (order_id, item, quantity, status, ts_ms)"
	" VALUES (?1, ?2, ?3, 'reserved', ?4) ON CONFLICT DO NOTHING",
    [TAKE - BARE_OWN] = "UPDATE inventory SET on_hand = on_hand - ?2,"
			" reserved = reserved + ?2, revision = revision + 1"
			" WHERE item = ?1 AND on_hand >= ?2",
};

static struct bare_output output = {.topic = "inventory-events",
    .partitions = BACKLOG_PARTITIONS};

static void
open_file(const char *path)
{

	bare_open(path, "inventory", migrations_inventory, sql,
	    STATEMENTS - BARE_OWN,
	    "UPDATE inventory SET on_hand = 1000000000,"
	    " received = 1000000000;");
}

static void
encode(int64_t n, struct buffer *value)
{
	struct order_event order;

	backlog_order(n, &order);
	order_event_encode(&order, value);
}

static void
apply(const struct buffer *value, int64_t n)
{
	struct order_event order;
	struct inventory_event event = {.type = INVENTORY_RESERVED};
	struct buffer out = {0};
	struct mr_error err;
	int from;

	if (order_event_decode("order.created", value->data, value->length,
		&order, &err) == -1) {
		fprintf(stderr, "loop: %s\n", err.message);
		exit(1);
	}
	from = kafka_partition_of(order.item, strlen(order.item),
	    BACKLOG_PARTITIONS);
	bare_text(DECIDE, 1, order.order_id);
	bare_text(DECIDE, 2, order.item);
	bare_number(DECIDE, 3, order.quantity);
	bare_number(DECIDE, 4, order.ts_ms);
	bare_run(DECIDE);
	bare_text(TAKE, 1, order.item);
	bare_number(TAKE, 2, order.quantity);
	bare_run(TAKE);
	memcpy(event.order_id, order.order_id, sizeof(event.order_id));
	memcpy(event.item, order.item, sizeof(event.item));
	event.quantity = order.quantity;
	event.ts_ms = order.ts_ms;
	inventory_event_encode(&event, &out);
	bare_emit(&output, "inventory.reserved", order.order_id, &out,
	    order.ts_ms, "order-events", from);
	bare_marks[from] = n + 1;
	bare_nexts[from]++;
	buffer_free(&out);
}

static void
before(void)
{

	bare_begin(BACKLOG_SOURCE, BACKLOG_PARTITIONS);
	bare_begin_output(&output);
}

static void
after(int64_t n)
{

	(void)n;
	bare_end_output(&output);
	bare_commit(BACKLOG_SOURCE, "order-events", BACKLOG_PARTITIONS);
}

int
main(int argc, char **argv)
{
	static const struct bare_loop loop = {open_file, encode, before, apply,
	    after};

	return (bare_main(argc, argv, &loop));
}
