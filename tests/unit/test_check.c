/*
 * The checker is checked: a small world that adds up, and then one thing
 * lost, repeated, reordered or negative in it at a time, which must be found,
 * by the invariant that is about it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "check/check.h"
#include "migrations.h"
#include "store/store.h"

#define A "01a1fbfe-4c0c-775c-ba95-8384c7ef2c90"
#define B "01a1fbfe-4c0c-775c-ba95-8384c7ef2c91"
#define C "01a1fbfe-4c0c-775c-ba95-8384c7ef2c92"
#define D "01a1fbfe-4c0c-775c-ba95-8384c7ef2c93"
#define E "01a1fbfe-4c0c-775c-ba95-8384c7ef2c94"

#define ID_ORDERS "0000000000000000000000000000000a"
#define ID_ORDERS_NEXT "0000000000000000000000000000000d"
#define ID_INVENTORY "0000000000000000000000000000000b"
#define ID_PRICES "0000000000000000000000000000000c"
#define O "/millrace/orders/" ID_ORDERS
#define I "/millrace/inventory/" ID_INVENTORY
#define P "/millrace/price-producer/" ID_PRICES

#define ORDER(id, item, quantity)                   \
	"{\"order_id\":\"" id "\",\"item\":\"" item \
	"\",\"quantity\":" quantity ",\"ts_ms\":1000}"
#define REJECTED(id, item, quantity)                \
	"{\"order_id\":\"" id "\",\"item\":\"" item \
	"\",\"quantity\":" quantity                 \
	",\"reason\":\"not enough stock\",\"ts_ms\":1000}"
#define ADJUSTED(item, delta, on_hand)                                    \
	"{\"item\":\"" item "\",\"delta\":" delta ",\"on_hand\":" on_hand \
	",\"ts_ms\":1000}"
#define PRICE(price) "{\"symbol\":\"ACME\",\"price\":" price ",\"ts_ms\":1000}"

#define DEAD_TOPIC "inventory.dead-letter"

struct record {
	const char *topic;
	const char *source;
	int64_t seq;
	int64_t predecessor;
	const char *type;
	const char *key;
	const char *value;
	int64_t cause; /* offset in order-events; -1: none */
	int is_dead; /* of the cause */
	int partition;
	int64_t offset;
};

/* ---- a world that adds up --------------------------------------------------- */

static const struct record sound[] = {
    {"order-events", O, 1, 0, "order.created", "Laptop",
	ORDER(A, "Laptop", "2"), -1, 0, 0, 0},
    {"order-events", O, 2, 1, "order.created", "Laptop",
	ORDER(B, "Laptop", "5000"), -1, 0, 0, 1},
    {"order-events", NULL, 0, 0, "order.created", NULL, "garbage", -1, 0, 0, 2},
    {"order-events", O, 3, 2, "order.created", "Phone", ORDER(C, "Phone", "1"),
	-1, 0, 0, 3},
    {"order-events", O, 4, 3, "order.cancelled", "Phone",
	ORDER(C, "Phone", "1"), -1, 0, 0, 4},
    /* The relay began again at seq 3. */
    {"order-events", O, 3, 2, "order.created", "Phone", ORDER(C, "Phone", "1"),
	-1, 0, 0, 5},
    {"order-events", O, 4, 3, "order.cancelled", "Phone",
	ORDER(C, "Phone", "1"), -1, 0, 0, 6},
    {"inventory-events", I, 1, 0, "inventory.reserved", A,
	ORDER(A, "Laptop", "2"), 0, 0, 0, 0},
    {"inventory-events", I, 2, 1, "inventory.rejected", B,
	REJECTED(B, "Laptop", "5000"), 1, 0, 0, 1},
    {"inventory-events", I, 4, 2, "inventory.reserved", C,
	ORDER(C, "Phone", "1"), 3, 0, 0, 2},
    {"inventory-events", I, 5, 4, "inventory.released", C,
	ORDER(C, "Phone", "1"), 4, 0, 0, 3},
    {"inventory-events", I, 6, 5, "inventory.adjusted", "Laptop",
	ADJUSTED("Laptop", "10", "1008"), -1, 0, 0, 4},
    {DEAD_TOPIC, I, 3, 0, "dead-letter", NULL, "garbage", 2, 1, 0, 0},
    {"stock-prices", P, 1, 0, "price.changed", "ACME", PRICE("10.01"), -1, 0, 0,
	0},
    {"stock-prices", P, 2, 1, "price.changed", "ACME", PRICE("10.02"), -1, 0, 0,
	1},
    {"stock-prices", P, 3, 2, "price.changed", "ACME", PRICE("10.03"), -1, 0, 0,
	2},
};

#define ID_ROW(number, id)                                                            \
	"INSERT INTO database_ids (number, database_id, drawn_at_ms) VALUES (" number \
	", '" id "', 1)"
#define POSITION(topic, next)                                                 \
	"INSERT INTO positions VALUES ('id-" topic "', 0, '" topic "', " next \
	", -1)"
#define MARK(source, topic, seq) \
	"INSERT INTO marks VALUES ('" source "', 'id-" topic "', 0, " seq ")"
#define TAIL(topic, seq)                                                   \
	"INSERT INTO output_tails (topic, partition, seq) VALUES ('" topic \
	"', 0, " seq ")"
#define ISSUED(seq) \
	"INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', " seq ")"
#define PLACED(topic, from_seq, partitions)                                    \
	"INSERT INTO placements (topic, from_seq, partitions) VALUES ('" topic \
	"', " from_seq ", " partitions ")"
#define TRACE(id, topic, offset, type)                                      \
	"INSERT INTO order_trace VALUES ('" id "', '" topic "', 0, " offset \
	", '" type "', 1000)"
#define NOTIFIED(id, outcome, seq)                              \
	"INSERT INTO notifications VALUES ('" id "', '" outcome \
	"', 'text', 1000, " seq ")"

static const struct {
	const char *service;
	const struct store_migration *migrations;
	const char *sql[20];
} files[] = {
    {"orders", migrations_orders,
	{ID_ROW("1", ID_ORDERS), POSITION("inventory-events", "5"),
	    MARK(I, "inventory-events", "6"),
	    "INSERT INTO outbox (seq, database, topic, partition, type, key,"
	    " value, ts_ms, predecessor) VALUES (5, 1, 'order-events', 0,"
	    " 'order.created', CAST('Laptop' AS BLOB), CAST('" ORDER(D,
		"Laptop", "1") "' AS BLOB), 1000, 4)",
	    ISSUED("5"), TAIL("order-events", "5"),
	    PLACED("order-events", "1", "1"),
	    "INSERT INTO orders VALUES"
	    " ('" A "', 'Laptop', 2, 'CONFIRMED', NULL, 1, 1),"
	    " ('" B "', 'Laptop', 5000, 'REJECTED', 'stock', 1, 1),"
	    " ('" C "', 'Phone', 1, 'CANCELLED', NULL, 1, 1),"
	    " ('" D "', 'Laptop', 1, 'PENDING', NULL, 1, 1)",
	    TRACE(A, "order-events", "0", "order.created"),
	    TRACE(A, "inventory-events", "0", "inventory.reserved"),
	    TRACE(B, "order-events", "1", "order.created"),
	    TRACE(B, "inventory-events", "1", "inventory.rejected"),
	    TRACE(C, "order-events", "3", "order.created"),
	    TRACE(C, "inventory-events", "2", "inventory.reserved"),
	    TRACE(C, "order-events", "4", "order.cancelled"),
	    TRACE(C, "inventory-events", "3", "inventory.released")}},
    {"inventory", migrations_inventory,
	{ID_ROW("1", ID_INVENTORY), POSITION("order-events", "7"),
	    MARK(O, "order-events", "4"), ISSUED("6"),
	    TAIL("inventory-events", "6"), TAIL(DEAD_TOPIC, "3"),
	    PLACED("inventory-events", "1", "1"),
	    "INSERT INTO reservations VALUES"
	    " ('" A "', 'Laptop', 2, 'reserved', NULL, 1000, NULL),"
	    " ('" B "', 'Laptop', 5000, 'rejected', 'stock', 1000, NULL),"
	    " ('" C "', 'Phone', 1, 'released', NULL, 1000, NULL)",
	    "UPDATE inventory SET on_hand = 1008, reserved = 2,"
	    " received = 1010 WHERE item = 'Laptop'",
	    "INSERT INTO dead_letters (topic, topic_id, partition,"
	    " record_offset, ts_ms, value, headers, reason, put_at_ms)"
	    " VALUES ('order-events', 'id-order-events', 0, 2, 1, x'', x'',"
	    " 'broken', 1)"}},
    {"notifications", migrations_notifications,
	{ID_ROW("1", "0000000000000000000000000000000e"),
	    POSITION("inventory-events", "5"), MARK(I, "inventory-events", "6"),
	    NOTIFIED(A, "confirmed", "1"), NOTIFIED(B, "rejected", "2"),
	    NOTIFIED(C, "confirmed", "3"), NOTIFIED(C, "cancelled", "4"),
	    "UPDATE notifications_cursor SET seq = 4"}},
    {"prices", migrations_prices,
	{ID_ROW("1", "0000000000000000000000000000000f"),
	    POSITION("stock-prices", "3"), MARK(P, "stock-prices", "3"),
	    "UPDATE prices_cursor SET seq = 3",
	    "INSERT INTO symbols VALUES ('ACME', 1003, 1000, 1002, 3)"}},
    {"price-producer", migrations_price_producer,
	{ID_ROW("1", ID_PRICES), ISSUED("3"), TAIL("stock-prices", "3"),
	    PLACED("stock-prices", "1", "1")}},
};
#define FILES ((int)(sizeof(files) / sizeof(files[0])))

static struct {
	char folder[64];
	char template[80];
	struct record records[64];
	int record_count;
	int64_t firsts[2]; /* of order-events, stock-prices */
	int64_t later; /* order-events beyond this came after the files */
	int partitions; /* of order-events */
	int price_partitions; /* of stock-prices */
	int left_out; /* a file, or -1 */
	const char *unread; /* a topic; from, to, what can't be read of it */
	int64_t unread_from;
	int64_t unread_to;
	struct check_options options;
	/* what was said */
	char failed[512];
	char unjudged[512];
	char text[4096];
} world;

static void
path_of(const char *folder, int file, char path[160])
{
	snprintf(path, 160, "%s/%s.db", folder, files[file].service);
}

static struct store *
open_file(const char *folder, int file)
{
	struct store_options options = {.service = files[file].service,
	    .core = migrations_core,
	    .own = files[file].migrations};
	struct mr_error err = {0};
	struct store *st;
	char path[160];

	path_of(folder, file, path);
	options.path = path;
	if ((st = store_open(&options, &err)) == NULL)
		fail_msg("%s", err.message);
	return (st);
}

static void
run_all(struct store *st, const char *const *sql, int most)
{
	struct mr_error err = {0};
	int i;

	assert_int_equal(store_begin(st, &err), 0);
	for (i = 0; i < most && sql[i] != NULL; i++)
		if (store_run_values(st, &err, sql[i], NULL, 0) == -1)
			fail_msg("%s: %s", err.message, sql[i]);
	assert_int_equal(store_commit(st, &err), 0);
}

static int
group_setup(void **state)
{
	struct store *st;
	int i;

	(void)state;
	log_init("test", LOG_LOGFMT, LOG_ERROR);
	snprintf(world.template, sizeof(world.template),
	    "/tmp/test-check.XXXXXX");
	assert_non_null(mkdtemp(world.template));
	for (i = 0; i < FILES; i++) {
		st = open_file(world.template, i);
		run_all(st, files[i].sql, 20);
		store_close(st);
	}
	return (0);
}

static void
remove_folder(const char *folder)
{
	static const char *const suffixes[] = {"", "-wal", "-shm", ".writer"};
	char path[160], name[176];
	size_t k;
	int i;

	for (i = 0; i < FILES; i++) {
		path_of(folder, i, path);
		for (k = 0; k < 4; k++) {
			snprintf(name, sizeof(name), "%s%s", path, suffixes[k]);
			(void)unlink(name);
		}
	}
	assert_int_equal(rmdir(folder), 0);
}

static int
group_teardown(void **state)
{
	(void)state;
	remove_folder(world.template);
	return (0);
}

static void
copy_file(const char *from, const char *to)
{
	char bytes[65536];
	FILE *in, *out;
	size_t n;

	assert_non_null(in = fopen(from, "rb"));
	assert_non_null(out = fopen(to, "wb"));
	while ((n = fread(bytes, 1, sizeof(bytes), in)) > 0)
		assert_int_equal(fwrite(bytes, 1, n, out), n);
	assert_int_equal(fclose(in), 0);
	assert_int_equal(fclose(out), 0);
}

static int
setup(void **state)
{
	char from[160], to[160];
	int i;

	(void)state;
	snprintf(world.folder, sizeof(world.folder), "/tmp/test-check.XXXXXX");
	assert_non_null(mkdtemp(world.folder));
	for (i = 0; i < FILES; i++) {
		path_of(world.template, i, from);
		path_of(world.folder, i, to);
		copy_file(from, to);
	}
	memcpy(world.records, sound, sizeof(sound));
	world.record_count = (int)(sizeof(sound) / sizeof(sound[0]));
	world.firsts[0] = world.firsts[1] = 0;
	world.later = -1;
	world.partitions = world.price_partitions = 1;
	world.left_out = -1;
	world.unread = NULL;
	memset(&world.options, 0, sizeof(world.options));
	world.options.first_most = CHECK_FIRST_MOST;
	world.options.now_ms = 2000;
	world.options.keep_notifications_ms = 1500;
	world.options.keep_dead_letters_ms = 1500;
	return (0);
}

static int
teardown(void **state)
{
	(void)state;
	remove_folder(world.folder);
	return (0);
}

static int
file_of(const char *service)
{
	int i;

	for (i = 0; i < FILES; i++)
		if (strcmp(files[i].service, service) == 0)
			return (i);
	fail_msg("no file of %s", service);
	return (-1);
}

static void
doctor(const char *service, const char *const *sql, int most)
{
	static const char unchecked[] = "PRAGMA ignore_check_constraints = ON";
	struct store *st = open_file(world.folder, file_of(service));
	struct mr_error err = {0};

	assert_int_not_equal(store_run(st, &err, unchecked), -1);
	run_all(st, sql, most);
	store_close(st);
}

/* ---- records ------------------------------------------------------------------ */

static struct record *
record_at(const char *topic, int64_t offset)
{
	int i;

	for (i = 0; i < world.record_count; i++)
		if (strcmp(world.records[i].topic, topic) == 0 &&
		    world.records[i].offset == offset)
			return (&world.records[i]);
	fail_msg("no record %s/%lld", topic, (long long)offset);
	return (NULL);
}

/* The record is gone, and its offset with it. */
static void
drop(const char *topic, int64_t offset)
{
	struct record *r = record_at(topic, offset);
	int i = (int)(r - world.records);

	for (; i < world.record_count - 1; i++)
		world.records[i] = world.records[i + 1];
	world.record_count--;
}

static void
swap(const char *topic, int64_t one, int64_t other)
{
	struct record *a = record_at(topic, one), *b = record_at(topic, other);
	struct record kept = *a;

	*a = *b;
	*b = kept;
	a->offset = one;
	b->offset = other;
}

static struct record *
append(const char *topic, int64_t like, int64_t seq, int64_t predecessor)
{
	struct record *r = &world.records[world.record_count];
	int64_t next = 0;
	int i;

	for (i = 0; i < world.record_count; i++)
		if (strcmp(world.records[i].topic, topic) == 0 &&
		    world.records[i].offset >= next)
			next = world.records[i].offset + 1;
	*r = *record_at(topic, like);
	r->offset = next;
	r->seq = seq;
	r->predecessor = predecessor;
	world.record_count++;
	return (r);
}

/* From now on those of a topic can't be read. */
static void
hide(const char *topic, int64_t from, int64_t to)
{

	world.unread = topic;
	world.unread_from = from;
	world.unread_to = to;
}

static int
is_hidden(const struct record *r)
{

	return (world.unread != NULL && r->partition == 0 &&
	    strcmp(r->topic, world.unread) == 0 &&
	    r->offset >= world.unread_from && r->offset < world.unread_to);
}

struct reading {
	int at;
};

static int
next_record(void *arg, struct check_record *record, struct mr_error *err)
{
	struct reading *reading = arg;
	const struct record *r;

	(void)err;
	do {
		if (reading->at == world.record_count)
			return (0);
		r = &world.records[reading->at++];
	} while (is_hidden(r));
	record->topic = r->topic;
	record->partition = r->partition;
	record->offset = r->offset;
	record->ts_ms = 1000;
	record->type = r->type;
	record->source = r->source;
	record->seq = r->seq;
	record->predecessor = r->predecessor;
	if (r->cause >= 0) {
		record->cause_topic = "order-events";
		record->cause_offset = r->cause;
	}
	if (r->is_dead) {
		record->dead_topic = "order-events";
		record->dead_offset = r->cause;
	}
	record->key = r->key;
	record->key_size = r->key == NULL ? 0 : strlen(r->key);
	record->value = r->value;
	record->value_size = strlen(r->value);
	return (1);
}

static int64_t
next_of(const char *topic)
{
	int64_t next = 0;
	int i;

	for (i = 0; i < world.record_count; i++)
		if (strcmp(world.records[i].topic, topic) == 0 &&
		    world.records[i].offset >= next)
			next = world.records[i].offset + 1;
	return (next);
}

static void
tell(struct check *c, const char *topic, int partition, int64_t first,
    int64_t next)
{
	struct mr_error err = {0};
	char id[64];

	snprintf(id, sizeof(id), "id-%s", topic);
	if (check_add_partition(c, topic, id, partition, first, next, &err) ==
	    -1)
		fail_msg("%s", err.message);
}

static void
report(void *arg, const struct check_line *line)
{
	char *list = line->verdict == CHECK_VIOLATED ? world.failed :
						       world.unjudged;
	size_t used;
	int i;

	(void)arg;
	if (line->verdict == CHECK_HOLDS) {
		assert_int_equal(line->offenders, 0);
		return;
	}
	used = strlen(list);
	snprintf(list + used, 512 - used, " %s", line->name);
	assert_int_equal(line->verdict == CHECK_VIOLATED, line->offenders > 0);
	for (i = 0; i < line->first_count; i++) {
		used = strlen(world.text);
		snprintf(world.text + used, sizeof(world.text) - used,
		    "%s: %s\n", line->name, line->first[i]);
	}
}

/* Check the world: 1 all holds, 0 not. */
static int
judge(void)
{
	struct reading reading = {0};
	struct mr_error err = {0};
	struct check *c;
	char path[160];
	int i, holds;

	if ((c = check_new("/tmp", &err)) == NULL)
		fail_msg("%s", err.message);
	for (i = 0; i < world.partitions; i++)
		tell(c, "order-events", i, i == 0 ? world.firsts[0] : 0,
		    i > 0                ? 0 :
			world.later >= 0 ? world.later :
					   next_of("order-events"));
	tell(c, "inventory-events", 0, 0, next_of("inventory-events"));
	tell(c, DEAD_TOPIC, 0, 0, next_of(DEAD_TOPIC));
	tell(c, "stock-prices", 0, world.firsts[1], next_of("stock-prices"));
	for (i = 1; i < world.price_partitions; i++)
		tell(c, "stock-prices", i, 0, 3);
	for (i = 0; i < FILES; i++) {
		path_of(world.folder, i, path);
		if (i != world.left_out && check_add_file(c, path, &err) == -1)
			fail_msg("%s", err.message);
	}
	tell(c, "order-events", 0, world.firsts[0], next_of("order-events"));
	if (check_add_acknowledged(c, A, &err) == -1 ||
	    check_add_acknowledged(c, D, &err) == -1 ||
	    check_read(c, next_record, &reading, &err) == -1)
		fail_msg("%s", err.message);
	if (world.unread != NULL &&
	    check_add_unread(c, world.unread, 0, world.unread_from,
		world.unread_to, &err) == -1)
		fail_msg("%s", err.message);
	world.failed[0] = world.unjudged[0] = world.text[0] = '\0';
	holds = check_judge(c, &world.options, report, NULL, &err);
	if (holds == -1)
		fail_msg("%s", err.message);
	check_free(c);
	return (holds);
}

/* ---- damage ---------------------------------------------------------------------- */

static void
lose_created(void)
{
	drop("order-events", 1);
}

static void
lose_cancelled(void)
{
	drop("order-events", 4);
	drop("order-events", 5);
	drop("order-events", 6);
}

static void
lose_first(void)
{
	drop("inventory-events", 0);
}

static void
lose_last(void)
{
	drop("inventory-events", 4);
}

static void
lose_dead_letter(void)
{
	drop(DEAD_TOPIC, 0);
}

static void
lose_price(void)
{
	drop("stock-prices", 1);
}

static void
repeat_created(void)
{
	/* The order once more, under a seq of its own. */
	append("order-events", 0, 5, 4);
}

static void
repeat_reserved(void)
{
	append("inventory-events", 0, 7, 6);
}

static void
cancel_what_is_reserved(void)
{
	append("inventory-events", 0, 7, 6)->type = "inventory.cancelled";
}

static void
repeat_elsewhere(void)
{
	append("order-events", 4, 4, 0)->partition = 1;
	world.partitions = 2;
}

static void
repeat_with_other_bytes(void)
{
	record_at("order-events", 5)->value = ORDER(C, "Phone", "2");
}

static void
reorder(void)
{
	swap("order-events", 0, 1);
}

static void
reorder_prices(void)
{
	swap("stock-prices", 1, 2);
}

static void
reorder_across_sources(void)
{
	swap("inventory-events", 2, 3);
}

static void
misplace(void)
{
	world.partitions = 2;
	record_at("order-events", 0)->key = "Phone";
	record_at("order-events", 3)->key = "Laptop";
}

static void
sell_what_is_not_there(void)
{
	record_at("inventory-events", 0)->value = ORDER(A, "Laptop", "1001");
}

static void
refuse_what_is_there(void)
{
	record_at("inventory-events", 1)->value = REJECTED(B, "Laptop", "5");
}

static void
adjust_wrongly(void)
{
	record_at("inventory-events", 4)->value = ADJUSTED("Laptop", "10",
	    "1010");
}

static void
name_another_cause(void)
{
	record_at("inventory-events", 0)->cause = 1;
}

static void
name_no_cause(void)
{
	record_at("inventory-events", 3)->cause = -1;
}

static void
come_from_nowhere(void)
{
	record_at("stock-prices", 2)->source =
	    "/millrace/price-producer/11111111111111111111111111111111";
	record_at("stock-prices", 2)->predecessor = 0;
}

static void
put_away_the_wrong_one(void)
{
	record_at(DEAD_TOPIC, 0)->cause = 3;
}

static void
announce_otherwise(void)
{
	record_at("order-events", 0)->value = ORDER(A, "Laptop", "3");
}

static void
point_at_a_later_predecessor(void)
{
	record_at("order-events", 1)->predecessor = 0;
}

#define OUTBOX_WITHOUT_D "DELETE FROM outbox"

static const struct damage {
	const char *what;
	const char *must_fail; /* these, among others */
	void (*records)(void); /* changes them; or NULL */
	const char *service; /* whose file is doctored, or NULL */
	const char *sql[4];
} damages[] = {
    /* Lost. */
    {"an event of an order", "sequence issued decisions causes trace announced",
	.records = lose_created},
    {"the last events of a partition", "issued decisions marks",
	.records = lose_cancelled},
    {"the first event of a partition", "sequence issued outcomes",
	.records = lose_first},
    {"the last event of a partition", "issued stock marks",
	.records = lose_last},
    {"a dead letter's record", "dead-letters issued",
	.records = lose_dead_letter},
    {"a price", "sequence issued prices", .records = lose_price},
    {"an order", "announced", NULL, "orders",
	{"DELETE FROM orders WHERE id = '" B "'"}},
    {"an acknowledged order, without a trace of it", "acknowledged", NULL,
	"orders",
	{"DELETE FROM orders WHERE id = '" D "'", OUTBOX_WITHOUT_D,
	    "UPDATE sqlite_sequence SET seq = 4 WHERE name = 'outbox'",
	    "UPDATE output_tails SET seq = 4"}},
    {"a row of the outbox", "announced issued", NULL, "orders",
	{OUTBOX_WITHOUT_D}},
    {"a decision", "decisions outcomes stock", NULL, "inventory",
	{"DELETE FROM reservations WHERE order_id = '" A "'"}},
    {"a dead letter's row", "dead-letters", NULL, "inventory",
	{"DELETE FROM dead_letters"}},
    {"a dead letter's row, while another one went", "dead-letters", NULL,
	"inventory",
	{"INSERT INTO dead_letters_gone SELECT 7, topic, partition, 1,"
	 " put_at_ms, 'dropped', 1 FROM dead_letters",
	    "DELETE FROM dead_letters"}},
    {"a notification", "notifications", NULL, "notifications",
	{"DELETE FROM notifications WHERE order_id = '" B "'"}},
    {"a notification that was never counted", "notifications", NULL,
	"notifications",
	{"DELETE FROM notifications WHERE seq = 4",
	    "UPDATE notifications_cursor SET seq = 3"}},
    {"a position", "decisions marks", NULL, "inventory",
	{"DELETE FROM positions"}},
    {"a mark", "marks", NULL, "orders", {"DELETE FROM marks"}},
    {"a trace", "trace", NULL, "orders",
	{"DELETE FROM order_trace WHERE type = 'inventory.rejected'"}},
    {"an item", "stock", NULL, "inventory",
	{"DELETE FROM inventory WHERE item = 'Phone'"}},
    {"a price that was read", "prices", NULL, "prices",
	{"UPDATE prices_cursor SET seq = 2", "UPDATE symbols SET seq = 2"}},
    {"an outcome that was read", "statuses", NULL, "orders",
	{"UPDATE orders SET status = 'PENDING' WHERE id = '" A "'"}},

    /* Repeated. */
    {"an order's event", "announced outbox", .records = repeat_created},
    {"an outcome's event", "outcomes", repeat_reserved, "inventory",
	{"UPDATE sqlite_sequence SET seq = 7 WHERE name = 'outbox'",
	    "UPDATE output_tails SET seq = 7"
	    " WHERE topic = 'inventory-events'"}},
    {"a cancellation of what wasn't rejected", "outcomes causes",
	cancel_what_is_reserved, "inventory",
	{"UPDATE sqlite_sequence SET seq = 7 WHERE name = 'outbox'",
	    "UPDATE output_tails SET seq = 7"
	    " WHERE topic = 'inventory-events'"}},
    {"an event that nobody issued", "foreign", .records = repeat_reserved},
    {"a record in another partition", "placed", .records = repeat_elsewhere},
    {"a record with other bytes", "sequence",
	.records = repeat_with_other_bytes},
    {"a notification", "notifications", NULL, "notifications",
	{"INSERT INTO notifications VALUES ('" A
	 "', 'cancelled', 'text', 1000, 5)",
	    "UPDATE notifications_cursor SET seq = 5"}},
    {"a notification's seq", "notifications", NULL, "notifications",
	{"UPDATE notifications SET seq = 3 WHERE seq = 4"}},
    {"a reservation's stock", "stock", NULL, "inventory",
	{"UPDATE inventory SET on_hand = on_hand - 2,"
	 " reserved = reserved + 2 WHERE item = 'Laptop'"}},
    {"a release's stock", "stock", NULL, "inventory",
	{"UPDATE inventory SET on_hand = on_hand + 1,"
	 " reserved = reserved - 1 WHERE item = 'Phone'"}},
    {"a restock", "stock", NULL, "inventory",
	{"UPDATE inventory SET on_hand = on_hand + 10,"
	 " received = received + 10 WHERE item = 'Laptop'"}},
    {"a price", "prices", NULL, "prices", {"UPDATE prices_cursor SET seq = 4"}},
    {"a dead letter's row", "dead-letters", NULL, "inventory",
	{"INSERT INTO dead_letters (topic, topic_id, partition,"
	 " record_offset, ts_ms, value, headers, reason, put_at_ms)"
	 " SELECT topic, topic_id, partition, record_offset, ts_ms, value,"
	 " headers, reason, put_at_ms FROM dead_letters"}},
    {"a dead letter's row that went", "dead-letters", NULL, "inventory",
	{"INSERT INTO dead_letters_gone SELECT id, topic, partition,"
	 " record_offset, put_at_ms, 'dropped', 1 FROM dead_letters"}},

    /* Reordered. */
    {"two events", "sequence", .records = reorder},
    {"two prices", "sequence", .records = reorder_prices},
    {"cause and effect", "sequence", .records = reorder_across_sources},
    {"the predecessor", "sequence", .records = point_at_a_later_predecessor},
    {"the outbox", "outbox", NULL, "orders",
	{"UPDATE outbox SET predecessor = 3"}},

    /* Negative, or more than there is. */
    {"stock on hand", "stock", NULL, "inventory",
	{"UPDATE inventory SET on_hand = -1, reserved = 1011"
	 " WHERE item = 'Laptop'"}},
    {"stock reserved", "stock", NULL, "inventory",
	{"UPDATE inventory SET on_hand = 1001, reserved = -1"
	 " WHERE item = 'Phone'"}},
    {"stock, on the way", "stock-history outcomes",
	.records = sell_what_is_not_there},
    {"patience", "stock-history", .records = refuse_what_is_there},
    {"counting", "stock-history", .records = adjust_wrongly},

    /* Not what it says. */
    {"an order's quantity", "announced decisions",
	.records = announce_otherwise},
    {"an order's item", "announced", NULL, "orders",
	{"UPDATE orders SET item = 'Phone' WHERE id = '" A "'"}},
    {"an order's status", "statuses", NULL, "orders",
	{"UPDATE orders SET status = 'CONFIRMED', reason = NULL"
	 " WHERE id = '" B "'"}},
    {"an order's status, to something else", "orders statuses", NULL, "orders",
	{"UPDATE orders SET status = 'LOST' WHERE id = '" B "'"}},
    {"a trace", "trace", NULL, "orders",
	{"UPDATE order_trace SET offset = 3"
	 " WHERE order_id = '" A "' AND topic = 'inventory-events'"}},
    {"a decision", "decisions outcomes stock", NULL, "inventory",
	{"UPDATE reservations SET status = 'released'"
	 " WHERE order_id = '" A "'"}},
    {"a decision that was cancelled", "decisions outcomes stock", NULL,
	"inventory",
	{"UPDATE reservations SET status = 'reserved'"
	 " WHERE order_id = '" C "'"}},
    {"a decision nobody asked for", "decisions outcomes", NULL, "inventory",
	{"INSERT INTO reservations VALUES"
	 " ('" E "', 'Laptop', 1, 'rejected', 'stock', 1000, NULL)"}},
    {"a cause", "causes", .records = name_another_cause},
    {"a cause that isn't named", "causes", .records = name_no_cause},
    {"a dead letter", "dead-letters", .records = put_away_the_wrong_one},
    {"a key", "placed", misplace, "orders",
	{"UPDATE placements SET partitions = 2"}},

    /* Positions and marks. */
    {"a position beyond the end", "positions", NULL, "inventory",
	{"UPDATE positions SET next_offset = 8"}},
    {"a position below the effects", "decisions marks dead-letters", NULL,
	"inventory", {"UPDATE positions SET next_offset = 1"}},
    {"a position above the effects", "notifications marks", NULL,
	"notifications",
	{"DELETE FROM notifications WHERE seq = 4",
	    "UPDATE notifications_cursor SET seq = 3",
	    "UPDATE marks SET seq = 4"}},
    {"a position of another topic id", "positions", NULL, "orders",
	{"UPDATE positions SET topic_id = 'other'"}},
    {"a mark below", "marks", NULL, "orders", {"UPDATE marks SET seq = 5"}},
    {"a mark above", "marks", NULL, "orders", {"UPDATE marks SET seq = 7"}},
    {"a mark above everything", "marks", NULL, "prices",
	{"DELETE FROM positions", "UPDATE marks SET seq = 4",
	    "UPDATE prices_cursor SET seq = 0", "DELETE FROM symbols"}},

    /* Files and topics that don't belong together. */
    {"a file that has issued less", "foreign", NULL, "price-producer",
	{"UPDATE sqlite_sequence SET seq = 2 WHERE name = 'outbox'",
	    "UPDATE output_tails SET seq = 2"}},
    {"a file that has issued more", "issued", NULL, "price-producer",
	{"UPDATE sqlite_sequence SET seq = 5 WHERE name = 'outbox'"}},
    {"a tail that isn't there", "issued", NULL, "price-producer",
	{"INSERT INTO output_tails (topic, partition, seq) VALUES ('stock-prices', 1, 2)"}},
    {"an id that the file never had", "foreign issued",
	.records = come_from_nowhere},
    {"an outbox beyond what was issued", "outbox", NULL, "orders",
	{"UPDATE sqlite_sequence SET seq = 4 WHERE name = 'outbox'"}},
    {"an outbox that says something else than the topic", "outbox", NULL,
	"orders",
	{"INSERT INTO outbox (seq, database, topic, partition, type, key,"
	 " value, ts_ms, predecessor) VALUES (4, 1, 'order-events', 0,"
	 " 'order.created', NULL, x'', 1000, 3)"}},
};

static void
assert_listed(const char *list, const char *names, const char *what)
{
	char name[32];
	size_t n;

	while (*names != '\0') {
		n = strcspn(names, " ");
		snprintf(name, sizeof(name), " %.*s", (int)n, names);
		if (strstr(list, name) == NULL)
			fail_msg("%s: no \"%s\" among \"%s\"\n%s", what, name,
			    list, world.text);
		names += n;
		names += strspn(names, " ");
	}
}

static void
test_a_world_that_adds_up_holds(void **state)
{
	(void)state;
	if (judge() != 1)
		fail_msg("%s", world.text);
	assert_string_equal(world.unjudged, " pending drained");
}

/* In a world of its own; the first is that of the test. */
static void
damage(void **state, const struct damage *d, int is_first)
{

	if (!is_first) {
		teardown(state);
		setup(state);
	}
	if (d->service != NULL)
		doctor(d->service, d->sql, 4);
	if (d->records != NULL)
		d->records();
}

static void
test_each_damage_is_found_by_what_is_about_it(void **state)
{
	const struct damage *d;
	size_t i;

	for (i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
		d = &damages[i];
		damage(state, d, i == 0);
		if (judge() != 0)
			fail_msg("%s: not found", d->what);
		assert_listed(world.failed, d->must_fail, d->what);
	}
}

/* ---- what is no damage -------------------------------------------------------------- */

static void
test_what_a_restored_file_forgot_is_not_held_against_it(void **state)
{
	static const char *const sql[] = {ID_ROW("2", ID_ORDERS_NEXT),
	    "UPDATE outbox SET database = 2, predecessor = 0", NULL};
	struct record *r;

	(void)state;
	/* Seq 5 was issued before, for an order that the file forgot. */
	r = append("order-events", 0, 5, 4);
	r->value = ORDER(E, "Laptop", "1");
	doctor("orders", sql, 2);
	if (judge() != 1)
		fail_msg("%s", world.text);
}

static void
test_what_came_after_the_files_were_read_is_not_foreign(void **state)
{
	struct record *r;

	(void)state;
	/* D's event, which was in the outbox, and one more order's. */
	r = append("order-events", 0, 5, 4);
	r->value = ORDER(D, "Laptop", "1");
	r = append("order-events", 0, 6, 5);
	r->value = ORDER(E, "Laptop", "1");
	assert_int_equal(judge(), 0);
	assert_listed(world.failed, "foreign", "told as if it came before");
	world.later = 7;
	if (judge() != 1)
		fail_msg("%s", world.text);
}

static void
test_what_retention_deleted_is_not_judged(void **state)
{
	(void)state;
	drop("order-events", 0);
	drop("order-events", 1);
	drop("order-events", 2);
	drop("stock-prices", 0);
	world.firsts[0] = 3;
	world.firsts[1] = 1;
	if (judge() != 1)
		fail_msg("%s", world.text);
	assert_listed(world.unjudged, "announced decisions prices", "cut");
	/* But what is lost after that is. */
	drop("stock-prices", 2);
	assert_int_equal(judge(), 0);
	assert_listed(world.failed, "issued", "cut and lost");
}

static void
test_what_cannot_be_read_is_no_damage_whatever_it_is(void **state)
{
	static const char *const topics[] = {"order-events", "inventory-events",
	    DEAD_TOPIC, "stock-prices"};
	int64_t from, to, next;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
		next = next_of(topics[i]);
		for (from = 0; from < next; from++)
			for (to = from + 1; to <= next; to++) {
				hide(topics[i], from, to);
				if (judge() != 1)
					fail_msg("%s/%lld to %lld: %s",
					    topics[i], (long long)from,
					    (long long)to - 1, world.text);
				assert_string_equal(world.unjudged,
				    " pending drained");
			}
	}
}

/* A record of the topic that a damage isn't about. */
static void
hide_another(const struct damage *d)
{

	if (strstr(d->must_fail, "prices") != NULL ||
	    d->records == reorder_prices ||
	    (d->service != NULL && strncmp(d->service, "price", 5) == 0))
		hide("order-events", 1, 2);
	else
		hide("stock-prices", 1, 2);
}

static void
test_what_cannot_be_read_hides_no_damage_elsewhere(void **state)
{
	const struct damage *d;
	size_t i;

	for (i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
		d = &damages[i];
		damage(state, d, i == 0);
		hide_another(d);
		if (judge() != 0)
			fail_msg("%s: not found", d->what);
		assert_listed(world.failed, d->must_fail, d->what);
	}
}

/* What a topic lost beside what can't be read of it. */
static const struct {
	const char *topic;
	int64_t from, to; /* can't be read */
	int64_t lost; /* -1: none */
	const char *must_fail;
	const char *service;
	const char *sql[2];
} beside[] = {
    {"order-events", 0, 1, 1, "issued announced decisions trace causes", NULL,
	{NULL}},
    {"order-events", 2, 3, 0, "sequence issued trace", NULL, {NULL}},
    {"inventory-events", 3, 5, 0, "sequence issued trace", NULL, {NULL}},
    {"inventory-events", 0, 1, 4, "issued marks", NULL, {NULL}},
    {"stock-prices", 0, 1, 2, "issued marks", NULL, {NULL}},
    {"stock-prices", 0, 1, -1, "prices", "prices",
	{"UPDATE prices_cursor SET seq = 4"}},
    {"inventory-events", 0, 1, -1, "notifications", "notifications",
	{"UPDATE notifications_cursor SET seq = 5"}},
    {"inventory-events", 0, 1, -1, "statuses", "orders",
	{"UPDATE orders SET status = 'CONFIRMED'"}},
    {"order-events", 0, 1, -1, "announced trace", "orders",
	{"INSERT INTO orders VALUES ('" E "', 'Laptop', 1, 'PENDING', NULL, 1,"
	 " 1)",
	    "UPDATE order_trace SET offset = 2 WHERE order_id = '" B "'"}},
    {"order-events", 0, 1, -1, "decisions outcomes", "inventory",
	{"INSERT INTO reservations VALUES"
	 " ('" E "', 'Laptop', 1, 'rejected', 'stock', 1000, NULL)"}},
    {"order-events", 0, 1, -1, "marks", "inventory",
	{"UPDATE marks SET seq = 5"}},
};

static void
test_no_more_is_excused_than_what_cannot_be_read_can_be(void **state)
{
	size_t i;

	for (i = 0; i < sizeof(beside) / sizeof(beside[0]); i++) {
		if (i > 0) {
			teardown(state);
			setup(state);
		}
		if (beside[i].service != NULL)
			doctor(beside[i].service, beside[i].sql, 2);
		if (beside[i].lost >= 0)
			drop(beside[i].topic, beside[i].lost);
		hide(beside[i].topic, beside[i].from, beside[i].to);
		if (judge() != 0)
			fail_msg("%zu: not found", i);
		assert_listed(world.failed, beside[i].must_fail,
		    beside[i].topic);
	}
}

static void
test_expired_rows_are_not_missed(void **state)
{
	static const char *const notifications[] =
	    {"DELETE FROM notifications WHERE seq = 1", NULL};
	static const char *const dead_letters[] = {"DELETE FROM dead_letters",
	    NULL};

	(void)state;
	doctor("notifications", notifications, 1);
	doctor("inventory", dead_letters, 1);
	assert_int_equal(judge(), 0);
	assert_string_equal(world.failed, " notifications dead-letters");
	world.options.keep_notifications_ms = 900;
	world.options.keep_dead_letters_ms = 900;
	if (judge() != 1)
		fail_msg("%s", world.text);
}

static void
test_a_dead_letter_that_went_on_purpose_is_not_missed(void **state)
{
	static const char *const dropped[] =
	    {"INSERT INTO dead_letters_gone SELECT id, topic, partition,"
	     " record_offset, put_at_ms, 'dropped', 1 FROM dead_letters",
		"DELETE FROM dead_letters", NULL};

	(void)state;
	doctor("inventory", dropped, 2);
	if (judge() != 1)
		fail_msg("%s", world.text);
}

/* A key that is for partition ${of[n]} of n, for each n from 2 to 4 where that
 * isn't ANY, and for none but that where it is negative: -1 - ${of[n]}. */
#define ANY 9
#define NOT(partition) (-1 - (partition))

static const char *
key_for(const int of[5])
{
	static char keys[8][8];
	static int used;
	char *key = keys[used++ % 8];
	int i, n, is, fits = 0;

	for (i = 0; !fits && i < 10000; i++) {
		snprintf(key, sizeof(keys[0]), "k%d", i);
		for (fits = 1, n = 2; n < 5; n++) {
			is = kafka_partition_of(key, strlen(key), n);
			if (of[n] != ANY &&
			    (of[n] >= 0 ? is != of[n] : is == -1 - of[n]))
				fits = 0;
		}
	}
	assert_true(fits);
	return (key);
}

#define BY(two, three, four)                     \
	{                                        \
		ANY, ANY, (two), (three), (four) \
	}
#define NO_ROW "DELETE FROM placements"
#define ISSUED_TWO "UPDATE sqlite_sequence SET seq = 2 WHERE name = 'outbox'"
#define ID_NEXT                                                       \
	"INSERT INTO database_ids (number, database_id, drawn_at_ms)" \
	" VALUES (2, '" ID_ORDERS_NEXT "', 1)"
/* As of version 4 of the core. */
#define OLDER                                                      \
	"DROP TABLE placements", "DROP TABLE dead_letters_gone",   \
	    "DELETE FROM schema_versions WHERE component = 'core'" \
	    " AND version > 4"

/* Three prices, seq 1 to 3, among three partitions by now. */
static void
test_a_record_is_judged_by_the_count_that_its_maker_had(void **state)
{
	static const struct {
		const char *what;
		const char *sql[5];
		struct {
			int partition;
			int key[5];
		} records[3];
		int is_found;
	} cases[] = {
	    {"partitions were added after two",
		{NO_ROW, PLACED("stock-prices", "1", "2"),
		    PLACED("stock-prices", "3", "3")},
		{{0, BY(0, NOT(0), ANY)}, {1, BY(1, NOT(1), ANY)},
		    {2, BY(ANY, 2, ANY)}},
		0},
	    {"one of before them is placed as after them",
		{NO_ROW, PLACED("stock-prices", "1", "2"),
		    PLACED("stock-prices", "3", "3")},
		{{0, BY(0, ANY, ANY)}, {1, BY(NOT(1), 1, ANY)},
		    {2, BY(ANY, 2, ANY)}},
		1},
	    {"one of after them is placed as before them",
		{NO_ROW, PLACED("stock-prices", "1", "2"),
		    PLACED("stock-prices", "3", "3")},
		{{0, BY(0, ANY, ANY)}, {1, BY(1, ANY, ANY)},
		    {0, BY(0, NOT(0), ANY)}},
		1},
	    {"the topic has fewer than its maker had",
		{NO_ROW, PLACED("stock-prices", "1", "4")},
		{{0, BY(ANY, NOT(0), 0)}, {1, BY(ANY, NOT(1), 1)},
		    {2, BY(ANY, NOT(2), 2)}},
		0},
	    {"a partitioner places", {NO_ROW, PLACED("stock-prices", "1", "0")},
		{{0, BY(NOT(0), NOT(0), NOT(0))},
		    {1, BY(NOT(1), NOT(1), NOT(1))},
		    {2, BY(ANY, NOT(2), NOT(2))}},
		0},
	    {"a partitioner placed up to the third",
		{NO_ROW, PLACED("stock-prices", "1", "0"),
		    PLACED("stock-prices", "3", "3")},
		{{0, BY(NOT(0), NOT(0), NOT(0))},
		    {1, BY(NOT(1), NOT(1), NOT(1))}, {2, BY(ANY, 2, ANY)}},
		0},
	    {"a partitioner placed up to the third, which is misplaced",
		{NO_ROW, PLACED("stock-prices", "1", "0"),
		    PLACED("stock-prices", "3", "3")},
		{{0, BY(ANY, ANY, ANY)}, {1, BY(ANY, ANY, ANY)},
		    {2, BY(ANY, NOT(2), ANY)}},
		1},

	    /* Of before the file kept it. */
	    {"an older file, partitions added before the third", {OLDER},
		{{0, BY(0, NOT(0), ANY)}, {1, BY(1, NOT(1), ANY)},
		    {2, BY(ANY, 2, ANY)}},
		0},
	    {"an older file, no count does for the second", {OLDER},
		{{0, BY(ANY, ANY, ANY)}, {1, BY(NOT(1), NOT(1), ANY)},
		    {2, BY(ANY, 2, ANY)}},
		1},
	    {"an older file, more were there before the second", {OLDER},
		{{2, BY(ANY, 2, ANY)}, {0, BY(0, NOT(0), ANY)},
		    {1, BY(ANY, 1, ANY)}},
		1},
	    {"an upgraded file, no more were there before its first row",
		{NO_ROW, PLACED("stock-prices", "3", "2")},
		{{0, BY(ANY, ANY, ANY)}, {1, BY(NOT(1), 1, ANY)},
		    {1, BY(1, ANY, ANY)}},
		1},
	    {"an upgraded file, the second was placed as its first row says",
		{NO_ROW, PLACED("stock-prices", "3", "2")},
		{{0, BY(ANY, ANY, ANY)}, {1, BY(1, NOT(1), ANY)},
		    {1, BY(1, NOT(1), ANY)}},
		0},
	    {"an upgraded file, its first row is of a partitioner",
		{NO_ROW, PLACED("stock-prices", "3", "0")},
		{{0, BY(ANY, ANY, ANY)}, {1, BY(NOT(1), NOT(1), ANY)},
		    {2, BY(ANY, ANY, ANY)}},
		0},

	    {"an upgraded file, a partitioner is another topic's",
		{NO_ROW, PLACED("call-events", "2", "0"),
		    PLACED("stock-prices", "3", "3")},
		{{0, BY(ANY, ANY, ANY)}, {1, BY(NOT(1), NOT(1), ANY)},
		    {2, BY(ANY, 2, ANY)}},
		1},

	    /* Of what the file doesn't know: a later life, or what came since. */
	    {"partitions were added in a life that is lost",
		{NO_ROW, PLACED("stock-prices", "1", "2"), ID_NEXT, ISSUED_TWO},
		{{0, BY(0, NOT(0), ANY)}, {1, BY(1, NOT(1), ANY)},
		    {0, BY(NOT(0), 0, ANY)}},
		0},
	    {"what was placed in a life that is lost by no count",
		{NO_ROW, PLACED("stock-prices", "1", "2"), ID_NEXT, ISSUED_TWO},
		{{0, BY(0, ANY, ANY)}, {1, BY(1, ANY, ANY)},
		    {0, BY(NOT(0), NOT(0), ANY)}},
		1},
	    {"a life that is lost, and none knew fewer",
		{NO_ROW, PLACED("stock-prices", "1", "3"), ID_NEXT, ISSUED_TWO},
		{{0, BY(ANY, 0, ANY)}, {1, BY(ANY, 1, ANY)},
		    {0, BY(0, NOT(0), ANY)}},
		1},
	    {"a life that is lost, and what was placed after it",
		{NO_ROW, PLACED("stock-prices", "1", "2"), ID_NEXT, ISSUED_TWO,
		    PLACED("stock-prices", "3", "3")},
		{{0, BY(0, ANY, ANY)}, {1, BY(1, ANY, ANY)},
		    {0, BY(0, NOT(0), ANY)}},
		0},
	};
	const size_t count = sizeof(cases) / sizeof(cases[0]);
	struct record *r;
	size_t i;
	int k;

	for (i = 0; i < count; i++) {
		if (i > 0) {
			teardown(state);
			setup(state);
		}
		world.price_partitions = 3;
		doctor("price-producer", cases[i].sql, 5);
		for (k = 0; k < 3; k++) {
			r = record_at("stock-prices", k);
			r->partition = cases[i].records[k].partition;
			r->key = key_for(cases[i].records[k].key);
		}
		(void)judge();
		if ((strstr(world.failed, " placed") != NULL) !=
		    cases[i].is_found)
			fail_msg("%s: %s", cases[i].what, world.text);
	}
}

static void
test_a_gap_that_was_accepted_leaves_its_mark(void **state)
{
	static const char *const sql[] =
	    {"UPDATE positions SET next_offset = 1", "UPDATE marks SET seq = 2",
		"UPDATE prices_cursor SET seq = 1",
		"UPDATE symbols SET seq = 1"};

	(void)state;
	drop("stock-prices", 1);
	doctor("prices", sql, 4);
	world.options.skip = (const char *const[]){"sequence", "issued"};
	world.options.skip_count = 2;
	if (judge() != 1)
		fail_msg("%s", world.text);
	assert_listed(world.unjudged, "sequence issued", "left out");
}

static void
test_nothing_may_be_under_way_once_settled(void **state)
{
	static const char *const behind[] =
	    {"UPDATE positions SET next_offset = 2", "UPDATE marks SET seq = 2",
		"UPDATE prices_cursor SET seq = 2",
		"UPDATE symbols SET seq = 2"};
	static const char *const reads[] = {
	    "INSERT INTO declared VALUES (1, 'stock-prices order-events', '',"
	    " 0)"};
	static const char *const done[] = {OUTBOX_WITHOUT_D,
	    "DELETE FROM orders WHERE id = '" D "'",
	    "UPDATE sqlite_sequence SET seq = 4 WHERE name = 'outbox'",
	    "UPDATE output_tails SET seq = 4"};

	(void)state;
	world.options.settled = 1;
	assert_int_equal(judge(), 0);
	assert_string_equal(world.failed, " pending drained");
	assert_string_equal(world.unjudged, "");
	doctor("orders", done, 4);
	assert_int_equal(judge(), 0);
	assert_string_equal(world.failed, " acknowledged");
	doctor("prices", behind, 4);
	assert_int_equal(judge(), 0);
	assert_listed(world.failed, "drained", "behind");
	assert_null(strstr(world.text, "price-producer is at"));
	/* Whoever says that it reads a topic is to have read it. */
	doctor("price-producer", reads, 1);
	assert_int_equal(judge(), 0);
	assert_non_null(strstr(world.text,
	    "price-producer is at no position of 3 in stock-prices/0"));
	assert_non_null(strstr(world.text,
	    "price-producer is at no position of 7 in order-events/0"));
}

static void
test_without_a_file_what_needs_it_is_not_judged(void **state)
{
	(void)state;
	world.left_out = file_of("notifications");
	if (judge() != 1)
		fail_msg("%s", world.text);
	assert_listed(world.unjudged, "notifications", "no file");
	world.left_out = file_of("inventory");
	if (judge() != 1)
		fail_msg("%s", world.text);
	assert_listed(world.unjudged, "decisions outcomes causes stock",
	    "no file");
	/* Of the files that are there, as before. */
	append("order-events", 0, 9, 4);
	assert_int_equal(judge(), 0);
	assert_listed(world.failed, "foreign", "nobody issued it");
}

static void
test_what_cannot_be_checked_is_an_error(void **state)
{
	static const char *const skip[] = {"nonsense"};
	const struct check_options options = {.skip = skip, .skip_count = 1};
	struct mr_error err = {0};
	struct check *c;

	(void)state;
	assert_null(check_new("/nowhere/at/all", &err));
	assert_non_null(strstr(err.message, "/nowhere/at/all"));
	assert_non_null(c = check_new("/tmp", &err));
	assert_int_equal(check_add_file(c, "/nowhere/orders.db", &err), -1);
	assert_non_null(strstr(err.message, "/nowhere/orders.db"));
	assert_int_equal(check_judge(c, &options, report, NULL, &err), -1);
	assert_non_null(strstr(err.message, "nonsense"));
	check_free(c);
	check_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	    TEST(test_a_world_that_adds_up_holds),
	    TEST(test_each_damage_is_found_by_what_is_about_it),
	    TEST(test_what_a_restored_file_forgot_is_not_held_against_it),
	    TEST(test_what_came_after_the_files_were_read_is_not_foreign),
	    TEST(test_what_retention_deleted_is_not_judged),
	    TEST(test_what_cannot_be_read_is_no_damage_whatever_it_is),
	    TEST(test_what_cannot_be_read_hides_no_damage_elsewhere),
	    TEST(test_no_more_is_excused_than_what_cannot_be_read_can_be),
	    TEST(test_expired_rows_are_not_missed),
	    TEST(test_a_dead_letter_that_went_on_purpose_is_not_missed),
	    TEST(test_a_record_is_judged_by_the_count_that_its_maker_had),
	    TEST(test_a_gap_that_was_accepted_leaves_its_mark),
	    TEST(test_nothing_may_be_under_way_once_settled),
	    TEST(test_without_a_file_what_needs_it_is_not_judged),
	    TEST(test_what_cannot_be_checked_is_an_error),
	};

	return (cmocka_run_group_tests(tests, group_setup, group_teardown));
}
