/*
 * loop -- inventory's work without Millrace: the bare loop to compare with.
 *
 *	loop DB RECORDS BATCH
 *
 * The schema, the settings and the statements of the service and its core
 * (reservation, stock, outbox in and out, tails, lease, marks, positions), on
 * SQLite directly.  Decodes each order and encodes what follows from it, like
 * the service; no Kafka, no savepoints, no checks, no HTTP.  The events are
 * made outside of the time that is measured.
 */
#include "backlog.h"
#include "bare.h"

enum statement {
	DECIDE = BARE_OWN,
	TAKE,
	TAIL,
	EMIT,
	SETTLE,
	ENDS,
	LEASE,
	TAIL_WRITE,
	STATEMENTS
};

static const char *const sql[STATEMENTS - BARE_OWN] = {
    [DECIDE - BARE_OWN] =
	"INSERT INTO reservations"
	" (order_id, item, quantity, status, ts_ms)"
	" VALUES (?1, ?2, ?3, 'reserved', ?4) ON CONFLICT DO NOTHING",
    [TAKE - BARE_OWN] = "UPDATE inventory SET on_hand = on_hand - ?2,"
			" reserved = reserved + ?2, revision = revision + 1"
			" WHERE item = ?1 AND on_hand >= ?2",
    [TAIL - BARE_OWN] = "SELECT seq FROM output_tails"
			" WHERE topic = ?1 AND partition = ?2",
    [EMIT - BARE_OWN] =
	"INSERT INTO outbox (database, topic, partition, type, key,"
	" value, ts_ms, predecessor, cause_topic, cause_partition,"
	" cause_offset, headers)"
	" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    [SETTLE - BARE_OWN] = "DELETE FROM outbox WHERE seq <= ?1",
    [ENDS - BARE_OWN] = "SELECT (SELECT min(seq) FROM outbox),"
			" (SELECT max(seq) FROM outbox)",
    [LEASE -
	BARE_OWN] = "SELECT owner, epoch, boot_id, renewed_boot_ms FROM relay",
    [TAIL_WRITE - BARE_OWN] = "INSERT INTO output_tails (topic, partition, seq)"
			      " VALUES (?1, ?2, ?3)"
			      " ON CONFLICT DO UPDATE SET seq = excluded.seq",
};

static int64_t tails[BACKLOG_PARTITIONS];

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
	int from, to;

	if (order_event_decode("order.created", value->data, value->length,
		&order, &err) == -1) {
		fprintf(stderr, "loop: %s\n", err.message);
		exit(1);
	}
	from = kafka_partition_of(order.item, strlen(order.item),
	    BACKLOG_PARTITIONS);
	to = kafka_partition_of(order.order_id, strlen(order.order_id),
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
	bare_number(EMIT, 1, 1);
	bare_text(EMIT, 2, "inventory-events");
	bare_number(EMIT, 3, to);
	bare_text(EMIT, 4, "inventory.reserved");
	sqlite3_bind_blob(bare_stmts[EMIT], 5, order.order_id,
	    (int)strlen(order.order_id), SQLITE_STATIC);
	sqlite3_bind_blob(bare_stmts[EMIT], 6, out.data, (int)out.length,
	    SQLITE_STATIC);
	bare_number(EMIT, 7, order.ts_ms);
	bare_number(EMIT, 8, tails[to]);
	bare_text(EMIT, 9, "order-events");
	bare_number(EMIT, 10, from);
	bare_number(EMIT, 11, bare_nexts[from]);
	bare_run(EMIT);
	tails[to] = sqlite3_last_insert_rowid(bare_db);
	bare_marks[from] = n + 1;
	bare_nexts[from]++;
	buffer_free(&out);
}

/* What the core reads and writes around a batch, for its outputs. */
static void
before(void)
{
	int i;

	bare_begin(BACKLOG_SOURCE, BACKLOG_PARTITIONS);
	for (i = 0; i < BACKLOG_PARTITIONS; i++) {
		bare_text(TAIL, 1, "inventory-events");
		bare_number(TAIL, 2, i);
		bare_run(TAIL);
	}
}

/* The batch before this one is acknowledged by now. */
static void
after(int64_t settled)
{
	int i;

	bare_number(SETTLE, 1, settled);
	bare_run(SETTLE);
	bare_run(ENDS);
	bare_run(LEASE);
	for (i = 0; i < BACKLOG_PARTITIONS; i++) {
		bare_text(TAIL_WRITE, 1, "inventory-events");
		bare_number(TAIL_WRITE, 2, i);
		bare_number(TAIL_WRITE, 3, tails[i]);
		bare_run(TAIL_WRITE);
	}
	bare_commit(BACKLOG_SOURCE, "order-events", BACKLOG_PARTITIONS);
}

int
main(int argc, char **argv)
{
	static const struct bare_loop loop = {open_file, encode, before, apply,
	    after};

	return (bare_main(argc, argv, &loop));
}
