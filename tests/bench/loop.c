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
#include <sqlite3.h>
#include <time.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "kafka/kafka.h"
#include "migrations.h"
#include "store/store.h"

#include "backlog.h"

enum statement {
	BEGIN,
	DATABASE,
	POSITION,
	MARK,
	DECIDE,
	TAKE,
	TAIL,
	EMIT,
	SETTLE,
	ENDS,
	LEASE,
	TAIL_WRITE,
	MARK_WRITE,
	POSITION_WRITE,
	COMMIT,
	STATEMENTS
};

static const char *const sql[STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [DATABASE] = "SELECT number, database_id FROM database_ids"
		 " ORDER BY number DESC LIMIT 1",
    [POSITION] = "SELECT next_offset, leader_epoch FROM positions"
		 " WHERE topic_id = ?1 AND partition = ?2",
    [MARK] = "SELECT seq FROM marks"
	     " WHERE source = ?1 AND topic_id = ?2 AND partition = ?3",
    [DECIDE] = "INSERT INTO reservations"
	       " (order_id, item, quantity, status, ts_ms)"
	       " VALUES (?1, ?2, ?3, 'reserved', ?4) ON CONFLICT DO NOTHING",
    [TAKE] = "UPDATE inventory SET on_hand = on_hand - ?2,"
	     " reserved = reserved + ?2, revision = revision + 1"
	     " WHERE item = ?1 AND on_hand >= ?2",
    [TAIL] = "SELECT seq FROM output_tails"
	     " WHERE topic = ?1 AND partition = ?2",
    [EMIT] = "INSERT INTO outbox (database, topic, partition, type, key,"
	     " value, ts_ms, predecessor, cause_topic, cause_partition,"
	     " cause_offset, headers)"
	     " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    [SETTLE] = "DELETE FROM outbox WHERE seq <= ?1",
    [ENDS] = "SELECT (SELECT min(seq) FROM outbox),"
	     " (SELECT max(seq) FROM outbox)",
    [LEASE] = "SELECT owner, epoch, boot_id, renewed_boot_ms FROM relay",
    [TAIL_WRITE] = "INSERT INTO output_tails (topic, partition, seq)"
		   " VALUES (?1, ?2, ?3)"
		   " ON CONFLICT DO UPDATE SET seq = excluded.seq",
    [MARK_WRITE] = "INSERT INTO marks (source, topic_id, partition, seq)"
		   " VALUES (?1, ?2, ?3, ?4)"
		   " ON CONFLICT DO UPDATE SET seq = excluded.seq"
		   " WHERE excluded.seq > seq",
    [POSITION_WRITE] = "INSERT INTO positions (topic_id, partition, topic,"
		       " next_offset, leader_epoch)"
		       " VALUES (?1, ?2, 'order-events', ?3, 0)"
		       " ON CONFLICT DO UPDATE"
		       " SET next_offset = excluded.next_offset",
    [COMMIT] = "COMMIT",
};

static const char topic_id[] = "AAAAAAAAAAAAAAAAAAAAAA";
static sqlite3 *db;
static sqlite3_stmt *stmts[STATEMENTS];
static int64_t tails[BACKLOG_PARTITIONS], marks[BACKLOG_PARTITIONS];
static int64_t nexts[BACKLOG_PARTITIONS];

static _Noreturn void
die(const char *what)
{
	fprintf(stderr, "loop: %s: %s\n", what, sqlite3_errmsg(db));
	exit(1);
}

static void
text(enum statement s, int i, const char *value)
{
	sqlite3_bind_text(stmts[s], i, value, -1, SQLITE_STATIC);
}

static void
number(enum statement s, int i, int64_t value)
{
	sqlite3_bind_int64(stmts[s], i, value);
}

static void
run(enum statement s)
{
	int rc;

	while ((rc = sqlite3_step(stmts[s])) == SQLITE_ROW)
		;
	if (rc != SQLITE_DONE)
		die(sql[s]);
	sqlite3_reset(stmts[s]);
}

/* The file as the service makes it, then a connection with its settings. */
static void
open_file(const char *path)
{
	const struct store_options options = {.path = path,
	    .service = "inventory",
	    .core = migrations_core,
	    .own = migrations_inventory};
	struct mr_error err;
	struct store *st;
	int i;

	if ((st = store_open(&options, &err)) == NULL) {
		fprintf(stderr, "loop: %s\n", err.message);
		exit(1);
	}
	store_close(st);
	if (sqlite3_open_v2(path, &db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
		NULL) != SQLITE_OK ||
	    sqlite3_exec(db,
		"PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;"
		"PRAGMA cell_size_check = ON; PRAGMA cache_size = -4096;"
		"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
		"PRAGMA foreign_keys = ON;"
		"PRAGMA journal_size_limit = 67108864;"
		"PRAGMA wal_autocheckpoint = 1000;"
		"INSERT INTO database_ids VALUES"
		" (1, '00000000000000000000000000000b1d', 0);"
		"UPDATE inventory SET on_hand = 1000000000,"
		" received = 1000000000;",
		NULL, NULL, NULL) != SQLITE_OK)
		die(path);
	for (i = 0; i < STATEMENTS; i++)
		if (sqlite3_prepare_v3(db, sql[i], -1,
			SQLITE_PREPARE_PERSISTENT, &stmts[i],
			NULL) != SQLITE_OK)
			die(sql[i]);
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
	text(DECIDE, 1, order.order_id);
	text(DECIDE, 2, order.item);
	number(DECIDE, 3, order.quantity);
	number(DECIDE, 4, order.ts_ms);
	run(DECIDE);
	text(TAKE, 1, order.item);
	number(TAKE, 2, order.quantity);
	run(TAKE);
	memcpy(event.order_id, order.order_id, sizeof(event.order_id));
	memcpy(event.item, order.item, sizeof(event.item));
	event.quantity = order.quantity;
	event.ts_ms = order.ts_ms;
	inventory_event_encode(&event, &out);
	number(EMIT, 1, 1);
	text(EMIT, 2, "inventory-events");
	number(EMIT, 3, to);
	text(EMIT, 4, "inventory.reserved");
	sqlite3_bind_blob(stmts[EMIT], 5, order.order_id,
	    (int)strlen(order.order_id), SQLITE_STATIC);
	sqlite3_bind_blob(stmts[EMIT], 6, out.data, (int)out.length,
	    SQLITE_STATIC);
	number(EMIT, 7, order.ts_ms);
	number(EMIT, 8, tails[to]);
	text(EMIT, 9, "order-events");
	number(EMIT, 10, from);
	number(EMIT, 11, nexts[from]);
	run(EMIT);
	tails[to] = sqlite3_last_insert_rowid(db);
	marks[from] = n + 1;
	nexts[from]++;
	buffer_free(&out);
}

/* What the core reads and writes around a batch. */
static void
before(void)
{
	int i;

	run(BEGIN);
	run(DATABASE);
	for (i = 0; i < BACKLOG_PARTITIONS; i++) {
		text(POSITION, 1, topic_id);
		number(POSITION, 2, i);
		run(POSITION);
		text(MARK, 1, BACKLOG_SOURCE);
		text(MARK, 2, topic_id);
		number(MARK, 3, i);
		run(MARK);
		text(TAIL, 1, "inventory-events");
		number(TAIL, 2, i);
		run(TAIL);
	}
}

static void
after(int64_t settled)
{
	int i;

	number(SETTLE, 1, settled);
	run(SETTLE);
	run(ENDS);
	run(LEASE);
	for (i = 0; i < BACKLOG_PARTITIONS; i++) {
		text(TAIL_WRITE, 1, "inventory-events");
		number(TAIL_WRITE, 2, i);
		number(TAIL_WRITE, 3, tails[i]);
		run(TAIL_WRITE);
		text(MARK_WRITE, 1, BACKLOG_SOURCE);
		text(MARK_WRITE, 2, topic_id);
		number(MARK_WRITE, 3, i);
		number(MARK_WRITE, 4, marks[i]);
		run(MARK_WRITE);
		text(POSITION_WRITE, 1, topic_id);
		number(POSITION_WRITE, 2, i);
		number(POSITION_WRITE, 3, nexts[i]);
		run(POSITION_WRITE);
	}
	run(COMMIT);
}

int
main(int argc, char **argv)
{
	struct order_event order;
	struct buffer *values;
	int64_t count, batch, n, i, began_us, took_us = 0, settled = 0;
	double cpu_s;

	if (argc != 4 || (count = strtoll(argv[2], NULL, 10)) < 1 ||
	    (batch = strtoll(argv[3], NULL, 10)) < 1) {
		fprintf(stderr, "usage: loop DB RECORDS BATCH\n");
		return (2);
	}
	open_file(argv[1]);
	if ((values = calloc((size_t)batch, sizeof(*values))) == NULL)
		die("out of memory");
	for (n = 0; n < count; n += batch) {
		for (i = 0; i < batch; i++) {
			backlog_order(n + i, &order);
			buffer_clear(&values[i]);
			order_event_encode(&order, &values[i]);
		}
		began_us = clock_mono_us();
		before();
		for (i = 0; i < batch; i++)
			apply(&values[i], n + i);
		after(settled);
		took_us += clock_mono_us() - began_us;
		settled = n + i; /* acknowledged by the time of the next */
	}
	cpu_s = (double)clock() / CLOCKS_PER_SEC;
	printf("rate=%.0f seconds=%.3f cpu_s=%.3f\n",
	    (double)n * 1e6 / (double)took_us, (double)took_us / 1e6, cpu_s);
	return (0);
}
